//! Signed objects. Each has one encoding only: what is accepted is what encoding it gives again.

use std::sync::LazyLock;

use crypto::attestation::Attestation;
use crypto::check::{Evidence, Grant, TrustedAuthority};
use crypto::credential::{Credential, Pass};
use crypto::identity::{Identity, IdentitySecret};
use crypto::project::ProjectNote;
use crypto::revocation::{Beacon, Keys, RevocationList};
use proxy::protocol::core::HeldRevocations;

use crate::Target;
use crate::fixtures::{NOW, Project};

/// Fails when the object that `bytes` were read as would be written otherwise.
fn canonical(bytes: &[u8], again: &[u8]) -> bool {
    assert_eq!(
        bytes, again,
        "accepted bytes that are not the object's encoding"
    );
    true
}

pub const IDENTITY: Target = Target {
    name: "identity",
    body: |bytes| Identity::decode(bytes).is_ok_and(|it| canonical(bytes, &it.encode())),
    seeds: || {
        let project = Project::new();
        vec![
            ("fresh", project.authority.identity().encode()),
            ("rotated", project.member.identity().encode()),
        ]
    },
};

pub const IDENTITY_SECRET: Target = Target {
    name: "identity_secret",
    body: |bytes| {
        IdentitySecret::from_bytes(bytes).is_ok_and(|it| canonical(bytes, &it.to_bytes()))
    },
    seeds: || vec![("rotated", Project::new().member.to_bytes().to_vec())],
};

pub const ATTESTATION: Target = Target {
    name: "attestation",
    body: |bytes| Attestation::decode(bytes).is_ok_and(|it| canonical(bytes, &it.encode())),
    seeds: || vec![("circuit", Project::new().attestation.encode())],
};

pub const CREDENTIAL: Target = Target {
    name: "credential",
    body: |bytes| Credential::decode(bytes).is_ok_and(|it| canonical(bytes, &it.encode())),
    seeds: || vec![("member", Project::new().credential.encode())],
};

pub const PASS: Target = Target {
    name: "pass",
    body: |bytes| Pass::decode(bytes).is_ok_and(|it| canonical(bytes, &it.encode())),
    seeds: || vec![("member", Project::new().pass.encode())],
};

pub const EVIDENCE: Target = Target {
    name: "evidence",
    body: |bytes| Evidence::decode(bytes).is_ok_and(|it| canonical(bytes, &it.encode())),
    seeds: || {
        let project = Project::new();
        let with = |grant| project.evidence(grant).encode();
        vec![
            ("enrolling", with(Grant::Nothing)),
            (
                "circuit",
                with(Grant::Credential(Box::new(project.credential.clone()))),
            ),
            (
                "relay_session",
                with(Grant::Pass(Box::new(project.pass.clone()))),
            ),
        ]
    },
};

/// The one project whose notes are believed.
static PROJECT: LazyLock<Project> = LazyLock::new(Project::new);

pub const NOTE: Target = Target {
    name: "note",
    body: |bytes| {
        let authority = PROJECT.authority.identity();
        let note = ProjectNote::verify(bytes, &authority.id(), &authority.mark());
        note.is_ok_and(|it| {
            // It is signed: nobody but the authority makes another one.
            canonical(&PROJECT.note.encode(), &it.encode()) && canonical(bytes, &it.encode())
        })
    },
    seeds: || vec![("note", PROJECT.note.encode())],
};

/// Those of the one project that are believed.
fn keys() -> TrustedAuthority {
    TrustedAuthority::new(PROJECT.authority.identity().clone(), NOW)
}

pub const REVOCATION_LIST: Target = Target {
    name: "revocation_list",
    body: |bytes| {
        let list = RevocationList::verify(bytes, Keys::At(&keys(), NOW));
        list.is_ok_and(|it| {
            canonical(&PROJECT.list.encode(), &it.encode()) && canonical(bytes, &it.encode())
        })
    },
    seeds: || vec![("two", PROJECT.list.encode())],
};

pub const BEACON: Target = Target {
    name: "beacon",
    body: |bytes| {
        let beacon = Beacon::verify(bytes, Keys::At(&keys(), NOW));
        beacon.is_ok_and(|it| {
            canonical(&PROJECT.beacon.encode(), &it.encode()) && canonical(bytes, &it.encode())
        })
    },
    seeds: || vec![("beacon", PROJECT.beacon.encode())],
};

pub const HELD_REVOCATIONS: Target = Target {
    name: "held_revocations",
    body: |bytes| {
        let held = HeldRevocations::decode(bytes, &keys());
        held.is_ok_and(|it| canonical(bytes, &it.encode()))
    },
    seeds: || {
        let held = HeldRevocations::new(PROJECT.list.clone(), PROJECT.beacon.clone());
        vec![("held", held.expect("its list").encode().to_vec())]
    },
};
