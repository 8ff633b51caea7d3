//! What was typed and can't be understood, as a failure like any other. The words, and the near
//! match, are clap's.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;

use super::args::Args;
use crate::control::failure::Failure;

/// Clap's error; `typed` is the command line without the program's name.
pub(super) fn failure(error: &clap::Error, typed: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // What follows is clap's own way of naming the help.
    let text = text
        .split("\n\nFor more information")
        .next()
        .unwrap_or(text);
    let (what, why) = text.trim_end().split_once('\n').unwrap_or((text, ""));
    let fix = format!("{} --help", command_of(typed));
    Failure::usage(what.trim_end().trim_end_matches(':'), indented(why)).fix(fix)
}

/// The lines that are not empty, each set off from the first line of an error.
fn indented(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| format!("\n  {line}")).collect()
}

/// The command that was meant, as far as it is one: `adit ticket create`.
fn command_of(typed: &[OsString]) -> String {
    let root = Args::command();
    let mut command = &root;
    let mut words = vec!["adit"];
    for word in typed.iter().filter_map(|word| word.to_str()) {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner;
            words.push(inner.get_name());
        }
    }
    words.join(" ")
}

/// Whether errors should be JSON, judged by words that could not be understood as a whole.
pub(super) fn wants_json(typed: &[OsString], variable: Option<OsString>) -> bool {
    let own = || typed.iter().take_while(|word| *word != "--");
    let said = own().any(|word| word == "--json" || word == "--log-format=json");
    let pairs = own().zip(own().skip(1));
    let log = |(flag, value): (&OsString, &OsString)| flag == "--log-format" && value == "json";
    let variable = variable.is_some_and(|value| {
        let no = |word: &str| value == OsStr::new(word);
        !(no("") || no("0") || no("false"))
    });
    said || variable || pairs.into_iter().any(log)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use clap::Parser;

    fn typed(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn failed(line: &str) -> Failure {
        let words = typed(line);
        let all = std::iter::once(OsString::from("adit")).chain(words.clone());
        failure(&Args::try_parse_from(all).unwrap_err(), &words)
    }

    #[test]
    fn an_error_names_the_help_of_the_command_that_was_meant() {
        for (line, help) in [
            ("bogus", "adit --help"),
            ("ticket create --bogus", "adit ticket create --help"),
            ("inlet --via", "adit inlet --help"),
            ("member bogus", "adit member --help"),
        ] {
            let failure = failed(line);
            assert_eq!(failure.fix.as_deref(), Some(help), "{line}");
            let text = failure.to_string();
            assert!(!text.contains("For more information"), "{text}");
            assert!(text.ends_with(&format!("\nfix: {help}")), "{text}");
        }
        let near = failed("ticket create --attribut a=b").to_string();
        assert!(near.contains("'--attribute'"), "{near}");
    }

    #[test]
    fn json_is_wanted_by_flag_or_variable_and_not_by_a_command_behind_dashes() {
        assert!(wants_json(&typed("--json bogus"), None));
        assert!(wants_json(&typed("bogus --log-format json"), None));
        assert!(wants_json(&typed("bogus"), Some("true".into())));
        assert!(!wants_json(&typed("bogus"), Some("false".into())));
        assert!(!wants_json(&typed("inlet -- app --json"), None));
    }
}
