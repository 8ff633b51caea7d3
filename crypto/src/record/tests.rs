//! Records and frames: what opens, and everything that must not.

use super::*;
use crate::limits::{KEY_RECORDS_DUE, KEY_RECORDS_MAX, RECORD_LENGTH_MAX};
use proptest::prelude::*;

const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

fn pair(suite: Suite) -> (Sealer, Opener) {
    let chain = || ChainSecret::from_bytes(&[5; 32]);
    (Sealer::new(suite, chain()), Opener::new(suite, chain()))
}

/// A sealed record of this inner header and payload.
fn sealed(sealer: &mut Sealer, content: &[u8]) -> Vec<u8> {
    let mut record = vec![0; HEADER];
    record.extend_from_slice(content);
    record.extend_from_slice(&[0; TAG]);
    assert_eq!(sealer.seal(&mut record), Ok(()));
    record
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens_in_order(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 4..600), 1..12),
        updates in any::<u16>(),
        aes: bool,
    ) {
        let (mut sealer, mut opener) = pair(if aes { Suite::AesGcm } else { Suite::ChaChaPoly });
        for (n, content) in contents.iter().enumerate() {
            if updates & 1 << n != 0 {
                let mix = (n % 2 == 0).then(|| MixSecret::from_bytes(&[n as u8; 32]));
                sealer.update(mix.as_ref());
                opener.update(mix.as_ref());
            }
            let mut record = sealed(&mut sealer, content);
            let header = *record.first_chunk().expect("a header");
            prop_assert_eq!(record_len(header, RECORD_LENGTH_MAX), Ok(record.len()));
            prop_assert_eq!(opener.open(&mut record).expect("opened"), &content[..]);
        }
    }

    #[test]
    fn no_bytes_at_all_open_or_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let (_, mut opener) = pair(Suite::AesGcm);
        prop_assert!(opener.open(&mut bytes).is_err());
        prop_assert!(FrameOpener::new(Suite::AesGcm, ChainSecret::from_bytes(&[5; 32])).open(&bytes).is_err());
    }
}

#[test]
fn the_header_says_length_and_epoch() {
    let (mut sealer, _) = pair(Suite::AesGcm);
    let record = sealed(&mut sealer, b"innerpayload");
    assert_eq!(record[..HEADER], [0, 0, 28, 0]);
    sealer.update(None);
    assert_eq!(sealed(&mut sealer, b"inner")[..HEADER], [0, 0, 21, 1]);
}

#[test]
fn every_altered_byte_is_noticed_and_the_opener_is_dead_after_it() {
    for suite in SUITES {
        for at in 0..HEADER + 12 + TAG {
            let (mut sealer, mut opener) = pair(suite);
            let good = sealed(&mut sealer, b"innerpayload");
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(opener.open(&mut bad).is_err(), "byte {at}");
            assert_eq!(opener.open(&mut good.clone()), Err(OpenError::Dead));
        }
    }
}

#[test]
fn a_dropped_repeated_or_moved_record_does_not_open() {
    let (mut sealer, mut opener) = pair(Suite::AesGcm);
    let (first, second) = (sealed(&mut sealer, b"1111"), sealed(&mut sealer, b"2222"));
    assert_eq!(opener.open(&mut second.clone()), Err(OpenError::Tag));
    let (_, mut opener) = pair(Suite::AesGcm);
    assert!(opener.open(&mut first.clone()).is_ok());
    assert_eq!(opener.open(&mut first.clone()), Err(OpenError::Tag));
}

#[test]
fn a_record_of_another_epoch_does_not_open() {
    let (mut sealer, mut opener) = pair(Suite::AesGcm);
    let mut old = sealed(&mut sealer, b"1111");
    opener.update(None);
    assert_eq!(opener.open(&mut old), Err(OpenError::WrongEpoch));
}

#[test]
fn an_update_with_another_mix_gives_another_key() {
    for mix in [Some([1; 32]), Some([0; 32]), None] {
        let mix = mix.map(|bytes| MixSecret::from_bytes(&bytes));
        let (mut sealer, mut opener) = pair(Suite::AesGcm);
        sealer.update(mix.as_ref());
        opener.update(Some(&MixSecret::from_bytes(&[2; 32])));
        assert_eq!(
            opener.open(&mut sealed(&mut sealer, b"1111")),
            Err(OpenError::Tag)
        );
    }
}

#[test]
fn epochs_wrap_after_256_updates_and_the_keys_do_not() {
    let (mut sealer, mut opener) = pair(Suite::AesGcm);
    let first = sealed(&mut sealer, b"1111");
    for _ in 0..256 {
        sealer.update(None);
        opener.update(None);
    }
    assert_eq!(sealer.epoch(), 0);
    let mut again = sealed(&mut sealer, b"1111");
    assert_eq!(first[..HEADER], again[..HEADER]);
    assert_ne!(first, again);
    assert_eq!(opener.open(&mut again).expect("opened"), b"1111");
}

#[test]
fn a_key_is_due_at_its_soft_bounds_and_refused_at_the_hard_one() {
    let (mut sealer, mut opener) = pair(Suite::AesGcm);
    sealer.0.records = KEY_RECORDS_DUE - 1;
    assert!(!sealer.due());
    sealed(&mut sealer, b"1111");
    assert!(sealer.due());
    sealer.0.records = KEY_RECORDS_MAX - 1;
    opener.epoch.records = KEY_RECORDS_MAX - 1;
    let mut last = sealed(&mut sealer, b"1111");
    assert!(opener.open(&mut last).is_ok());
    let mut record = [9; 24];
    assert_eq!(sealer.seal(&mut record), Err(SealError::WornOut));
    assert_eq!(record, [9; 24], "a refused record is left alone");
    assert_eq!(
        opener.open(&mut [0, 0, 20, 0].repeat(6)),
        Err(OpenError::WornOut)
    );
    sealer.update(None);
    assert!(!sealer.due());
    sealed(&mut sealer, b"1111");
}

#[test]
fn a_key_is_due_after_32_gib() {
    let (mut sealer, _) = pair(Suite::AesGcm);
    sealer.0.bytes = (32 << 30) - 20;
    assert!(!sealer.due());
    sealed(&mut sealer, b"1111");
    assert!(sealer.due());
}

#[test]
fn too_short_and_too_long_records_are_not_sealed() {
    let (mut sealer, _) = pair(Suite::AesGcm);
    for len in 0..HEADER + INNER + TAG {
        assert_eq!(sealer.seal(&mut vec![0; len]), Err(SealError::TooShort));
    }
    let longest = HEADER + RECORD_LENGTH_MAX;
    assert_eq!(sealer.seal(&mut vec![0; longest]), Ok(()));
    assert_eq!(
        sealer.seal(&mut vec![0; longest + 1]),
        Err(SealError::TooLong)
    );
}

#[test]
fn a_length_is_judged_before_anything_is_stored() {
    let header = |len: u32| {
        let [_, a, b, c] = len.to_be_bytes();
        [a, b, c, 7]
    };
    assert_eq!(record_len(header(19), 16_384), Err(OpenError::TooShort));
    assert_eq!(record_len(header(20), 16_384), Ok(24));
    assert_eq!(record_len(header(16_384), 16_384), Ok(16_388));
    assert_eq!(record_len(header(16_385), 16_384), Err(OpenError::TooLong));
    assert_eq!(
        record_len(header(0xff_ffff), 16_384),
        Err(OpenError::TooLong)
    );
}

#[test]
fn a_record_with_bytes_missing_or_to_spare_does_not_open() {
    for change in [-1_isize, 1] {
        let (mut sealer, mut opener) = pair(Suite::AesGcm);
        let mut record = sealed(&mut sealer, b"innerpayload");
        record.resize(record.len().saturating_add_signed(change), 0);
        assert_eq!(opener.open(&mut record), Err(OpenError::LengthMismatch));
    }
}

#[test]
fn another_suite_or_chain_does_not_open() {
    let (mut sealer, _) = pair(Suite::AesGcm);
    let record = sealed(&mut sealer, b"1111");
    let (_, mut opener) = pair(Suite::ChaChaPoly);
    assert_eq!(opener.open(&mut record.clone()), Err(OpenError::Tag));
    let mut opener = Opener::new(Suite::AesGcm, ChainSecret::from_bytes(&[6; 32]));
    assert_eq!(opener.open(&mut record.clone()), Err(OpenError::Tag));
}

#[test]
fn frames_open_in_order_and_a_bad_one_is_the_last() {
    for suite in SUITES {
        let chain = || ChainSecret::from_bytes(&[5; 32]);
        let (mut sealer, mut opener) = (
            FrameSealer::new(suite, chain()),
            FrameOpener::new(suite, chain()),
        );
        for plain in [&b""[..], b"REDEEM", &[7; 8_000]] {
            let frame = sealer.seal(plain).expect("sealed");
            assert_eq!(frame.len(), plain.len() + TAG);
            assert_eq!(opener.open(&frame).as_deref(), Ok(plain));
        }
        let (skipped, next) = (
            sealer.seal(b"a").expect("sealed"),
            sealer.seal(b"b").expect("sealed"),
        );
        assert_eq!(opener.open(&next), Err(OpenError::Tag));
        assert_eq!(opener.open(&skipped), Err(OpenError::Dead));
    }
}

#[test]
fn a_frame_key_stops_at_the_hard_bound() {
    let mut sealer = FrameSealer::new(Suite::AesGcm, ChainSecret::from_bytes(&[5; 32]));
    sealer.0.records = KEY_RECORDS_MAX;
    assert_eq!(sealer.seal(b"x"), Err(SealError::WornOut));
    assert_eq!(sealer.seal(&vec![0; 65_520]), Err(SealError::TooLong));
}

#[test]
fn frames_and_records_of_one_chain_use_different_keys() {
    let (mut sealer, _) = pair(Suite::AesGcm);
    let record = sealed(&mut sealer, &[0; 32]);
    let mut frames = FrameSealer::new(Suite::AesGcm, ChainSecret::from_bytes(&[5; 32]));
    let frame = frames.seal(&[0; 32]).expect("sealed");
    assert_ne!(
        record[HEADER..HEADER + 32],
        frame[..32],
        "the same keystream would show here"
    );
}
