//! What a lane tells the owner of the sockets.

use crate::error::CloseReason;
use crate::ids::{CircuitNo, StreamNo};
use crate::protocol::record::Open;
use crate::time::Duration;

/// The worker's name for what is behind a stream: the place of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub u32);

/// What the owner of the sockets has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Outlet: connect to this target.
    Connect {
        /// The new stream.
        n: StreamNo,
        /// What the inlet asks for.
        open: Box<Open>,
    },
    /// Outlet: an OPEN was refused before anybody was contacted. Nothing to do; for the report.
    Refused {
        /// The stream.
        n: StreamNo,
        /// Why.
        why: CloseReason,
        /// What the inlet asked for.
        open: Box<Open>,
    },
    /// Inlet: the target is connected.
    Opened {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
    },
    /// The record's payload is for this app.
    Deliver {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
    },
    /// The record's payload is for this target once it is connected.
    Hold {
        /// The stream.
        n: StreamNo,
        /// Its target.
        key: StreamKey,
    },
    /// The record's payload is for this app, behind what its circuit still brings: keep it until
    /// `Merge`.
    Behind {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
    },
    /// The circuit has brought everything: what was kept is the app's.
    Merge {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
    },
    /// SWITCH has left: the app's bytes leave on the circuit from now on.
    Moved {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
        /// The circuit.
        circuit: CircuitNo,
    },
    /// Behind everything delivered: FIN to the app.
    FinToApp {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
    },
    /// Credit came for a stream that had none: read the app again.
    Resume {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
    },
    /// Reset the app's connection (or give up connecting). `Freed` follows.
    ResetApp {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
        /// Why.
        why: CloseReason,
    },
    /// Inlet: the outlet's lane was retiring and nothing was contacted: the app's stream and its
    /// first bytes may be opened on another lane. This lane has forgotten the key.
    Retry {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
    },
    /// The stream is over and the key forgotten. With `Finished`, all bytes were delivered.
    Freed {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
        /// Why it ended.
        why: CloseReason,
        /// Bytes from the app into the lane.
        sent: u64,
        /// Bytes from the lane delivered to the app.
        received: u64,
    },
    /// Inlet: READY was read on the circuit. Outlet: said at once; READY is queued.
    CircuitReady {
        /// The circuit.
        circuit: CircuitNo,
    },
    /// Inlet: the outlet refused the circuit.
    CircuitDenied {
        /// The circuit.
        circuit: CircuitNo,
        /// Why.
        why: CloseReason,
    },
    /// The SWITCH came for which the circuit waited: read it again.
    CircuitRead {
        /// The circuit.
        circuit: CircuitNo,
    },
    /// Our direction of the circuit is idle again.
    CircuitIdle {
        /// The circuit.
        circuit: CircuitNo,
    },
    /// The SWITCH for which the circuit waits never came: close it.
    CircuitDead {
        /// The circuit.
        circuit: CircuitNo,
    },
    /// Inlet: so many directions of the outlet would move to a circuit if there were one.
    Want(u16),
    /// Inlet: READY was read, streams may open. Outlet: said at once; READY is queued.
    Ready,
    /// Inlet: the outlet refused us.
    Denied(CloseReason),
    /// The other end opens (or takes) no new streams here.
    Retiring,
    /// The peer's records are sealed under its next key from now on.
    KeyUpdate {
        /// The exchange whose secret is mixed into it, if one is.
        mix: Option<u32>,
    },
    /// A message of a fresh key exchange came: for control.
    Exchange {
        /// The exchange.
        number: u32,
        /// A Noise message.
        message: Vec<u8>,
    },
    /// Both directions have gone over to the keys of that exchange: its secret can be forgotten.
    Mixed {
        /// The exchange.
        number: u32,
    },
    /// The peer's renewed credential, at most `limits::LANE_CREDENTIAL_MAX` bytes.
    Credential(Vec<u8>),
    /// The answer to our PING.
    Pong {
        /// How long it took.
        rtt: Duration,
    },
}
