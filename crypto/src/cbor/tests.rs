//! One encoding for every value, and an error of its own for every other.

use super::*;

/// Reads {1: number, 2: bytes of at most 4, 3 (optional): bool}.
fn read(bytes: &[u8]) -> Result<(u64, Vec<u8>, bool), DecodeError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let mut keys = r.map()?;
    keys.required(r, 1)?;
    let number = r.u64()?;
    keys.required(r, 2)?;
    let bytes = r.bytes(4, "bytes")?.to_vec();
    let flag = keys.optional(r, 3)? && r.bool()?;
    keys.end(r)?;
    reader.finish()?;
    Ok((number, bytes, flag))
}

#[test]
fn the_canonical_encoding_is_read() {
    let mut writer = Writer::new();
    writer
        .map(3)
        .u64(1)
        .u64(500)
        .u64(2)
        .bytes(b"ab")
        .u64(3)
        .bool(true);
    assert_eq!(read(&writer.finish()), Ok((500, b"ab".to_vec(), true)));
    assert_eq!(read(&[0xa2, 1, 5, 2, 0x40]), Ok((5, vec![], false)));
}

#[test]
fn each_rule_of_strict_decoding_has_its_own_error() {
    for (bytes, error) in [
        (&[][..], DecodeError::Truncated),
        (&[0xa2, 1, 5, 2, 0x42, 0], DecodeError::Truncated),
        (
            &[
                0xa2, 1, 5, 2, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
            DecodeError::Truncated,
        ),
        (&[0xa2, 1, 5, 2, 0x40, 0], DecodeError::Trailing),
        (&[0xa2, 1, 0x18, 5, 2, 0x40], DecodeError::NonMinimal),
        (&[0xa2, 1, 0x19, 0, 200, 2, 0x40], DecodeError::NonMinimal),
        (&[0xa2, 1, 5, 2, 0x58, 1, 0], DecodeError::NonMinimal),
        (&[0xb8, 2, 1, 5, 2, 0x40], DecodeError::NonMinimal),
        (&[0xa2, 0x18, 1, 5, 2, 0x40], DecodeError::NonMinimal),
        (&[0xbf, 1, 5, 2, 0x40, 0xff], DecodeError::Indefinite),
        (&[0xa2, 1, 5, 2, 0x5f, 0x40, 0xff], DecodeError::Indefinite),
        (&[0x82, 1, 5], DecodeError::WrongType),
        (&[0xa2, 1, 0x20, 2, 0x40], DecodeError::WrongType),
        (&[0xa2, 1, 5, 2, 0x60], DecodeError::WrongType),
        (&[0xa2, 1, 0x1c, 2, 0x40], DecodeError::WrongType),
        (&[0xa3, 1, 5, 2, 0x40, 3, 0xf6], DecodeError::WrongType),
        (&[0xa2, 0xc0, 1, 5, 2, 0x40], DecodeError::WrongType),
        (&[0xa3, 1, 5, 2, 0x40, 4, 0], DecodeError::UnknownKey(4)),
        (&[0xa3, 0, 0, 1, 5, 2, 0x40], DecodeError::UnknownKey(0)),
        (&[0xa3, 1, 5, 2, 0x40, 2, 0x40], DecodeError::RepeatedKey(2)),
        (&[0xa3, 1, 5, 1, 5, 2, 0x40], DecodeError::RepeatedKey(1)),
        (&[0xa2, 1, 5, 3, 0xf5], DecodeError::MissingKey(2)),
        (&[0xa1, 1, 5], DecodeError::MissingKey(2)),
        (&[0xa0], DecodeError::MissingKey(1)),
        (
            &[0xa2, 1, 5, 2, 0x45, 0, 0, 0, 0, 0],
            DecodeError::Length("bytes"),
        ),
    ] {
        assert_eq!(read(bytes), Err(error), "{bytes:02x?}");
    }
}

#[test]
fn lengths_and_ranges_are_bounded() {
    assert_eq!(
        Reader::new(&[0x19, 1, 0]).u8("n"),
        Err(DecodeError::Value("n"))
    );
    assert_eq!(
        Reader::new(&[0x1a, 0, 1, 0, 0]).u16("n"),
        Err(DecodeError::Value("n"))
    );
    assert_eq!(
        Reader::new(&[0x83]).array(2, "list"),
        Err(DecodeError::Length("list"))
    );
    assert_eq!(
        Reader::new(&[0x81]).tuple(2, "pair"),
        Err(DecodeError::Length("pair"))
    );
    assert_eq!(
        Reader::new(&[0x41, 0]).fixed::<2>("two"),
        Err(DecodeError::Length("two"))
    );
    let endless = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(
        Reader::new(&endless).array(2, "list"),
        Err(DecodeError::Length("list"))
    );
}

#[test]
fn texts_are_utf_8_in_the_shortest_form_and_fit_their_type() {
    let text = |bytes: &[u8]| Reader::new(bytes).text::<crate::names::Name>("name");
    assert_eq!(text(&[0x61, b'a']).unwrap().as_str(), "a");
    assert_eq!(text(&[0x78, 1, b'a']), Err(DecodeError::NonMinimal));
    assert_eq!(text(&[0x61, 0xff]), Err(DecodeError::Value("name")));
    assert_eq!(text(&[0x61, b' ']), Err(DecodeError::Value("name")));
    assert_eq!(text(&[0x62, b'a']), Err(DecodeError::Truncated));
    assert_eq!(
        text(&[0x7f, 0x61, b'a', 0xff]),
        Err(DecodeError::Indefinite)
    );
}

#[test]
fn every_head_is_as_short_as_it_can_be() {
    for n in [
        0,
        23,
        24,
        255,
        256,
        65_535,
        65_536,
        u64::from(u32::MAX),
        1 << 32,
        u64::MAX,
    ] {
        let mut writer = Writer::new();
        writer.u64(n);
        let bytes = writer.finish();
        assert_eq!(bytes.len(), head_len(n));
        assert_eq!(Reader::new(&bytes).u64(), Ok(n));
    }
}
