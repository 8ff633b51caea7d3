//! Administration: a Unix socket in the state directory, one JSON object a line each way.
//!
//! ```text
//! → {"call":"status"}                     ← {"ok":{…}}
//! → {"call":"create-ticket","uses":1,…}   ← {"error":{"code":"ADIT-2101","what":…,"why":…}}
//! ```
//! The socket is 0600 in a 0700 directory, and a caller must have this process's user id: who
//! reaches it could as well read the keys. Calls are answered in order; a line is bounded before
//! it is read.
//!
//! Where no process serves a project, the command line carries the same calls out itself, on the
//! same core and store ([`offline`]).
//!
//! | module | what it does |
//! |---|---|
//! | [`wire`] | calls and answers as JSON |
//! | [`show`] | states and rows as JSON |
//! | [`server`], [`client`] | the two ends of the socket |
//! | [`offline`] | the same calls without a running process |

pub mod client;
pub mod offline;
pub mod server;
pub mod show;
pub mod wire;
