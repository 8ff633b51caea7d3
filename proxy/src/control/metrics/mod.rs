//! Numbers for a monitoring system: an opt-in listener that answers three requests.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | every number that the process counts, in Prometheus' text format, version 0.0.4 |
//! | `GET /livez` | 200 while the control loop answers; depends on nothing outside |
//! | `GET /readyz` | 200 while the process can do its work now, else 503 and why |
//!
//! It is off unless an address is given, and says nothing of peers but their count: no ids, names or
//! rules, whoever reaches it. The listener asks the driver in the same way as the administrator's socket
//! does, so nothing is counted for it and no worker hears of it.
//!
//! | module | what it does |
//! |---|---|
//! | [`families`] | each metric's name, kind and meaning; `docs/metrics.md` is made of it |
//! | [`page`] | the text, from a process's state |
//! | [`http`] | the listener |

pub mod families;
pub mod http;
pub mod page;
