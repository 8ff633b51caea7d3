//! How many connections may be here that have not shown who they are: bounded in total and per
//! source prefix, so that one network can't take all the places.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::limits::{SESSION_STRANGERS_MAX, SESSION_STRANGERS_PER_PREFIX_MAX};

/// A source prefix: /24 of IPv4 (also where it is mapped into IPv6), /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prefix {
    /// Three bytes.
    V4([u8; 3]),
    /// Six bytes.
    V6([u8; 6]),
}

impl Prefix {
    /// The prefix of an address.
    pub fn of(peer: SocketAddr) -> Prefix {
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

/// The strangers that are here.
#[derive(Debug, Default)]
pub struct Strangers {
    total: usize,
    by_prefix: BTreeMap<Prefix, usize>,
}

impl Strangers {
    /// Takes a place; `None` when there is none left. It has to be given back.
    pub fn admit(&mut self, peer: SocketAddr) -> Option<Prefix> {
        let prefix = Prefix::of(peer);
        let here = self.by_prefix.get(&prefix).copied().unwrap_or(0);
        if self.total >= SESSION_STRANGERS_MAX || here >= SESSION_STRANGERS_PER_PREFIX_MAX {
            return None;
        }
        self.total += 1;
        self.by_prefix.insert(prefix, here + 1);
        Some(prefix)
    }

    /// Gives a place back.
    pub fn leave(&mut self, prefix: Prefix) {
        self.total = self.total.saturating_sub(1);
        let here = self.by_prefix.get(&prefix).copied().unwrap_or(0);
        if here <= 1 {
            self.by_prefix.remove(&prefix);
        } else {
            self.by_prefix.insert(prefix, here - 1);
        }
    }

    /// How many are here.
    pub fn count(&self) -> usize {
        self.total
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
    fn one_prefix_can_not_take_all_places() {
        let mut strangers = Strangers::default();
        let mut taken = Vec::new();
        while let Some(prefix) = strangers.admit(peer("192.0.2.7:1")) {
            taken.push(prefix);
        }
        assert_eq!(taken.len(), SESSION_STRANGERS_PER_PREFIX_MAX);
        assert_eq!(strangers.admit(peer("192.0.2.200:1")), None);
        assert_eq!(strangers.admit(peer("[::ffff:192.0.2.1]:1")), None);
        let other = strangers.admit(peer("192.0.3.7:1")).unwrap();
        strangers.leave(other);
        strangers.leave(taken.pop().unwrap());
        assert!(strangers.admit(peer("192.0.2.9:1")).is_some());
    }

    #[test]
    fn all_prefixes_together_are_bounded_and_places_come_back() {
        let mut strangers = Strangers::default();
        let mut taken = Vec::new();
        for n in 0..1000u32 {
            let ip = std::net::Ipv6Addr::new(0x2001, 0xdb8, (n % 50) as u16, 0, 0, 0, 0, n as u16);
            taken.extend(strangers.admit(SocketAddr::new(ip.into(), 1)));
        }
        assert_eq!(taken.len(), SESSION_STRANGERS_MAX);
        taken.drain(..).for_each(|prefix| strangers.leave(prefix));
        assert_eq!(strangers.count(), 0);
        assert!(strangers.by_prefix.is_empty());
    }
}
