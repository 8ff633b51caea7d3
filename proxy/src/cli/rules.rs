//! The rules of a portal, in its table of the configuration or in a file of their own.
//!
//! ```toml
//! allow = "postgres-inlet=true"          # the short form; a list has alternatives
//! deny = "blocked=true"                  # denies win
//!
//! [[rule]]                               # in a configuration: [[inlet.rule]], [[outlet.rule]]
//! name = "office-hours"                  # what logs call it
//! deny-cel = "now.getHours() < 6"        # or allow-cel, allow, deny
//! mode = "audit"                         # logs what it would have denied; "enforce" without
//! ```

use std::path::Path;

use super::config_file::{Section, table_of, text_of};
use crate::control::failure::Failure;
use crate::control::policies;
use crate::protocol::policy::{Effect, Mode, Policy, RuleSpec, Written};

const RULE: &[&str] = &["name", "mode", "allow", "deny", "allow-cel", "deny-cel"];
const FILE: &[&str] = &["allow", "deny", "rule"];

/// A rule with where it stands.
struct Placed<'a> {
    spec: RuleSpec,
    key: &'static str,
    /// The table of a rule of its own.
    own: Option<Section<'a>>,
}

/// The rules of a table.
///
/// # Errors
/// One is malformed: which, where, and what was expected there.
pub(super) fn policy(section: &Section<'_>) -> Result<Policy, Failure> {
    let placed = placed(section)?;
    let specs: Vec<RuleSpec> = placed.iter().map(|placed| placed.spec.clone()).collect();
    policies::read(&specs).map_err(|error| {
        let failure = match placed.get(error.nth) {
            Some(Placed { key, own, .. }) => own.as_ref().unwrap_or(section).bad(key, &error),
            None => section.bad("rule", &error),
        };
        failure.fix("correct the rule; adit policy check tries rules without a process")
    })
}

/// The rules of a file that holds nothing else, as they were written.
///
/// # Errors
/// As [`policy`]; also that it can't be read.
pub(super) fn of_file(path: &Path) -> Result<Vec<RuleSpec>, Failure> {
    let name = path.display().to_string();
    let table = table_of(&text_of(path)?, &name)?;
    let section = Section::top(&name, &table);
    section.refuse_unknown(FILE)?;
    policy(&section)?;
    Ok(placed(&section)?.into_iter().map(|it| it.spec).collect())
}

fn placed<'a>(section: &Section<'a>) -> Result<Vec<Placed<'a>>, Failure> {
    let mut rules = Vec::new();
    for (key, effect) in [("allow", Effect::Allow), ("deny", Effect::Deny)] {
        for text in section.texts(key)? {
            // White space around a rule is not part of it.
            let spec = RuleSpec::short(effect, text.trim());
            let own = None;
            rules.push(Placed { spec, key, own });
        }
    }
    for own in section.sections("rule")? {
        own.refuse_unknown(RULE)?;
        let (key, effect, cel) = the_condition(&own)?;
        let text = own.text(key)?.unwrap_or_default().trim().to_owned();
        let spec = RuleSpec {
            name: own.parsed("name")?,
            effect,
            mode: match own.text("mode")? {
                None | Some("enforce") => Mode::Enforce,
                Some("audit") => Mode::Audit,
                Some(_) => return Err(own.bad("mode", &"expected enforce or audit")),
            },
            condition: if cel {
                Written::Cel(text)
            } else {
                Written::Short(text)
            },
        };
        let own = Some(own);
        rules.push(Placed { spec, key, own });
    }
    Ok(rules)
}

/// The key of a rule that says for whom it is.
fn the_condition(rule: &Section<'_>) -> Result<(&'static str, Effect, bool), Failure> {
    const CONDITIONS: [(&str, Effect, bool); 4] = [
        ("allow", Effect::Allow, false),
        ("deny", Effect::Deny, false),
        ("allow-cel", Effect::Allow, true),
        ("deny-cel", Effect::Deny, true),
    ];
    let mut said = CONDITIONS.into_iter().filter(|(key, ..)| rule.has(key));
    match (said.next(), said.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some((second, ..))) => Err(rule.bad(
            second,
            &"expected one condition: allow, deny, allow-cel or deny-cel",
        )),
        (None, _) => Err(rule.bad(
            "allow",
            &"it is missing, and so are deny, allow-cel and deny-cel",
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::control::failure::codes;

    fn read(text: &str) -> Result<Policy, Failure> {
        let table = table_of(text, "rules.toml")?;
        policy(&Section::top("rules.toml", &table))
    }

    #[test]
    fn rules_of_every_form_are_read_in_order() {
        let policy = read(
            r#"
            allow = ["a=1", " b=2 "]
            deny = "blocked=true"
            [[rule]]
            name = "hours"
            deny-cel = "now.getHours() < 6"
            mode = "audit"
            [[rule]]
            allow = "c=3"
            "#,
        )
        .unwrap();
        assert_eq!(
            policy.lines(),
            [
                "allow: a=1",
                "allow: b=2",
                "deny: blocked=true",
                "deny hours (audit): now.getHours() < 6",
                "allow: c=3",
            ]
        );
    }

    #[test]
    fn a_wrong_rule_says_which_and_where() {
        for (text, what, why) in [
            ("allow = 'a'", "\"allow\" in rules.toml", "character 2"),
            (
                "deny = ['a=1', 'b']",
                "\"deny\" in rules.toml",
                "rule \"b\"",
            ),
            ("rule = 1", "\"rule\" in", "expected [[rule]] tables"),
            (
                "[[rule]]\nname = 'a'",
                "\"allow\" of [[rule]] 1",
                "it is missing",
            ),
            (
                "[[rule]]\nallow = ''",
                "\"allow\" of [[rule]] 1",
                "expected '='",
            ),
            (
                "[[rule]]\nallow = 'a=1'\ndeny-cel = 'true'",
                "\"deny-cel\" of [[rule]] 1",
                "one condition",
            ),
            (
                "[[rule]]\nallow = 'a=1'\n[[rule]]\ndeny-cel = 'membr.id == \"\"'",
                "\"deny-cel\" of [[rule]] 2",
                "membr is unknown",
            ),
            (
                "[[rule]]\nallow = 'a=1'\nmode = 'log'",
                "\"mode\" of [[rule]] 1",
                "enforce or audit",
            ),
            (
                "[[rule]]\nname = 'x'\nallow = 'a=1'\n[[rule]]\nname = 'x'\nallow = 'b=1'",
                "\"allow\" of [[rule]] 2",
                "no other rule",
            ),
            (
                "[[rule]]\nname = 'a b'\nallow = 'a=1'",
                "\"name\" of [[rule]] 1",
                "a name",
            ),
        ] {
            let failure = read(text).unwrap_err();
            assert_eq!(failure.code, codes::CONFIG_VALUE, "{text}: {failure}");
            assert!(failure.what.contains(what), "{text}: {failure}");
            assert!(failure.why.contains(why), "{text}: {failure}");
        }
        let unknown = read("[[rule]]\ndeny_cel = 'true'").unwrap_err();
        assert_eq!(unknown.why, "did you mean \"deny-cel\"?");
    }
}
