//! Results on stdout: JSON, or columns for people.

use std::io::{self, Write};

use serde_json::Value;

/// Prints a line of JSON.
pub(super) fn json(value: &Value) {
    line(&value.to_string());
}

/// Prints a line. A reader that went away (`| head`) is no failure.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
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
