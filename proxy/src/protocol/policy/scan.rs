//! What is looked at in an expression's text before a parser sees it.
//!
//! A parser goes down as deep as its text nests, on the stack. So the text is bounded first, by a scan
//! that needs no stack: its length, and how deep brackets, conditionals and runs of signs nest in it.
//! What stands in quotes or behind `//` counts as one thing.

use crate::limits::{CEL_NESTING_MAX, CEL_TEXT_MAX};

/// What is wrong, and at which byte.
type Fault = (usize, &'static str);

/// Checks the text of an expression.
///
/// # Errors
/// The byte at which it goes wrong, and what was expected there.
pub fn scan(text: &str) -> Result<(), Fault> {
    if text.len() > CEL_TEXT_MAX {
        let expected = "the expression should end before here (4096 bytes)";
        return Err((CEL_TEXT_MAX, expected));
    }
    if text.trim().is_empty() {
        return Err((0, "expected an expression"));
    }
    let bytes = text.as_bytes();
    // Each open bracket, with the conditionals that have begun inside it.
    let mut open: Vec<(u8, usize)> = Vec::new();
    let (mut conditionals, mut signs) = (0, 0);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_control() && !matches!(byte, b'\n' | b'\r' | b'\t') {
            return Err((at, "expected no control character"));
        }
        match byte {
            b'"' | b'\'' => {
                at = end_of_text(bytes, at)?;
                signs = 0;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..]
                    .iter()
                    .take_while(|b| !matches!(b, b'\n' | b'\r'))
                    .count();
                continue;
            }
            b'(' | b'[' | b'{' => open.push((byte, conditionals)),
            b')' | b']' | b'}' => match open.pop() {
                Some((opened, before)) if closes(opened, byte) => conditionals = before,
                Some(_) | None => return Err((at, "this bracket was not opened")),
            },
            b'?' => conditionals += 1,
            _ => {}
        }
        match byte {
            b'!' | b'-' => signs += 1,
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => signs = 0,
        }
        if open.len() + conditionals + signs > CEL_NESTING_MAX {
            return Err((at, "expected less nesting (32 levels)"));
        }
        at += 1;
    }
    match open.last() {
        Some(_) => Err((text.len(), "a bracket is not closed")),
        None => Ok(()),
    }
}

fn closes(opened: u8, closed: u8) -> bool {
    matches!((opened, closed), (b'(', b')') | (b'[', b']') | (b'{', b'}'))
}

/// The byte behind a text in quotes that begins at `start`.
fn end_of_text(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    const NOT_CLOSED: &str = "the text in quotes that begins here does not end";
    let quote = bytes[start];
    let triple = bytes.get(start..start + 3) == Some(&[quote; 3]);
    let raw = is_raw(bytes, start)?;
    let mut at = start + if triple { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        if byte == b'\\' && !raw {
            at += 2;
        } else if triple && bytes.get(at..at + 3) == Some(&[quote; 3]) {
            return Ok(at + 3);
        } else if !triple && byte == quote {
            return Ok(at + 1);
        } else if !triple && matches!(byte, b'\n' | b'\r') {
            return Err((start, NOT_CLOSED));
        } else {
            at += 1;
        }
    }
    Err((start, NOT_CLOSED))
}

/// Whether an `r` before the quotes takes the meaning from backslashes. Any other word there is
/// refused: where it ends is for a parser to say.
fn is_raw(bytes: &[u8], start: usize) -> Result<bool, Fault> {
    let before = bytes[..start].iter().rev();
    let word = before.take_while(|b| b.is_ascii_alphanumeric() || **b == b'_');
    let word = &bytes[start - word.count()..start];
    if word.is_empty() || word.eq_ignore_ascii_case(b"b") {
        Ok(false)
    } else if word.eq_ignore_ascii_case(b"r") || word.eq_ignore_ascii_case(b"br") {
        Ok(true)
    } else {
        Err((start, "expected an operator before the text in quotes"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn brackets_may_nest_to_the_bound_and_no_deeper() {
        for (open, close) in [("(", ")"), ("[", "]"), ("{", "}"), ("f(", ")")] {
            let nested = |depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(scan(&nested(CEL_NESTING_MAX)), Ok(()));
            assert!(scan(&nested(CEL_NESTING_MAX + 1)).is_err());
        }
    }

    #[test]
    fn conditionals_and_runs_of_signs_are_nesting() {
        let conditionals = |n| format!("{}c", "a ? b : ".repeat(n));
        assert_eq!(scan(&conditionals(CEL_NESTING_MAX)), Ok(()));
        assert!(scan(&conditionals(CEL_NESTING_MAX + 1)).is_err());
        for sign in ["!", "-", "! ", "-\n"] {
            assert!(scan(&format!("{}a", sign.repeat(CEL_NESTING_MAX))).is_ok());
            assert!(scan(&format!("{}a", sign.repeat(CEL_NESTING_MAX + 1))).is_err());
        }
        let apart = "(a ? b : c) && ".repeat(200) + "!a && -1 < 2";
        assert_eq!(scan(&apart), Ok(()));
    }

    #[test]
    fn what_stands_in_quotes_or_comments_is_no_nesting() {
        let deep = "(".repeat(100);
        for text in [
            format!("'{deep}'"),
            format!("\"{deep}\""),
            format!("'''{deep}\n'it' '''"),
            format!("\"\"\"{deep}\"\"\""),
            format!("'it\\'s {deep}'"),
            format!("r'{deep}\\'"),
            format!("a // {deep}\n"),
        ] {
            assert_eq!(scan(&text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_fault_says_where_it_is() {
        for (text, at) in [
            ("", 0),
            (" \n", 0),
            ("a == 'b", 5),
            ("a == 'b\n'", 5),
            ("'a\\'", 0),
            ("(a", 2),
            ("a)", 1),
            ("(a]", 2),
            ("a\0", 1),
            ("'''a'", 0),
            ("x r'a\\' '", 8),
            ("xr'a\\'", 2),
            ("1r'a'", 2),
            ("rb'a'", 2),
        ] {
            assert_eq!(scan(text).unwrap_err().0, at, "{text:?}");
        }
        assert!(scan(&"a".repeat(CEL_TEXT_MAX)).is_ok());
        assert!(scan(&"a".repeat(CEL_TEXT_MAX + 1)).is_err());
    }

    /// How deep brackets nest where there is nothing but brackets and letters.
    fn depth(text: &str) -> usize {
        let (mut now, mut most) = (0usize, 0);
        for c in text.chars() {
            match c {
                '(' | '[' => now += 1,
                ')' | ']' => now = now.saturating_sub(1),
                _ => {}
            }
            most = most.max(now);
        }
        most
    }

    proptest! {
        #[test]
        fn any_text_is_scanned_without_a_panic(text in ".{0,200}", tail in "[-!?()'\"\\\\r\n ]{0,80}") {
            let _ = scan(&text);
            let _ = scan(&tail);
            let _ = scan(&(text + &tail));
        }

        #[test]
        fn what_passes_is_no_deeper_than_the_bound(text in "[ab()\\[\\]]{1,300}") {
            if scan(&text).is_ok() {
                prop_assert!(depth(&text) <= CEL_NESTING_MAX);
            }
        }

        #[test]
        fn a_text_in_quotes_is_one_thing_whatever_it_holds(inner in "[^'\\\\\\p{Cc}]{0,100}") {
            let text = format!("'{inner}'");
            prop_assert_eq!(scan(&text), Ok(()));
            let raw = format!("r'{inner}'");
            prop_assert_eq!(scan(&raw), Ok(()));
        }
    }
}
