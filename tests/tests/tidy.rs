//! The project's habits, checked: floors, file lengths, the home of bounds, unsafe code,
//! allowances, tests that sleep or name ports, words that have no place in it.
//!
//! Each check is a function of one file and has two tests here: the project passes it, and a small
//! text that breaks the rule does not.

#![expect(clippy::panic, reason = "a test fails by panicking")]

#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/habits.rs"]
mod habits;
#[path = "tidy/source.rs"]
mod source;

use source::Source;

type Check = fn(&Source) -> Vec<String>;

/// Fails with every finding of the check, in all of the project.
fn project_passes(check: Check) {
    let sources = source::all();
    let found: Vec<String> = sources.iter().flat_map(check).collect();
    assert!(
        found.is_empty(),
        "{} findings:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// The check finds something in `bad` and nothing in `good`, both as the file `path`.
fn tells_apart(check: Check, path: &str, bad: &str, good: &str) {
    assert!(
        !check(&Source::new(path, bad)).is_empty(),
        "nothing found in {path}:\n{bad}"
    );
    let found = check(&Source::new(path, good));
    assert!(
        found.is_empty(),
        "found in {path}:\n{good}\n{}",
        found.join("\n")
    );
}

#[test]
fn no_module_names_a_floor_above() {
    project_passes(floors::reaching_up);
    let check = floors::reaching_up;
    tells_apart(
        check,
        "proxy/src/protocol/lane.rs",
        "use crate::worker::Slab;",
        "use crate::ids::StreamNo;",
    );
    tells_apart(
        check,
        "proxy/src/engine/mod.rs",
        "use crate::{limits, control::files};",
        "use crate::{limits, time};",
    );
    tells_apart(
        check,
        "proxy/src/worker/mod.rs",
        "use super::control;",
        "use super::engine;",
    );
    tells_apart(
        check,
        "proxy/src/worker/lane.rs",
        "use super::super::cli::run;",
        "use super::slab::Slab;",
    );
    tells_apart(
        check,
        "proxy/src/control/driver.rs",
        "use crate::worker;",
        "// crate::worker\nuse crate::mailbox;",
    );
    tells_apart(
        check,
        "proxy/src/mailbox.rs",
        "fn f(_: crate::worker::W) {}",
        "fn f(_: crate::engine::Token) {}",
    );
    tells_apart(
        check,
        "proxy/src/time.rs",
        "use crate::protocol::command;",
        "const A: &str = \"crate::worker\";",
    );
}

#[test]
fn the_protocol_and_crypto_do_no_io_and_read_no_clock() {
    project_passes(floors::io_in_sans_io);
    let check = floors::io_in_sans_io;
    tells_apart(
        check,
        "proxy/src/protocol/lane.rs",
        "let t = std::time::Instant::now();",
        "let t: Instant = now;",
    );
    tells_apart(
        check,
        "crypto/src/ticket.rs",
        "use std::fs;",
        "#[cfg(test)]\nmod tests {\n use std::fs;\n}",
    );
}

#[test]
fn no_file_is_too_long() {
    project_passes(habits::too_long);
    let long = "//\n".repeat(habits::LINES);
    tells_apart(
        habits::too_long,
        "proxy/src/worker/mod.rs",
        &format!("{long}//"),
        &long,
    );
    for source in source::all() {
        let lines = source.text.lines().count();
        if source.is_rust() && lines > habits::LINES_AIM {
            println!("{lines} lines: {}", source.path);
        }
    }
}

#[test]
fn bounds_stand_in_limits_only() {
    project_passes(habits::stray_bounds);
    let check = habits::stray_bounds;
    tells_apart(
        check,
        "proxy/src/worker/link.rs",
        "const FRAMES_MAX: usize = 7;",
        "const FRAMES: usize = 7;",
    );
    tells_apart(
        check,
        "proxy/src/worker/link.rs",
        "pub(crate) const DIAL_TIMEOUT: u8 = 7;",
        "const A_MAX: usize = B_BYTES + 2;",
    );
    tells_apart(
        check,
        "crypto/src/leg.rs",
        "const A_LIMIT: u8 = 7;",
        "#[cfg(test)]\nmod tests { const A_LIMIT: u8 = 7; }",
    );
    assert!(check(&Source::new("proxy/src/limits.rs", "const A_MAX: u8 = 1;")).is_empty());
}

#[test]
fn unsafe_code_is_in_the_engine_and_says_why_it_is_sound() {
    project_passes(habits::careless_unsafe);
    let check = habits::careless_unsafe;
    tells_apart(
        check,
        "proxy/src/engine/uring.rs",
        "unsafe { f() }",
        "// SAFETY: f has no conditions.\nunsafe { f() }",
    );
    tells_apart(
        check,
        "proxy/src/worker/mod.rs",
        "// SAFETY: none\nunsafe { f() }",
        "// unsafe\nfn f() {}",
    );
}

#[test]
fn allowances_are_expectations_with_a_reason() {
    project_passes(habits::careless_allowances);
    let check = habits::careless_allowances;
    let good = "#[expect(dead_code, reason = \"]\")]\nfn f() { g().expect(\"\"); allow(1) }";
    tells_apart(check, "proxy/src/ids.rs", "#![allow(dead_code)]", good);
    tells_apart(check, "proxy/src/ids.rs", "#[expect(dead_code)]", good);
}

#[test]
fn tests_do_not_sleep() {
    project_passes(habits::sleeps_in_tests);
    let check = habits::sleeps_in_tests;
    tells_apart(
        check,
        "tests/tests/a.rs",
        "std::thread::sleep(second);",
        "runtime.wait_for(event, deadline);",
    );
    tells_apart(
        check,
        "proxy/src/worker/mod.rs",
        "#[cfg(test)] mod tests { fn f() { sleep(1) } }",
        "fn sleep() {} fn g() { sleep() }",
    );
}

#[test]
fn tests_name_no_ports() {
    project_passes(habits::fixed_ports_in_tests);
    // The port comes in here, so that this file names none.
    let apart = |path, bad: &str, good: &str| {
        let with_port = |text: &str| text.replace("PORT", "80");
        tells_apart(
            habits::fixed_ports_in_tests,
            path,
            &with_port(bad),
            &with_port(good),
        );
    };
    apart(
        "tests/tests/a.rs",
        "let a = \"127.0.0.1:PORT\";",
        "let a = \"127.0.0.1:0\"; // localhost:PORT",
    );
    apart(
        "proxy/tests/a.rs",
        "bind((\"0.0.0.0:PORT\"))",
        "let typed = [\"--from\", \"0.0.0.0:PORT\"];",
    );
    apart(
        "proxy/tests/a.rs",
        "bind(([127, 0, 0, 1], PORT))",
        "bind(([127, 0, 0, 1], 0))",
    );
}

#[test]
fn no_work_is_left_in_notes() {
    project_passes(habits::notes_to_oneself);
    let bad = format!("// {}: later", concat!("TO", "DO"));
    tells_apart(
        habits::notes_to_oneself,
        "proxy/src/ids.rs",
        &bad,
        "// Today it does.",
    );
}

#[test]
fn the_project_names_no_registry_and_no_machine() {
    project_passes(habits::places_of_one_machine);
    let bad = format!("see {}x", concat!("/ro", "ot/"));
    tells_apart(
        habits::places_of_one_machine,
        "README.md",
        &bad,
        "see $HOME/x",
    );
}

#[test]
fn names_say_what_a_type_is_for() {
    project_passes(habits::empty_names);
    tells_apart(
        habits::empty_names,
        "proxy/src/ids.rs",
        "pub struct StreamManager;",
        "struct Database; fn data() {}",
    );
    tells_apart(
        habits::empty_names,
        "proxy/src/ids.rs",
        "mod util;",
        "mod utility_room;",
    );
}

#[test]
fn every_file_begins_with_what_it_is() {
    project_passes(habits::without_module_doc);
    tells_apart(
        habits::without_module_doc,
        "proxy/src/ids.rs",
        "use std::fmt;",
        "//! Ids.\nuse std::fmt;",
    );
}

#[test]
fn comments_and_literals_are_told_from_code() {
    let text = "let a = \"x // y\"; // \"z\"\nlet b = r#\"\"w\"\"#; /* /* */ v */ let c = '\"'; let d: &'a str = b'\\'';";
    let source = Source::new("proxy/src/ids.rs", text);
    for (word, in_code, with_literals) in [
        ("let", true, true),
        ("x", false, true),
        ("y", false, true),
        ("z", false, false),
        ("w", false, true),
        ("v", false, false),
        ("str", true, true),
    ] {
        assert_eq!(
            source::words(&source.code, word).next().is_some(),
            in_code,
            "{word} in {}",
            source.code
        );
        assert_eq!(
            source::words(&source.code_and_literals, word)
                .next()
                .is_some(),
            with_literals,
            "{word}"
        );
    }
    assert_eq!(source.code.len(), text.len());
    assert_eq!(source.code.lines().count(), 2);
}
