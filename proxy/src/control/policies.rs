//! Reads policies where there is enough stack for it.
//!
//! An expression's parser goes down as deep as its grammar, which overflows the stack of an ordinary
//! thread on texts that are allowed. So rules that hold one are read on a thread made for it.

use crate::limits::CEL_STACK;
use crate::protocol::policy::{Policy, PolicyError, RuleSpec};

/// Reads rules.
///
/// # Errors
/// Those of [`Policy::read`]; also that the thread can't be started.
pub fn read(specs: &[RuleSpec]) -> Result<Policy, PolicyError> {
    if !specs.iter().any(RuleSpec::is_expression) {
        return Policy::read(specs);
    }
    let failed = |why: &str| PolicyError {
        rule: String::new(),
        at: 1,
        expected: format!("the expressions can't be read: {why}").into(),
        nth: 0,
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("adit-policy".into())
            .stack_size(CEL_STACK)
            .spawn_scoped(scope, || Policy::read(specs))
            .map_err(|error| failed(&error.to_string()))?;
        let read = thread.join();
        read.unwrap_or_else(|_| Err(failed("the parser failed, which is a bug of adit")))
    })
}

#[cfg(all(test, feature = "policy-cel"))]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::limits::{CEL_NESTING_MAX, CEL_TEXT_MAX};
    use crate::protocol::policy::{Effect, Mode, Written};

    fn cel(text: String) -> Result<Policy, PolicyError> {
        read(&[RuleSpec {
            name: None,
            effect: Effect::Allow,
            mode: Mode::Enforce,
            condition: Written::Cel(text),
        }])
    }

    /// As long as a text may be, and as deep.
    fn filled(open: &str, inner: &str, close: &str) -> String {
        let depth = CEL_NESTING_MAX / open.matches(['(', '[', '{', '?', '!', '-']).count().max(1);
        let one = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        let times = (CEL_TEXT_MAX + 2) / (one.len() + 2);
        vec![one; times.max(1)].join("||")
    }

    #[test]
    fn texts_as_long_and_deep_as_they_may_be_do_not_fail_the_parser() {
        for (open, inner, close) in [
            ("(", "true", ")"),
            ("!(", "true", ")"),
            ("!", "true", ""),
            ("[", "1", "]"),
            ("{1:", "2", "}"),
            ("f(", "1", ")"),
            ("a[", "0", "]"),
            ("a?b:", "c", ""),
            ("(a?", "b", ":c)"),
            ("a.b(", "c", ")"),
            ("has(", "a.b", ")"),
            ("[1].all(x,", "true", ")"),
            ("-", "1", ""),
            ("'(' + (", "'a'", ")"),
        ] {
            let text = filled(open, inner, close);
            assert!(text.len() <= CEL_TEXT_MAX, "{open}");
            if let Err(error) = cel(text) {
                assert!(
                    !error.to_string().contains("a bug of adit"),
                    "{open}: {error}"
                );
            }
        }
        for chain in [
            "a.", "1+", "1-", "a&&", "a==", "1,", "a ", "\"\"", "(", ")", "?", ":",
        ] {
            let text = chain.repeat(CEL_TEXT_MAX / chain.len());
            let error = cel(text).unwrap_err();
            assert!(
                !error.to_string().contains("a bug of adit"),
                "{chain}: {error}"
            );
        }
    }

    #[test]
    fn rules_of_both_forms_are_read_together_and_an_error_says_which() {
        let mut rules = vec![
            RuleSpec::short(Effect::Allow, "a=1"),
            RuleSpec {
                name: None,
                effect: Effect::Deny,
                mode: Mode::Enforce,
                condition: Written::Cel("target == 'x'".into()),
            },
        ];
        assert_eq!(read(&rules).unwrap().rules().len(), 2);
        rules.push(RuleSpec::short(Effect::Deny, "b"));
        assert_eq!(read(&rules).unwrap_err().nth, 2);
    }
}
