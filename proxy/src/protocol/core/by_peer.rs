//! The sessions of each peer, as an authority and a relay count them.

use std::collections::BTreeMap;

use crypto::Id;

use crate::ids::LinkId;
use crate::limits::SESSIONS_PER_MEMBER_MAX;
use crate::time::Instant;

/// Links by whose they are, and since when.
#[derive(Default)]
pub struct ByPeer {
    links: BTreeMap<(Id, LinkId), Instant>,
}

impl ByPeer {
    /// A session begins.
    pub fn insert(&mut self, peer: Id, link: LinkId, now: Instant) {
        self.links.insert((peer, link), now);
    }

    /// A session is over.
    pub fn remove(&mut self, peer: Id, link: LinkId) {
        self.links.remove(&(peer, link));
    }

    /// All are.
    pub fn clear(&mut self) {
        self.links.clear();
    }

    /// All of them, those of one peer together.
    pub fn iter(&self) -> impl Iterator<Item = &(Id, LinkId)> {
        self.links.keys()
    }

    /// Those of one peer.
    pub fn of(&self, peer: Id) -> impl Iterator<Item = LinkId> {
        self.range(peer).map(|(link, _)| link)
    }

    /// The session that makes room for one more of a peer which has as many as it may have: its oldest,
    /// most likely one that was lost unnoticed.
    pub fn in_the_way(&self, peer: Id) -> Option<LinkId> {
        if self.of(peer).count() < SESSIONS_PER_MEMBER_MAX {
            return None;
        }
        let oldest = self.range(peer).min_by_key(|(link, since)| (*since, *link));
        oldest.map(|(link, _)| link)
    }

    fn range(&self, peer: Id) -> impl Iterator<Item = (LinkId, Instant)> {
        let own = (peer, LinkId(0))..=(peer, LinkId(u64::MAX));
        let own = self.links.range(own);
        own.map(|((_, link), since)| (*link, *since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn the_oldest_of_as_many_as_may_be_is_in_the_way_and_never_another_s() {
        let (one, other) = (Id([1; 32]), Id([2; 32]));
        let mut sessions = ByPeer::default();
        sessions.insert(other, LinkId(1), Instant::ZERO);
        for n in 0..SESSIONS_PER_MEMBER_MAX as u64 {
            assert_eq!(sessions.in_the_way(one), None);
            // Names say nothing of age.
            let now = Instant::ZERO + Duration::from_secs(9 + n);
            sessions.insert(one, LinkId(100 - n), now);
        }
        assert_eq!(sessions.in_the_way(one), Some(LinkId(100)));
        sessions.remove(one, LinkId(100));
        assert_eq!(sessions.in_the_way(one), None);
        assert_eq!(sessions.of(other).collect::<Vec<_>>(), [LinkId(1)]);
    }
}
