//! The cores' log records on their way to the log: each becomes one `tracing` event of the target
//! `adit`, with its details in order as one field. How a line looks is the subscriber's business
//! (`cli::log`), so a program that embeds adit brings its own.

use crate::protocol::core::{Level, LogRecord};

/// Target of every event of ours.
pub const TARGET: &str = "adit";

/// Emits a record.
pub fn emit(record: &LogRecord) {
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
