//! Newtypes for the numbers and names that travel between modules, so that the compiler keeps
//! them apart.

use std::fmt;

/// The number of a stream on its lane. 0 is the lane itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamNo(pub u16);

impl StreamNo {
    /// Records about the lane, not about a stream of it.
    pub const LANE: StreamNo = StreamNo(0);
}

/// The number of a circuit in its bundle. 0 names the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitNo(pub u16);

/// A bundle (a lane and its circuits): 16 random bytes from the inlet. Logs show the first four.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BundleId(pub [u8; 16]);

/// A relay session, as the clear part of a leg preface names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// SHA-256(project ‖ relay address): all that a leg preface says of where it wants to go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressHash(pub [u8; 32]);

/// A portal (one inlet or one outlet of this process), by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortalNo(pub u16);

/// A framed connection (session, leg or handshake) that a worker carries for control.
///
/// Never used twice in a process. Control makes the even ones (dials), workers the odd ones
/// (accepted connections), so neither waits for the other to name one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

macro_rules! debug_as_hex_prefix {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}…)"),
                    data_encoding::HEXLOWER.encode(&self.0[..4]))
            }
        }
    )*};
}
debug_as_hex_prefix!(SessionId, AddressHash);

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

/// As logs show it: its type is clear from where it stands.
impl fmt::Debug for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
