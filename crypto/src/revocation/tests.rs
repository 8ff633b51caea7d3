use super::*;
use crate::identity::IdentitySecret;
use crate::limits::{BEACON_MAX, CREDENTIAL_LIFE_MAX, REVOCATION_LIST_MAX, REVOCATIONS_MAX};
use crate::random::SeededRandom;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn authority() -> IdentitySecret {
    IdentitySecret::create(&mut SeededRandom::new(1))
}

fn trusted(authority: &IdentitySecret) -> TrustedAuthority {
    TrustedAuthority::new(authority.identity().clone(), UnixTime(0))
}

fn entry(member: u8, max_serial: u64, number: u64) -> RevocationEntry {
    RevocationEntry {
        member: Id([member; 32]),
        max_serial,
        number,
    }
}

fn list(authority: &IdentitySecret) -> RevocationList {
    RevocationList::issue(authority, 4, vec![entry(9, 70, 2), entry(3, 12, 4)]).unwrap()
}

#[test]
fn a_list_and_its_beacon_are_believed() {
    let authority = authority();
    let trusted = trusted(&authority);
    let list = list(&authority);
    let read = RevocationList::verify(&list.encode(), Keys::At(&trusted, NOW)).unwrap();
    assert_eq!(read, list);
    assert_eq!(read.body().entries, [entry(3, 12, 4), entry(9, 70, 2)]);
    let beacon = Beacon::issue(&authority, 100, &list, 1_800_000_000_123);
    let heard = Beacon::verify(&beacon.encode(), Keys::At(&trusted, NOW)).unwrap();
    assert_eq!(heard, beacon);
    assert_eq!(heard.body().list_hash, read.hash());
    assert_eq!((heard.body().list_number, heard.body().number), (4, 100));
}

#[test]
fn every_altered_byte_is_noticed() {
    let authority = authority();
    let trusted = trusted(&authority);
    let list = list(&authority);
    let beacon = Beacon::issue(&authority, 100, &list, 5).encode();
    let list = list.encode();
    for at in 0..list.len() {
        let mut altered = list.clone();
        altered[at] ^= 1;
        assert!(
            RevocationList::verify(&altered, Keys::At(&trusted, NOW)).is_err(),
            "{at}"
        );
    }
    for at in 0..beacon.len() {
        let mut altered = beacon.clone();
        altered[at] ^= 1;
        assert!(
            Beacon::verify(&altered, Keys::At(&trusted, NOW)).is_err(),
            "{at}"
        );
    }
    for len in 0..list.len() {
        assert!(RevocationList::verify(&list[..len], Keys::At(&trusted, NOW)).is_err());
    }
}

#[test]
fn one_is_not_the_other() {
    let authority = authority();
    let trusted = trusted(&authority);
    let list = list(&authority);
    let beacon = Beacon::issue(&authority, 1, &list, 5);
    assert!(Beacon::verify(&list.encode(), Keys::At(&trusted, NOW)).is_err());
    assert!(RevocationList::verify(&beacon.encode(), Keys::At(&trusted, NOW)).is_err());
}

#[test]
fn another_project_s_and_a_stranger_s_are_refused() {
    let authority = authority();
    let stranger = IdentitySecret::create(&mut SeededRandom::new(9));
    let trusted = trusted(&authority);
    let foreign = list(&stranger).encode();
    let denied = RevocationList::verify(&foreign, Keys::At(&trusted, NOW));
    assert_eq!(denied, Err(RevocationError::OtherProject));
    // The authority's own words under a stranger's signature.
    let own = list(&authority);
    let signed = Signed::decode(&own.encode(), REVOCATION_LIST_MAX, "list").unwrap();
    let forged = Signed {
        signature: stranger.sign(SignedKind::RevocationList, &authority.id(), &signed.body),
        body: signed.body,
    };
    let denied = RevocationList::verify(&forged.encode(), Keys::At(&trusted, NOW));
    assert_eq!(denied, Err(RevocationError::Signature));
}

#[test]
fn the_key_before_is_accepted_for_one_credential_life_and_on_the_own_disk_for_ever() {
    let mut authority = authority();
    let mut trusted = trusted(&authority);
    let old = list(&authority).encode();
    authority.rotate(&mut SeededRandom::new(2)).unwrap();
    trusted.adopt(authority.identity(), NOW).unwrap();
    let late = NOW.plus(CREDENTIAL_LIFE_MAX + 1);
    assert!(RevocationList::verify(&old, Keys::At(&trusted, NOW)).is_ok());
    let denied = RevocationList::verify(&old, Keys::At(&trusted, late));
    assert_eq!(denied, Err(RevocationError::AuthorityKey(0)));
    assert!(RevocationList::verify(&old, Keys::Ever(&trusted)).is_ok());
    let new = list(&authority).encode();
    assert!(RevocationList::verify(&new, Keys::At(&trusted, late)).is_ok());
}

#[test]
fn entries_are_in_order_and_each_member_is_there_once() {
    let authority = authority();
    let twice = RevocationList::issue(&authority, 4, vec![entry(1, 1, 1), entry(1, 2, 2)]);
    assert_eq!(twice, Err(RevocationError::Order));
    let later = RevocationList::issue(&authority, 4, vec![entry(1, 1, 5)]);
    assert_eq!(later, Err(RevocationError::Order), "newer than its list");
}

#[test]
fn the_longest_fit_their_bounds() {
    let authority = authority();
    let trusted = trusted(&authority);
    let of = |n: usize| {
        let mut member = [0xff; 32];
        member[..8].copy_from_slice(&(n as u64).to_be_bytes());
        RevocationEntry {
            member: Id(member),
            max_serial: u64::MAX,
            number: u64::MAX,
        }
    };
    let entries: Vec<_> = (0..REVOCATIONS_MAX).map(of).collect();
    let list = RevocationList::issue(&authority, u64::MAX, entries.clone()).unwrap();
    assert!(list.encode().len() <= REVOCATION_LIST_MAX);
    assert!(RevocationList::verify(&list.encode(), Keys::At(&trusted, NOW)).is_ok());
    let beacon = Beacon::issue(&authority, u64::MAX, &list, u64::MAX);
    assert!(beacon.encode().len() <= BEACON_MAX);
    let more = (0..=REVOCATIONS_MAX).map(of).collect();
    let denied = RevocationList::issue(&authority, u64::MAX, more);
    assert_eq!(denied, Err(RevocationError::TooMany));
}
