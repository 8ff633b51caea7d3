//! Where the parts of a core put what they want done, and what they all need for it: randomness
//! and numbers that are never used twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crypto::names::HostPort;
use crypto::{Random, random};

use super::io::{LogRecord, Output, ResolveNo, StateFile, StoreNo};
use crate::error::CloseReason;
use crate::ids::{LinkId, WorkerId};
use crate::protocol::command::{Command, Expect};
use crate::protocol::store::StoreRequest;
use crate::time::{Duration, Instant};

/// See the module.
pub struct Outbox {
    outputs: VecDeque<Output>,
    random: Box<dyn Random + Send>,
    /// Even, because workers name what they accept with odd numbers.
    next_link: u64,
    next_resolve: u64,
    next_store: u64,
}

/// One source of randomness for two parts of a core.
#[derive(Clone)]
pub struct SharedRandom(Arc<Mutex<Box<dyn Random + Send>>>);

impl SharedRandom {
    /// Shares `random`.
    pub fn new(random: Box<dyn Random + Send>) -> SharedRandom {
        SharedRandom(Arc::new(Mutex::new(random)))
    }
}

impl Random for SharedRandom {
    fn fill(&mut self, out: &mut [u8]) {
        // Never contended: a core runs on one thread.
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill(out);
    }
}

impl Outbox {
    /// Empty.
    pub fn new(random: Box<dyn Random + Send>) -> Self {
        Outbox {
            outputs: VecDeque::new(),
            random,
            next_link: 2,
            next_resolve: 1,
            next_store: 1,
        }
    }

    /// The next output.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Randomness.
    pub fn random(&mut self) -> &mut dyn Random {
        &mut *self.random
    }

    /// An array of random bytes.
    pub fn draw<const N: usize>(&mut self) -> [u8; N] {
        random::bytes(&mut *self.random)
    }

    /// A link name that was never used, at that worker.
    pub fn new_link(&mut self, worker: WorkerId) -> LinkId {
        let link = LinkId::at(worker, self.next_link);
        self.next_link += 2;
        link
    }

    /// Anything.
    pub fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// For the worker.
    pub fn command(&mut self, command: Command) {
        self.push(Output::Command(command));
    }

    /// For the log.
    pub fn log(&mut self, record: LogRecord) {
        self.push(Output::Log(record));
    }

    /// The status says something else now; said once for several changes in a row.
    pub fn status_changed(&mut self) {
        if !matches!(self.outputs.back(), Some(Output::StatusChanged)) {
            self.push(Output::StatusChanged);
        }
    }

    /// Write a file.
    pub fn persist(&mut self, file: StateFile, bytes: zeroize::Zeroizing<Vec<u8>>) {
        self.push(Output::Persist { file, bytes });
    }

    /// Look up a name.
    pub fn resolve(&mut self, name: HostPort) -> ResolveNo {
        let no = ResolveNo(self.next_resolve);
        self.next_resolve += 1;
        self.push(Output::Resolve { no, name });
        no
    }

    /// Ask the store.
    pub fn store(&mut self, request: StoreRequest) -> StoreNo {
        let no = StoreNo(self.next_store);
        self.next_store += 1;
        self.push(Output::Store { no, request });
        no
    }

    /// Send one frame on a link and expect the next within `patience`.
    pub fn send_frame(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.command(Command::Send {
            link,
            bytes,
            framed: true,
            then: Expect::Frame,
        });
    }

    /// Expect a frame without sending anything.
    pub fn expect_frame(&mut self, link: LinkId) {
        let bytes = Vec::new();
        self.command(Command::Send {
            link,
            bytes,
            framed: false,
            then: Expect::Frame,
        });
    }

    /// The next piece of a link has to be there in time.
    pub fn deadline(&mut self, link: LinkId, now: Instant, patience: Duration, why: CloseReason) {
        self.command(Command::Deadline {
            link,
            at: now + patience,
            why,
        });
    }

    /// The next piece of a link may take as long as it likes.
    pub fn no_deadline(&mut self, link: LinkId) {
        let why = CloseReason::SessionDead;
        self.command(Command::Deadline {
            link,
            at: Instant::FAR_FUTURE,
            why,
        });
    }

    /// Close a link.
    pub fn close(&mut self, link: LinkId, flush: bool, why: CloseReason) {
        self.command(Command::Close { link, flush, why });
    }
}
