//! What a slot can be: exactly one of these at a time.

use super::accept::{Listener, Stranger};
use super::lane::LaneIx;
use super::link::Link;
use super::relay::Leg;
use super::stream::Stream;

/// The connection in a slot. Streams and legs are the many: a box for each would cost an allocation
/// and a miss.
#[derive(Debug)]
pub(super) enum Conn {
    /// A listening socket.
    Listener(Listener),
    /// Accepted at the public address, its preface not read yet.
    Stranger(Box<Stranger>),
    /// A framed connection that is carried for control.
    Link(Box<Link>),
    /// Relay: a leg, waiting or paired.
    Leg(Leg),
    /// The socket of a lane; the lane itself is in the worker's table of lanes.
    Lane(LaneIx),
    /// The socket of an app or target.
    Stream(Stream),
}
