//! What one worker hands to another: fresh sockets with what is known of them, and notes about the
//! legs that it handed over before.

use std::net::SocketAddr;

use crate::ids::{PortalNo, WorkerId};
use crate::limits::LEG_ANSWER;
use crate::protocol::command::Adopt;
use crate::protocol::pairing::LegHandle;

/// See the module. Nothing is in flight on a socket that is handed over.
#[derive(Debug)]
pub enum Handed<C> {
    /// An app that has just connected to an inlet.
    App {
        /// The portal.
        portal: PortalNo,
        /// The app.
        peer: SocketAddr,
        /// Its connection, of which nothing was read.
        socket: C,
    },
    /// A link whose handshake is done: it becomes part of a bundle here.
    Link {
        /// Its connection.
        socket: C,
        /// Received behind the last frame.
        received: Vec<u8>,
        /// Still to be sent.
        unsent: Vec<u8>,
        /// What it becomes, under its name here.
        adopt: Box<Adopt>,
    },
    /// A leg, for the worker that keeps the books of its address.
    Leg {
        /// Its connection.
        socket: C,
        /// Where it comes from.
        peer: SocketAddr,
        /// Its preface and what came behind it.
        received: Vec<u8>,
    },
    /// Two legs that were joined, to be carried here.
    Pair {
        /// The worker that keeps their books.
        home: WorkerId,
        /// They.
        legs: Box<[HandedLeg<C>; 2]>,
    },
    /// About one of a pair that was handed over.
    Note {
        /// Who says it.
        from: WorkerId,
        /// The leg, by its name in the books.
        leg: LegHandle,
        /// What.
        what: LegNote,
    },
}

/// One of a pair.
#[derive(Debug)]
pub struct HandedLeg<C> {
    /// Its connection.
    pub socket: C,
    /// Its name in the books.
    pub handle: LegHandle,
    /// An outlet's, of which the first sign of life is due.
    pub silent: bool,
    /// The sealed answer that it waits for; `None` where its session is forgotten.
    pub answer: Option<Box<[u8; LEG_ANSWER]>>,
    /// What it has sent already.
    pub received: Vec<u8>,
}

/// What is said of a leg between the worker that keeps its books and the one that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegNote {
    /// To the books: the first thing came from it.
    Sign,
    /// To the books: it is gone.
    Gone,
    /// From the books: end it, and its counterpart.
    Cut,
}
