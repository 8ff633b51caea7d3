//! The cores' log records on their way to the log: each becomes one `tracing` event of the target
//! `adit`, with its details in order as one field. How a line looks is the subscriber's business
//! (`cli::log`), so a program that embeds adit brings its own.

use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};

use super::failure::{Exit, Failure, codes};
use crate::protocol::core::{Level, LogRecord};

/// Target of every event of ours.
pub const TARGET: &str = "adit";

/// How much is emitted: the place of a level in [`LEVELS`]. A process has one log, so it has one of these.
static MOST: AtomicU8 = AtomicU8::new(3);

/// The levels, the gravest first.
const LEVELS: [(Level, &str); 4] = [
    (Level::Error, "error"),
    (Level::Warn, "warn"),
    (Level::Info, "info"),
    (Level::Debug, "debug"),
];

fn place(level: Level) -> u8 {
    let at = LEVELS.iter().position(|(it, _)| *it == level);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or_default()
}

/// From now on, nothing of less weight than this is emitted. Everything is, until this is said: a program
/// that embeds adit has a filter of its own.
pub fn set_level(level: Level) {
    MOST.store(place(level), Ordering::Relaxed);
}

/// The administrator's call: another level, or only what it is.
///
/// # Errors
/// There is no such level.
pub fn change_level(wanted: Option<&str>) -> Result<Value, Failure> {
    let was = LEVELS.get(usize::from(MOST.load(Ordering::Relaxed)));
    let was = was.map_or("debug", |(_, word)| word);
    let Some(wanted) = wanted else {
        return Ok(json!({ "level": was, "was": was }));
    };
    let Some((level, word)) = LEVELS.iter().find(|(_, word)| *word == wanted) else {
        let why = "a level is error, warn, info or debug";
        return Err(Failure::new(
            codes::ADMIN,
            Exit::Usage,
            "the call is malformed",
            why,
        ));
    };
    set_level(*level);
    let what = "the level of the log was changed";
    emit(
        &LogRecord::new(Level::Info, what)
            .with("from", was)
            .with("to", word),
    );
    Ok(json!({ "level": word, "was": was }))
}

/// Emits a record.
pub fn emit(record: &LogRecord) {
    if place(record.level) > MOST.load(Ordering::Relaxed) {
        return;
    }
    let code = record.code.map(|code| code.to_string()).unwrap_or_default();
    let details = details(record);
    let what = record.what.as_str();
    match record.level {
        Level::Debug => tracing::debug!(target: TARGET, code, details, "{what}"),
        Level::Info => tracing::info!(target: TARGET, code, details, "{what}"),
        Level::Warn => tracing::warn!(target: TARGET, code, details, "{what}"),
        Level::Error => tracing::error!(target: TARGET, code, details, "{what}"),
    }
}

/// The details as a JSON array of pairs: `tracing` fixes field names when it is compiled, and
/// these differ per record. Empty when there are none.
fn details(record: &LogRecord) -> String {
    if record.fields.is_empty() {
        return String::new();
    }
    let pairs: Vec<[&str; 2]> = record
        .fields
        .iter()
        .map(|(name, value)| [*name, value.as_str()])
        .collect();
    serde_json::to_string(&pairs).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_keep_their_order_and_any_text() {
        let record = LogRecord::new(Level::Info, "portal open")
            .with("via", "postgres")
            .with("from", "say \"hi\"\n");
        assert_eq!(
            details(&record),
            r#"[["via","postgres"],["from","say \"hi\"\n"]]"#
        );
        assert_eq!(details(&LogRecord::new(Level::Info, "quiet")), "");
    }
}
