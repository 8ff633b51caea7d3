//! Values of flags that are neither plain text nor a type of another crate, and the near match
//! that errors suggest.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crypto::UnixTime;
use crypto::names::{AttributeValue, Name};

use crate::limits::{
    BENCH_TIME_MAX, BENCH_TIME_MIN, CREDENTIAL_LIFE, CREDENTIAL_LIFE_MIN, KEY_EXCHANGE_EVERY_MAX,
    KEY_EXCHANGE_EVERY_MIN, REVOCATION_MAX_AGE_MAX, REVOCATION_MAX_AGE_MIN, TICKET_LIFE_MAX,
    TICKET_LIFE_MIN, WORKERS_MAX,
};
use crate::protocol::audit::AuditHead;

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Before the first `=`.
    pub name: Name,
    /// After it.
    pub value: AttributeValue,
}

impl FromStr for Attribute {
    type Err = String;

    fn from_str(text: &str) -> Result<Attribute, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("an attribute is NAME=VALUE, such as postgres-inlet=true")?;
        Ok(Attribute {
            name: name
                .parse()
                .map_err(|error: crypto::names::NameError| error.to_string())?,
            value: value
                .parse()
                .map_err(|error: crypto::names::NameError| error.to_string())?,
        })
    }
}

/// `NUMBER:HASH`: a row of the audit, as it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted(pub AuditHead);

impl FromStr for Noted {
    type Err = String;

    fn from_str(text: &str) -> Result<Noted, String> {
        let parts = text.split_once(':');
        let read = parts.and_then(|(number, hash)| {
            let (number, hash) = (number.parse().ok()?, hash.parse().ok()?);
            Some(Noted(AuditHead { number, hash }))
        });
        read.ok_or_else(|| "expected a row's number, a colon and its hash of 64 digits".to_owned())
    }
}

/// How many workers a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As many as it may use cores.
    Auto,
    /// So many: 1 to `limits::WORKERS_MAX`.
    Count(u8),
}

impl Workers {
    /// The number.
    pub fn count(self) -> u8 {
        match self {
            Workers::Count(count) => count,
            // Heeds affinity and the quota of a cgroup.
            Workers::Auto => std::thread::available_parallelism()
                .map_or(1, |cores| u8::try_from(cores.get()).unwrap_or(u8::MAX))
                .min(WORKERS_MAX),
        }
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Workers, String> {
        if text == "auto" {
            return Ok(Workers::Auto);
        }
        let count = text.parse().ok();
        count
            .filter(|count| (1..=WORKERS_MAX).contains(count))
            .map(Workers::Count)
            .ok_or_else(|| format!("expected auto or a number from 1 to {WORKERS_MAX}"))
    }
}

/// How long something lives: digits and a unit of s, m, h, d.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life(pub Duration);

impl FromStr for Life {
    type Err = String;

    fn from_str(text: &str) -> Result<Life, String> {
        time(text, TICKET_LIFE_MIN, TICKET_LIFE_MAX).map(Life)
    }
}

/// How old the authority's word on revocations may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge(pub Duration);

impl FromStr for MaxAge {
    type Err = String;

    fn from_str(text: &str) -> Result<MaxAge, String> {
        time(text, REVOCATION_MAX_AGE_MIN, REVOCATION_MAX_AGE_MAX).map(MaxAge)
    }
}

/// Within what time keys are made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyExchangeEvery(pub Duration);

impl FromStr for KeyExchangeEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<KeyExchangeEvery, String> {
        time(text, KEY_EXCHANGE_EVERY_MIN, KEY_EXCHANGE_EVERY_MAX).map(KeyExchangeEvery)
    }
}

/// How long a credential is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialTtl(pub Duration);

impl FromStr for CredentialTtl {
    type Err = String;

    fn from_str(text: &str) -> Result<CredentialTtl, String> {
        time(text, CREDENTIAL_LIFE_MIN, CREDENTIAL_LIFE).map(CredentialTtl)
    }
}

/// Digits and a unit of s, m, h, d, within bounds.
fn time(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    const EXPECTED: &str = "a time is a number and a unit, such as 90s, 10m, 12h or 7d";
    let unit_s = match text.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err(EXPECTED.into()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EXPECTED.into());
    }
    let number: u64 = digits.parse().map_err(|_| EXPECTED)?;
    let time = Duration::from_secs(number.saturating_mul(unit_s));
    if (min..=max).contains(&time) {
        Ok(time)
    } else {
        let (min, max) = (duration_text(min), duration_text(max));
        Err(format!("it must be between {min} and {max}"))
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration_text(self.0))
    }
}

/// A moment, in RFC 3339's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub UnixTime);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        let time = text.parse::<jiff::Timestamp>().ok();
        let seconds = time.and_then(|time| u64::try_from(time.as_second()).ok());
        let seconds = seconds.ok_or("a time is written 2026-12-31T23:59:59Z")?;
        Ok(Moment(UnixTime(seconds)))
    }
}

/// How long a measurement takes: a number of seconds, with a fraction if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seconds, String> {
        let seconds = text.parse::<f64>().ok();
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match time {
            Some(time) if (BENCH_TIME_MIN..=BENCH_TIME_MAX).contains(&time) => Ok(Seconds(time)),
            _ => Err(format!(
                "it is a number of seconds between {} and {}, such as 3 or 0.5",
                BENCH_TIME_MIN.as_secs_f64(),
                BENCH_TIME_MAX.as_secs()
            )),
        }
    }
}

/// A duration in its largest unit, and the next where that is not 0: `3d`, `1h 5m`, `42s`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(24 * 3600, "d"), (3600, "h"), (60, "m"), (1, "s")];
    for (at, (length, unit)) in units.iter().enumerate() {
        if seconds >= *length {
            let rest = units
                .get(at + 1)
                .map_or(0, |(next, _)| seconds % length / next);
            let main = format!("{}{unit}", seconds / length);
            return match units.get(at + 1) {
                Some((_, next)) if rest > 0 => format!("{main} {rest}{next}"),
                _ => main,
            };
        }
    }
    "0s".into()
}

/// The candidate that was probably meant: at most two letters away, or a third of its length.
pub fn near_match<'a>(typed: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (distance(typed, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's edit distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn workers_are_a_number_or_the_cores_within_bounds() {
        assert_eq!("3".parse(), Ok(Workers::Count(3)));
        assert_eq!("auto".parse(), Ok(Workers::Auto));
        assert!((1..=WORKERS_MAX).contains(&Workers::Auto.count()));
        for text in ["0", "-1", "17", "many", "", "2.0"] {
            assert!(text.parse::<Workers>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn lives_have_a_unit_and_bounds() {
        assert_eq!("2s".parse(), Ok(Life(Duration::from_secs(2))));
        assert_eq!("10m".parse(), Ok(Life(Duration::from_secs(600))));
        assert_eq!("7d".parse(), Ok(Life(Duration::from_secs(7 * 86_400))));
        for bad in [
            "",
            "10",
            "m",
            "-1m",
            "+1m",
            "1.5h",
            "10 m",
            "ä",
            "0s",
            "366d",
            "99999999999999999999d",
        ] {
            assert!(bad.parse::<Life>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_moment_has_a_zone() {
        let moment: Moment = "2026-11-25T09:30:00Z".parse().unwrap();
        assert_eq!(moment.0, UnixTime(1_795_599_000));
        for bad in [
            "",
            "now",
            "2026-11-25",
            "2026-11-25T09:30:00",
            "1900-01-01T00:00:00Z",
        ] {
            assert!(bad.parse::<Moment>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ages_and_credential_lives_have_bounds_of_their_own() {
        assert_eq!("5s".parse(), Ok(MaxAge(Duration::from_secs(5))));
        assert_eq!("1h".parse(), Ok(MaxAge(Duration::from_secs(3600))));
        assert_eq!("10s".parse(), Ok(CredentialTtl(Duration::from_secs(10))));
        for bad in ["4s", "61m", "5", ""] {
            assert!(bad.parse::<MaxAge>().is_err(), "{bad:?}");
        }
        assert!("9s".parse::<CredentialTtl>().is_err());
        assert!("2h".parse::<CredentialTtl>().is_err());
    }

    #[test]
    fn seconds_may_have_a_fraction_and_have_bounds() {
        assert_eq!("0.2".parse(), Ok(Seconds(Duration::from_millis(200))));
        assert_eq!("3".parse(), Ok(Seconds(Duration::from_secs(3))));
        for bad in ["", "0", "-1", "3s", "NaN", "inf", "1e9"] {
            assert!(bad.parse::<Seconds>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_900, "1h 5m"),
            (3_601, "1h"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(duration_text(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn an_attribute_may_hold_an_equals_sign_in_its_value() {
        let attribute: Attribute = "team=a=b".parse().unwrap();
        assert_eq!(
            (attribute.name.as_str(), attribute.value.as_str()),
            ("team", "a=b")
        );
        assert!("team".parse::<Attribute>().is_err());
        assert!("=x".parse::<Attribute>().is_err());
    }

    #[test]
    fn the_near_match_is_near() {
        let keys = ["allow", "via", "from", "log-format"];
        assert_eq!(near_match("alow", &keys), Some("allow"));
        assert_eq!(near_match("form", &keys), Some("from"));
        assert_eq!(near_match("log_format", &keys), Some("log-format"));
        assert_eq!(near_match("unrelated", &keys), None);
    }
}
