//! Evidence on the wire.

use super::*;
use crate::cbor::{DecodeError, Writer};
use crate::identity::IdentityError;
use crate::limits::EVIDENCE_MAX;
use proptest::prelude::*;

fn examples() -> [Evidence; 3] {
    let world = World::new();
    let bare = Evidence {
        identity: world.node.identity().clone(),
        attestation: world.attest(Purpose::AuthoritySession),
        grant: Grant::Nothing,
    };
    [bare, world.credential_evidence(), world.pass_evidence()]
}

#[test]
fn what_is_encoded_is_decoded() {
    for evidence in examples() {
        assert_eq!(Evidence::decode(&evidence.encode()), Ok(evidence));
    }
}

#[test]
fn credential_and_pass_together_are_refused() {
    let [bare, credential, pass] = examples().map(|evidence| evidence.encode());
    // Behind the head of a map of four: what `bare` has, then one grant, then the other.
    let both = [
        &[0xa4],
        &bare[1..],
        &credential[bare.len()..],
        &pass[bare.len()..],
    ]
    .concat();
    let error = Evidence::decode(&both).expect_err("two grants");
    assert_eq!(error, EvidenceError::Decode(DecodeError::UnknownKey(4)));
}

#[test]
fn a_broken_history_inside_is_refused_as_such() {
    let mut evidence = World::new().credential_evidence().encode();
    // Map head, key, byte string head (2), array head, byte string head (2), first key.
    evidence[7..39].fill(0);
    let error = Evidence::decode(&evidence).expect_err("a key of small order");
    assert_eq!(error, EvidenceError::Identity(IdentityError::Key(0)));
    assert_eq!(error.code(), 3202);
}

#[test]
fn bytes_beyond_the_bound_are_refused_unread() {
    let mut writer = Writer::new();
    writer.bytes(&vec![0; EVIDENCE_MAX]);
    let error = Evidence::decode(&writer.finish()).expect_err("too long");
    assert_eq!(
        error,
        EvidenceError::Decode(DecodeError::Length("evidence"))
    );
    assert_eq!(error.code(), 3201);
}

#[test]
fn the_longest_history_and_credential_fit_together() {
    let mut world = World::new();
    let mut random = SeededRandom::new(4);
    while world.node.rotate(&mut random).is_ok() {}
    let mark = world.node.identity().mark();
    (world.body.history_head, world.body.history_len) = (mark.head, mark.len);
    for n in 0..13 {
        let (name, value) = (format!("attribute-{n}").parse(), "x".repeat(256).parse());
        world
            .body
            .attributes
            .insert(name.expect("a name"), value.expect("a value"))
            .expect("fewer than 32");
    }
    let evidence = world.credential_evidence();
    let bytes = evidence.encode();
    assert!(
        bytes.len() > 14_000 && bytes.len() <= EVIDENCE_MAX,
        "{} bytes",
        bytes.len()
    );
    assert_eq!(Evidence::decode(&bytes), Ok(evidence));
}

proptest! {
    #[test]
    fn damaged_evidence_is_refused_or_has_one_spelling_and_never_verifies(
        which in 0_usize..3,
        at: prop::sample::Index,
        flip in 1_u8..,
    ) {
        let mut bytes = examples()[which].encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let Ok(read) = Evidence::decode(&bytes) else { return Ok(()) };
        prop_assert_eq!(read.encode(), bytes);
        let world = World::new();
        let authority = world.trusted();
        let remote_static = static_key(5);
        let address = address(ADDRESS);
        let verdict = verify_member(&read, &MemberQuestion {
            authority: &authority,
            histories: &NoHistories,
            remote_static: &remote_static,
            now: NOW,
            address: &address,
            direction: Direction::Serve,
            revocation: &Always(Standing::Good),
            policy: &WantsOutlet,
        });
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Evidence::decode(&bytes);
    }
}
