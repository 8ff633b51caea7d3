//! What is issued, what is read back, and what neither issues nor reads.

use super::*;
use crate::cbor::Writer;
use crate::limits::ATTRIBUTES_MAX;
use crate::names::AttributeValue;
use crate::random::SeededRandom;
use proptest::prelude::*;

fn authority() -> IdentitySecret {
    IdentitySecret::create(&mut SeededRandom::new(1))
}

fn address(text: &str) -> RelayAddress {
    text.parse().unwrap()
}

fn body() -> CredentialBody {
    let mut attributes = Attributes::new();
    attributes
        .insert("env".parse().unwrap(), "prod".parse().unwrap())
        .unwrap();
    attributes
        .insert("postgres-outlet".parse().unwrap(), "true".parse().unwrap())
        .unwrap();
    CredentialBody {
        project: authority().id(),
        subject: Id([2; 32]),
        history_head: [3; 32],
        history_len: 4,
        serial: 5,
        name: "bank-outlet".parse().unwrap(),
        attributes,
        roles: Roles::MEMBER,
        may_serve: vec![address("mysql"), address("postgres")],
        may_connect: Connect::Only(vec![]),
        not_before: UnixTime(1_000),
        not_after: UnixTime(4_600),
        authority_key: 0,
    }
}

fn issued(body: CredentialBody) -> (Credential, Pass) {
    issue(&authority(), body).unwrap()
}

#[test]
fn a_pass_says_the_same_without_name_and_attributes() {
    let (credential, pass) = issued(body());
    assert_eq!(*credential.body(), body());
    assert_eq!(*pass.body(), body().to_pass());
    let shown = pass.encode();
    for secret in ["bank-outlet", "postgres-outlet", "prod"] {
        assert!(
            !shown
                .windows(secret.len())
                .any(|at| at == secret.as_bytes()),
            "{secret}"
        );
    }
}

#[test]
fn the_authoritys_key_verifies_both_and_neither_as_the_other() {
    let (credential, pass) = issued(body());
    let authority = authority();
    let key = authority.identity().key();
    assert!(credential.verify(key).is_ok() && pass.verify(key).is_ok());
    let swapped = Signed {
        signature: pass.signed.signature,
        ..credential.signed.clone()
    };
    assert!(
        swapped
            .verify(SignedKind::Credential, &authority.id(), key)
            .is_err()
    );
    assert!(
        pass.signed
            .verify(SignedKind::Credential, &authority.id(), key)
            .is_err()
    );
}

#[test]
fn lists_are_put_in_order_and_the_key_is_the_authoritys_current_one() {
    let mut authority = authority();
    authority.rotate(&mut SeededRandom::new(2)).unwrap();
    let mut unordered = body();
    unordered.may_serve = vec![address("b"), address("a"), address("b")];
    unordered.may_connect = Connect::Only(vec![address("d"), address("c")]);
    unordered.authority_key = 9;
    let (credential, _) = issue(&authority, unordered).unwrap();
    assert_eq!(credential.body().may_serve, [address("a"), address("b")]);
    assert_eq!(
        credential.body().may_connect,
        Connect::Only(vec![address("c"), address("d")])
    );
    assert_eq!(credential.body().authority_key, 1);
}

#[test]
fn what_no_verifier_would_take_is_not_issued() {
    let refused = |change: fn(&mut CredentialBody)| {
        let mut body = body();
        change(&mut body);
        issue(&authority(), body).unwrap_err()
    };
    assert_eq!(
        refused(|b| b.project = Id([9; 32])),
        IssueError::OtherProject
    );
    assert_eq!(refused(|b| b.not_after = UnixTime(4_601)), IssueError::Life);
    assert_eq!(refused(|b| b.not_after = UnixTime(999)), IssueError::Life);
    assert_eq!(refused(|b| b.roles = Roles::NONE), IssueError::Roles);
    assert_eq!(
        refused(|b| b.roles = Roles::RELAY.with(Roles::MEMBER)),
        IssueError::Roles
    );
    assert_eq!(
        refused(|b| b.may_serve = vec![RelayAddress::authority()]),
        IssueError::Addresses
    );
    assert_eq!(
        refused(|b| b.may_connect = Connect::Only(vec![RelayAddress::authority()])),
        IssueError::Addresses
    );
    assert_eq!(
        refused(|b| b.may_serve = (0..17).map(|n| address(&format!("a{n}"))).collect()),
        IssueError::Addresses
    );
    assert_eq!(
        refused(|b| {
            for n in 0..ATTRIBUTES_MAX {
                let value: AttributeValue = "x".repeat(256).parse().unwrap();
                let _ = b.attributes.insert(format!("n{n}").parse().unwrap(), value);
            }
        }),
        IssueError::TooLong
    );
}

#[test]
fn connecting_is_permitted_by_list_or_to_all_but_reserved_addresses() {
    let list = Connect::Only(vec![address("a")]);
    assert!(list.permits(&address("a")) && !list.permits(&address("b")));
    assert!(Connect::All.permits(&address("b")));
    assert!(!Connect::All.permits(&RelayAddress::authority()));
    assert!(!Connect::Only(vec![]).permits(&address("a")));
}

/// The bytes of a credential whose body is these bytes. The signature is not looked at.
fn wrapped(body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(2).bytes(body).bytes(&[0; 64]);
    writer.finish()
}

/// The error that a body gets after `from` in it was replaced by `to`, of the same meaning or
/// not.
fn replaced(from: &[u8], to: &[u8]) -> DecodeError {
    let (credential, _) = issued(body());
    let body = &credential.signed.body;
    let at = body
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();
    let bytes = [&body[..at], to, &body[at + from.len()..]].concat();
    Credential::decode(&wrapped(&bytes)).unwrap_err()
}

#[test]
fn lists_out_of_order_repeated_or_reserved_are_not_read() {
    let serve = b"\x09\x82\x65mysql\x68postgres";
    for other in [
        &b"\x09\x82\x68postgres\x65mysql"[..],
        b"\x09\x82\x65mysql\x65mysql",
        b"\x09\x81\x6a@authority",
    ] {
        assert_eq!(
            replaced(serve, other),
            DecodeError::Value("relay addresses")
        );
    }
    assert_eq!(
        replaced(b"\x65mysql", b"\x65Mysql"),
        DecodeError::Value("relay address")
    );
    assert_eq!(
        replaced(b"\x63env\x64prod", b"\x63zzz\x64prod"),
        DecodeError::Value("attributes")
    );
    let env = b"\x82\x63env\x64prod\x82\x6fpostgres-outlet\x64true";
    let twice = b"\x82\x63env\x64prod\x82\x63env\x64true";
    assert_eq!(replaced(env, twice), DecodeError::Value("attributes"));
}

#[test]
fn values_that_mean_nothing_are_not_read() {
    assert_eq!(
        replaced(b"\x08\x01\x09", b"\x08\x03\x09"),
        DecodeError::Value("roles")
    );
    assert_eq!(
        replaced(b"\x08\x01\x09", b"\x08\x00\x09"),
        DecodeError::Value("roles")
    );
    assert_eq!(
        replaced(b"\x08\x01\x09", b"\x08\x18\x20\x09"),
        DecodeError::Value("roles")
    );
    assert_eq!(
        replaced(b"\x0a\x80", b"\x0a\xf4"),
        DecodeError::Value("may connect")
    );
    assert_eq!(replaced(b"\x0a\x80", b"\x0a\xf6"), DecodeError::WrongType);
    assert_eq!(
        replaced(b"\x64prod", b"\x64pr\x07d"),
        DecodeError::Value("attribute value")
    );
    assert_eq!(
        replaced(b"\x04\x04", b"\x04\x1a\0\x01\0\0"),
        DecodeError::Value("history length")
    );
}

#[test]
fn a_pass_is_not_a_credential_nor_the_other_way_round() {
    let (credential, pass) = issued(body());
    assert_eq!(
        Credential::decode(&pass.encode()),
        Err(DecodeError::MissingKey(6))
    );
    assert_eq!(
        Pass::decode(&credential.encode()),
        Err(DecodeError::UnknownKey(6))
    );
}

#[test]
fn longer_than_the_bound_is_not_read() {
    let bytes = vec![0; CREDENTIAL_MAX + 1];
    assert_eq!(
        Credential::decode(&bytes),
        Err(DecodeError::Length("credential"))
    );
    assert_eq!(Pass::decode(&bytes), Err(DecodeError::Length("pass")));
}

prop_compose! {
    /// A credential's body as the authority would issue it.
    fn any_body()(
        (subject, history_head) in any::<([u8; 32], [u8; 32])>(),
        (history_len, serial) in any::<(u16, u64)>(),
        name in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        attributes in prop::collection::vec(("[A-Za-z0-9][a-z0-9._-]{0,20}", "[^\\p{C}]{1,40}"), 0..8),
        roles in (0_u8..32).prop_filter("roles that stand together", |bits| {
            Roles::from_bits(*bits).is_some_and(roles_fit)
        }),
        serve in prop::collection::vec("[a-z0-9][a-z0-9._-]{0,62}", 0..16),
        connect in prop::option::of(prop::collection::vec("[a-z0-9][a-z0-9._-]{0,62}", 0..16)),
        start in 0_u64..1 << 40,
        life in 0_u64..=3_600,
    ) -> CredentialBody {
        let list = |texts: &[String]| texts.iter().map(|text| address(text)).collect();
        let mut body = CredentialBody {
            project: authority().id(),
            subject: Id(subject),
            history_head,
            history_len,
            serial,
            name: name.parse().unwrap(),
            attributes: Attributes::new(),
            roles: Roles::from_bits(roles).unwrap(),
            may_serve: list(&serve),
            may_connect: connect.as_deref().map_or(Connect::All, |texts| Connect::Only(list(texts))),
            not_before: UnixTime(start),
            not_after: UnixTime(start + life),
            authority_key: 0,
        };
        for (name, value) in attributes {
            body.attributes.insert(name.parse().unwrap(), value.parse().unwrap()).unwrap();
        }
        body
    }
}

proptest! {
    #[test]
    fn whatever_is_issued_is_read_back(body in any_body()) {
        let (credential, pass) = issued(body);
        prop_assert_eq!(&Credential::decode(&credential.encode()), &Ok(credential));
        prop_assert_eq!(&Pass::decode(&pass.encode()), &Ok(pass));
    }

    #[test]
    fn a_damaged_object_is_refused_or_is_another_in_its_one_spelling(
        body in any_body(),
        at: prop::sample::Index,
        with: u8,
        cut: bool,
    ) {
        let mut bytes = issued(body).0.encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(read) = Credential::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
            let body = codec::encode(&read.body().to_pass(), Some((&read.body().name, &read.body().attributes)));
            prop_assert_eq!(body, read.signed.body);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Credential::decode(&bytes);
        let _ = Pass::decode(&bytes);
        let _ = Credential::decode(&wrapped(&bytes));
    }
}
