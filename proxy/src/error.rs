//! Every reason for which a connection is closed, and the stable codes that errors carry.
//!
//! A code never changes its meaning and is never used again. Ranges:
//!
//! | range | about |
//! |---|---|
//! | 1xxx | what was typed: flags, configuration, state directory |
//! | 2xxx | tickets and enrollment |
//! | 3xxx | identities, credentials, policies: not authorized; 32xx are the steps of the check |
//! | 4xxx | relays, sessions, legs, lanes |
//! | 5xxx | streams and targets |
//! | 6xxx | engine and resources |
//! | 7xxx | the authority's store |
//!
//! Every code has a text and says what to do about it; `docs/errors.md` is made of them.

pub mod codes;

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
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $text:literal, $mend:literal;)*) => {
        /// Why a connection, lane or stream ended. Every closed one has exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum CloseReason {
            $($(#[doc = $doc])* $name = $code,)*
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

            /// What it means, as its documentation says.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(CloseReason::$name => concat!($($doc),*),)*
                }
            }

            /// What to do about it: a command, or what to look at.
            pub const fn mend(self) -> &'static str {
                match self {
                    $(CloseReason::$name => $mend,)*
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
    Finished = 5000, "finished",
        "nothing: this is how it should end";
    /// The local application reset its connection.
    AppReset = 5001, "the application reset its connection",
        "nothing, or look at the application's own log";
    /// The other side's application or target reset its connection.
    PeerReset = 5002, "the other side's application reset its connection",
        "look at the log of the application at the other end";
    /// No byte moved on the stream for longer than a portal allows.
    IdleTooLong = 5003, "the connection was idle for longer than the portal allows",
        "raise --idle-timeout at the portal that has one, or let the application send something";
    /// The target refused the connection.
    TargetRefused = 5101, "the target refused the connection",
        "start the service behind the outlet, or correct --to there";
    /// The target did not answer in time.
    TargetTimeout = 5102, "the target did not answer in time",
        "check that the outlet's machine reaches the service behind it, and --to there";
    /// No route to the target, or another network error.
    TargetUnreachable = 5103, "the target is unreachable",
        "check the outlet's network and --to there";
    /// OPEN named a target the outlet does not have.
    TargetUnknown = 5104, "the outlet has no target of that name",
        "make --via at the inlet and --at at the outlet name the same relay address";
    /// OPEN was older than the outlet accepts.
    OpenTooOld = 5105, "the request to open arrived too late to be trusted",
        "set the clocks of both nodes (timedatectl set-ntp true); adit status shows how far each is off";
    /// The outlet did not answer OPEN in time.
    OpenTimeout = 5106, "the outlet did not answer in time",
        "look at the outlet: adit status there";
    /// The lane takes no new streams; try another.
    LaneRetiring = 5107, "the lane is retiring",
        "nothing: the next lane takes it";
    /// Streams, buffers or descriptors are used up.
    Overloaded = 6001, "a limit of this process is reached",
        "look at the counters of adit status; raise the limit of open files (ulimit -n) or run another process";
    /// The portal has as many streams as it may.
    PortalFull = 6002, "the portal has as many connections as it may",
        "raise --max-streams, or end connections that are not needed";
    /// The portal was taken out of the configuration while the process runs.
    PortalClosed = 6003, "the portal was taken out of the configuration",
        "put it back, and have the process read its configuration again (SIGHUP); else nothing";
    /// No lane came up in time.
    NoLane = 4101, "no lane to the outlet came up in time",
        "adit status says what the portal waits for";
    /// The tunnel connection was lost.
    TunnelLost = 4102, "the tunnel connection was lost",
        "nothing, it is made anew; if it comes back often, check the network to the relay";
    /// A dial did not succeed in time.
    DialTimeout = 4103, "the connection could not be made in time",
        "check the address and that a firewall lets this machine reach it";
    /// A dial failed.
    DialFailed = 4104, "the connection could not be made",
        "check the address, and that something listens there";
    /// The relay knows no outlet that serves the address now.
    NoOutlet = 4201, "no outlet serves the relay address now",
        "start the outlet: adit outlet --at ADDRESS …; adit status there says whether it serves it";
    /// The relay says this member may not use the address.
    AddressNotPermitted = 4202, "the relay address is not permitted to this member",
        "adit ticket create --may-connect ADDRESS …, and enroll with it";
    /// The relay is at a limit.
    RelayBusy = 4203, "the relay is busy",
        "nothing: it is tried again; if it stays, look at the relay's log";
    /// The relay is shutting down.
    RelayGoingAway = 4204, "the relay is going away",
        "nothing: the node comes back when the relay does; start the relay again if nobody does (adit serve)";
    /// The leg preface was wrong, replayed, or its session unknown.
    BadLeg = 4205, "the leg preface is not valid",
        "nothing if it is rare: the relay was restarted; else look for somebody who sends what is not his";
    /// The leg's session or its member's pass ended.
    LegExpired = 4206, "the leg outlived its session or its member's pass",
        "nothing: it is made anew with the next session";
    /// What arrived is no adit connection.
    NotAdit = 4301, "this is not an adit connection",
        "point clients of other protocols to their own port";
    /// An HTTP client, by mistake.
    HttpByMistake = 4321, "this is an HTTP request; adit speaks its own protocol on this port",
        "point the HTTP client to an inlet's port (--from), not to the relay's";
    /// A TLS client, by mistake.
    TlsByMistake = 4322, "this is a TLS handshake; adit speaks its own protocol on this port",
        "point the TLS client to an inlet's port (--from), not to the relay's";
    /// A version that is not spoken here.
    BadVersion = 4302, "the protocol version is not supported",
        "run the same release at both ends (adit --version)";
    /// A frame or record is malformed or out of bounds.
    Malformed = 4303, "a malformed message arrived",
        "run the same release at both ends (adit --version); if they are the same, report it";
    /// A message came out of turn.
    Violation = 4304, "the protocol was violated",
        "run the same release at both ends (adit --version); if they are the same, report it";
    /// A record or frame failed authentication.
    BadTag = 4305, "data failed authentication",
        "check the path: something on it alters bytes; the relay's operator is one who could";
    /// The handshake did not finish in time.
    ShakeTimeout = 4306, "the handshake did not finish in time",
        "nothing if it is rare; else check the network, and whether the relay pairs what it should";
    /// The handshake failed.
    ShakeFailed = 4307, "the handshake failed",
        "nothing if it is rare; else something on the path alters bytes";
    /// A session answered nothing.
    SessionDead = 4308, "the session stopped answering",
        "nothing, it is made anew; if it comes back often, check the network";
    /// Replaced by a newer one (age, changed permit).
    Replaced = 4309, "replaced by a newer one",
        "nothing: a newer one does its work";
    /// Message 3 names a bundle that the outlet does not have for this pair.
    NoBundle = 4310, "the outlet has no such bundle",
        "nothing: the inlet makes a new lane";
    /// A lane that took no new streams has come to the end of its last one, as it should.
    Retired = 4311, "it was retired, and its last stream has ended",
        "nothing: this is how it should end";
    /// The peer is not authorized (says only that, to the peer).
    NotAuthorized = 3001, "not authorized",
        "look at the log of the side that said so: it names the rule; then change --allow there, or the ticket's attributes";
    /// The permit of this peer expired unrenewed.
    PermitExpired = 3002, "the credential expired",
        "check that the node reaches the authority: adit status";
    /// A membership was revoked: the peer's, or this node's own.
    Revoked = 3003, "the membership was revoked",
        "nothing if it was meant; else a fresh ticket for that node, with an empty state directory: adit ticket create --name NAME …";
    /// The authority has not said for too long that nobody else was revoked.
    RevocationStale = 3004, "no word from the authority on revocations for too long",
        "adit status says since when the authority is not reached; streams come back with it; --revocation-max-age says how long is too long";
    /// This process is draining or stopping.
    Stopping = 1901, "this process is stopping",
        "nothing: start the process again if it should run";
}

macro_rules! problems {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $text:literal, $mend:literal;)*) => {
        /// What keeps a node, a portal or the authority from doing what it was asked: each with
        /// a stable code, a text and the way to mend it. A connection that ends has a
        /// [`CloseReason`] instead. The check of a peer has codes of its own (32xx, in `crypto`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Problem {
            $($(#[doc = $doc])* $name = $code,)*
        }

        impl Problem {
            /// All problems, for the error catalogue.
            pub const ALL: &'static [Problem] = &[$(Problem::$name,)*];

            /// The stable code.
            pub const fn code(self) -> Code {
                Code(self as u16)
            }

            /// The problem with this code; an unknown one (a newer peer) is `None`.
            pub const fn from_code(code: u16) -> Option<Problem> {
                match code {
                    $($code => Some(Problem::$name),)*
                    _ => None,
                }
            }

            /// What it means, as its documentation says.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Problem::$name => concat!($($doc),*),)*
                }
            }

            /// What mends it: a command, or what to look at.
            pub const fn mend(self) -> &'static str {
                match self {
                    $(Problem::$name => $mend,)*
                }
            }
        }

        impl fmt::Display for Problem {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Problem::$name => $text,)*
                })
            }
        }
    };
}

problems! {
    /// Neither a membership nor a ticket.
    NoTicket = 2001, "this node is not a member and has no ticket",
        "adit ticket create --name NAME … > node.ticket, then start it with --ticket node.ticket";
    /// No such ticket at the authority, or another secret.
    TicketUnknown = 2002, "the authority does not know this ticket",
        "adit ticket create --name NAME …";
    /// Another identity redeemed it.
    TicketUsed = 2003, "the ticket was already used",
        "adit ticket create --name NAME --replaces NAME …";
    /// It was not redeemed in time.
    TicketExpired = 2004, "the ticket expired",
        "adit ticket create --name NAME --expires-in 1h …";
    /// It was taken back.
    TicketRevoked = 2005, "the ticket was revoked",
        "adit ticket create --name NAME …";
    /// It is bound to another identity.
    TicketBound = 2006, "the ticket is for another identity",
        "adit ticket create --for ID …, with the id that `adit identity show` prints here";
    /// Its name belongs to a live member.
    NameTaken = 2007, "a live member has the name that the ticket gives",
        "adit ticket create --replaces NAME …, or another --name";
    /// The identity was revoked and can't come back.
    MemberRevoked = 2008, "this member was revoked or replaced",
        "start with an empty state directory and a fresh ticket";
    /// The identity's history is not the one the authority has seen.
    HistoryForked = 2009, "this identity's key history is not the one the authority has seen",
        "restore the newest state directory, or start with an empty one and a fresh ticket";
    /// The authority does not know this member (any more).
    NotAMember = 2010, "the authority does not know this member",
        "start with a fresh ticket: adit ticket create --name NAME …";
    /// Who answers does not hold the authority's key.
    WrongProject = 2011, "what answers is not the authority of this project",
        "check the address, and that the ticket was made by the project that serves there";
    /// What the authority sent makes no sense.
    BadGrant = 2012, "what the authority sent can't be used",
        "check that both ends run the same release";
    /// A ticket can't be made as asked.
    TicketSpec = 2013, "a ticket like this can't be made",
        "adit ticket create --help";
    /// A ticket's grants make a credential that is too long.
    GrantsTooLong = 2014, "the attributes and addresses do not fit a credential of 4096 bytes",
        "use fewer or shorter attributes and addresses";
    /// A ticket would replace a member that does not exist.
    NoSuchMember = 2015, "there is no live member of that name",
        "adit member list";
    /// There is no such ticket to take back.
    NoSuchTicket = 2016, "there is no such ticket",
        "adit ticket list";
    /// The last administrator can be revoked only where the authority runs.
    LastAdmin = 2017, "this is the last administrator",
        "make another one first";
    /// The wall clock is far from the authority's time.
    ClockSkew = 3101, "this machine's clock differs from the authority's time",
        "set the clock (timedatectl set-ntp true)";
    /// This member may not serve an address that it is configured to serve.
    MayNotServe = 3102, "this member may not serve the relay address",
        "adit ticket create --may-serve ADDRESS …, and enroll with it";
    /// The credential is over and was not renewed.
    CredentialExpired = 3103, "this node's credential expired and could not be renewed",
        "adit status; check that the authority is reachable";
    /// No beacon for a while; streams are cut when it lasts for --revocation-max-age.
    RevocationsLate = 3111, "no word from the authority on revocations",
        "check that the authority runs and is reached: adit status";
    /// The authority names an older revocation list than this node has seen, or another of that number.
    RevocationsBack = 3112, "the authority's revocation list is not the one after the one seen before",
        "restore the authority's newest state; an older one has forgotten who was revoked";
    /// The relay did not believe this node.
    RelayDenied = 3104, "the relay does not accept this node",
        "adit status; the relay's log says why";
    /// What answers as the relay is none of this project.
    NotARelay = 3105, "what answers is not a relay of this project",
        "check that the address leads to this project's relay, and the clocks of both (timedatectl set-ntp true; adit status)";
    /// This process has no portal at the relay address that was named.
    NoSuchPortal = 3106, "this process has no portal at that relay address",
        "adit status lists its portals";
    /// No session with the authority.
    AuthorityUnreachable = 4401, "the authority can't be reached",
        "check the address, the network and that adit serve runs there; adit status says since when";
    /// No session with the relay.
    RelayUnreachable = 4402, "the relay can't be reached",
        "check the address, the network and that adit serve runs there; adit status says since when";
    /// A name does not resolve.
    NameUnresolved = 4403, "a name does not resolve",
        "check the name and the resolver";
    /// The store can't be used now.
    StoreUnavailable = 7001, "the authority's store can't be used now",
        "look at the authority's log";
    /// Too many members were revoked within an hour.
    RevocationsFull = 7003, "the revocation list is full",
        "try again later: entries leave when the credentials that they name have expired, after an hour at most";
    /// Too many requests are under way.
    AuthorityBusy = 7002, "the authority is busy",
        "wait; it is tried again";
}

/// What to do about a code, of whatever kind; `None` for one that is not known here (a newer peer's).
pub fn mend(code: Code) -> Option<&'static str> {
    let problem = Problem::from_code(code.0).map(Problem::mend);
    let reason = || CloseReason::from_code(code.0).map(CloseReason::mend);
    problem.or_else(reason).or_else(|| codes::mend(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_code() {
        for &reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_code(reason.code().0), Some(reason));
            assert!(!reason.mend().is_empty());
        }
        assert_eq!(CloseReason::from_code(1), None);
        assert_eq!(CloseReason::NoLane.code().to_string(), "ADIT-4101");
    }

    #[test]
    fn every_problem_is_found_by_its_code_and_shares_it_with_nothing() {
        for &problem in Problem::ALL {
            assert_eq!(Problem::from_code(problem.code().0), Some(problem));
            assert_eq!(CloseReason::from_code(problem.code().0), None);
            assert!(!problem.mend().is_empty());
        }
    }
}
