//! Every reason for which a connection is closed, and the stable codes that errors carry.
//!
//! A code never changes its meaning and is never used again. Ranges:
//!
//! | range | about |
//! |---|---|
//! | 1xxx | what was typed: flags, configuration, state directory |
//! | 2xxx | tickets and enrollment |
//! | 3xxx | identities, credentials, policies: not authorized |
//! | 4xxx | relays, sessions, legs, lanes |
//! | 5xxx | streams and targets |
//! | 6xxx | engine and resources |
//! | 7xxx | the authority's store |

use std::fmt;

/// A stable error code, printed `ADIT-4102`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ADIT-{:04}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a connection, lane or stream ended. Every closed one has exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum CloseReason {
            $($(#[$doc])* $name = $code,)*
        }

        impl CloseReason {
            /// All reasons, for the error catalogue.
            pub const ALL: &'static [CloseReason] = &[$(CloseReason::$name,)*];

            /// The stable code.
            pub const fn code(self) -> Code {
                Code(self as u16)
            }

            /// The reason with this code; an unknown one (a newer peer) is `None`.
            pub const fn from_code(code: u16) -> Option<CloseReason> {
                match code {
                    $($code => Some(CloseReason::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for CloseReason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(CloseReason::$name => $text,)*
                })
            }
        }
    };
}

close_reasons! {
    /// Both sides ended their stream and everything arrived.
    Finished = 5000, "finished";
    /// The local application reset its connection.
    AppReset = 5001, "the application reset its connection";
    /// The other side's application or target reset its connection.
    PeerReset = 5002, "the other side's application reset its connection";
    /// The target refused the connection.
    TargetRefused = 5101, "the target refused the connection";
    /// The target did not answer in time.
    TargetTimeout = 5102, "the target did not answer in time";
    /// No route to the target, or another network error.
    TargetUnreachable = 5103, "the target is unreachable";
    /// OPEN named a target the outlet does not have.
    TargetUnknown = 5104, "the outlet has no target of that name";
    /// OPEN was older than the outlet accepts.
    OpenTooOld = 5105, "the request to open arrived too late to be trusted";
    /// The outlet did not answer OPEN in time.
    OpenTimeout = 5106, "the outlet did not answer in time";
    /// The lane takes no new streams; try another.
    LaneRetiring = 5107, "the lane is retiring";
    /// Streams, buffers or descriptors are used up.
    Overloaded = 6001, "a limit of this process is reached";
    /// No lane came up in time.
    NoLane = 4101, "no lane to the outlet came up in time";
    /// The tunnel connection was lost.
    TunnelLost = 4102, "the tunnel connection was lost";
    /// A dial did not succeed in time.
    DialTimeout = 4103, "the connection could not be made in time";
    /// A dial failed.
    DialFailed = 4104, "the connection could not be made";
    /// The relay knows no outlet that serves the address now.
    NoOutlet = 4201, "no outlet serves the relay address now";
    /// The relay says this member may not use the address.
    AddressNotPermitted = 4202, "the relay address is not permitted to this member";
    /// The relay is at a limit.
    RelayBusy = 4203, "the relay is busy";
    /// The relay is shutting down.
    RelayGoingAway = 4204, "the relay is going away";
    /// The leg preface was wrong, replayed, or its session unknown.
    BadLeg = 4205, "the leg preface is not valid";
    /// The leg's session or its member's pass ended.
    LegExpired = 4206, "the leg outlived its session or its member's pass";
    /// What arrived is no adit connection.
    NotAdit = 4301, "this is not an adit connection";
    /// A version that is not spoken here.
    BadVersion = 4302, "the protocol version is not supported";
    /// A frame or record is malformed or out of bounds.
    Malformed = 4303, "a malformed message arrived";
    /// A message came out of turn.
    Violation = 4304, "the protocol was violated";
    /// A record or frame failed authentication.
    BadTag = 4305, "data failed authentication";
    /// The handshake did not finish in time.
    ShakeTimeout = 4306, "the handshake did not finish in time";
    /// The handshake failed.
    ShakeFailed = 4307, "the handshake failed";
    /// A session answered nothing.
    SessionDead = 4308, "the session stopped answering";
    /// Replaced by a newer one (age, changed permit).
    Replaced = 4309, "replaced by a newer one";
    /// The peer is not authorized (says only that, to the peer).
    NotAuthorized = 3001, "not authorized";
    /// The permit of this peer expired unrenewed.
    PermitExpired = 3002, "the credential expired";
    /// This process is draining or stopping.
    Stopping = 1901, "this process is stopping";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_code() {
        for &reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_code(reason.code().0), Some(reason));
        }
        assert_eq!(CloseReason::from_code(1), None);
        assert_eq!(CloseReason::NoLane.code().to_string(), "ADIT-4101");
    }
}
