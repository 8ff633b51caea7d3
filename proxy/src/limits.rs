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
/// Largest payload of one DATA record on a circuit.
pub const CIRCUIT_PAYLOAD_MAX: usize = CIRCUIT_RECORD_MAX - RECORD_INNER - RECORD_TAG;

// ---- tables -------------------------------------------------------------------------------

/// What a table of sockets or streams grows by: some 60 of them.
pub const BLOCK_BYTES: usize = 16 * 1024;

// ---- frames (sessions and handshakes) -----------------------------------------------------

/// Longest frame behind its u16 length. Fits every handshake message and session message.
pub const FRAME_MAX: usize = 16 * 1024;
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
/// CREDENTIALs of a peer that a lane takes at once …
pub const CREDENTIALS_BURST: u32 = 4;
/// … and how soon one more: a credential lives for minutes.
pub const CREDENTIAL_INTERVAL: Duration = Duration::from_secs(1);
/// Fresh key exchanges of a peer that a lane's outlet takes at once …
pub const KEY_EXCHANGE_BURST: u32 = 4;
/// … and how soon one more.
pub const KEY_EXCHANGE_REST: Duration = Duration::from_secs(1);
/// Longest payload of a record of a circuit's own: SWITCH, END, CONTINUE.
pub const CIRCUIT_CONTROL_MAX: usize = 16;
/// Longest CREDENTIAL; every evidence fits.
pub const LANE_CREDENTIAL_MAX: usize = LANE_PAYLOAD_MAX;
const _: () = assert!(crypto::limits::EVIDENCE_MAX <= LANE_CREDENTIAL_MAX);
// A message of a fresh key exchange: its number, and evidence within a Noise message.
const _: () = assert!(
    4 + crypto::limits::EVIDENCE_MAX + crypto::limits::NOISE_OVERHEAD_MAX <= LANE_PAYLOAD_MAX
);
/// Circuits of one bundle, at each end, in whatever state: those that take directions, and those
/// that only end what they carry.
pub const CIRCUITS_MAX: usize = 128;
/// A stream whose SWITCH was read is reset when its CONTINUE does not follow within this.
pub const CONTINUE_WAIT: Duration = Duration::from_secs(10);
/// A circuit whose CONTINUE came is closed when its SWITCH does not follow on the lane within this:
/// by then a lane that is dead was found to be (`LANE_QUIET` + `LANE_SILENT`).
pub const SWITCH_WAIT: Duration = Duration::from_secs(30);
/// WANT is said again at most this often.
pub const WANT_AGAIN: Duration = Duration::from_secs(1);

// ---- legs at the relay --------------------------------------------------------------------

/// How far behind the highest counter of its session a leg may come (one bit each, 512 B a
/// session): legs that were dialed at once overtake each other.
pub const LEG_WINDOW: u64 = 4096;
/// Circuits of one inlet member and address that wait for an outlet, or were paired within
/// `LEG_UNPROVEN`.
pub const LEGS_UNFINISHED_MAX: usize = 64;
/// So long after pairing nobody at the relay can know whether the handshake succeeded: the outlet
/// closes 2 s after pairing without message 1 and 5 s later without message 3.
pub const LEG_UNPROVEN: Duration = Duration::from_secs(2 + 5);
/// Paired circuits of one inlet member and address.
pub const LEGS_PAIRED_MAX: usize = 1024;
/// Parked legs of one outlet member and address.
pub const LEGS_PARKED_MAX: usize = 256;
/// Fewer parked legs than this, and the relay asks for more.
pub const PARK_LOW: usize = 2;
/// Least number of parked legs that the relay asks for: 2 · peak pairings + this.
pub const PARK_WANT_MIN: usize = 4;
/// The relay asks again after this, if the legs have not come.
pub const PARK_ASK_AGAIN: Duration = Duration::from_secs(1);
/// The peak of pairings per second is taken over the current and the last of these.
pub const PARK_PEAK_SPAN: Duration = Duration::from_secs(30);
/// What BUSY tells a leg to wait.
pub const LEG_BUSY_RETRY: Duration = Duration::from_secs(1);
/// An outlet's leg that was paired and has brought neither a byte nor its end by then is dead: an
/// outlet that lives closes it itself after `PAIRED_IDLE` without message 1. The rest is for the
/// way there and back.
pub const LEG_SIGN: Duration = Duration::from_secs(4);
const _: () = assert!(LEG_SIGN.as_millis() >= 2 * PAIRED_IDLE.as_millis());
/// An outlet that failed is passed over for so long, if another one serves the address.
pub const OUTLET_FAILED: Duration = Duration::from_secs(10);
/// Outlets that are remembered as failed.
pub const OUTLETS_FAILED_MAX: usize = 1024;
/// A member that an outlet's policy denied waits so long before it is paired there again …
pub const DENIED_WAIT_FIRST: Duration = Duration::from_secs(1);
/// … twice as long after each further denial, and at most so long …
pub const DENIED_WAIT_MAX: Duration = Duration::from_secs(60);
/// … until it has not been denied for so long beyond its wait.
pub const DENIED_FORGET: Duration = Duration::from_secs(60);
/// Sessions and addresses of legs that found nobody, to be told when somebody is there.
pub const UNSERVED_MAX: usize = 4096;
/// Members that are remembered as denied.
pub const DENIED_MAX: usize = 4096;

// ---- deadlines ----------------------------------------------------------------------------

/// A TCP connection must be up by then.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// One attempt to connect to the authority or a relay, for each of its addresses. Shorter than what
/// TCP would wait between its SYNs (1, 2, 4 s; RFC 6298), so that a network that comes back is
/// noticed within a second: SYNs leave at 0, 1 and 2 s.
pub const TUNNEL_DIAL: Duration = Duration::from_secs(2);
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

// ---- worker -------------------------------------------------------------------------------

/// Commands taken from the mailbox in one turn.
pub const COMMANDS_PER_TURN: usize = 256;
/// Hints to control that wait while its queue is full; past it they are dropped and counted.
pub const HINTS_MAX: usize = 256;
/// Connections to the public address that have not said yet what they are.
pub const STRANGERS_MAX: usize = 1024;
/// The same from one network (/24 of IPv4, /48 of IPv6).
pub const STRANGERS_PER_PREFIX: usize = 256;
/// A stranger has said what it is by then.
pub const STRANGER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that a link may have queued to be sent.
pub const LINK_TX_MAX: usize = 32 * 1024;
/// A link that is closed in order waits this long for what it sent to be read.
pub const LINK_LINGER: Duration = Duration::from_secs(2);
/// Lanes of one worker.
pub const LANES_MAX: usize = OUTLET_LANES_MAX + SLOTS_RESERVED;
/// Largest payload of a control record on a lane; a credential is the largest.
pub const CONTROL_PAYLOAD_MAX: usize = FRAME_MAX;
/// A sending key of a lane is used this long.
pub const KEY_AGE_MAX: Duration = Duration::from_secs(600);
/// No lane is used for longer without a fresh key exchange (circuits have none), unless told otherwise …
pub const KEY_EXCHANGE_EVERY: Duration = Duration::from_secs(3600);
/// … by a time of at least …
pub const KEY_EXCHANGE_EVERY_MIN: Duration = Duration::from_secs(1);
/// … and at most.
pub const KEY_EXCHANGE_EVERY_MAX: Duration = KEY_EXCHANGE_EVERY;
/// A lane whose key exchange is not over by then ends. A control thread that was held for 10 s is
/// back long before.
pub const KEY_EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// A lane with streams on it, and an inlet's in any case, that has brought no record for so long is
/// pinged.
pub const LANE_QUIET: Duration = Duration::from_secs(4);
/// It is lost when nothing comes within this after the PING: longer than a process is stopped for
/// (10 s), and 15 s together.
pub const LANE_SILENT: Duration = Duration::from_secs(11);
/// Apps of one inlet that wait for a lane; the next ones wait in the backlog.
pub const APPS_WAITING_MAX: usize = 1024;
/// Slots that streams and strangers leave free, for links, lanes and listeners.
pub const SLOTS_RESERVED: usize = 64;
/// A worker with fewer slots is not started: those that are reserved, and as many streams.
pub const SLOTS_MIN: u32 = 2 * SLOTS_RESERVED as u32;
/// Allocation that an app's spill keeps when it is empty.
pub const SPILL_KEPT_MAX: usize = 256;
/// An app's connection is handed to the worker with the fewest when this one has so many more, and an
/// eighth: below that, moving it costs more than it evens out.
pub const APPS_APART: u64 = 2;
/// How often a worker tries again to tell another one what did not fit into its mailbox.
pub const HAND_RETRY: Duration = Duration::from_millis(1);
/// Stale timer entries that are not worth a clean-up.
pub const TIMERS_STALE_MAX: usize = 64;
/// So many receives in a row that filled their buffers, or brought as much as a Medium one holds,
/// and a relay's direction is bulk: it is spliced.
pub const SPLICE_AFTER_FULL: u8 = 4;
/// So many small moves in a row, and it is bulk no more.
pub const SPLICE_UNTIL_SMALL: u8 = 16;
/// A spliced direction that moved nothing for so long gives its pipe back.
pub const SPLICE_QUIET: Duration = Duration::from_millis(50);
/// How often an engine gives back what it did not need since the last time.
pub const TRIM_EVERY: Duration = Duration::from_secs(5);
/// How often a slot that waits for a buffer asks again, should no buffer be freed.
pub const STARVED_RETRY: Duration = Duration::from_millis(5);

/// A direction that brings so many bytes from its app within `PROMOTE_SPAN` is bulk …
pub const PROMOTE_BYTES: u32 = 256 * 1024;
/// … and moves to a circuit of its own.
pub const PROMOTE_SPAN: Duration = Duration::from_millis(50);
/// So is one that fills so many Medium receives in a row.
pub const PROMOTE_FULL_RECEIVES: u8 = 4;
/// A direction is steady once its lane took so many bytes of it within `PROMOTE_STEADY_SPAN`: more
/// than buffers swallow on the way to an app that does not read.
pub const PROMOTE_STEADY_BYTES: u32 = 2 * 1024 * 1024;
/// … this time.
pub const PROMOTE_STEADY_SPAN: Duration = Duration::from_secs(1);
/// With so many of a bundle's sending directions in use, further ones go to steady directions only: a
/// slow reader keeps its circuit until it has read what is on the way.
pub const CIRCUITS_FOR_ALL: usize = CIRCUITS_READY_MAX - CIRCUITS_READY_MAX / 4;
/// A direction of a dedicated stream waits so long for a circuit; then it goes on on the lane.
pub const DEDICATED_WAIT: Duration = Duration::from_secs(5);
/// A direction on a circuit that was quiet for so long goes back to the lane, unless it is dedicated.
pub const CIRCUIT_QUIET: Duration = Duration::from_secs(1);
/// Bulk buffers are scarce when fewer than one in so many are free: then a direction has one, not
/// two, and receives from apps into Large ones.
pub const BULK_SCARCE: u32 = 4;

// ---- control ------------------------------------------------------------------------------

/// Messages in each direction of one mailbox.
pub const MAILBOX_MAX: usize = 4096;
/// Addresses tried for one dial.
pub const DIAL_ADDRESSES_MAX: usize = 8;
/// Unpaired legs outlive their session by this.
pub const LEG_GRACE: Duration = Duration::from_secs(30);

// ---- control: sessions, pools and back-off --------------------------------------------------

/// A node pings its sessions this often …
pub const SESSION_PING: Duration = Duration::from_secs(4);
/// … and either end gives a session up after three pings were missed, with slack for a control
/// thread that was held for 10 s: 4 s between pings + 10 s held < 15 s.
pub const SESSION_DEAD: Duration = Duration::from_secs(15);
/// A relay session is made anew at this age, before the old one is closed.
pub const RELAY_SESSION_LIFE: Duration = Duration::from_secs(3600);
/// How long a replaced relay session stays for what is under way on it.
pub const RELAY_SESSION_LINGER: Duration = Duration::from_secs(5);
/// First wait before something wanted is dialed again …
pub const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// … and the longest (promise 6: back within two seconds of the last missing piece).
pub const BACKOFF_MAX: Duration = Duration::from_millis(1500);
/// A relay next to its authority asks for its pass again within this when the store failed: nobody
/// is reached before it has one.
pub const RELAY_PASS_RETRY: Duration = Duration::from_millis(250);
/// Longest wait after a refusal.
pub const BACKOFF_REFUSED: Duration = Duration::from_secs(10);
/// An app waits for a lane while an outlet may be restarting; it is reset at once when the relay has
/// known none for so long.
pub const NO_OUTLET_PATIENCE: Duration = Duration::from_secs(1);
/// Failures are forgotten when none came for so long.
pub const BACKOFF_FORGET: Duration = Duration::from_secs(10);
/// A lane is replaced before it is this old.
pub const LANE_LIFE: Duration = Duration::from_secs(3600);
/// Parked legs per served address to begin with …
pub const PARKED_FIRST: usize = 4;
/// … and at most, whatever the relay asks for.
pub const PARKED_MAX: usize = 256;
/// What the relay asked for is kept parked so long after it was asked for last. It looks back a
/// minute itself (`PARK_PEAK_SPAN`).
pub const PARKED_KEPT: Duration = Duration::from_secs(60);
/// Legs of one portal that are being dialed at once.
pub const LEGS_DIALING_MAX: usize = 8;
/// An outlet leg that was paired must bring message 1 within this, or it is let go.
pub const PAIRED_IDLE: Duration = Duration::from_secs(2);
/// The project note is asked for this often.
pub const NOTE_REFRESH: Duration = Duration::from_secs(3600);
/// Lanes of one outlet portal, of all inlets together …
pub const OUTLET_LANES_MAX: usize = 4096;
/// … and of one member. An inlet has `INLET_LANES_MAX` at most, their replacements, and old ones with
/// long streams; the pods of a deployment may share an identity.
pub const OUTLET_LANES_PER_MEMBER_MAX: usize = 64;
/// Peers that are remembered as seen, so that a new one can be logged.
pub const PEERS_SEEN_MAX: usize = 4096;
/// Handshakes between two looks at everything else …
pub const SHAKES_PER_LOOK: usize = 8;
/// … where a message counts once more for every so many bytes: about 12 signatures to verify.
pub const SHAKE_BYTES: usize = 1024;
/// … and how many wait for their turn, at most `SHAKE_TIMEOUT`.
pub const SHAKES_WAITING_MAX: usize = 256;
/// Places (`--to`) of one target …
pub const TARGET_PLACES_MAX: usize = 8;
/// … and their addresses, all together.
pub const TARGET_ADDRESSES_MAX: usize = 16;
/// An address of a target that did not answer is the last to be tried for so long.
pub const TARGET_SHUNNED: Duration = Duration::from_secs(10);
/// Targets' names are looked up again this often.
pub const TARGET_REFRESH: Duration = Duration::from_secs(30);
/// An answer to TIME that took longer says too little.
pub const TIME_ROUND_TRIP_MAX: Duration = Duration::from_secs(3);
/// Authority time is asked for this often.
pub const TIME_REFRESH: Duration = Duration::from_secs(600);
/// An authority whose wall clock moved by so much more or less than the time that passed starts its
/// sessions anew: as much as the check tolerates.
pub const CLOCK_STEP: Duration = Duration::from_secs(crypto::limits::CLOCK_TOLERANCE);
/// A difference between the wall clock and authority time that is worth a warning.
pub const CLOCK_SKEW_WARN: Duration = Duration::from_secs(30);
/// An attestation is made to last this long …
pub const ATTESTATION_LIFE: Duration = Duration::from_secs(24 * 3600);
/// … of which this much lies in the past when it is made: a node whose clock is wrong by less
/// can still make its first contact.
pub const ATTESTATION_BACKDATE: Duration = Duration::from_secs(3 * 3600);
/// Circuits that a bundle keeps ready while nothing was bulk for `CIRCUIT_PEAK_SPAN`: one for the
/// next transfer, and one for when that is lost or being replaced. A portal that only ever carries
/// queries pays for no more than these.
pub const CIRCUITS_FIRST: usize = 2;
/// Circuits that a bundle keeps beyond the most that were in use at once lately.
pub const CIRCUITS_SPARE: usize = 2;
/// Least number of circuits of a bundle that uses them …
pub const CIRCUITS_MIN: usize = 4;
/// … and most: a bundle lives on one worker.
pub const CIRCUITS_READY_MAX: usize = 64;
/// Circuits of one portal that are being made at once …
pub const CIRCUITS_BUILDING_MAX: usize = 8;
/// … and of one process.
pub const CIRCUITS_BUILDING_PROCESS_MAX: usize = 64;
/// Circuits of one process and address that a relay counts as unfinished: the rest of its bound is
/// left to lanes, whose legs must never find it used up.
pub const CIRCUITS_UNPROVEN_MAX: usize = 48;
const _: () = assert!(CIRCUITS_UNPROVEN_MAX < LEGS_UNFINISHED_MAX);
/// The wait of a pool that was held back by one of the two bounds before.
pub const CIRCUITS_HELD_BACK: Duration = Duration::from_millis(250);
/// The most circuits in use at once is taken over so long (and up to a sixth longer).
pub const CIRCUIT_PEAK_SPAN: Duration = Duration::from_secs(60);
/// An inlet's worker says how many circuits are in use this often while any are.
pub const CIRCUITS_SAY_AGAIN: Duration = Duration::from_secs(10);
const _: () = assert!(CIRCUITS_SAY_AGAIN.as_secs() * 2 <= CIRCUIT_PEAK_SPAN.as_secs());
/// A pool that is too large loses one circuit this often.
pub const CIRCUIT_SHRINK: Duration = Duration::from_secs(5);
/// A circuit begins no new direction at this age, used or not: keys of an idle one are no older. What
/// is under way on it goes on for as long as it lasts.
pub const CIRCUIT_LIFE: Duration = Duration::from_secs(600);
/// Circuits of one bundle that only end what they carry. Past it they are retired later.
pub const CIRCUITS_RETIRING_MAX: usize = 56;
// The outlet may hear of an end later than the inlet: there is room for one round of new ones.
const _: () =
    assert!(CIRCUITS_READY_MAX + CIRCUITS_RETIRING_MAX + CIRCUITS_BUILDING_MAX <= CIRCUITS_MAX);
/// Circuits of one member at an outlet portal: of its present bundle, and of old ones …
pub const OUTLET_CIRCUITS_PER_MEMBER_MAX: usize = 512;
const _: () =
    assert!(OUTLET_CIRCUITS_PER_MEMBER_MAX + OUTLET_LANES_PER_MEMBER_MAX < LEGS_PAIRED_MAX);
/// … and of all members.
pub const OUTLET_CIRCUITS_MAX: usize = 4096;

// ---- control: authority and relay -----------------------------------------------------------

/// Life of a credential.
pub const CREDENTIAL_LIFE: Duration = Duration::from_secs(3600);
/// Default life of a ticket.
pub const TICKET_LIFE: Duration = Duration::from_secs(600);
/// Longest life of a ticket.
pub const TICKET_LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most identities that one ticket admits.
pub const TICKET_USES_MAX: u32 = 10_000;
/// The same identity may redeem its ticket again for so long: its answer may have been lost.
pub const REDEEM_REPEAT: Duration = Duration::from_secs(24 * 3600);
/// Rows of one page that a store gives.
pub const STORE_PAGE_MAX: usize = 1000;
/// Who asks for a credential again within this time gets the one it has: what peers ask for must not
/// fill the authority's disk.
pub const ISSUE_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals of one kind and subject (a ticket, say) are audited at most so often an hour, and once an
/// identity: anybody can make identities and be refused.
pub const REFUSALS_AUDITED_MAX: u64 = 16;
/// The hour of that.
pub const REFUSALS_AUDITED_EVERY: Duration = Duration::from_secs(3600);
/// Requests to the store that a guest of the authority's may have under way.
pub const GUEST_REQUESTS_MAX: usize = 2;
// Guests leave room for members' requests.
const _: () = assert!(GUEST_REQUESTS_MAX * SESSION_STRANGERS_MAX <= STORE_REQUESTS_MAX / 2);
/// Requests to the store that a core has under way; beyond it the answer is "busy".
pub const STORE_REQUESTS_MAX: usize = 1024;
/// Sessions in their handshake, and guests, in total …
pub const SESSION_STRANGERS_MAX: usize = 256;
/// … and from one source prefix (/24 of IPv4, /48 of IPv6).
pub const SESSION_STRANGERS_PER_PREFIX_MAX: usize = 64;
/// A mistake of strangers (HTTP, TLS, another version) is worth a line this often.
pub const MISTAKE_HINT_INTERVAL: Duration = Duration::from_secs(60);
/// An identity that has an authority session must show to be a member by then.
pub const GUEST_TIME: Duration = Duration::from_secs(10);
/// Sessions of one kind that a server keeps.
pub const SESSIONS_MAX: usize = 16 * 1024;
/// Sessions of one kind that one identity may have at a server: the present one, its
/// replacement, and one that the server has not yet found dead.
pub const SESSIONS_PER_MEMBER_MAX: usize = 4;
/// Relay addresses that one session serves; as many as a credential lists.
pub const SERVED_MAX: usize = crypto::limits::ADDRESSES_MAX;
/// Requests that a session may have unanswered.
pub const SESSION_REQUESTS_MAX: usize = 16;
/// A beacon is sent this often.
pub const BEACON_INTERVAL: Duration = Duration::from_secs(1);
/// Numbers of beacons that a store takes for itself in one write: a beacon a second costs a write
/// every 18 hours.
pub const BEACONS_RESERVED: u64 = 64 * 1024;
/// How long before its end a credential may have been issued, with the tolerance that the check
/// grants, and what the clocks of two authority processes may be apart when each is a minute off: the one
/// that is behind issues, and nodes check by its time; the one that is ahead forgets. A revoked member's
/// entry stays so long after its newest credential was issued.
pub const REVOCATION_KEPT: Duration = Duration::from_secs(
    crypto::limits::CREDENTIAL_LIFE_MAX + crypto::limits::CLOCK_TOLERANCE + 120,
);
/// Bytes of the revocation list in one message.
pub const REVOCATIONS_PART: usize = 12 * 1024;
/// A node whose newest beacon is older than this warns …
pub const BEACON_LATE: Duration = Duration::from_secs(10);
/// … and cuts its streams and opens none when it is older than this, unless told otherwise …
pub const REVOCATION_MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// … by a time of at least …
pub const REVOCATION_MAX_AGE_MIN: Duration = Duration::from_secs(5);
/// … and at most.
pub const REVOCATION_MAX_AGE_MAX: Duration = Duration::from_secs(3600);
/// By how much a beacon's time may be behind this node's without making it older: clocks of several
/// authority processes differ. docs/store.md asks for no more.
pub const BEACON_SKEW: Duration = Duration::from_secs(10);
/// How often the newest beacon is written to disk, so that a restart does not have to wait for one.
pub const BEACON_PERSIST: Duration = Duration::from_secs(60);
/// A revoked member is told so long after all others: they cut it, and can say what they have cut.
pub const REVOKED_TOLD: Duration = Duration::from_millis(500);
/// A relay ends the legs of a revoked member so long after it has heard of it: the ends, which can say
/// why, come first. Two seconds are promised in all.
pub const REVOKED_LEGS_END: Duration = Duration::from_secs(1);
/// How long `member revoke` waits for the connected nodes to say that they hold the new list.
pub const REVOKE_WAIT: Duration = Duration::from_secs(2);
/// Digits of a ticket's id that `ticket list` shows, and that name it.
pub const TICKET_ID_DIGITS_MIN: usize = 8;
/// Longest reason of a revocation.
pub const REVOKE_REASON_MAX: usize = 128;
/// Shortest life of a credential that can be asked for (`--credential-ttl`).
pub const CREDENTIAL_LIFE_MIN: Duration = Duration::from_secs(10);

// ---- control: texts -------------------------------------------------------------------------

/// Longest policy rule in its short form.
pub const RULE_TEXT_MAX: usize = 4 * 1024;
/// Terms of one rule.
pub const RULE_TERMS_MAX: usize = 33;
/// Rules of one policy.
pub const RULES_MAX: usize = 64;
/// Longest text of a refusal or of an error from outside that is kept or logged.
pub const REASON_TEXT_MAX: usize = 256;
/// Longest CEL expression of a policy rule.
pub const CEL_TEXT_MAX: usize = 4 * 1024;
/// How deep its text may nest: brackets, conditionals and runs of signs.
pub const CEL_NESTING_MAX: usize = 32;
/// How deep its tree may be: what evaluates it goes down as deep …
pub const CEL_DEPTH_MAX: usize = 96;
/// … and has so many steps at most: each is taken once, on at most `ATTRIBUTES_MAX` short texts.
pub const CEL_NODES_MAX: usize = 512;
/// Stack of the thread that parses one: the parser needs some 40 KiB for each level of its grammar.
pub const CEL_STACK: usize = 8 * 1024 * 1024;
/// A policy that reads the clock is asked again about live peers this often.
pub const POLICY_REVIEW: Duration = Duration::from_secs(10);
/// Pairs of peer and audit rule that are remembered as logged.
pub const AUDITED_MAX: usize = 4096;

// ---- control: drivers -----------------------------------------------------------------------

/// Entries of the ring of control's own runtime: files only.
pub const CONTROL_RING_ENTRIES: u32 = 64;
/// Questions waiting for the resolver.
pub const RESOLVER_QUEUE_MAX: usize = 64;
/// Requests waiting for the store.
pub const STORE_QUEUE_MAX: usize = 1024;
/// How long the store waits for another process that holds its file.
pub const STORE_BUSY_WAIT: Duration = Duration::from_secs(5);
/// How long a connection to the store's database may take to be made.
pub const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The database ends a statement of the store's that runs longer …
pub const STORE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// … and takes a change back when its process has said nothing for so long in the middle of it.
pub const STORE_IDLE_MAX: Duration = Duration::from_secs(10);
/// A database that has not answered for so long is asked nothing more on that connection: longer than it
/// may take by what stands above.
pub const STORE_ANSWER_WAIT: Duration = Duration::from_secs(15);
const _: () = assert!(STORE_ANSWER_WAIT.as_secs() > STORE_STATEMENT_TIMEOUT.as_secs());
/// A database that has said nothing for so long is asked whether it is there …
pub const STORE_KEEPALIVE: Duration = Duration::from_secs(5);
/// … and given up after so many questions.
pub const STORE_KEEPALIVES_MAX: u32 = 3;
/// Less room than this on the store's disk is named when the store fails, in bytes.
pub const STORE_ROOM_MIN: u64 = 1024 * 1024;
/// How long the store remembers which credentials were issued, beyond their end.
pub const STORE_ISSUED_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Largest file of a state directory, the database aside.
pub const STATE_FILE_MAX: usize = 256 * 1024;
/// The demo is over by then, or failed.
pub const DEMO_DEADLINE: Duration = Duration::from_secs(30);
/// Largest configuration file.
pub const CONFIG_FILE_MAX: u64 = 1024 * 1024;
/// Inlets and outlets of one process.
pub const PORTALS_MAX: usize = 256;
/// Requests to stop that wait for the driver.
pub const STOP_QUEUE_MAX: usize = 4;
/// Events that a driver takes from a worker before it looks at anything else.
pub const EVENTS_PER_LOOK: usize = 256;
/// A worker's full mailbox is tried again after this.
pub const MAILBOX_RETRY: Duration = Duration::from_millis(5);
/// A draining process closes its doors when nothing new came for so long …
pub const DRAIN_IDLE: Duration = Duration::from_secs(2);
/// … and cuts what is left after this: less than the 30 s that Kubernetes waits before SIGKILL.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(25);
/// Streams that did not end as they should get a line of the log this often, and a portal each.
pub const STREAM_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// A ticket's file is looked at this often while the node is not enrolled.
pub const TICKET_FILE_INTERVAL: Duration = Duration::from_secs(1);
/// Most workers of one process.
pub const WORKERS_MAX: u8 = 16;
/// Longest time that a worker looks for completions before it sleeps.
pub const SPIN_MAX: Duration = Duration::from_millis(1);
/// Most lanes of one inlet that take streams, at all its workers together.
pub const INLET_LANES_MAX: u8 = 16;
// There is one at each worker, and each has its replacement beside it at times. All of them may be
// dialed at once.
const _: () = assert!(WORKERS_MAX <= INLET_LANES_MAX);
const _: () = assert!(2 * INLET_LANES_MAX as usize <= OUTLET_LANES_PER_MEMBER_MAX);
const _: () = assert!(CIRCUITS_UNPROVEN_MAX + INLET_LANES_MAX as usize <= LEGS_UNFINISHED_MAX);
/// Most sockets of one worker.
pub const WORKER_SLOTS_MAX: u32 = 64 * 1024;
/// Descriptors that are not a worker's: files, pipes, rings, the callers of administration and metrics.
pub const NOFILE_RESERVED: u64 = 64;
/// Buffers of a process's engines together, Small, Medium, Large, Bulk: 64 + 16 + 64 + 64 MiB of
/// address space, touched on demand. Bulk: two for each direction of `CIRCUITS_READY_MAX`
/// circuits.
pub const ENGINE_BUFFERS: [u32; 4] = [16 * 1024, 1024, 1024, 256];
/// The least of them that one of many workers has.
pub const ENGINE_BUFFERS_MIN: [u32; 4] = [2048, 256, 128, 64];
/// Shortest life of a ticket that can be asked for.
pub const TICKET_LIFE_MIN: Duration = Duration::from_secs(1);
/// Longest path of a Unix socket (`sun_path`, without its terminating zero).
pub const SOCKET_PATH_MAX: usize = 107;
/// Callers of the administrator's socket at once.
pub const ADMIN_CALLERS_MAX: usize = 16;
/// Calls waiting for the driver.
pub const ADMIN_QUEUE_MAX: usize = 16;
/// Longest line of a call.
pub const ADMIN_LINE_MAX: usize = 64 * 1024;
/// Longest line of an answer: a page of the store with long rows.
pub const ADMIN_ANSWER_MAX: usize = 32 * 1024 * 1024;
/// How long the command line waits for an answer.
pub const ADMIN_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the next caller where descriptors are used up.
pub const ADMIN_WAIT: Duration = Duration::from_millis(100);
/// Most rows that `adit audit tail` begins with: a page of the store.
pub const AUDIT_TAIL_MAX: u64 = STORE_PAGE_MAX as u64;
/// `adit audit tail --follow` looks this often whether there are new rows.
pub const AUDIT_FOLLOW_INTERVAL: Duration = Duration::from_millis(250);
/// Longest line of a file of audit rows.
pub const AUDIT_LINE_MAX: u64 = 64 * 1024;
/// Callers of the metrics listener at once.
pub const METRICS_CALLERS_MAX: usize = 8;
/// Longest request of one, its headers included …
pub const METRICS_REQUEST_MAX: usize = 8 * 1024;
/// … and how many these are.
pub const METRICS_HEADERS_MAX: usize = 64;
/// A caller has sent its request and taken its answer by then.
pub const METRICS_TIMEOUT: Duration = Duration::from_secs(5);
/// Outputs of a core that carries out one call without a driver.
pub const OFFLINE_STEPS_MAX: usize = 10_000;
/// Most connections of a benchmark; the service that it starts itself needs as many descriptors.
pub const BENCH_STREAMS_MAX: i64 = 8_000;
/// Longest message of a benchmark.
pub const BENCH_SIZE_MAX: i64 = 1024 * 1024;
/// Most messages a second that a benchmark sends on a schedule.
pub const BENCH_RATE_MAX: i64 = 1_000_000;
/// Most rounds of a benchmark.
pub const BENCH_ROUNDS_MAX: i64 = 1_000;
/// Shortest time that one workload runs …
pub const BENCH_TIME_MIN: Duration = Duration::from_millis(50);
/// … and the longest.
pub const BENCH_TIME_MAX: Duration = Duration::from_secs(3600);
/// A portal that a benchmark starts is ready by then.
pub const BENCH_START_DEADLINE: Duration = Duration::from_secs(30);
/// A workload whose time is over has got everything back by then, or the benchmark fails.
pub const BENCH_STALL_DEADLINE: Duration = Duration::from_secs(30);
/// Most threads that make load, and as many that serve it.
pub const BENCH_THREADS_MAX: usize = 8;
/// Longest delay that a benchmark's histograms tell from a longer one.
pub const BENCH_DELAY_MAX: Duration = Duration::from_secs(3600);

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
/// Free buffers may keep this much memory.
pub const POOL_SLACK: usize = 128 * 1024;
/// Buffers of one class and engine: their numbers are u16 in the kernel's buffer rings.
pub const BUFFERS_PER_CLASS_MAX: u32 = 64 * 1024;
/// Sockets of one engine: a socket's name keeps 20 bits for its place, 12 to recognise reuse.
pub const SOCKETS_MAX: u32 = 1 << 20;
/// Connections that may wait in the backlog of a listening socket.
pub const LISTEN_BACKLOG: i32 = 4096;
/// How often to look, and for how long, when an address to listen on is in use: a killed process
/// keeps its port for a moment.
pub const LISTEN_PATIENCE: (Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(500));
/// Connections taken from one listening socket in one turn.
pub const ACCEPT_BURST: usize = 64;
/// How long accepting rests when descriptors, memory or places are used up.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After this many rests in a row the connection that waited longest is refused, one per rest: it
/// gets a reset instead of an endless wait.
pub const ACCEPT_PAUSES_MAX: u32 = 20;
/// TCP_NOTSENT_LOWAT of every connection: with so many bytes that its peer has no window for, a socket takes no
/// more. Bulk is as fast as without it from here on; at half of this it is 5 % slower.
pub const UNSENT_MAX: u32 = 256 * 1024;
/// TCP_USER_TIMEOUT of tunnel legs and sessions: data unacknowledged for so long ends them.
pub const TUNNEL_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Keepalive of tunnel legs and sessions, for NAT.
pub const TUNNEL_KEEPALIVE: Duration = Duration::from_secs(60);
/// Time between keepalive probes that stay unanswered, and how many there are.
pub const TUNNEL_KEEPALIVE_PROBE: (Duration, u32) = (Duration::from_secs(5), 3);
/// Longest a turn sleeps: the wait is begun anew then. The kernel's waits don't count suspend and our
/// clock does, so this is also how late a deadline that passed meanwhile is noticed.
pub const SLEEP_MAX: Duration = Duration::from_secs(5);
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
/// Pipes of one engine at most; each is two descriptors and, full, `PIPE_SIZE` of kernel memory:
/// 64 MiB, as much as an unprivileged user may have in pipes by default (pipe-user-pages-soft).
pub const PIPES_MAX: u32 = 256;
/// An engine has pipes for one in so many of the process's descriptors, at most `PIPES_MAX`.
pub const PIPES_PER_NOFILE: u64 = 16;
/// Empty pipes that are kept for the next bulk direction.
pub const PIPES_KEPT: usize = 16;
/// What a pipe is asked to hold: a turn's bytes of one direction.
pub const PIPE_SIZE: usize = TURN_BYTES_MAX;
/// A pipe that the kernel lets hold less than this is not worth its system calls.
pub const PIPE_SIZE_LEAST: usize = LARGE_BUF;
/// Simulation: an engine that takes so many turns at one instant of the clock spins.
pub const SIM_TURNS_MAX: u32 = 100_000;
/// Simulation: SYN retries double from here (RFC 6298, section 5.7), as Linux does.
pub const SIM_SYN_RETRY: Duration = Duration::from_secs(1);
/// Simulation: after so many SYNs a dial fails with ETIMEDOUT.
pub const SIM_SYN_RETRIES_MAX: u32 = 7;
/// Simulation: how long data may stay unacknowledged without TCP_USER_TIMEOUT (15 retries).
pub const SIM_RETRANSMIT_TIMEOUT: Duration = Duration::from_secs(924);
