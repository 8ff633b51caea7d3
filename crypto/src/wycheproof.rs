//! The Wycheproof vectors of every primitive in use, through our own wrappers.

use crate::aead::AeadKey;
use crate::kdf::{self, OutputTooLong};
use crate::noise::resolver::X25519;
use crate::sign::{PublicKey, Signature, verify_bytes};
use crate::suite::Suite;
use crate::vectors::{load, unhex, unhex_array};
use serde::Deserialize;
use snow::types::Dh as _;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<G> {
    number_of_tests: usize,
    test_groups: Vec<G>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Valid,
    Invalid,
    Acceptable,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AeadGroup {
    key_size: usize,
    iv_size: usize,
    tag_size: usize,
    tests: Vec<AeadCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AeadCase {
    tc_id: u32,
    key: String,
    iv: String,
    aad: String,
    msg: String,
    ct: String,
    tag: String,
    result: Verdict,
}

fn aead_case(suite: Suite, case: &AeadCase) {
    let key = AeadKey::new(suite, &unhex_array(&case.key));
    let (nonce, aad) = (unhex_array(&case.iv), unhex(&case.aad));
    let (plain, sealed, tag) = (unhex(&case.msg), unhex(&case.ct), unhex_array(&case.tag));
    let mut opened = sealed.clone();
    let verdict = key.open(nonce, &aad, &mut opened, tag);
    if case.result == Verdict::Invalid {
        assert!(verdict.is_err(), "case {}", case.tc_id);
        return;
    }
    assert_eq!(verdict, Ok(()), "case {}", case.tc_id);
    assert_eq!(opened, plain, "case {}", case.tc_id);
    let mut made = plain;
    assert_eq!(
        key.seal(nonce, &aad, &mut made),
        Ok(tag),
        "case {}",
        case.tc_id
    );
    assert_eq!(made, sealed, "case {}", case.tc_id);
}

/// Returns how many cases ran and how many have parameters that no suite of ours has.
fn aead_file(path: &str, suite: Suite) -> (usize, usize) {
    let file: File<AeadGroup> = load(path);
    let mut ran = 0;
    for group in &file.test_groups {
        if (group.key_size, group.iv_size, group.tag_size) == (256, 96, 128) {
            for case in &group.tests {
                aead_case(suite, case);
                ran += 1;
            }
        }
    }
    (ran, file.number_of_tests - ran)
}

#[test]
fn aes_256_gcm_does_what_every_case_says() {
    assert_eq!(
        aead_file("wycheproof/aes_gcm_test.json", Suite::AesGcm),
        (66, 250)
    );
}

#[test]
fn chacha20_poly1305_does_what_every_case_says() {
    let path = "wycheproof/chacha20_poly1305_test.json";
    assert_eq!(aead_file(path, Suite::ChaChaPoly), (316, 9));
}

#[derive(Deserialize)]
struct XdhGroup {
    tests: Vec<XdhCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct XdhCase {
    tc_id: u32,
    flags: Vec<String>,
    public: String,
    private: String,
    shared: String,
}

#[test]
fn x25519_gives_every_listed_result_and_refuses_zero() {
    let file: File<XdhGroup> = load("wycheproof/x25519_test.json");
    let (mut computed, mut refused) = (0, 0);
    for case in file.test_groups.iter().flat_map(|group| &group.tests) {
        let mut key = X25519::default();
        key.set(&unhex(&case.private));
        let mut shared = [0; 32];
        let result = key.dh(&unhex(&case.public), &mut shared);
        if case.flags.iter().any(|flag| flag == "ZeroSharedSecret") {
            assert_eq!(result, Err(snow::Error::Dh), "case {}", case.tc_id);
            assert_eq!(shared, [0; 32]);
            refused += 1;
        } else {
            assert_eq!(result, Ok(()), "case {}", case.tc_id);
            assert_eq!(shared, unhex_array(&case.shared), "case {}", case.tc_id);
            computed += 1;
        }
    }
    assert_eq!((computed, refused, file.number_of_tests), (487, 31, 518));
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EddsaGroup {
    public_key: EddsaKey,
    tests: Vec<EddsaCase>,
}

#[derive(Deserialize)]
struct EddsaKey {
    pk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EddsaCase {
    tc_id: u32,
    msg: String,
    sig: String,
    result: Verdict,
}

#[test]
fn ed25519_accepts_exactly_the_valid_signatures() {
    let file: File<EddsaGroup> = load("wycheproof/ed25519_test.json");
    let (mut accepted, mut refused) = (0, 0);
    for group in &file.test_groups {
        let key = PublicKey::from_bytes(&unhex_array(&group.public_key.pk));
        let key = key.expect("the keys of these vectors are good");
        for case in &group.tests {
            // A signature of another length can't even be a `Signature`.
            let fits = <[u8; 64]>::try_from(unhex(&case.sig))
                .ok()
                .is_some_and(|signature| {
                    verify_bytes(&unhex(&case.msg), &key, &Signature(signature)).is_ok()
                });
            assert_eq!(fits, case.result == Verdict::Valid, "case {}", case.tc_id);
            if fits { accepted += 1 } else { refused += 1 }
        }
    }
    assert_eq!((accepted, refused, file.number_of_tests), (88, 63, 151));
}

#[derive(Deserialize)]
struct HkdfGroup {
    tests: Vec<HkdfCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HkdfCase {
    tc_id: u32,
    ikm: String,
    salt: String,
    info: String,
    size: usize,
    okm: String,
    result: Verdict,
}

#[test]
fn hkdf_sha256_does_what_every_case_says() {
    let file: File<HkdfGroup> = load("wycheproof/hkdf_sha256_test.json");
    let (mut derived, mut refused) = (0, 0);
    for case in file.test_groups.iter().flat_map(|group| &group.tests) {
        let mut out = vec![0; case.size];
        let info = unhex(&case.info);
        let result = kdf::hkdf(&unhex(&case.salt), &unhex(&case.ikm), &[&info], &mut out);
        if case.result == Verdict::Valid {
            assert_eq!(result, Ok(()), "case {}", case.tc_id);
            assert_eq!(out, unhex(&case.okm), "case {}", case.tc_id);
            derived += 1;
        } else {
            assert_eq!(result, Err(OutputTooLong), "case {}", case.tc_id);
            refused += 1;
        }
    }
    assert_eq!((derived, refused, file.number_of_tests), (83, 3, 86));
}
