//! Who may be here without having shown who it is: bounded in total and per source network, with
//! the oldest making room for the newest.
//!
//! Refusing newcomers would let anybody lock everybody out: a few hundred connections that say
//! nothing would hold all the places. So a newcomer is always admitted, and where that needs a
//! place the one that has been here longest leaves: of its own network if that is at its bound,
//! else of the network that has the most. What is honest shows who it is within a round trip or
//! two, long before its turn comes; and who floods from one network only pushes out its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// A source network: /24 of IPv4 (also where it is mapped into IPv6), /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Prefix {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Prefix {
    fn of(peer: SocketAddr) -> Prefix {
        match peer.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Prefix::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Prefix::V6([a, b, c, d, e, f])
            }
        }
    }
}

/// The strangers that are here, by the key under which their owner knows them.
#[derive(Debug)]
pub struct Strangers<K> {
    most: usize,
    most_per_prefix: usize,
    next_arrival: u64,
    places: BTreeMap<K, (Prefix, u64)>,
    by_prefix: BTreeMap<Prefix, BTreeSet<(u64, K)>>,
}

impl<K: Copy + Ord> Strangers<K> {
    /// Nobody yet; at most so many in total and from one network, both at least 1.
    pub fn new(most: usize, most_per_prefix: usize) -> Self {
        Strangers {
            most,
            most_per_prefix,
            next_arrival: 0,
            places: BTreeMap::new(),
            by_prefix: BTreeMap::new(),
        }
    }

    /// Takes a place for a newcomer. The one that had to make room for it is returned: it has no
    /// place any more, and its connection is to be closed.
    pub fn admit(&mut self, who: K, from: SocketAddr) -> Option<K> {
        let prefix = Prefix::of(from);
        let here = self.by_prefix.get(&prefix).map_or(0, BTreeSet::len);
        let crowded = if here >= self.most_per_prefix {
            Some(prefix)
        } else if self.places.len() >= self.most {
            let fullest = self.by_prefix.iter().max_by_key(|(_, here)| here.len());
            fullest.map(|(prefix, _)| *prefix)
        } else {
            None
        };
        let evicted = crowded
            .and_then(|prefix| self.by_prefix.get(&prefix)?.first().copied())
            .map(|(_, oldest)| oldest);
        if let Some(oldest) = evicted {
            self.leave(oldest);
        }
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        self.places.insert(who, (prefix, arrival));
        self.by_prefix
            .entry(prefix)
            .or_default()
            .insert((arrival, who));
        evicted
    }

    /// Gives a place back; nothing happens where there is none.
    pub fn leave(&mut self, who: K) {
        let Some((prefix, arrival)) = self.places.remove(&who) else {
            return;
        };
        if let Some(here) = self.by_prefix.get_mut(&prefix) {
            here.remove(&(arrival, who));
            if here.is_empty() {
                self.by_prefix.remove(&prefix);
            }
        }
    }

    /// How many are here.
    pub fn count(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_at_its_bound_pushes_out_its_own_oldest() {
        let mut strangers = Strangers::new(100, 3);
        assert_eq!(strangers.admit(0, peer("198.51.100.1:1")), None);
        for who in 1..=3 {
            assert_eq!(strangers.admit(who, peer("192.0.2.7:1")), None);
        }
        assert_eq!(strangers.admit(4, peer("192.0.2.200:1")), Some(1));
        let mapped = peer("[::ffff:192.0.2.1]:1");
        assert_eq!(strangers.admit(5, mapped), Some(2), "the same network");
        assert_eq!(strangers.count(), 4);
    }

    #[test]
    fn a_flood_from_many_networks_does_not_push_out_one_that_is_alone_in_its_own() {
        let mut strangers = Strangers::new(8, 4);
        assert_eq!(strangers.admit(0, peer("198.51.100.1:1")), None);
        for who in 1..1000 {
            let from = peer(&format!("192.0.{}.7:1", who % 4));
            assert_ne!(strangers.admit(who, from), Some(0));
        }
        assert_eq!(strangers.count(), 8);
    }

    #[test]
    fn a_newcomer_always_gets_a_place() {
        let mut strangers = Strangers::new(50, 50);
        for who in 0..1000u16 {
            let ip = std::net::Ipv6Addr::new(0x2001, 0xdb8, who, 0, 0, 0, 0, 1);
            let evicted = strangers.admit(who, SocketAddr::new(ip.into(), 1));
            assert_ne!(evicted, Some(who));
            assert!(strangers.places.contains_key(&who));
        }
        assert_eq!(strangers.count(), 50);
    }

    #[test]
    fn places_come_back_once() {
        let mut strangers = Strangers::new(10, 10);
        strangers.admit(1, peer("[2001:db8::1]:9"));
        strangers.leave(1);
        strangers.leave(1);
        assert_eq!(strangers.count(), 0);
        assert!(strangers.by_prefix.is_empty());
    }
}
