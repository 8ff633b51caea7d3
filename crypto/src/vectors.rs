//! Reads the published test vectors of `tests/vectors`.

use serde::de::DeserializeOwned;

/// The parsed content of a file in `tests/vectors`.
pub(crate) fn load<T: DeserializeOwned>(path: &str) -> T {
    let path = format!("{}/tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the vectors are part of the repository");
    serde_json::from_str(&text).expect("the vectors have the form that is expected")
}

/// Bytes written in lower-case hex.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .expect("vectors are written in hex")
}

/// The same, of a fixed length.
pub(crate) fn unhex_array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text)
        .try_into()
        .expect("a vector has the length of its kind")
}

#[test]
fn the_vectors_are_the_published_ones() {
    use sha2::{Digest, Sha256};
    let folder = format!("{}/tests/vectors", env!("CARGO_MANIFEST_DIR"));
    let sums = std::fs::read_to_string(format!("{folder}/SHA256SUMS")).expect("the list of sums");
    for line in sums.lines() {
        let (sum, path) = line.split_once("  ").expect("sum and path");
        let file = std::fs::read(format!("{folder}/{path}")).expect("a listed file");
        assert_eq!(
            data_encoding::HEXLOWER.encode(&Sha256::digest(&file)),
            sum,
            "{path}"
        );
    }
    assert_eq!(sums.lines().count(), 7);
}
