//! What control tells a worker and what a worker tells control: plain data, so that the
//! decisions that make commands out of events run without threads, sockets or a clock.
//!
//! Control never holds a socket of the protocol. A worker carries every framed connection
//! (a *link*): sessions, legs before they are paired, handshakes. It cuts the bytes into pieces
//! of the size control expects and stops reading until control says what to expect next. So at
//! most one piece of a link is on its way to control, and a stranger can't fill the mailbox.
//!
//! ```text
//! session, dialing:   Dial{hello = preface ‖ frame 1, Frame} → Connected → Frame(2) → Send(3)…
//! session, accepted:  Accepted{preface} → Send{[], Frame} → Frame(1) → Send(2) …
//! leg, parked:        Dial{hello = leg preface, Exact(48)} → Frame(PAIRED) → Send{[], Frame} → Frame(message 1)
//!                     → Send(message 2) → Frame(message 3) → Adopt (READY is the lane's first record)
//! leg, inlet:         Dial{hello = leg preface, Exact(48)} → Frame(PAIRED) → Send(message 1) → Frame(message 2)
//!                     → Adopt{last = message 3} → Lane(Ready)
//! ```

mod deliver;

use std::net::SocketAddr;
use std::sync::Arc;

use crypto::Id;
use crypto::leg::LegKey;
use crypto::names::RelayAddress;
use crypto::record::{MixSecret, Opener, Sealer};

use crate::error::CloseReason;
use crate::ids::{AddressHash, BundleId, CircuitNo, LinkId, PortalNo, SessionId, WorkerSet};
use crate::protocol::portal_limits::PortalLimits;
use crate::time::{Duration, Instant};

/// What a link's next piece looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: don't read. A hang-up is still noticed.
    Nothing,
    /// Exactly so many bytes, without a length.
    Exact(u16),
    /// A u16 length (big-endian, at most `limits::FRAME_MAX`) and that many bytes.
    Frame,
}

/// From control to a worker. Commands of one link are carried out in order; those for a link that
/// is gone are dropped.
#[derive(Debug)]
pub enum Command {
    /// Connect to the first of `to` that answers, send `hello`, then expect. `deadline` bounds
    /// the connecting; what follows is bounded by `Deadline`.
    Dial {
        /// The new link's name, even.
        link: LinkId,
        /// Addresses in order of preference, at most `limits::DIAL_ADDRESSES_MAX`.
        to: Vec<SocketAddr>,
        /// First bytes, sent as they are.
        hello: Vec<u8>,
        /// What the peer answers with.
        expect: Expect,
        /// When connecting must be over.
        deadline: Instant,
    },
    /// Send bytes (behind a u16 length if `framed`; none when empty), then expect.
    Send {
        /// The link.
        link: LinkId,
        /// At most `limits::FRAME_MAX`.
        bytes: Vec<u8>,
        /// Put a u16 length before them.
        framed: bool,
        /// What comes next.
        then: Expect,
    },
    /// The link closes with `why` unless the next piece is there by then. Replaces the one before.
    Deadline {
        /// The link.
        link: LinkId,
        /// When; `Instant::FAR_FUTURE` takes the deadline away.
        at: Instant,
        /// The reason reported then.
        why: CloseReason,
    },
    /// Close after what was sent has left: with FIN if `flush`, else with a reset at once.
    Close {
        /// The link.
        link: LinkId,
        /// Send what is queued first.
        flush: bool,
        /// The reason, for counters; no `Closed` event follows.
        why: CloseReason,
    },
    /// The handshake is done: the link becomes a lane, or a circuit of one. Bytes that came behind the last frame are
    /// its first records.
    Adopt(Box<Adopt>),
    /// The handshake is done, and what the link becomes lives on another worker: that of the name
    /// that the link has in `adopt`. It is handed there and adopted; what fails on the way is that
    /// name's `Closed`.
    HandOver {
        /// The link, by its name here; forgotten.
        link: LinkId,
        /// What happens to it there.
        adopt: Box<Adopt>,
    },
    /// A command for a lane.
    Lane {
        /// The link that became the lane.
        link: LinkId,
        /// What to do.
        what: LaneCommand,
    },
    /// A command for a circuit.
    Circuit {
        /// The link that became the circuit.
        link: LinkId,
        /// What to do.
        what: CircuitCommand,
    },
    /// Relay: legs of this session are welcome. Said again, it replaces (a renewed pass).
    LegKey(Box<LegEntry>),
    /// Relay: the session ended. Its unpaired legs stay `limits::LEG_GRACE` longer.
    LegKeyGone {
        /// The session.
        session: SessionId,
    },
    /// Relay: that member is one no longer: end its legs now, paired or not.
    MemberGone {
        /// Who.
        member: Id,
    },
    /// Relay: an outlet's policy denied that inlet member at that address.
    MemberDenied {
        /// The address.
        address: AddressHash,
        /// Who was denied.
        member: Id,
    },
    /// Outlet: what the portal's target names mean now. Replaces.
    Targets {
        /// The portal.
        portal: PortalNo,
        /// All of its targets that have an address.
        targets: Vec<KnownTarget>,
    },
    /// Inlet: what happens to an app that connects while no lane is ready. Until the first
    /// one, apps wait.
    Gate {
        /// The portal.
        portal: PortalNo,
        /// What happens.
        gate: Gate,
    },
    /// Inlet: the workers that have a lane which takes streams. One that has none, or many more apps
    /// than another, hands a fresh one over. Replaces.
    Hosts {
        /// The portal.
        portal: PortalNo,
        /// Which workers.
        workers: WorkerSet,
    },
    /// The portal has limits. Streams that are up already count for nothing.
    Limits {
        /// The portal.
        portal: PortalNo,
        /// Its limits, which all workers share.
        limits: Arc<PortalLimits>,
    },
    /// The portal has ended: its listeners close, apps that wait for a lane are reset for that reason.
    /// Its lanes retire by commands of their own.
    ClosePortal {
        /// The portal.
        portal: PortalNo,
        /// What apps that come too late are told.
        why: CloseReason,
    },
    /// The authority's time, for OPEN: it was `unix_millis` at `at`.
    AuthorityTime {
        /// Milliseconds since 1970.
        unix_millis: u64,
        /// When it was that, on the engine's clock.
        at: Instant,
    },
    /// Stop accepting once idle for `idle` (`Event::DoorsClosed`); cut what is left at `deadline`;
    /// then `Event::Drained`.
    Drain {
        /// How long nothing new may come before the listeners close.
        idle: Duration,
        /// When the rest is cut.
        deadline: Instant,
    },
    /// Close everything at once and end the worker.
    Stop,
}

/// What a target's name means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTarget {
    /// Its name in OPEN.
    pub name: String,
    /// Addresses in order of preference, at most `limits::TARGET_ADDRESSES_MAX`.
    pub to: Vec<SocketAddr>,
    /// Whether a header of the PROXY protocol goes before an app's bytes.
    pub proxy_header: bool,
}

/// What happens to an app at an inlet that has no lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It waits up to `limits::LANE_WAIT`, then is reset.
    Wait,
    /// It is reset at once: the portal can't work now, and this is why.
    Reset(CloseReason),
}

/// What a link becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// A lane: a bundle begins.
    Lane,
    /// A circuit of the bundle that is named with it: for bulk. Where the worker has no such lane
    /// (it was lost meanwhile), the circuit is closed with `CloseReason::NoBundle`.
    Circuit(CircuitNo),
}

/// A link that becomes a lane or a circuit.
#[derive(Debug)]
pub struct Adopt {
    /// The link.
    pub link: LinkId,
    /// Lane or circuit.
    pub becomes: Becomes,
    /// Bytes to send framed before the first record (the inlet's message 3), or empty.
    pub last: Vec<u8>,
    /// Which end this is.
    pub role: Role,
    /// The portal it serves.
    pub portal: PortalNo,
    /// The bundle, chosen by the inlet.
    pub bundle: BundleId,
    /// Seals what this end sends.
    pub sealer: Sealer,
    /// Opens what the other end sent.
    pub opener: Opener,
    /// What the peer may do, until when.
    pub permit: Permit,
    /// Inlet: each stream of this lane should have circuits of its own.
    pub dedicated: bool,
    /// Circuit: no direction of ours stays on it for longer.
    pub fresh_until: Instant,
}

/// Which end of a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Apps connect to it; it opens streams.
    Inlet,
    /// It connects to targets.
    Outlet,
}

impl Role {
    /// Its word, as logs and flags have it.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Inlet => "inlet",
            Role::Outlet => "outlet",
        }
    }
}

/// A decision that has been taken about a peer; the worker enforces it by its own timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The peer.
    pub peer: Id,
    /// The peer's name, for reports.
    pub peer_name: String,
    /// Of the credential that was checked.
    pub serial: u64,
    /// Target names it may open (outlet) or ask for (inlet).
    pub targets: Arc<[String]>,
    /// Of the policy that allowed it.
    pub policy_version: u64,
    /// Of the revocation list by which the peer was not revoked.
    pub list_number: u64,
    /// When it ends unless extended.
    pub not_after: Instant,
}

/// A command for a lane.
#[derive(Debug)]
pub enum LaneCommand {
    /// The peer's credential was renewed: the permit lasts until then.
    Extend {
        /// Serial of the new credential.
        serial: u64,
        /// The new end.
        not_after: Instant,
    },
    /// Send our renewed credential (CREDENTIAL, on stream 0).
    Credential(Vec<u8>),
    /// Send a message of a fresh key exchange: message 1 at an inlet, message 2 at an outlet.
    Exchange {
        /// Counts the lane's exchanges, from 1.
        number: u32,
        /// A Noise message.
        message: Vec<u8>,
    },
    /// The exchange gave this secret. It is held before `message` leaves, or KEY_READY where there
    /// is none.
    Mix {
        /// The exchange.
        number: u32,
        /// For the chains of both directions.
        secret: MixSecret,
        /// Inlet: message 3.
        message: Option<Vec<u8>>,
    },
    /// Open no more streams here; end when the last one has.
    Retire,
    /// End it and all its streams now.
    Cut(CloseReason),
}

/// A command for a circuit. Its permit is its lane's, and so is the end of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitCommand {
    /// Begin no new direction here; close it in order when those under way, of both ends, are over.
    Retire,
    /// End it now, and the streams that use either of its directions.
    Cut(CloseReason),
}

/// Relay: what the legs of one session may do.
#[derive(Clone, Debug)]
pub struct LegEntry {
    /// The session, as leg prefaces name it.
    pub session: SessionId,
    /// Opens their prefaces, seals their answers.
    pub key: LegKey,
    /// The member.
    pub member: Id,
    /// Addresses it may serve *and* said it serves.
    pub serve: Vec<AddressHash>,
    /// Addresses it may connect to.
    pub connect: ConnectSet,
    /// When its pass ends.
    pub not_after: Instant,
}

/// Addresses a member may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectSet {
    /// Every address of the project.
    All,
    /// These.
    Only(Vec<AddressHash>),
}

/// From a worker to control.
#[derive(Debug)]
pub enum Event {
    /// A stranger connected and sent a session preface; the worker waits for `Send`.
    Accepted {
        /// The new link's name, odd.
        link: LinkId,
        /// The eight bytes (magic and version were checked).
        preface: [u8; crate::limits::PREFACE],
        /// Where it comes from.
        peer: SocketAddr,
    },
    /// A dial's connection is up and its hello is on the way.
    Connected {
        /// The link.
        link: LinkId,
        /// Which address answered.
        peer: SocketAddr,
    },
    /// The expected piece.
    Frame {
        /// The link.
        link: LinkId,
        /// Its bytes, without length.
        bytes: Vec<u8>,
    },
    /// The link ended by itself. A lane's end is `LaneEvent::Closed`.
    Closed {
        /// The link.
        link: LinkId,
        /// Why.
        why: CloseReason,
    },
    /// Something about a lane.
    Lane {
        /// The link that became the lane.
        link: LinkId,
        /// What.
        what: LaneEvent,
    },
    /// Something about a circuit.
    Circuit {
        /// The link that became the circuit.
        link: LinkId,
        /// What.
        what: CircuitEvent,
    },
    /// An app waits at an inlet that has no lane.
    LaneWanted {
        /// The portal.
        portal: PortalNo,
    },
    /// Inlet: an app was reset before it had a stream on any lane.
    AppRefused {
        /// The portal.
        portal: PortalNo,
        /// The app.
        app: SocketAddr,
        /// Why.
        why: CloseReason,
    },
    /// A stream ended: for log and audit.
    Stream(Box<StreamReport>),
    /// Outlet: a target could not be reached; its name is worth resolving again.
    TargetFailed {
        /// The portal.
        portal: PortalNo,
        /// The name in OPEN.
        target: String,
        /// Why.
        why: CloseReason,
    },
    /// Relay: few parked legs are left for an address.
    ParkLow {
        /// The session whose member should park more.
        session: SessionId,
        /// The address.
        address: AddressHash,
        /// How many more legs are wanted.
        want: u16,
    },
    /// Relay: an address is served again; a leg of that session was told that it is not.
    NowServed {
        /// The session whose member should know.
        session: SessionId,
        /// The address.
        address: AddressHash,
    },
    /// Relay: a leg was refused.
    LegRefused {
        /// The member, where its session was known.
        member: Option<Id>,
        /// Where it came from.
        peer: SocketAddr,
        /// Why.
        why: CloseReason,
    },
    /// Draining: nothing new is taken any more, and lanes retire. Control ends its sessions and
    /// whatever else it has begun; streams go on.
    DoorsClosed,
    /// The drain is over.
    Drained,
}

/// Something about a lane.
#[derive(Debug)]
pub enum LaneEvent {
    /// Inlet: the outlet let us in; streams may open. Outlet: READY was sent.
    Ready,
    /// Inlet: the outlet refused us.
    Denied(CloseReason),
    /// The peer sent its renewed credential: check it, then `Extend` or `Cut`.
    Credential(Vec<u8>),
    /// A message of a fresh key exchange came.
    Exchange {
        /// The exchange.
        number: u32,
        /// A Noise message.
        message: Vec<u8>,
    },
    /// Both directions have gone over to the keys of that exchange.
    Mixed {
        /// The exchange.
        number: u32,
    },
    /// The peer retires this lane: make another.
    Retiring,
    /// Inlet, a hint: how the bundle's circuits are used. Said when a direction, of either end, found
    /// no idle circuit; when more were in use at once than was said before; and every
    /// `limits::CIRCUITS_SAY_AGAIN` while any is in use. At most once a turn.
    Circuits {
        /// Most circuits that were in use at once, in either direction, since it was last said.
        peak: u16,
        /// Directions that would move to a circuit now if there were one.
        wanted: u16,
    },
    /// The lane is gone, with all its streams.
    Closed(CloseReason),
}

/// Something about a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitEvent {
    /// Inlet: the outlet took it; streams may move here. Outlet: READY was sent.
    Ready,
    /// Inlet: the outlet refused it.
    Denied(CloseReason),
    /// It is gone, with the streams that used it.
    Closed(CloseReason),
}

/// How a stream went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// The portal.
    pub portal: PortalNo,
    /// Which end this is.
    pub role: Role,
    /// The peer member.
    pub peer: Id,
    /// Bundle and number: agree at both ends.
    pub bundle: BundleId,
    /// The stream's number on its lane.
    pub stream: u16,
    /// The target's name.
    pub target: String,
    /// Bytes from the app or target into the lane.
    pub bytes_sent: u64,
    /// Bytes from the lane to the app or target.
    pub bytes_received: u64,
    /// From its first event to its last.
    pub duration: Duration,
    /// Why it ended.
    pub why: CloseReason,
}

/// The hash by which legs name an address.
pub fn address_hash(project: &Id, address: &RelayAddress) -> AddressHash {
    AddressHash(crypto::address_hash(project, address))
}
