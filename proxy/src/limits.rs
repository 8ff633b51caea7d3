//! Every bound of adit, in one place, with the arithmetic that ties them together.
//!
//! Nothing that outside input can reach is unbounded, and no bound is written anywhere else
//! (the `tidy` test looks for strays). Sizes are bytes, times are `Duration`.

use crate::time::Duration;

// ---- records ------------------------------------------------------------------------------

/// Clear record header: length u24, key epoch u8.
pub const RECORD_HEADER: usize = 4;
/// Sealed inner header: type u8, flags u8, stream u16.
pub const RECORD_INNER: usize = 4;
/// The AEAD tag.
pub const RECORD_TAG: usize = 16;
/// What a record costs on the wire beyond its payload.
pub const RECORD_OVERHEAD: usize = RECORD_HEADER + RECORD_INNER + RECORD_TAG;
/// Largest value of the length field on a lane: streams take turns, nobody waits long.
pub const LANE_RECORD_MAX: usize = 16 * 1024;
/// Largest value of the length field on a circuit: one receive buffer, sealed where it lies.
pub const CIRCUIT_RECORD_MAX: usize = 256 * 1024 - 4;
/// Largest payload of one DATA record on a lane.
pub const LANE_PAYLOAD_MAX: usize = LANE_RECORD_MAX - RECORD_INNER - RECORD_TAG;

// ---- frames (sessions and handshakes) -----------------------------------------------------

/// Longest frame behind its u16 length. Fits every handshake message and session message.
pub const FRAME_MAX: usize = 8 * 1024;
/// The clear preface of a session.
pub const PREFACE: usize = 8;
/// The preface of a leg: 32 clear and authenticated bytes, 48 sealed, tag.
pub const LEG_PREFACE: usize = 96;
/// The relay's one answer to a leg.
pub const LEG_ANSWER: usize = 48;

// ---- streams and credit -------------------------------------------------------------------

/// Lane bytes a stream may send, per direction, before the first CREDIT.
pub const CREDIT_INITIAL: u32 = 16 * 1024;
/// Most lane bytes outstanding per stream and direction.
pub const CREDIT_MAX: u32 = 256 * 1024;
/// Sum of grants a worker may have outstanding beyond the initial ones.
pub const CREDIT_BUDGET: usize = 64 * 1024 * 1024;
/// Above this much pending on a lane, reading from apps pauses.
pub const LANE_PENDING_MAX: usize = 512 * 1024;
/// Bytes that one direction may move in one turn of the loop.
pub const TURN_BYTES_MAX: usize = 256 * 1024;
/// Streams of one lane. Numbers are u16 and 0 is the lane itself.
pub const LANE_STREAMS_MAX: usize = 32 * 1024;

// ---- deadlines ----------------------------------------------------------------------------

/// A TCP connection must be up by then.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// An inlet leg waits this long for its answer (the relay's own wait is `PAIR_WAIT`).
pub const PAIRING_TIMEOUT: Duration = Duration::from_secs(6);
/// How long the relay lets an inlet leg wait for an outlet leg.
pub const PAIR_WAIT: Duration = Duration::from_secs(5);
/// A handshake must be over by then.
pub const SHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// An inlet waits this long for OPENED.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// An outlet waits this long for its target.
pub const CONNECTING_TIMEOUT: Duration = Duration::from_secs(5);
/// An app waits this long for a lane before it is reset.
pub const LANE_WAIT: Duration = Duration::from_secs(5);
/// An OPEN older than this is refused: a relay can't deliver a held one later.
pub const OPEN_AGE_MAX: Duration = Duration::from_secs(10);

// ---- control ------------------------------------------------------------------------------

/// Messages in each direction of one mailbox.
pub const MAILBOX_MAX: usize = 4096;
/// Addresses tried for one dial.
pub const DIAL_ADDRESSES_MAX: usize = 8;
/// Unpaired legs outlive their session by this.
pub const LEG_GRACE: Duration = Duration::from_secs(30);

// ---- engine -------------------------------------------------------------------------------

/// Memory page that buffers are laid out and given back by.
pub const PAGE: usize = 4096;
/// Capacity of a Small buffer.
pub const SMALL_BUF: usize = 4 * 1024;
/// Capacity of a Medium buffer: one full lane record with its overhead fits
/// (`LANE_RECORD_MAX` counts all but the clear header), rounded up to a cache line.
pub const MEDIUM_BUF: usize = 16 * 1024 + 64;
/// Capacity of a Large buffer.
pub const LARGE_BUF: usize = 64 * 1024;
/// Capacity of a Bulk buffer: one full circuit record.
pub const BULK_BUF: usize = 256 * 1024;
const _: () = assert!(LANE_RECORD_MAX + RECORD_HEADER <= MEDIUM_BUF);
const _: () = assert!(CIRCUIT_RECORD_MAX + RECORD_HEADER <= BULK_BUF);
/// Buffers of one class and engine: their numbers are u16 in the kernel's buffer rings.
pub const BUFFERS_PER_CLASS_MAX: u32 = 64 * 1024;
/// Sockets of one engine: a socket's name keeps 20 bits for its place, 12 to recognise reuse.
pub const SOCKETS_MAX: u32 = 1 << 20;
/// Connections that may wait in the backlog of a listening socket.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Connections taken from one listening socket in one turn.
pub const ACCEPT_BURST: usize = 64;
/// How long accepting rests when descriptors, memory or places are used up.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After this many rests in a row the connection that waited longest is refused, one per rest: it
/// gets a reset instead of an endless wait.
pub const ACCEPT_PAUSES_MAX: u32 = 20;
/// TCP_USER_TIMEOUT of tunnel legs and sessions: data unacknowledged for so long ends them.
pub const TUNNEL_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Keepalive of tunnel legs and sessions, for NAT.
pub const TUNNEL_KEEPALIVE: Duration = Duration::from_secs(60);
/// Time between keepalive probes that stay unanswered, and how many there are.
pub const TUNNEL_KEEPALIVE_PROBE: (Duration, u32) = (Duration::from_secs(5), 3);
/// Longest a turn sleeps: the wait is begun anew then. Keeps timeouts within an epoll `int`.
pub const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// Readiness events read by one epoll_wait.
pub const EPOLL_EVENTS: usize = 512;
/// Submission entries of a ring: more operations than that in one turn cost one more system call.
pub const RING_SUBMISSIONS: u32 = 1024;
/// Completion entries of a ring at most: the kernel's own bound. 16 bytes each.
pub const RING_COMPLETIONS_MAX: u32 = 64 * 1024;
/// Completions handed out by one turn; the rest keeps for the next.
pub const TURN_COMPLETIONS_MAX: usize = 4096;
/// Buffers that lie in the kernel for receives of one class, to begin with: with 8, running out of
/// them cost 9 %.
pub const PROVIDED_START: u16 = 64;
/// The same for Large buffers, of which few sockets receive: 1 MiB.
pub const PROVIDED_LARGE_START: u16 = 16;
/// Most buffers of one class that lie in the kernel. A power of two; 16 bytes each: one page.
pub const PROVIDED_MAX: u16 = 256;
/// With no more free places than that, connections are accepted one by one: one request for many
/// goes on when the table is full.
pub const ACCEPT_MARGIN: usize = 256;
/// How long a ring waits for a moment's lack of memory to pass.
pub const RING_PAUSE: Duration = Duration::from_millis(1);
/// How long a ring that is dropped waits for each round of completions, and for all of them.
pub const RING_DRAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// Simulation: an engine that takes so many turns at one instant of the clock spins.
pub const SIM_TURNS_MAX: u32 = 100_000;
