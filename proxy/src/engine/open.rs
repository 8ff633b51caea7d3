//! Which engine to use: what was asked for, what the machine offers, and the rule between.
//!
//! `auto` takes io_uring where it can be opened and falls back to epoll only when it is
//! [`Unavailable`](OpenError::Unavailable): forbidden, absent or too old. Anything else (no memory,
//! no descriptors) is an error, because epoll would soon meet the same. Who asked for io_uring by
//! name gets it or an error.

use std::str::FromStr;

use super::config::{EngineConfig, Kind, OpenError};
use super::uring::Uring;

/// What `--engine` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// io_uring where it is to be had, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

impl Choice {
    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Choice::Auto => "auto",
            Choice::Uring => "uring",
            Choice::Epoll => "epoll",
        }
    }
}

/// Not the name of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, uring or epoll")]
pub struct UnknownEngine;

impl FromStr for Choice {
    type Err = UnknownEngine;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Choice::Auto, Choice::Uring, Choice::Epoll]
            .into_iter()
            .find(|c| c.name() == s)
            .ok_or(UnknownEngine)
    }
}

/// Decides which engine the workers open, by opening a small ring and dropping it. With epoll
/// comes the reason why it is not io_uring, for one log line and `status`; `None` when epoll was
/// asked for. Call it where the workers will run: after privileges were dropped.
///
/// # Errors
/// [`OpenError::Unavailable`] only for [`Choice::Uring`]; [`OpenError::Failed`] when the ring could
/// not be opened for another reason.
pub fn decide(choice: Choice) -> Result<(Kind, Option<String>), OpenError> {
    decide_by(choice, || {
        Uring::open(&EngineConfig {
            sockets: 1,
            buffers: [1; 4],
            pipes: 0,
        })
        .map(drop)
    })
}

fn decide_by(
    choice: Choice,
    probe: impl FnOnce() -> Result<(), OpenError>,
) -> Result<(Kind, Option<String>), OpenError> {
    match (
        choice,
        if choice == Choice::Epoll {
            Ok(())
        } else {
            probe()
        },
    ) {
        (Choice::Epoll, _) => Ok((Kind::Epoll, None)),
        (Choice::Auto | Choice::Uring, Ok(())) => Ok((Kind::Uring, None)),
        (Choice::Auto, Err(e @ OpenError::Unavailable { .. })) => {
            Ok((Kind::Epoll, Some(e.to_string())))
        }
        (Choice::Auto | Choice::Uring, Err(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Result<(), OpenError> {
        Err(OpenError::Unavailable {
            engine: "io_uring",
            why: "no such thing".into(),
        })
    }

    fn failed() -> Result<(), OpenError> {
        let source = std::io::Error::from_raw_os_error(24);
        Err(OpenError::Failed {
            engine: "io_uring",
            source,
        })
    }

    #[test]
    fn auto_falls_back_only_when_it_is_unavailable() {
        assert!(matches!(
            decide_by(Choice::Auto, || Ok(())),
            Ok((Kind::Uring, None))
        ));
        let fallback = decide_by(Choice::Auto, unavailable);
        assert!(
            matches!(&fallback, Ok((Kind::Epoll, Some(why))) if why.contains("no such thing")),
            "{fallback:?}"
        );
        assert!(matches!(
            decide_by(Choice::Auto, failed),
            Err(OpenError::Failed { .. })
        ));
    }

    #[test]
    fn uring_by_name_never_falls_back() {
        assert!(matches!(
            decide_by(Choice::Uring, || Ok(())),
            Ok((Kind::Uring, None))
        ));
        let refused = decide_by(Choice::Uring, unavailable);
        assert!(matches!(refused, Err(OpenError::Unavailable { .. })));
    }

    #[test]
    fn epoll_by_name_asks_nobody() {
        assert!(matches!(
            decide_by(Choice::Epoll, failed),
            Ok((Kind::Epoll, None))
        ));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for choice in [Choice::Auto, Choice::Uring, Choice::Epoll] {
            assert_eq!(choice.name().parse(), Ok(choice));
        }
        assert_eq!("kqueue".parse::<Choice>(), Err(UnknownEngine));
    }
}
