//! The floors of `proxy`: a module may name those of its own floor and below, and never one above.

use crate::source::{Source, identifier, words};

/// The floor of each module at the root of `proxy`; see `proxy/src/lib.rs`.
const FLOORS: &[(&str, u8)] = &[
    ("error", 0),
    ("blocks", 0),
    ("ids", 0),
    ("limits", 0),
    ("time", 0),
    ("protocol", 1),
    ("engine", 2),
    ("mailbox", 3),
    ("worker", 3),
    ("control", 3),
    ("cli", 4),
];

/// Modules of one floor that may not name each other: control and worker meet in the mailbox, and
/// the mailbox knows neither.
const APART: &[(&str, &str)] = &[
    ("worker", "control"),
    ("control", "worker"),
    ("mailbox", "worker"),
    ("mailbox", "control"),
];

/// The one file that names what its module may not: it puts a worker on its thread and keeps the
/// other end of its mailbox.
const SEAM: (&str, &str) = ("proxy/src/control/worker_thread.rs", "worker");

/// What the sans-IO floors may not name: they are told what time it is and what has happened.
const WORLD: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::os",
    "SystemTime",
    "std::time::Instant",
    "tokio",
    "tracing",
    "rustix",
    "println",
    "eprintln",
    "thread_rng",
];

fn floor_of(module: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|&(_, floor)| floor)
}

/// The module at the root of `proxy` that this file belongs to.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("proxy/src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// Names of modules above, or of one that is to be kept apart.
pub fn reaching_up(source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path) else {
        return Vec::new();
    };
    let Some(floor) = floor_of(module) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (offset, named) in named_modules(source) {
        let Some(other) = floor_of(&named) else {
            continue;
        };
        if other > floor {
            found.push(source.at(
                source.line_of(offset),
                format!("`{module}` is on floor {floor} and names `{named}` on floor {other}"),
            ));
        } else if APART.contains(&(module, named.as_str()))
            && SEAM != (source.path.as_str(), named.as_str())
        {
            found.push(source.at(
                source.line_of(offset),
                format!("`{module}` names `{named}`: they are kept apart"),
            ));
        }
    }
    found
}

/// What follows `crate::`, and `super::` where it leads to the root, groups in braces included.
fn named_modules(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = Vec::new();
    for start in words(code, "crate") {
        if code[start..].starts_with("crate::") {
            leading_names(code, start + "crate::".len(), &mut found);
        }
    }
    // `super::` once for each folder above the file's own module reaches the root. In a module
    // inside the file it reaches less far, which then names no module of the root.
    let inside = source.path.strip_prefix("proxy/src/").unwrap_or_default();
    let file_is_folder = inside.ends_with("/mod.rs");
    let depth = inside.matches('/').count() + usize::from(!file_is_folder);
    let climb = "super::".repeat(depth.max(1));
    for start in words(code, "super") {
        if code[start..].starts_with(&climb) {
            leading_names(code, start + climb.len(), &mut found);
        }
    }
    found
}

/// The first name of each path of a `use` tree that begins at `at`.
fn leading_names(code: &str, at: usize, found: &mut Vec<(usize, String)>) {
    if !code[at..].starts_with('{') {
        found.push((at, identifier(code, at).to_owned()));
        return;
    }
    let (mut depth, mut expecting) = (0_usize, false);
    for (offset, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'{' => {
                depth += 1;
                expecting = depth == 1;
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            b',' => expecting = depth == 1,
            byte if byte.is_ascii_whitespace() => {}
            _ if expecting => {
                found.push((offset, identifier(code, offset).to_owned()));
                expecting = false;
            }
            _ => {}
        }
    }
}

/// I/O, clocks, threads and logging in what must be a pure function of what it is told.
pub fn io_in_sans_io(source: &Source) -> Vec<String> {
    let pure =
        source.path.starts_with("proxy/src/protocol/") || source.path.starts_with("crypto/src/");
    if !pure {
        return Vec::new();
    }
    WORLD
        .iter()
        .flat_map(|name| words(&source.code, name).map(move |offset| (offset, name)))
        .map(|(offset, name)| (source.line_of(offset), name))
        .filter(|&(line, _)| !source.is_test(line))
        .map(|(line, name)| {
            source.at(
                line,
                format!("`{name}`: this floor is told what happens and asks nobody"),
            )
        })
        .collect()
}
