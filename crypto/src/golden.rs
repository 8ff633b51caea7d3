//! The formats as they are today. A digest that changes here means that stored state, tickets in
//! people's hands or nodes of another release are no longer understood: that takes a new version
//! of the format, never a new digest alone.

use crate::attestation::Purpose;
use crate::credential::{self, Connect, CredentialBody, Roles};
use crate::id::Id;
use crate::identity::IdentitySecret;
use crate::leg::LegKey;
use crate::names::Attributes;
use crate::noise::{Initiator, Part, Responder, prologue};
use crate::project::ProjectNote;
use crate::random::{Random, SeededRandom};
use crate::record::{ChainSecret, FrameSealer, MixSecret, Sealer};
use crate::statics::StaticKeypair;
use crate::suite::{Suite, SuiteMask};
use crate::ticket::Ticket;
use crate::time::UnixTime;
use sha2::{Digest, Sha256};

/// The first 8 bytes of the SHA-256 of `bytes`, in hex.
fn digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)[..8])
}

fn authority() -> IdentitySecret {
    let mut random = SeededRandom::new(1);
    let mut authority = IdentitySecret::create(&mut random);
    authority.rotate(&mut random).expect("room for a change");
    authority
}

#[test]
fn identities_and_their_stored_secrets() {
    assert_eq!(
        authority().id().to_string(),
        "Igtgb7jl4cgtsm4js4zfbv3l3cs7bcyyqq6wbloz6j3r2mboceplq"
    );
    assert_eq!(digest(&authority().identity().encode()), "ecd4649ac5e23cfa");
    assert_eq!(digest(&authority().identity().head()), "6e2c11d82fc0b3a3");
    assert_eq!(digest(&authority().to_bytes()), "77a917333905afb4");
}

#[test]
fn attestations_credentials_and_passes() {
    let authority = authority();
    let key = StaticKeypair::generate(&mut SeededRandom::new(2)).public();
    let (from, until) = (UnixTime(1_000), UnixTime(4_600));
    let attestation = authority.attest(&authority.id(), &key, Purpose::Circuit, from, until);
    assert_eq!(
        digest(&attestation.expect("an hour").encode()),
        "4c97a21827d37ec0"
    );
    let body = CredentialBody {
        project: authority.id(),
        subject: Id([2; 32]),
        history_head: [3; 32],
        history_len: 4,
        serial: 5,
        name: "bank-outlet".parse().expect("a name"),
        attributes: Attributes::new(),
        roles: Roles::MEMBER,
        may_serve: vec!["postgres".parse().expect("an address")],
        may_connect: Connect::All,
        not_before: from,
        not_after: until,
        authority_key: 0,
    };
    let (credential, pass) = credential::issue(&authority, body).expect("issued");
    assert_eq!(digest(&credential.encode()), "0280b6922af695a6");
    assert_eq!(digest(&pass.encode()), "726af3332f9dc2a5");
}

#[test]
fn tickets_and_project_notes() {
    let authority = authority();
    let name = || "acme".parse().expect("a name");
    let addresses = vec!["relay.example.com:7348".parse().expect("an address")];
    let ticket = Ticket::create(
        &mut SeededRandom::new(3),
        name(),
        authority.id(),
        authority.identity().mark(),
        addresses.clone(),
        UnixTime(1_000),
    );
    let ticket = ticket.expect("one address");
    assert_eq!(digest(ticket.to_text().as_bytes()), "1e1f4c7140155cd7");
    assert_eq!(digest(&ticket.secret_hash()), "bc47e1d25b9d6c71");
    let note = ProjectNote::issue(&authority, name(), 1, addresses, SuiteMask(3));
    assert_eq!(
        digest(&note.expect("one relay").encode()),
        "b0674b4aefcf96cc"
    );
}

#[test]
fn handshakes_records_frames_and_legs() {
    for (suite, shake, record, frame) in [
        (
            Suite::AesGcm,
            "831d50e596747997",
            "32439d49bfe01c1d",
            "ce9abd894bb3e6ca",
        ),
        (
            Suite::ChaChaPoly,
            "606781005e4ba593",
            "deaf674252cad12e",
            "ebde44605d7d8770",
        ),
    ] {
        let random: &mut dyn Random = &mut SeededRandom::new(4);
        let (local, remote) = (
            StaticKeypair::generate(random),
            StaticKeypair::generate(random),
        );
        let address = "postgres".parse().ok();
        let prologue = prologue(
            b"ADIT\x01\x03\0\0",
            suite,
            1,
            &Id([1; 32]),
            address.as_ref(),
            Part::Inlet,
            Part::Outlet,
        );
        let (initiator, one) = Initiator::start(suite, &prologue, &local, random).expect("1");
        let responder = Responder::read_message_1(suite, &prologue, &remote, &one).expect("1");
        let (_, two) = responder.write_message_2(b"two", random).expect("2");
        let (checking, _) = initiator.read_message_2(&two).expect("2");
        let (finished, three) = checking.write_message_3(b"three").expect("3");
        assert_eq!(digest(&[one, two, three].concat()), shake);
        let split = finished.split();
        let mut sealer = Sealer::new(suite, split.initiator_to_responder);
        let mut records = [[7; 40]; 3];
        sealer.seal(&mut records[0]).expect("sealed");
        sealer.update(None);
        sealer.seal(&mut records[1]).expect("sealed");
        sealer.update(Some(&MixSecret::from_bytes(&[9; 32])));
        sealer.seal(&mut records[2]).expect("sealed");
        assert_eq!(digest(records.as_flattened()), record);
        let mut frames = FrameSealer::new(suite, ChainSecret::from_bytes(&[8; 32]));
        assert_eq!(digest(&frames.seal(b"frame").expect("sealed")), frame);
    }
    let address = "postgres".parse().expect("an address");
    assert_eq!(
        digest(&crate::address_hash(&Id([1; 32]), &address)),
        "334226a84dee6720"
    );
    let key = LegKey::from_secret(&[5; 32]);
    assert_eq!(
        digest(&key.seal_preface(6, &[1; 32], &[2; 48])),
        "a77a5795327af2d9"
    );
    assert_eq!(digest(&key.seal_answer(6, &[3; 32])), "3de6b4225c9c8473");
}
