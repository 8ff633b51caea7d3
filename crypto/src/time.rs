//! Time as signed objects carry it.

use crate::limits::CLOCK_TOLERANCE;
use std::fmt;

/// Seconds since 1970-01-01 00:00 UTC. Which clock says so is the caller's business: adit judges
/// validity by *authority time*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This time plus `seconds`; stops at the end of the range.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> UnixTime {
        UnixTime(self.0.saturating_add(seconds))
    }

    /// This time minus `seconds`; stops at 0.
    #[must_use]
    pub const fn minus(self, seconds: u64) -> UnixTime {
        UnixTime(self.0.saturating_sub(seconds))
    }

    /// Seconds from `earlier` to this time; 0 when it is not later.
    pub const fn since(self, earlier: UnixTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// From when to when something signed holds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

/// Why a [`Validity`] does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValidityFault {
    /// It ends before it begins, or lasts longer than its kind may.
    Span,
    /// It begins in this many seconds.
    Early(u64),
    /// It ended this many seconds ago.
    Late(u64),
}

impl Validity {
    /// Whether the span itself is allowed: not reversed, at most `life_max` seconds.
    pub(crate) fn span_fits(&self, life_max: u64) -> bool {
        self.not_before <= self.not_after && self.not_after.since(self.not_before) <= life_max
    }

    /// Judges it at `now`, with the clock tolerance granted at both ends.
    pub(crate) fn judge(&self, now: UnixTime, life_max: u64) -> Result<(), ValidityFault> {
        if !self.span_fits(life_max) {
            return Err(ValidityFault::Span);
        }
        if now.plus(CLOCK_TOLERANCE) < self.not_before {
            return Err(ValidityFault::Early(self.not_before.since(now)));
        }
        if now > self.not_after.plus(CLOCK_TOLERANCE) {
            return Err(ValidityFault::Late(now.since(self.not_after)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour() -> Validity {
        Validity {
            not_before: UnixTime(1_000),
            not_after: UnixTime(4_600),
        }
    }

    #[test]
    fn both_ends_are_tolerant_by_thirty_seconds_and_no_more() {
        assert_eq!(hour().judge(UnixTime(970), 3_600), Ok(()));
        assert_eq!(
            hour().judge(UnixTime(969), 3_600),
            Err(ValidityFault::Early(31))
        );
        assert_eq!(hour().judge(UnixTime(4_630), 3_600), Ok(()));
        assert_eq!(
            hour().judge(UnixTime(4_631), 3_600),
            Err(ValidityFault::Late(31))
        );
    }

    #[test]
    fn a_reversed_or_too_long_span_never_holds() {
        assert_eq!(
            hour().judge(UnixTime(2_000), 3_599),
            Err(ValidityFault::Span)
        );
        let reversed = Validity {
            not_before: UnixTime(2),
            not_after: UnixTime(1),
        };
        assert_eq!(reversed.judge(UnixTime(1), 3_600), Err(ValidityFault::Span));
    }

    #[test]
    fn the_ends_of_the_range_do_not_wrap() {
        let all = Validity {
            not_before: UnixTime(u64::MAX),
            not_after: UnixTime(u64::MAX),
        };
        assert_eq!(all.judge(UnixTime(u64::MAX), 1), Ok(()));
        assert!(matches!(
            all.judge(UnixTime(0), 1),
            Err(ValidityFault::Early(_))
        ));
    }
}
