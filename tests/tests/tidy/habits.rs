//! What conventions ask of every file: lengths, bounds, unsafe code, allowances, words.

use crate::source::{Source, identifier, words};

/// No file is longer.
pub const LINES: usize = 1_000;
/// Longer ones are named in the output: most files that explain one thing are shorter.
pub const LINES_AIM: usize = 350;

/// Files past the limit.
pub fn too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if source.is_rust() && lines > LINES {
        vec![source.at(lines - 1, format!("more than {LINES} lines"))]
    } else {
        Vec::new()
    }
}

/// The only homes of bounds.
const HOMES: &[&str] = &["proxy/src/limits.rs", "crypto/src/limits.rs"];

/// Words in a constant's name that say it is a bound.
const BOUND_WORDS: &[&str] = &[
    "MAX", "MIN", "LIMIT", "TIMEOUT", "DEADLINE", "CAPACITY", "BUDGET", "GRACE", "INTERVAL",
    "BACKOFF",
];

/// Constants that are bounds and stand elsewhere.
pub fn stray_bounds(source: &Source) -> Vec<String> {
    let shipped = source.path.starts_with("proxy/src/") || source.path.starts_with("crypto/src/");
    if !shipped || HOMES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for offset in words(&source.code, "const") {
        let name = identifier(&source.code, offset + "const ".len());
        let line = source.line_of(offset);
        let bound = name.split('_').any(|word| BOUND_WORDS.contains(&word));
        let value = source.code[offset..]
            .split_once('=')
            .map_or("", |(_, rest)| rest.split(';').next().unwrap_or(""));
        let written = value.bytes().any(|byte| byte.is_ascii_digit()) && !names_a_constant(value);
        if bound && written && !source.is_test(line) {
            found.push(source.at(
                line,
                format!("`{name}` is a bound: it belongs into limits.rs"),
            ));
        }
    }
    found
}

/// What is made of other constants follows from their bounds and is none of its own.
fn names_a_constant(expression: &str) -> bool {
    expression
        .split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .any(|word| {
            word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.len() > 1
                && !word.bytes().any(|byte| byte.is_ascii_lowercase())
        })
}

/// Unsafe code outside of the engine, and such without its reason.
pub fn careless_unsafe(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    for offset in words(&source.code, "unsafe") {
        let line = source.line_of(offset);
        if !source.path.starts_with("proxy/src/engine/") {
            found.push(source.at(line, "unsafe code outside of the engine"));
            continue;
        }
        // The comment stands on the line or directly above, with attributes and the beginning of
        // the statement between.
        let above = lines[line.saturating_sub(8)..=line].join("\n");
        if !above.contains("SAFETY:") && !above.contains("# Safety") {
            found.push(source.at(line, "unsafe code without a SAFETY comment"));
        }
    }
    found
}

/// `#[allow]`, and `#[expect]` without a reason.
pub fn careless_allowances(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (what, needs) in [("allow", None), ("expect", Some("reason"))] {
        for offset in words(&source.code, what) {
            let before = source.code[..offset].trim_end();
            if !(before.ends_with("#[") || before.ends_with("#![")) {
                continue;
            }
            let end = source.code[offset..]
                .find(']')
                .map_or(source.code.len(), |length| offset + length);
            let whole = &source.code[offset..end];
            match needs {
                None => found.push(source.at(
                    source.line_of(offset),
                    "say `expect` with a reason, not `allow`",
                )),
                Some(word) if words(whole, word).next().is_none() => {
                    found.push(
                        source.at(source.line_of(offset), format!("`{what}` without a {word}")),
                    );
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// Sleeps in tests: they wait too long on a fast machine and not long enough on a slow one.
pub fn sleeps_in_tests(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    words(&source.code, "sleep")
        .filter(|&offset| {
            source.code[offset..]
                .trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
                .starts_with('(')
        })
        .map(|offset| source.line_of(offset))
        .filter(|&line| source.is_test(line))
        .map(|line| {
            source.at(
                line,
                "a test waits for the event, with a deadline, and doesn't sleep",
            )
        })
        .collect()
}

/// Ways to write a loopback address, up to where the port follows.
const LOOPBACKS: &[&str] = &[
    "127.0.0.1:",
    "localhost:",
    "0.0.0.0:",
    "[::1]:",
    "[::]:",
    "127, 0, 0, 1], ",
    "127, 0, 0, 1), ",
];

/// Words of lines that open a real socket.
const OPENING: &[&str] = &["bind", "listen", "connect", "TcpListener", "TcpStream"];

/// Tests that use a port which the kernel did not choose.
pub fn fixed_ports_in_tests(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, line) in source.code_and_literals.lines().enumerate() {
        if !source.is_test(number) {
            continue;
        }
        // In a test of real processes every port counts; elsewhere an address may be a mere value,
        // or one of the simulated network.
        let real = source.path.starts_with("tests/")
            || OPENING
                .iter()
                .any(|word| words(line, word).next().is_some());
        let fixed = LOOPBACKS.iter().any(|loopback| {
            line.match_indices(loopback).any(|(offset, _)| {
                line[offset + loopback.len()..]
                    .starts_with(|digit: char| digit.is_ascii_digit() && digit != '0')
            })
        });
        if real && fixed {
            found.push(source.at(
                number,
                "a test asks the kernel for a port (0) and names none",
            ));
        }
    }
    found
}

/// Notes to oneself. Written in two halves so that this file holds none.
const NOTES: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("HA", "CK"),
];

/// Work that was left: a limit is documented or an error.
pub fn notes_to_oneself(source: &Source) -> Vec<String> {
    NOTES
        .iter()
        .flat_map(|note| words(&source.text, note).map(move |offset| (offset, note)))
        .map(|(offset, note)| {
            source.at(
                source.line_of(offset),
                format!("{note}: document the limit, or make it an error"),
            )
        })
        .collect()
}

/// Hosts of package registries and directories of one machine: the project builds elsewhere too.
/// In halves, as above.
const PLACES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("npmjs", ".org"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("debian", ".org"),
    concat!("nodesource", ".com"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
];

/// Text that is true on one machine or behind one registry only.
pub fn places_of_one_machine(source: &Source) -> Vec<String> {
    PLACES
        .iter()
        .flat_map(|place| source.text.match_indices(place))
        .map(|(offset, place)| {
            source.at(
                source.line_of(offset),
                format!("`{place}` names one machine or registry"),
            )
        })
        .collect()
}

/// Names that say nothing about what a type is for.
const EMPTY_NAMES: &[&str] = &["Manager", "Helper", "Helpers", "Util", "Utils", "Data"];

/// Types and modules with such a name.
pub fn empty_names(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for kind in ["struct", "enum", "trait", "type", "mod"] {
        for offset in words(&source.code, kind) {
            let name = identifier(&source.code, offset + kind.len() + 1);
            let lower = |word: &str| word.to_ascii_lowercase();
            let empty = EMPTY_NAMES
                .iter()
                .any(|word| name.ends_with(word) || name == lower(word));
            if empty && source.code[offset + kind.len()..].starts_with(' ') {
                found.push(source.at(
                    source.line_of(offset),
                    format!("`{name}` doesn't say what it is for"),
                ));
            }
        }
    }
    found
}

/// Rust files that don't begin by saying what they are. The tests of a module are what they are.
pub fn without_module_doc(source: &Source) -> Vec<String> {
    let silent =
        source.is_rust() && !source.path.ends_with("/tests.rs") && !source.text.starts_with("//!");
    if silent {
        vec![source.at(0, "no module documentation at the top")]
    } else {
        Vec::new()
    }
}
