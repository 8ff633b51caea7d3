//! The catalogue of errors, `docs/errors.md`: made of the texts in the code, so that it can't go
//! stale; and whether these texts name only commands and flags that there are.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::CommandFactory;
use crypto::attestation::Purpose;
use crypto::check::{PolicyDenial, Reason};
use crypto::credential::Roles;
use crypto::identity::HistoryFault;

use super::args::Args;
use crate::error::{CloseReason, Problem, codes};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");

const HEAD: &str = "\
# Errors

Every error has a code that never changes its meaning, says what failed and why, and ends with what to
do about it (`fix:`; in JSON the key `fix`). The log, `adit status` and the other end use the same codes.

The process ends with: 0 done, 1 failed while running, 2 wrong usage or configuration, 3 denied or not
enrolled, 4 state directory missing, unsafe or in use, 5 not ready (`adit health --ready`).

This page is made of the texts in the program (`UPDATE_DOCS=1 cargo test -p proxy --lib catalogue`).
";

/// A row: code, text, meaning, what to do.
type Row = (u16, String, String, String);

fn table(title: &str, what: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "\n## {title}\n\n{what}\n\n| code | text | meaning | what to do |\n|---|---|---|---|\n"
    );
    for (code, says, meaning, mend) in rows {
        text.push_str(&format!(
            "| ADIT-{code:04} | {says} | {} | {} |\n",
            meaning.trim(),
            mend.replace('|', "\\|"),
        ));
    }
    text
}

fn commands() -> Vec<Row> {
    let row = |entry: &codes::Entry| {
        let meaning = entry.meaning.trim().to_owned();
        (entry.code.0, String::new(), meaning, entry.mend.into())
    };
    codes::ALL.iter().map(row).collect()
}

fn problems() -> Vec<Row> {
    let row = |problem: &Problem| {
        let (text, meaning) = (problem.to_string(), problem.meaning().into());
        (problem.code().0, text, meaning, problem.mend().into())
    };
    Problem::ALL.iter().map(row).collect()
}

fn reasons() -> Vec<Row> {
    let row = |reason: &CloseReason| {
        let (text, meaning) = (reason.to_string(), reason.meaning().into());
        (reason.code().0, text, meaning, reason.mend().into())
    };
    CloseReason::ALL.iter().map(row).collect()
}

/// The steps of the check of a peer: their texts hold numbers and names, here those of an example.
fn denials() -> Vec<Row> {
    let address = || "postgres".parse().unwrap();
    let examples = [
        Reason::OtherIdentity,
        Reason::History(HistoryFault::Shorter),
        Reason::History(HistoryFault::Forked),
        Reason::CredentialHistory,
        Reason::AttestationSignature,
        Reason::AttestationId,
        Reason::AttestationProject,
        Reason::AttestationPurpose(Purpose::RelaySession),
        Reason::AttestationSpan,
        Reason::AttestationEarly(90),
        Reason::AttestationExpired(90),
        Reason::StaticKey,
        Reason::NoCredential,
        Reason::AuthorityKey(2),
        Reason::CredentialSignature,
        Reason::CredentialProject,
        Reason::CredentialSubject,
        Reason::CredentialSpan,
        Reason::CredentialEarly(90),
        Reason::CredentialExpired(90),
        Reason::Role(Roles::RELAY),
        Reason::MayNotServe(address()),
        Reason::MayNotConnect(address()),
        Reason::Revoked,
        Reason::RevocationStale(90),
        Reason::Policy(PolicyDenial {
            rule: "postgres-inlet=true".into(),
            reason: "attribute postgres-inlet is missing".into(),
        }),
    ];
    let row = |reason: &Reason| {
        let clock =
            "set the clocks (timedatectl set-ntp true); adit status shows how far each is off";
        let (step, mend) = match reason.code() {
            3225 | 3226 | 3246 | 3247 => ("time", clock),
            3210..3220 => (
                "a: identity",
                "check which member was meant; a restored old state directory needs its newest copy",
            ),
            3220..3230 => (
                "b: attestation",
                "run the same release at both ends (adit --version)",
            ),
            3230..3240 => (
                "c: key",
                "somebody uses what is not his: look at who runs the relay and the path",
            ),
            3240..3250 => (
                "d: credential",
                "check that the peer is a member of this project: adit member list",
            ),
            3252 => ("e: permission", "nothing if it was meant: adit member list"),
            3253 => (
                "e: permission",
                "check that the authority is reached: adit status; --revocation-max-age says how long is too long",
            ),
            3250..3260 => (
                "e: permission",
                "adit ticket create --may-serve ADDRESS … or --may-connect ADDRESS …, and enroll with it",
            ),
            _ => (
                "f: policy",
                "change the rule here (adit policy explain says which one decides), or give the peer the attribute: adit ticket create --attribute NAME=VALUE …",
            ),
        };
        (reason.code(), reason.to_string(), step.into(), mend.into())
    };
    examples.iter().map(row).collect()
}

fn page() -> String {
    [
        HEAD.to_owned(),
        table("Commands", "What ends a command. Text and reason depend on the case.", &commands()),
        table("Nodes and the authority", "What keeps a node, a portal or the authority from its work.", &problems()),
        table(
            "The check of a peer",
            "Why a peer was not believed, by the step that failed (PROTOCOL.md). Only the log of the side that\nchecked says it; the peer is told \"not authorized\".",
            &denials(),
        ),
        table("Connections", "Why a connection, lane or stream ended.", &reasons()),
    ]
    .concat()
}

#[test]
fn the_page_of_errors_is_what_the_code_says() {
    let made = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(PAGE, made).unwrap();
    }
    let stands = std::fs::read_to_string(PAGE).unwrap();
    let differs = stands
        .lines()
        .zip(made.lines())
        .find(|(old, new)| old != new);
    assert_eq!(
        differs, None,
        "UPDATE_DOCS=1 cargo test -p proxy --lib catalogue"
    );
    assert_eq!(
        stands.len(),
        made.len(),
        "UPDATE_DOCS=1 cargo test -p proxy --lib catalogue"
    );
}

#[test]
fn every_code_is_there_once_and_says_what_to_do() {
    let mut codes = std::collections::BTreeSet::new();
    for (code, _, _, mend) in [commands(), problems(), denials(), reasons()].concat() {
        assert!(codes.insert(code), "{code} is used twice");
        assert!(!mend.is_empty(), "{code}");
    }
}

/// A text's words from each `adit` on, up to what ends a command in a sentence.
fn named_commands(text: &str) -> Vec<Vec<&str>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let begins = words
        .iter()
        .enumerate()
        .filter(|(_, word)| **word == "adit" || **word == "(adit");
    begins
        .map(|(at, _)| {
            let mut command = Vec::new();
            for word in &words[at + 1..] {
                let bare = word.trim_end_matches([';', ',', ')', '.', ':']);
                command.push(bare);
                if bare != *word || bare == "…" {
                    break;
                }
            }
            command
        })
        .collect()
}

/// What of a command there isn't.
pub(super) fn unknown_word(words: &[&str]) -> Option<String> {
    let root = Args::command();
    let mut command = &root;
    for (at, word) in words.iter().enumerate() {
        if word.starts_with("--") {
            let long = word.trim_start_matches("--");
            let mut args = command.get_arguments().chain(root.get_arguments());
            if long != "help" && long != "version" && !args.any(|arg| arg.get_long() == Some(long))
            {
                return Some((*word).to_owned());
            }
        } else if let Some(inner) = command.find_subcommand(word) {
            command = inner;
        } else if at == 0 || (command.has_subcommands() && at == 1) {
            return Some((*word).to_owned());
        }
    }
    None
}

#[test]
fn no_text_names_a_command_or_flag_that_there_is_not() {
    for (code, _, _, mend) in [commands(), problems(), denials(), reasons()].concat() {
        for words in named_commands(&mend) {
            assert_eq!(unknown_word(&words), None, "{code}: {mend}");
        }
    }
    assert_eq!(unknown_word(&["doktor"]), Some("doktor".into()));
    assert_eq!(unknown_word(&["project", "show"]), Some("show".into()));
    assert_eq!(unknown_word(&["status", "--bogus"]), Some("--bogus".into()));
}
