//! The events of a link, taken out of all that a worker says.

use std::net::SocketAddr;

use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::protocol::command::{CircuitEvent, Event, LaneEvent};

/// What happened to a link.
pub enum LinkEvent {
    /// A dial's connection is up, to this address.
    Connected(SocketAddr),
    /// The expected piece.
    Frame(Vec<u8>),
    /// It ended by itself.
    Closed(CloseReason),
    /// It is a lane, and this happened to it.
    Lane(LaneEvent),
    /// It is a circuit, and this happened to it.
    Circuit(CircuitEvent),
}

/// The link and what happened to it; another event is given back.
pub fn of(event: Event) -> Result<(LinkId, LinkEvent), Event> {
    match event {
        Event::Connected { link, peer } => Ok((link, LinkEvent::Connected(peer))),
        Event::Frame { link, bytes } => Ok((link, LinkEvent::Frame(bytes))),
        Event::Closed { link, why } => Ok((link, LinkEvent::Closed(why))),
        Event::Lane { link, what } => Ok((link, LinkEvent::Lane(what))),
        Event::Circuit { link, what } => Ok((link, LinkEvent::Circuit(what))),
        other @ (Event::Accepted { .. }
        | Event::LaneWanted { .. }
        | Event::AppRefused { .. }
        | Event::Stream(_)
        | Event::TargetFailed { .. }
        | Event::ParkLow { .. }
        | Event::NowServed { .. }
        | Event::LegRefused { .. }
        | Event::DoorsClosed
        | Event::Drained) => Err(other),
    }
}
