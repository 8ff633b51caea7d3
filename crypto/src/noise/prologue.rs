//! What both ends must agree on before the first message, byte for byte.

use crate::id::Id;
use crate::names::RelayAddress;
use crate::suite::Suite;

/// Who an end of a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// Initiates circuits.
    Inlet = 1,
    /// Answers circuits.
    Outlet = 2,
    /// A node in a session.
    Node = 3,
    /// The relay in a relay session.
    Relay = 4,
    /// The authority in an authority session.
    Authority = 5,
}

/// The prologue of a handshake:
///
/// ```text
/// preface, 8 ‖ adit/1 ‖ suite, 1 ‖ version, 1 ‖ project id, 32 ‖ length of address, 1 ‖ address
///            ‖ initiator's part, 1 ‖ responder's part, 1
/// ```
///
/// `preface` is the session's clear preface; on a circuit, the same eight bytes with the kind
/// `circuit`. Sessions have no address. Each end fills in what it asked for *itself*: so a relay
/// that joins an inlet for one address with the outlet of another gets a failed handshake.
pub fn prologue(
    preface: &[u8; 8],
    suite: Suite,
    version: u8,
    project: &Id,
    address: Option<&RelayAddress>,
    initiator: Part,
    responder: Part,
) -> Vec<u8> {
    let address = address.map_or("", RelayAddress::as_str);
    let mut out = Vec::with_capacity(8 + 6 + 2 + 32 + 1 + address.len() + 2);
    out.extend_from_slice(preface);
    out.extend_from_slice(b"adit/1");
    out.extend_from_slice(&[suite.number(), version]);
    out.extend_from_slice(&project.0);
    // At most RELAY_ADDRESS_MAX, which is 63.
    out.push(address.len() as u8);
    out.extend_from_slice(address.as_bytes());
    out.extend_from_slice(&[initiator as u8, responder as u8]);
    out
}

/// The prologue of a handshake within a lane: `adit-exchange-v1 ‖ hash, 32`, the hash being that of
/// the lane's last handshake. So its messages mean something on that lane only, and only once.
pub fn exchange_prologue(hash: &[u8; 32]) -> Vec<u8> {
    [b"adit-exchange-v1".as_slice(), hash].concat()
}
