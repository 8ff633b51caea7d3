//! Whether the pages of `docs/` and the README are true: each command in them is one that this program
//! takes, each configuration one that it reads, and each field of its log and each counter is described.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::args::Args;
use super::catalogue::unknown_word;
use super::check_config;
use crate::control::metrics::families::{NOT_SHOWN, OF_WORKER};
use crate::worker::counters::Counters;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The files in a folder and the folders in it whose names end so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<(String, String)> {
    let mut paths = files(&Path::new(ROOT).join("docs"), ".md");
    paths.push(Path::new(ROOT).join("README.md"));
    let page = |path: PathBuf| {
        (
            path.display().to_string(),
            std::fs::read_to_string(&path).unwrap(),
        )
    };
    paths.into_iter().map(page).collect()
}

/// The blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut parts = page.split("\n```");
    parts.next();
    // Odd parts are inside of a fence.
    for inside in parts.step_by(2) {
        if let Some((of, text)) = inside.split_once('\n')
            && of == language
        {
            found.push(text.to_owned());
        }
    }
    found
}

/// The words of a shell's line, up to where its command ends.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quote, mut quoted) = (None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => words.last_mut().unwrap().push(c),
            (None, '"' | '\'') => (quote, quoted) = (Some(c), true),
            (None, ' ') => {
                if quoted || !words.last().unwrap().is_empty() {
                    words.push(String::new());
                }
                quoted = false;
            }
            (None, '#') if words.last().unwrap().is_empty() => break,
            (None, '|' | '>' | '<' | ';' | '&') => break,
            (None, c) => words.last_mut().unwrap().push(c),
        }
    }
    if !quoted && words.last().is_some_and(String::is_empty) {
        words.pop();
    }
    words
}

/// The commands of this program in a block of shell, without the program's name.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let of_line = |line: &str| {
        let words = words(line.trim_start().trim_start_matches("sudo "));
        let assigns = |word: &String| word.starts_with("ADIT_") && word.contains('=');
        let mut words = words.into_iter().skip_while(assigns);
        (words.next().as_deref() == Some("adit")).then(|| words.collect())
    };
    joined.lines().filter_map(of_line).collect()
}

#[test]
fn every_command_in_the_pages_is_one_that_there_is() {
    let mut checked = 0;
    for (name, page) in pages() {
        for command in blocks(&page, "sh").iter().flat_map(|block| commands(block)) {
            checked += 1;
            let shown = command.join(" ");
            // One that is shortened in the page names commands and flags that there are, at least.
            if command.iter().any(|word| word.contains('…')) {
                let own = command.iter().take_while(|word| *word != "--");
                let own: Vec<&str> = own.map(String::as_str).collect();
                assert_eq!(unknown_word(&own), None, "{name}: adit {shown}");
                continue;
            }
            let words = std::iter::once("adit".to_owned()).chain(command);
            if let Err(error) = Args::try_parse_from(words) {
                // Help and version are no errors.
                assert!(!error.use_stderr(), "{name}: adit {shown}\n{error}");
            }
        }
    }
    assert!(checked > 40, "only {checked} commands were found");
}

#[test]
fn every_configuration_in_the_pages_is_one_that_is_read() {
    for (name, page) in pages() {
        for block in blocks(&page, "toml") {
            let read = check_config(&block);
            assert!(read.is_ok(), "{name}: {read:?}\n{block}");
        }
    }
}

#[test]
fn commands_are_found_in_shell() {
    let block = "sudo adit serve   # runs\nADIT_TICKET=x adit inlet --via a \\\n  --from 'b c' > f\necho adit\n";
    let found = commands(block);
    let expected = [&["serve"][..], &["inlet", "--via", "a", "--from", "b c"]];
    assert_eq!(found, expected);
}

/// The details that records of the log are made with, in what is shipped. Those of `told.rs` are the
/// audit's.
fn fields() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for path in files(&Path::new(ROOT).join("proxy/src"), ".rs") {
        let shown = path.display().to_string();
        if ["/tests/", "/tests.rs", "/world/", "/store/told.rs"]
            .iter()
            .any(|it| shown.contains(it))
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for part in text.split(".with(").skip(1) {
            let literal = part.trim_start().strip_prefix('"');
            let name = literal.and_then(|rest| rest.split('"').next());
            fields.extend(name.map(str::to_owned));
        }
    }
    fields
}

#[test]
fn every_counter_of_a_worker_is_a_metric() {
    let counted: BTreeSet<&str> = Counters::default().all().iter().map(|it| it.0).collect();
    let mut shown: BTreeSet<&str> = OF_WORKER.iter().map(|(counter, _)| *counter).collect();
    assert!(shown.insert(NOT_SHOWN));
    assert_eq!(shown, counted);
}

#[test]
fn every_field_of_the_log_is_described() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/logs.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.flat_map(|row| row.split(" | ").next().unwrap().split(", "));
    let described: BTreeSet<String> = names.map(|name| name.replace('`', "")).collect();
    let mut used = fields();
    // Those that every line has are written by the format itself.
    used.extend(["time", "level", "code", "what"].map(str::to_owned));
    assert_eq!(described, used);
}
