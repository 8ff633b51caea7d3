//! How a log line looks, on stderr.
//!
//! ```text
//! 2027-01-15T08:00:00.123Z info  portal open  role=inlet via=postgres
//! 2027-01-15T08:00:09.456Z warn  ADIT-3001 denied  rule="a=1" why="attribute a is missing"
//! {"time":"2027-01-15T08:00:00.123Z","level":"info","what":"portal open","role":"inlet"}
//! ```

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::args::{LogFormat, LogLevel};
use super::settings::Settings;
use crate::control::log::set_level;
use crate::protocol::core::Level as LogWeight;

/// Sets the process's log up. Said twice, the first one stays.
pub(super) fn start(settings: &Settings) {
    set_level(match settings.log_level {
        LogLevel::Error => LogWeight::Error,
        LogLevel::Warn => LogWeight::Warn,
        LogLevel::Info => LogWeight::Info,
        LogLevel::Debug => LogWeight::Debug,
    });
    let line = Line {
        json: settings.log_format == LogFormat::Json,
    };
    let subscriber = tracing_subscriber::fmt()
        // Ours are filtered where they are emitted, by a level that can change.
        .with_max_level(Level::DEBUG)
        .with_writer(std::io::stderr)
        .event_format(line)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The format of a line.
struct Line {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let level = event.metadata().level();
        let now = jiff::Timestamp::now();
        let text = if self.json {
            parts.json(level, now)
        } else {
            parts.text(level, now)
        };
        writer.write_str(&text)?;
        writer.write_char('\n')
    }
}

/// What an event holds.
#[derive(Default)]
struct Parts {
    what: String,
    code: String,
    /// Name and value, in order.
    details: Vec<(String, String)>,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "code" => self.code = value.into(),
            "details" => self
                .details
                .extend(serde_json::from_str::<Vec<(String, String)>>(value).unwrap_or_default()),
            "message" => self.what = value.into(),
            name => self.details.push((name.into(), value.into())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn level_word(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

impl Parts {
    fn text(&self, level: &Level, now: jiff::Timestamp) -> String {
        let mut line = format!("{now:.3} {:<5} ", level_word(level));
        if !self.code.is_empty() {
            let _ = write!(line, "{} ", self.code);
        }
        push_clean(&mut line, &self.what);
        for (at, (name, value)) in self.details.iter().enumerate() {
            let _ = write!(line, "{}{name}=", if at == 0 { "  " } else { " " });
            push_value(&mut line, value);
        }
        line
    }

    fn json(&self, level: &Level, now: jiff::Timestamp) -> String {
        let mut object = serde_json::Map::new();
        object.insert("time".into(), format!("{now:.3}").into());
        object.insert("level".into(), level_word(level).into());
        if !self.code.is_empty() {
            object.insert("code".into(), self.code.as_str().into());
        }
        object.insert("what".into(), self.what.as_str().into());
        for (name, value) in &self.details {
            // A detail never hides one of the fixed fields.
            let key = if object.contains_key(name) {
                format!("{name}_")
            } else {
                name.clone()
            };
            object.insert(key, value.as_str().into());
        }
        serde_json::Value::Object(object).to_string()
    }
}

/// A value as it is where it has no spaces or quotes, else in quotes.
fn push_value(line: &mut String, value: &str) {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
    if !value.is_empty() && value.chars().all(plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line.push('"');
}

/// Text without control characters: nothing in a log line moves a terminal's cursor.
fn push_clean(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts {
            what: "denied".into(),
            code: "ADIT-3001".into(),
            details: vec![
                ("rule".into(), "a=1".into()),
                ("why".into(), "say \"hi\"\u{1b}[1m".into()),
                ("level".into(), "x".into()),
            ],
        }
    }

    #[test]
    fn a_text_line_has_its_time_code_and_quoted_values() {
        assert_eq!(
            parts().text(&Level::WARN, jiff::Timestamp::UNIX_EPOCH),
            "1970-01-01T00:00:00.000Z warn  ADIT-3001 denied  rule=a=1 \
             why=\"say \\\"hi\\\"\\u{1b}[1m\" level=x"
        );
    }

    #[test]
    fn a_json_line_holds_the_same() {
        let line = parts().json(&Level::WARN, jiff::Timestamp::UNIX_EPOCH);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        assert_eq!(value["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(value["level"], "warn");
        assert_eq!(value["code"], "ADIT-3001");
        assert_eq!(value["level_"], "x");
        assert_eq!(value["why"], "say \"hi\"\u{1b}[1m");
    }
}
