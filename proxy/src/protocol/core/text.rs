//! Texts for records and status.

use crypto::UnixTime;

use crate::limits::REASON_TEXT_MAX;

/// A text from outside adit: one bounded line without control characters.
pub fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(REASON_TEXT_MAX)
        .collect()
}

/// A time as RFC 3339 writes it, in UTC. The date follows Howard Hinnant's `civil_from_days`
/// (proleptic Gregorian calendar, years that begin in March).
pub fn utc(time: UnixTime) -> String {
    // Far enough for every time that is meant, and small enough that nothing overflows.
    let seconds = time.0.min(253_402_300_799);
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(UnixTime(seconds)), text);
        }
    }

    #[test]
    fn a_text_from_outside_becomes_one_bounded_line() {
        assert_eq!(clean("a\nb\u{1b}[31m"), "ab[31m");
        assert_eq!(clean(&"x".repeat(1000)).len(), REASON_TEXT_MAX);
    }
}
