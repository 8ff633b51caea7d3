//! What a core counts of its own decisions, for `status` and metrics. What moves bytes is counted by the
//! workers.

use std::collections::BTreeMap;

use crate::error::Code;

/// See the module. Bounded by the number of codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Handshakes that came to their end, whatever was decided about the peer then.
    pub handshakes_finished: u64,
    /// Handshakes that a malformed, forged or unreadable message ended.
    pub handshakes_failed: u64,
    denials: BTreeMap<Code, u64>,
}

impl Tally {
    /// A handshake is over.
    pub fn on_handshake(&mut self, finished: bool) {
        if finished {
            self.handshakes_finished += 1;
        } else {
            self.handshakes_failed += 1;
        }
    }

    /// A denial was given or received.
    pub fn on_denial(&mut self, why: Code) {
        *self.denials.entry(why).or_default() += 1;
    }

    /// Denials by their code; only those that there were.
    pub fn denials(&self) -> impl Iterator<Item = (Code, u64)> {
        self.denials.iter().map(|(code, count)| (*code, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_counted_by_their_code() {
        let mut tally = Tally::default();
        for code in [3260, 3001, 3260] {
            tally.on_denial(Code(code));
        }
        let denials: Vec<_> = tally.denials().collect();
        assert_eq!(denials, [(Code(3001), 1), (Code(3260), 2)]);
    }
}
