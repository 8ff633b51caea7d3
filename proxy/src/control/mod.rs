//! The slow path: thin drivers around the decisions of [`protocol::core`](crate::protocol::core).
//!
//! One thread decides. Two helpers with bounded queues do what blocks: [`resolver`] (getaddrinfo)
//! and [`store`] (the authority's database). Nothing here is on the path of a byte: with this
//! thread held, open streams keep their full speed.
//!
//! | module | what it does |
//! |---|---|
//! | [`failure`] | errors with code, reason and mending command; exit codes |
//! | [`files`] | the state directory |
//! | [`runtime`] | Tokio on a ring where io_uring works, else plain |
//! | [`resolver`], [`store`], [`sqlite`] | what blocks, on threads of its own |
//! | [`log`] | the cores' log records as `tracing` events |

pub mod failure;
pub mod files;
pub mod log;
pub mod resolver;
pub mod runtime;
pub mod sqlite;
pub mod store;
