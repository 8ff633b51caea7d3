//! Source files as the checks see them: which one, and three views of its text that agree line by
//! line and column by column.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the project.
pub struct Source {
    /// Relative to the workspace, with `/` between.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Comments and the insides of literals are blanks.
    pub code: String,
    /// Comments are blanks; literals are there.
    pub code_and_literals: String,
    /// For each line: is it test code?
    test_lines: Vec<bool>,
}

impl Source {
    /// A file of that text. Only Rust files have the views without comments; those of others are
    /// the text.
    pub fn new(path: &str, text: &str) -> Source {
        let (code, code_and_literals) = if path.ends_with(".rs") {
            (blanked(text, true), blanked(text, false))
        } else {
            (text.to_owned(), text.to_owned())
        };
        let test_lines = test_lines(path, &code);
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            code_and_literals,
            test_lines,
        }
    }

    /// Is it Rust?
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Is this line (from 0) part of a test module or of a file that holds nothing but tests?
    pub fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line).copied().unwrap_or(false)
    }

    /// `path:line: what`, the line counted from 1 as editors do.
    pub fn at(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    /// The line (from 0) that holds the byte at `offset`.
    pub fn line_of(&self, offset: usize) -> usize {
        self.text
            .as_bytes()
            .iter()
            .take(offset)
            .filter(|&&byte| byte == b'\n')
            .count()
    }
}

/// The workspace's directory, where it is now: a build may be older than a move of the checkout.
pub fn workspace() -> PathBuf {
    let tests =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&tests).join("..")
}

/// Every text file of the project, in order of its path. Built and installed things, the lock file
/// and files that others wrote (test vectors, licences) are not the project's text.
pub fn all() -> Vec<Source> {
    let mut found = Vec::new();
    visit(&workspace(), "", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_modules(&mut found);
    assert!(
        found.iter().any(|source| source.path == "proxy/src/lib.rs"),
        "this is not the workspace"
    );
    found
}

/// A module behind `#[cfg(test)]` in the file above it is test code as a whole: its file, or all
/// files of its folder.
fn mark_test_modules(files: &mut [Source]) {
    let mut modules = Vec::new();
    for source in files.iter() {
        let folder = match source.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
            _ => source.path.trim_end_matches(".rs").to_owned(),
        };
        for (start, found) in source.code.match_indices("#[cfg(test)]") {
            let item = without_attributes(&source.code[start + found.len()..]);
            let item = item.strip_prefix("pub ").unwrap_or(item);
            if let Some(module) = item.strip_prefix("mod ") {
                modules.push(format!("{folder}/{}", identifier(module, 0)));
            }
        }
    }
    for source in files.iter_mut() {
        let belongs = |module: &String| {
            let rest = source.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if modules.iter().any(belongs) {
            source.test_lines.fill(true);
        }
    }
}

/// What follows further attributes of an item.
fn without_attributes(code: &str) -> &str {
    let mut item = code.trim_start();
    while item.starts_with("#[") {
        let end = item.find(']').map_or(item.len(), |end| end + 1);
        item = item[end..].trim_start();
    }
    item
}

fn visit(dir: &Path, prefix: &str, found: &mut Vec<Source>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let entry = entry.expect("a directory's entry can be read");
        let name = entry
            .file_name()
            .into_string()
            .expect("the project's file names are UTF-8");
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("a file has a type");
        if kind.is_dir() {
            let not_ours = matches!(
                name.as_str(),
                "target" | ".git" | "node_modules" | "vectors" | "corpus"
            );
            if !not_ours {
                visit(&entry.path(), &format!("{path}/"), found);
            }
        } else if kind.is_file() && is_text(&name) {
            let text = fs::read_to_string(entry.path())
                .unwrap_or_else(|error| panic!("{}: {error}", entry.path().display()));
            found.push(Source::new(&path, &text));
        }
    }
}

fn is_text(name: &str) -> bool {
    let ours = [
        ".rs", ".md", ".toml", ".sh", ".js", ".json", ".py", ".yml", ".yaml", ".sql",
    ];
    name == "run" || name == ".gitignore" || ours.iter().any(|end| name.ends_with(end))
}

/// The text with comments, and if asked the insides of literals, turned into blanks.
fn blanked(text: &str, literals_too: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut blank = |from: usize, to: usize| {
        for byte in out.iter_mut().take(to).skip(from) {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = if rest.starts_with(b"//") {
            let length = rest
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len());
            blank(at, at + length);
            length
        } else if rest.starts_with(b"/*") {
            let length = block_comment(rest);
            blank(at, at + length);
            length
        } else if let Some(length) = literal(rest, at > 0 && is_word(bytes[at - 1])) {
            if literals_too {
                blank(at + 1, at + length - 1);
            }
            length
        } else {
            1
        };
        at += length;
    }
    String::from_utf8(out).expect("whole literals and comments were blanked")
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string or character literal that begins here, if one does. A prefix like the
/// `r` of a raw string is seen only at the beginning of a word.
fn literal(rest: &[u8], inside_word: bool) -> Option<usize> {
    match rest[0] {
        b'"' => Some(quoted(rest, b'"')),
        b'r' if !inside_word => {
            let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return None;
            }
            let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let body = 2 + hashes;
            let length = rest[body..]
                .windows(end.len())
                .position(|window| window == end);
            Some(length.map_or(rest.len(), |length| body + length + end.len()))
        }
        // 'x' and '\n' are literals, 'a and '_ are lifetimes.
        b'\'' if rest.get(1) == Some(&b'\\') => Some(quoted(rest, b'\'')),
        b'\'' => {
            let character = std::str::from_utf8(&rest[1..rest.len().min(5)])
                .map_or_else(|error| error.valid_up_to(), |_| 4)
                .max(1);
            let width = (1..=character).find(|&width| {
                std::str::from_utf8(&rest[1..(1 + width).min(rest.len())]).is_ok()
            })?;
            (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        }
        _ => None,
    }
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Which lines are test code: whole files below a `tests` folder or named `tests.rs`, suites that
/// tests call (`conformance.rs`), and the items behind `#[cfg(test)]`.
fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let lines = code.lines().count();
    if path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("/conformance.rs")
    {
        return vec![true; lines];
    }
    let mut marked = vec![false; lines];
    for (start, found) in code.match_indices("#[cfg(test)]") {
        let behind = start + found.len();
        let end = code[behind..]
            .find(['{', ';'])
            .map_or(code.len(), |offset| {
                let open = behind + offset;
                if code.as_bytes()[open] == b';' {
                    open
                } else {
                    closing_brace(code, open)
                }
            });
        let line_of = |offset: usize| code[..offset].matches('\n').count();
        for line in line_of(start)..=line_of(end.min(code.len())) {
            if let Some(mark) = marked.get_mut(line) {
                *mark = true;
            }
        }
    }
    marked
}

/// Where the brace that is open at `open` closes.
pub fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return offset;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Where `word` stands in `code` as a whole word.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(offset, _)| offset)
        .filter(move |&offset| {
            let bytes = code.as_bytes();
            let free = |at: Option<&u8>| at.is_none_or(|&byte| !is_word(byte));
            free(offset.checked_sub(1).and_then(|before| bytes.get(before)))
                && free(bytes.get(offset + word.len()))
        })
}

/// The identifier that begins at `at`, or an empty one.
pub fn identifier(code: &str, at: usize) -> &str {
    let rest = code.get(at..).unwrap_or_default();
    let length = rest.bytes().take_while(|&byte| is_word(byte)).count();
    &rest[..length]
}
