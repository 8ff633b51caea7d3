//! The worked examples of PROTOCOL.md are what the code makes, byte for byte.
//!
//! Each example stands in the page between `<!-- example: NAME -->` and `<!-- end -->`. After a
//! change of the protocol: `UPDATE_EXAMPLES=1 cargo test -p proxy --test protocol_examples`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cast;
mod handshakes;
mod legs;
mod paper;
mod records;
mod sessions;
mod signed;

use std::collections::BTreeMap;
use std::path::PathBuf;

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../PROTOCOL.md")
}

/// Every example by its name.
fn examples() -> BTreeMap<&'static str, String> {
    let mut all = BTreeMap::new();
    let parts = [
        cast::examples(),
        signed::examples(),
        handshakes::examples(),
        sessions::examples(),
        legs::examples(),
        records::examples(),
    ];
    for (name, text) in parts.into_iter().flatten() {
        assert!(all.insert(name, text).is_none(), "two examples {name}");
    }
    all
}

/// The page with each block's content replaced by what `content` says for its name.
fn rewrite(page: &str, mut content: impl FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let name = line
            .strip_prefix("<!-- example: ")
            .and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(name) = name {
            let old: Vec<&str> = lines
                .by_ref()
                .take_while(|l| *l != "<!-- end -->")
                .collect();
            assert!(old.len() < 400, "example {name} has no end");
            out.push_str(&format!("```text\n{}```\n<!-- end -->\n", content(name)));
        }
    }
    out
}

#[test]
fn the_page_shows_what_the_code_makes() {
    let mut left = examples();
    let old = std::fs::read_to_string(page()).unwrap();
    let new = rewrite(&old, |name| {
        left.remove(name)
            .unwrap_or_else(|| panic!("PROTOCOL.md wants an example {name}, or wants it twice"))
    });
    assert!(left.is_empty(), "not in PROTOCOL.md: {:?}", left.keys());
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        std::fs::write(page(), new).unwrap();
        return;
    }
    let differs = old
        .lines()
        .zip(new.lines())
        .position(|(old, new)| old != new);
    if let Some(at) = differs {
        let (is, should) = (old.lines().nth(at).unwrap(), new.lines().nth(at).unwrap());
        panic!(
            "PROTOCOL.md, line {}:\n  says {is}\n  and the code makes {should}\n\
             If the change is meant: UPDATE_EXAMPLES=1 cargo test -p proxy --test protocol_examples",
            at + 1
        );
    }
    assert_eq!(old.len(), new.len(), "PROTOCOL.md ends early");
}

#[test]
fn the_same_examples_come_out_twice() {
    assert_eq!(examples(), examples());
}

#[test]
fn a_block_is_replaced_and_the_rest_stays() {
    let page = "a\n<!-- example: x -->\nold\n<!-- end -->\nb\n";
    let new = rewrite(page, |name| format!("new {name}\n"));
    assert_eq!(
        new,
        "a\n<!-- example: x -->\n```text\nnew x\n```\n<!-- end -->\nb\n"
    );
}
