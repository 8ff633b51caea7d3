//! Every bound of the crate, in one place. Sizes are bytes, times are seconds.

// ---- texts --------------------------------------------------------------------------------

/// Longest name of a member, project or attribute.
pub const NAME_MAX: usize = 64;
/// Longest value of an attribute.
pub const ATTRIBUTE_VALUE_MAX: usize = 256;
/// Most attributes of one member.
pub const ATTRIBUTES_MAX: usize = 32;
/// Longest relay address, as in a DNS label.
pub const RELAY_ADDRESS_MAX: usize = 63;
/// Longest host of a `host:port`: the longest DNS name.
pub const HOST_MAX: usize = 253;
/// Longest `host:port`: host, colon, five digits.
pub const HOST_PORT_MAX: usize = HOST_MAX + 1 + 5;

// ---- identities ---------------------------------------------------------------------------

/// Most changes in an identity's history. One a month lasts five years.
pub const HISTORY_MAX: usize = 64;
/// One change on the wire: new key 32, two signatures 64.
pub const CHANGE_BYTES: usize = 32 + 2 * 64;
/// Longest encoded identity: array heads, the first key, and changes with two bytes of head each.
pub const IDENTITY_MAX: usize = 1 + 34 + 2 + HISTORY_MAX * (2 + CHANGE_BYTES);
/// Longest stored secret of an identity: map head, seed, identity.
pub const IDENTITY_SECRET_MAX: usize = 64 + IDENTITY_MAX;

// ---- signed objects -----------------------------------------------------------------------

/// Longest encoded attestation.
pub const ATTESTATION_MAX: usize = 256;
/// Longest encoded credential or pass. Less than the sum of its fields' bounds, so that an
/// evidence always fits a handshake frame.
pub const CREDENTIAL_MAX: usize = 4 * 1024;
/// Most relay addresses in each list of a credential.
pub const ADDRESSES_MAX: usize = 16;
/// Longest encoded evidence: three byte strings with their heads, in a map.
pub const EVIDENCE_MAX: usize = 16 + IDENTITY_MAX + ATTESTATION_MAX + CREDENTIAL_MAX;
/// Most relays in a project note.
pub const NOTE_RELAYS_MAX: usize = 16;
/// Longest encoded project note: identity, relays, and 512 for the rest.
pub const NOTE_MAX: usize = IDENTITY_MAX + NOTE_RELAYS_MAX * (HOST_PORT_MAX + 3) + 512;
/// Most entries of a revocation list: one a second for an hour and more, the life of a credential.
pub const REVOCATIONS_MAX: usize = 4096;
/// Longest entry of a revocation list: array head, member, serial, number.
pub const REVOCATION_ENTRY_MAX: usize = 1 + 34 + 9 + 9;
/// Longest encoded revocation list: entries, and 256 for the rest.
pub const REVOCATION_LIST_MAX: usize = REVOCATIONS_MAX * REVOCATION_ENTRY_MAX + 256;
/// Longest encoded beacon.
pub const BEACON_MAX: usize = 256;

// ---- tickets ------------------------------------------------------------------------------

/// Most relay addresses in a ticket.
pub const TICKET_ADDRESSES_MAX: usize = 8;
/// Longest body of a ticket: addresses, and 512 for the rest.
pub const TICKET_BODY_MAX: usize = TICKET_ADDRESSES_MAX * (HOST_PORT_MAX + 3) + 512;
/// Longest text of a ticket. Base64 makes four characters of three bytes.
pub const TICKET_TEXT_MAX: usize = 64 + (TICKET_BODY_MAX + 6).div_ceil(3) * 4;

// ---- lifetimes (seconds) ------------------------------------------------------------------

/// Longest life of an attestation.
pub const ATTESTATION_LIFE_MAX: u64 = 24 * 3600;
/// Longest life of a credential, and how long an authority's previous key is accepted.
pub const CREDENTIAL_LIFE_MAX: u64 = 3600;
/// How far two clocks may differ before a validity is judged wrong.
pub const CLOCK_TOLERANCE: u64 = 30;

// ---- handshakes and records ---------------------------------------------------------------

/// Longest Noise message (Noise specification, section 3).
pub const NOISE_MESSAGE_MAX: usize = 65_535;
/// Largest length field of any record (a circuit's; a lane's is smaller).
pub const RECORD_LENGTH_MAX: usize = 256 * 1024 - 4;
/// A key has to be updated after this many records …
pub const KEY_RECORDS_DUE: u64 = 1 << 20;
/// … or this many bytes.
pub const KEY_BYTES_DUE: u64 = 32 << 30;
/// No key seals or opens more records than this.
pub const KEY_RECORDS_MAX: u64 = 1 << 22;
/// Longest plain text of one session frame.
pub const FRAME_PLAIN_MAX: usize = 65_535 - 16;
/// Most that a message of Noise XX is longer than its payload: two keys and two tags.
pub const NOISE_OVERHEAD_MAX: usize = 32 + 48 + 16;
/// Most bytes that HKDF-SHA-256 gives at once (RFC 5869, section 2.3).
pub const HKDF_OUTPUT_MAX: usize = 255 * 32;

const _: () = {
    assert!(
        EVIDENCE_MAX <= 15 * 1024,
        "an evidence leaves no room in a 16 KiB frame"
    );
    assert!(EVIDENCE_MAX + 256 <= NOISE_MESSAGE_MAX);
    assert!(NOTE_MAX <= FRAME_PLAIN_MAX);
    assert!(RECORD_LENGTH_MAX < 1 << 24, "the length field has 24 bits");
    assert!(KEY_RECORDS_DUE < KEY_RECORDS_MAX);
};
