//! Histories: what goes on from what, and every way to forge one.

use super::*;
use crate::attestation::{LifeTooLong, Purpose};
use crate::limits::IDENTITY_SECRET_MAX;
use crate::random::SeededRandom;
use crate::statics::StaticPublic;
use crate::time::UnixTime;
use proptest::prelude::*;

/// An identity with this many changes; the same seed gives the same keys.
fn rotated(seed: u64, changes: usize) -> IdentitySecret {
    let mut random = SeededRandom::new(seed);
    let mut secret = IdentitySecret::create(&mut random);
    for _ in 0..changes {
        secret.rotate(&mut random).unwrap();
    }
    secret
}

/// Decodes what `alter` makes of the bytes of an identity with two changes. Change `n` (from 0)
/// begins at byte 36 + 162 n, behind a head of two bytes.
fn altered(alter: impl FnOnce(&mut Vec<u8>)) -> Result<Identity, IdentityError> {
    let mut bytes = rotated(1, 2).identity().encode();
    alter(&mut bytes);
    Identity::decode(&bytes)
}

const FIRST_CHANGE: usize = 36;
const STEP: usize = 2 + CHANGE_BYTES;

#[test]
fn the_id_survives_rotation_and_the_head_does_not() {
    let (before, after) = (rotated(1, 0), rotated(1, 1));
    assert_eq!(before.id(), after.id());
    assert_eq!(
        before.id(),
        Id::of_first_key(before.identity().key().as_bytes())
    );
    assert_ne!(before.identity().head(), after.identity().head());
    assert_ne!(before.identity().key(), after.identity().key());
    assert_eq!((before.identity().len(), after.identity().len()), (0, 1));
}

#[test]
fn a_history_extends_itself_and_its_beginnings_only() {
    let (short, long) = (rotated(1, 1), rotated(1, 3));
    let (short, long) = (short.identity(), long.identity());
    assert!(long.extends(long) && long.extends(short));
    assert!(!short.extends(long));
    assert_eq!(short.follows(&long.mark()), Err(HistoryFault::Shorter));
    assert!(!rotated(2, 3).identity().extends(short), "another identity");
}

#[test]
fn a_fork_is_told_from_a_shorter_history() {
    let mut forked = rotated(1, 1);
    forked.rotate(&mut SeededRandom::new(99)).unwrap();
    let held = rotated(1, 2).identity().mark();
    assert_eq!(forked.identity().follows(&held), Err(HistoryFault::Forked));
}

#[test]
fn keys_are_found_by_their_number() {
    let (zero, one, two) = (rotated(1, 0), rotated(1, 1), rotated(1, 2));
    let history = two.identity();
    assert_eq!(history.key_at(0), Some(zero.identity().key()));
    assert_eq!(history.key_at(1), Some(one.identity().key()));
    assert_eq!(history.key_at(2), Some(history.key()));
    assert_eq!(history.key_at(3), None);
}

#[test]
fn the_sixty_fifth_change_is_refused_and_sixty_four_fit_the_bound() {
    let mut secret = rotated(1, 64);
    assert_eq!(secret.rotate(&mut SeededRandom::new(2)), Err(HistoryFull));
    let bytes = secret.identity().encode();
    assert_eq!(bytes.len(), IDENTITY_MAX);
    assert_eq!(Identity::decode(&bytes).as_ref(), Ok(secret.identity()));
    let stored = secret.to_bytes();
    assert!(stored.len() <= IDENTITY_SECRET_MAX);
    assert!(IdentitySecret::from_bytes(&stored).is_ok());
}

#[test]
fn a_history_of_sixty_five_changes_is_not_read() {
    let secret = rotated(1, 64);
    let mut bytes = secret.identity().encode();
    assert_eq!(bytes[35..37], [0x98, 64]);
    bytes[36] = 65;
    let extra = bytes[37..37 + STEP].to_vec();
    bytes.extend_from_slice(&extra);
    let error = Identity::decode(&bytes).unwrap_err();
    assert_eq!(
        error,
        IdentityError::Decode(DecodeError::Length("identity"))
    );
}

#[test]
fn a_change_needs_both_signatures() {
    for offset in [32, 96] {
        let at = FIRST_CHANGE + STEP + 2 + offset;
        assert_eq!(
            altered(|bytes| bytes[at] ^= 1),
            Err(IdentityError::Change(2))
        );
    }
}

#[test]
fn signatures_of_another_place_in_the_history_do_not_fit() {
    let result = altered(|bytes| {
        let (first, second) = bytes[FIRST_CHANGE..].split_at_mut(STEP);
        first.swap_with_slice(&mut second[..STEP]);
    });
    assert_eq!(result, Err(IdentityError::Change(1)));
}

#[test]
fn another_first_key_makes_the_history_void() {
    let other = rotated(2, 0);
    let result = altered(|bytes| bytes[3..35].copy_from_slice(other.identity().key().as_bytes()));
    assert_eq!(result, Err(IdentityError::Change(1)));
}

#[test]
fn a_key_of_small_order_is_refused_in_every_place() {
    let result = altered(|bytes| bytes[3..35].fill(0));
    assert_eq!(result, Err(IdentityError::Key(0)));
    let at = FIRST_CHANGE + STEP + 2;
    let result = altered(|bytes| bytes[at..at + 32].fill(0));
    assert_eq!(result, Err(IdentityError::Key(2)));
}

#[test]
fn no_change_goes_back_to_an_earlier_key() {
    let secret = rotated(1, 1);
    let first = rotated(1, 0);
    let (id, number) = (secret.id(), 2);
    let body = change_body(number, &secret.identity().head(), first.identity().key());
    let change = Change {
        key: *first.identity().key(),
        by_old: secret.sign(SignedKind::Change, &id, &body),
        by_new: first.sign(SignedKind::Change, &id, &body),
    };
    assert_eq!(
        secret.identity().clone().push(change),
        Err(IdentityError::KeyReused(2))
    );
}

#[test]
fn a_stored_secret_comes_back_and_can_sign() {
    let secret = rotated(1, 2);
    let read = IdentitySecret::from_bytes(&secret.to_bytes()).unwrap();
    assert_eq!(read.identity(), secret.identity());
    let signature = read.sign(SignedKind::Beacon, &Id([0; 32]), b"now");
    let key = secret.identity().key();
    assert_eq!(
        sign::verify(SignedKind::Beacon, &Id([0; 32]), b"now", key, &signature),
        Ok(())
    );
}

#[test]
fn a_stored_secret_of_another_identity_is_refused() {
    let (old, new) = (rotated(1, 0), rotated(1, 1));
    let mut stored = old.to_bytes().to_vec();
    stored.truncate(4 + 32);
    let mut writer = Writer::new();
    writer.u64(2).bytes(&new.identity().encode());
    stored.extend_from_slice(&writer.finish());
    let error = IdentitySecret::from_bytes(&stored).err();
    assert_eq!(error, Some(IdentityError::SecretMismatch));
}

#[test]
fn a_cut_state_file_is_refused() {
    let stored = rotated(1, 1).to_bytes();
    for len in 0..stored.len() {
        assert!(
            IdentitySecret::from_bytes(&stored[..len]).is_err(),
            "{len} bytes"
        );
    }
}

#[test]
fn an_attestation_longer_than_a_day_is_not_made() {
    let secret = rotated(1, 0);
    let attest = |from, until| {
        let key = StaticPublic([1; 32]);
        secret.attest(
            &Id([2; 32]),
            &key,
            Purpose::Circuit,
            UnixTime(from),
            UnixTime(until),
        )
    };
    assert!(attest(0, 86_400).is_ok());
    assert_eq!(attest(0, 86_401), Err(LifeTooLong { max_s: 86_400 }));
    assert_eq!(attest(1, 0), Err(LifeTooLong { max_s: 86_400 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_encoded_is_decoded(seed: u64, changes in 0_usize..5) {
        let secret = rotated(seed, changes);
        let decoded = Identity::decode(&secret.identity().encode());
        prop_assert_eq!(decoded.as_ref(), Ok(secret.identity()));
    }
}

proptest! {
    #[test]
    fn no_altered_byte_goes_unnoticed(at in 0_usize..36 + 2 * STEP, with: u8) {
        let good = rotated(1, 2).identity().encode();
        let result = altered(|bytes| bytes[at] = with);
        if let Ok(identity) = result {
            prop_assert_eq!(identity.encode(), good);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Identity::decode(&bytes);
        let _ = IdentitySecret::from_bytes(&bytes);
    }
}
