//! Results on stdout: JSON, or columns for people. What is not written was not said: a result that
//! nobody could have read is an error, or a script would go on with an empty file.

use std::io::{self, ErrorKind, Write};

use serde_json::Value;

use crate::control::failure::{Exit, Failure, codes};

/// Prints a line of JSON.
///
/// # Errors
/// As [`line`].
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// Prints a line, and returns when it is written. A reader that went away (`| head`) is no failure.
///
/// # Errors
/// It can't be written: the disk behind a redirection is full, for example.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    put(&mut io::stdout().lock(), &format!("{text}\n"))
}

/// Prints a text as it is; otherwise as [`line`].
///
/// # Errors
/// As [`line`].
pub(super) fn text_as_is(text: &str) -> Result<(), Failure> {
    put(&mut io::stdout().lock(), text)
}

fn put(to: &mut dyn Write, text: &str) -> Result<(), Failure> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let what = "can't write the result to standard output";
            Err(Failure::new(codes::OUTPUT, Exit::Runtime, what, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says something to a person, on stderr: a note, the next command, an error. Where even that can't
/// be written there is nobody to tell.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Columns as wide as their widest cell, two spaces apart, with a head.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|cell| cell.to_string()).collect();
    let lines = std::iter::once(&head).chain(rows).map(|row| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A text of an object; empty if it is not there or no text.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// `a=1,b=2` of an object.
pub(super) fn pairs(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let pairs = pairs.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

/// A list's texts with commas between; a text as it is.
pub(super) fn list(value: &Value) -> String {
    match value.as_array() {
        Some(items) => items
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(","),
        None => value.as_str().unwrap_or_default().to_string(),
    }
}

/// The first characters of an id, as logs show it.
pub(super) fn short_id(id: &str) -> String {
    id.chars().take(8).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file on a disk without room, or a pipe without a reader.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn what_is_not_written_is_an_error_unless_nobody_wants_it() {
        let full = put(&mut Broken(ErrorKind::StorageFull), "a ticket\n");
        assert_eq!(full.map_err(|failure| failure.code), Err(codes::OUTPUT));
        assert_eq!(put(&mut Broken(ErrorKind::BrokenPipe), "rows\n"), Ok(()));
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".into(), "longer".into()],
            vec!["abc".into(), String::new()],
        ];
        assert_eq!(table(&["N", "V"], &rows), "N    V\na    longer\nabc");
    }

    #[test]
    fn objects_and_lists_become_short_texts() {
        let value = serde_json::json!({ "a": "1", "b": "2" });
        assert_eq!(pairs(&value), "a=1,b=2");
        assert_eq!(list(&serde_json::json!(["x", "y"])), "x,y");
        assert_eq!(list(&serde_json::json!("all")), "all");
        assert_eq!(short_id("Iabcdefghij"), "Iabcdefg…");
    }
}
