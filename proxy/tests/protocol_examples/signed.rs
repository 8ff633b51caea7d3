//! Identities, signed objects, tickets, evidence.

use crypto::attestation::Purpose;
use crypto::check::{Evidence, Grant};
use crypto::project::ProjectNote;
use crypto::revocation::{Beacon, RevocationEntry, RevocationList};
use crypto::suite::SuiteMask;
use crypto::ticket::Ticket;
use minicbor::Decoder;

use crate::cast::{self, NOW, Same};
use crate::paper::Paper;

/// A signed object: an array of body and signature.
fn signed(what: &str, bytes: &[u8]) -> String {
    let mut from = Decoder::new(bytes);
    assert_eq!(from.array().unwrap(), Some(2));
    let body = from.bytes().unwrap();
    let signature = from.bytes().unwrap();
    let mut paper = Paper::new();
    paper.block(what, bytes).line("its body says").reading(body);
    paper
        .line("its signature")
        .field(&signature[..32], "R")
        .field(&signature[32..], "S");
    paper.finish()
}

pub fn inlet_evidence() -> Evidence {
    Evidence {
        identity: cast::inlet().identity().clone(),
        attestation: cast::attestation(&cast::inlet(), cast::INLET_STATIC, Purpose::Circuit),
        grant: Grant::Credential(Box::new(cast::membership(false).0)),
    }
}

fn revocation_list() -> RevocationList {
    let entry = RevocationEntry {
        member: cast::inlet().id(),
        max_serial: 7,
        number: 3,
    };
    RevocationList::issue(&cast::authority(), 3, vec![entry]).unwrap()
}

pub fn examples() -> Vec<(&'static str, String)> {
    let mut identity = Paper::new();
    let mut changing = cast::inlet();
    identity.cbor("the inlet's identity", &changing.identity().encode());
    identity
        .line("its head")
        .field(&changing.identity().head(), "head 0");
    changing.rotate(&mut Same(0x0a)).unwrap();
    identity.cbor(
        "the same after a change to the key of seed 32 × 0a",
        &changing.identity().encode(),
    );
    identity
        .line("its head")
        .field(&changing.identity().head(), "head 1");
    assert_eq!(changing.id(), cast::inlet().id());

    let attestation = cast::attestation(&cast::inlet(), cast::INLET_STATIC, Purpose::Circuit);
    let (credential, pass) = cast::membership(false);
    let (outlet_credential, _) = cast::membership(true);
    let relays = vec!["relay.example.com:7348".parse().unwrap()];
    let (name, suites) = ("acme".parse().unwrap(), SuiteMask(3));
    let note = ProjectNote::issue(&cast::authority(), name, 1, relays, suites).unwrap();

    let list = revocation_list();
    let beacon = Beacon::issue(&cast::authority(), 1000, &list, NOW.0 * 1000);

    let ticket = Ticket::create(
        &mut Same(0x42),
        "acme".parse().unwrap(),
        cast::project(),
        cast::authority().identity().mark(),
        vec!["relay.example.com:7348".parse().unwrap()],
        NOW.plus(600),
    );
    let ticket = ticket.unwrap();
    let mut text = Paper::new();
    text.line("ticket id 16 × 42, secret 32 × 42");
    for line in ticket.to_text().as_bytes().chunks(80) {
        text.line(&format!("  {}", std::str::from_utf8(line).unwrap()));
    }
    text.line("what the authority stores of the secret")
        .field(&ticket.secret_hash(), "hash");

    let mut evidence = Paper::new();
    evidence.cbor(
        "what the inlet shows on circuits",
        &inlet_evidence().encode(),
    );

    vec![
        ("identity", identity.finish()),
        (
            "attestation",
            signed(
                "the inlet's attestation for circuits",
                &attestation.encode(),
            ),
        ),
        (
            "credential",
            signed("the inlet's credential", &credential.encode()),
        ),
        (
            "credential-outlet",
            signed("the outlet's credential", &outlet_credential.encode()),
        ),
        ("pass", signed("the inlet's pass", &pass.encode())),
        ("project-note", signed("a project note", &note.encode())),
        (
            "revocation-list",
            signed("a list that names the inlet", &list.encode()),
        ),
        ("beacon", signed("a beacon for it", &beacon.encode())),
        ("ticket", text.finish()),
        ("evidence", evidence.finish()),
    ]
}
