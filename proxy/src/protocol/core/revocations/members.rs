//! Who is revoked, by one list.

use std::collections::BTreeMap;

use crypto::check::{Revocation, Standing};
use crypto::revocation::RevocationList;
use crypto::{Id, UnixTime};

/// Who is revoked, by one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedMembers {
    number: u64,
    members: BTreeMap<Id, u64>,
}

impl RevokedMembers {
    /// By this list.
    pub fn of(list: &RevocationList) -> RevokedMembers {
        let entries = list.body().entries.iter();
        RevokedMembers {
            number: list.body().number,
            members: entries.map(|e| (e.member, e.max_serial)).collect(),
        }
    }

    /// The list's number; 0 without a list.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether that credential is void.
    pub fn has(&self, member: &Id, serial: u64) -> bool {
        let max = self.members.get(member);
        max.is_some_and(|max| serial <= *max)
    }

    /// Whether the member is in it.
    pub fn names(&self, member: &Id) -> bool {
        self.members.contains_key(member)
    }

    /// All of them.
    pub fn members(&self) -> impl Iterator<Item = &Id> {
        self.members.keys()
    }
}

/// The list alone, however old: for relay sessions, where nothing but availability is at stake.
impl Revocation for RevokedMembers {
    fn standing(&self, id: &Id, serial: u64, _now: UnixTime) -> Standing {
        if self.has(id, serial) {
            Standing::Revoked
        } else {
            Standing::Good
        }
    }
}
