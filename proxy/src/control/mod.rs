//! The slow path: thin drivers around the decisions of [`protocol::core`](crate::protocol::core).
//!
//! One thread decides. Two helpers with bounded queues do what blocks: [`resolver`] (getaddrinfo)
//! and [`store`] (the authority's database). Nothing here is on the path of a byte: with this
//! thread held, open streams keep their full speed.
//!
//! | module | what it does |
//! |---|---|
//! | [`failure`] | errors with code, reason and mending command; exit codes |
//! | [`files`], [`keys`] | the state directory, and the identities in it |
//! | [`runtime`], [`clock`] | Tokio on a ring where io_uring works, else plain; the clocks, read |
//! | [`resolver`], [`store`] | what blocks, on threads of its own |
//! | [`sql`], [`sqlite`], `postgres` | the store in a database |
//! | [`store_place`] | which database, and where its password comes from |
//! | [`inbox`], [`worker_thread`] | how threads reach the driver; the worker's thread |
//! | [`driver`], [`report`] | the loop around a core; what it says of itself |
//! | [`process`] | a core with everything around it |
//! | [`node`], [`serve`], [`project`] | the processes there are |
//! | [`signals`] | stopping, and the command behind `--` |
//! | [`supervisor`] | what systemd is told |
//! | [`ticket_file`] | where a ticket comes from |
//! | [`admin`] | the administrator's socket, and the same calls without a process |
//! | [`log`] | the cores' log records as `tracing` events |

pub mod admin;
pub mod callers;
pub mod clock;
pub mod driver;
pub mod failure;
pub mod files;
pub mod inbox;
pub mod keys;
pub mod log;
pub mod metrics;
pub mod node;
pub mod policies;
pub mod portals;
#[cfg(feature = "store-postgres")]
pub mod postgres;
pub mod process;
pub mod project;
pub mod report;
pub mod resolver;
pub mod runtime;
pub mod serve;
pub mod signals;
pub mod sql;
pub mod sqlite;
pub mod store;
pub mod store_place;
pub mod supervisor;
pub mod ticket_file;
pub mod worker_thread;
