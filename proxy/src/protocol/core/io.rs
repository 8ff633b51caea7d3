//! What a core is told and what it says: plain data.

use std::fmt;
use std::net::SocketAddr;

use crypto::UnixTime;
use crypto::identity::IdentitySecret;
use crypto::names::HostPort;
use crypto::ticket::Ticket;
use zeroize::Zeroizing;

use super::admin::{AdminCall, AdminReply};
use super::config::Reconfigured;
use super::status::Status;
use crate::error::Code;
use crate::protocol::command::{Command, Event};
use crate::protocol::store::{StoreError, StoreReply, StoreRequest};
use crate::time::Instant;

/// What both clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock of the workers' engine; it counts suspend.
    pub mono: Instant,
    /// The wall clock, in milliseconds since 1970. Believed by the authority, and by a node
    /// before its first contact with it.
    pub wall_millis: u64,
}

impl Now {
    /// The wall clock in seconds.
    pub const fn wall(self) -> UnixTime {
        UnixTime(self.wall_millis / 1000)
    }
}

/// Names a question to the resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolveNo(pub u64);

/// Names a request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreNo(pub u64);

/// Names a request of the administrator's socket; the driver chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdminNo(pub u64);

/// Something happened. No `Debug`: a ticket is in it.
pub enum Input {
    /// A worker says.
    Event(Event),
    /// The resolver's answer: addresses in order of preference, or what went wrong.
    Resolved {
        /// Which question.
        no: ResolveNo,
        /// At most `limits::DIAL_ADDRESSES_MAX` are used.
        answer: Result<Vec<SocketAddr>, String>,
    },
    /// The store's answer.
    Store {
        /// Which request.
        no: StoreNo,
        /// The answer.
        answer: Result<StoreReply, StoreError>,
    },
    /// A request from the administrator's socket.
    Admin {
        /// To answer it by.
        no: AdminNo,
        /// What is asked.
        call: AdminCall,
    },
    /// A ticket became available (the mounted file changed). A node that is enrolled ignores it.
    Ticket(Box<Ticket>),
    /// The node's identity has changed its key, durably: it is this one now.
    Identity(Box<IdentitySecret>),
    /// The configuration was read again.
    Reconfigured(Box<Reconfigured>),
    /// The process was told to stop: go off the air in an orderly way, then the driver drains
    /// the worker.
    Stop,
    /// `next_timer` has passed.
    Timer,
}

/// Something has to be done.
#[derive(Debug)]
pub enum Output {
    /// For the worker.
    Command(Command),
    /// Look up a name; the answer comes as [`Input::Resolved`].
    Resolve {
        /// To answer by.
        no: ResolveNo,
        /// What to look up.
        name: HostPort,
    },
    /// For the store; the answer comes as [`Input::Store`].
    Store {
        /// To answer by.
        no: StoreNo,
        /// The request.
        request: StoreRequest,
    },
    /// The answer to [`Input::Admin`].
    Admin {
        /// Which request.
        no: AdminNo,
        /// The answer.
        reply: Box<AdminReply>,
    },
    /// Write a file of the state directory, durably; replaces what it held.
    Persist {
        /// Which file.
        file: StateFile,
        /// Its content.
        bytes: Zeroizing<Vec<u8>>,
    },
    /// The ticket was redeemed: forget it, and don't look at its file again.
    TicketSpent,
    /// Log it.
    Log(LogRecord),
    /// [`Core::status`] would say something else now (a portal is ready, an enrollment failed).
    StatusChanged,
}

/// A file that a core writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateFile {
    /// `config::Membership`, encoded.
    Membership,
    /// [`HeldRevocations`](super::HeldRevocations), encoded.
    Revocations,
}

/// How loud a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For who looks into one connection.
    Debug,
    /// A change of state.
    Info,
    /// It works, but not as it should, or somebody was denied.
    Warn,
    /// It does not work.
    Error,
}

/// One line of the log, and the same as JSON. At most one per change of state. Its texts come
/// from checked types or are bounded and cleaned; no secret is ever in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// How loud.
    pub level: Level,
    /// The stable code of what went wrong, if something did.
    pub code: Option<Code>,
    /// What happened.
    pub what: String,
    /// Details, in a fixed order; names are `snake_case`.
    pub fields: Vec<(&'static str, String)>,
}

impl LogRecord {
    /// A record without code and details.
    pub fn new(level: Level, what: impl Into<String>) -> Self {
        LogRecord {
            level,
            code: None,
            what: what.into(),
            fields: Vec::new(),
        }
    }

    /// With a code.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }
}

/// A core. See the module above for how a driver runs one.
pub trait Core {
    /// Takes in one input.
    fn handle(&mut self, now: Now, input: Input);

    /// The next thing to do; `None` when there is nothing left.
    fn poll_output(&mut self) -> Option<Output>;

    /// When to call `handle` with [`Input::Timer`] at the latest.
    fn next_timer(&self) -> Instant;

    /// What `adit status` shows.
    fn status(&self, now: Now) -> Status;

    /// Whether a link is known to it: one that is not would never be closed.
    #[cfg(test)]
    fn owns(&self, _link: crate::ids::LinkId) -> bool {
        true
    }
}
