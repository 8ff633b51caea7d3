#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::limits::{RULE_TERMS_MAX, RULE_TEXT_MAX};
use crypto::UnixTime;
use crypto::credential::Roles;
use crypto::names::Attributes;

/// 2026-11-25T09:30:00Z, a Wednesday.
const NOW: UnixTime = UnixTime(1_795_599_000);

fn with_view<T>(id: u8, attributes: &[(&str, &str)], ask: impl FnOnce(&MemberView<'_>) -> T) -> T {
    let mut held = Attributes::new();
    for (name, value) in attributes {
        held.insert(name.parse().unwrap(), value.parse().unwrap())
            .unwrap();
    }
    ask(&MemberView {
        id: &Id([id; 32]),
        name: &"somebody".parse().unwrap(),
        attributes: &held,
        roles: Roles::MEMBER,
        address: &"postgres".parse().unwrap(),
        now: NOW,
    })
}

fn decide(policy: &Policy, id: u8, attributes: &[(&str, &str)]) -> Result<(), PolicyDenial> {
    with_view(id, attributes, |view| policy.explain(view).map(|_| ()))
}

#[test]
fn every_term_of_a_rule_must_hold() {
    let policy = Policy::parse(&["a=1,b=2"]).unwrap();
    assert_eq!(
        decide(&policy, 1, &[("a", "1"), ("b", "2"), ("c", "3")]),
        Ok(())
    );
    assert!(decide(&policy, 1, &[("a", "1")]).is_err());
    assert!(decide(&policy, 1, &[("a", "1"), ("b", "3")]).is_err());
}

#[test]
fn rules_are_alternatives_and_none_allows_nobody() {
    let policy = Policy::parse(&["a=1", "b=2"]).unwrap();
    assert_eq!(decide(&policy, 1, &[("b", "2")]), Ok(()));
    let denial = decide(&Policy::default(), 1, &[("a", "1")]).unwrap_err();
    assert_eq!(denial.reason, "no rule is set, so nobody is allowed");
}

#[test]
fn a_pin_holds_for_one_identity_only() {
    let policy = Policy::parse(&[format!("a=1,id={}", Id([7; 32]))]).unwrap();
    assert!(policy.pinned());
    assert_eq!(policy.pins().collect::<Vec<_>>(), [Id([7; 32])]);
    assert_eq!(decide(&policy, 7, &[("a", "1")]), Ok(()));
    assert!(decide(&policy, 8, &[("a", "1")]).is_err());
    assert!(decide(&policy, 7, &[]).is_err());
    assert!(!Policy::parse(&["a=1"]).unwrap().pinned());
    assert!(!Policy::default().pinned());
}

#[test]
fn a_denial_names_the_closest_rule_and_what_is_missing() {
    let policy = Policy::parse(&["a=1,b=2,c=3", "a=1,d=4"]).unwrap();
    let denial = decide(&policy, 1, &[("a", "1")]).unwrap_err();
    assert_eq!(denial.rule, "a=1,d=4");
    assert_eq!(denial.reason, "attribute d is missing (wanted d=4)");
    let denial = decide(&policy, 1, &[("a", "1"), ("d", "5")]).unwrap_err();
    assert_eq!(denial.reason, "attribute d is 5 (wanted 4)");
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    for (text, at, expected) in [
        ("", 1, "'='"),
        ("postgres-inlet", 15, "'='"),
        ("a=1,", 5, "'='"),
        ("a=1,b", 6, "'='"),
        ("=1", 1, "a name"),
        ("a=", 3, "a value"),
        ("ä=1", 1, "a name"),
        ("a=1, b=2", 5, "a name"),
        ("a=1,a=2", 5, "not named before"),
        ("id=Iabc", 4, "an id"),
        ("größe=1,a=\u{7}", 1, "a name"),
        ("a=ä,b=\u{7}", 7, "a value"),
    ] {
        let error = Rule::parse(text).unwrap_err();
        assert_eq!(error.at, at, "{text:?}: {error}");
        assert!(error.expected.contains(expected), "{text:?}: {error}");
        assert!(!error.to_string().contains('\u{7}'));
    }
}

#[test]
fn a_rule_is_written_as_it_was_read() {
    let text = format!("postgres-inlet=true,id={}", Id([3; 32]));
    assert_eq!(Rule::parse(&text).unwrap().to_string(), text);
}

#[test]
fn texts_and_lists_are_bounded() {
    assert!(Rule::parse(&"a".repeat(RULE_TEXT_MAX + 1)).is_err());
    let terms: Vec<String> = (0..=RULE_TERMS_MAX).map(|n| format!("a{n}=1")).collect();
    assert!(Rule::parse(&terms.join(",")).is_err());
    assert!(Policy::parse(&vec!["a=1"; RULES_MAX + 1]).is_err());
}

fn named(name: &str, effect: Effect, mode: Mode, condition: Written) -> RuleSpec {
    RuleSpec {
        name: Some(name.parse().unwrap()),
        effect,
        mode,
        condition,
    }
}

#[test]
fn a_rule_that_denies_wins_over_all_that_allow() {
    let policy = Policy::read(&[
        RuleSpec::short(Effect::Allow, "a=1"),
        RuleSpec::short(Effect::Deny, "blocked=yes,a=1"),
    ])
    .unwrap();
    assert_eq!(decide(&policy, 1, &[("a", "1")]), Ok(()));
    assert_eq!(decide(&policy, 1, &[("a", "1"), ("blocked", "no")]), Ok(()));
    let denial = decide(&policy, 1, &[("a", "1"), ("blocked", "yes")]).unwrap_err();
    assert_eq!(denial.rule, "deny blocked=yes,a=1");
    assert_eq!(denial.reason, "the rule denies this member");
    // Rules that deny let nobody in.
    let policy = Policy::read(&[RuleSpec::short(Effect::Deny, "a=1")]).unwrap();
    assert!(!policy.allows_somebody());
    assert!(decide(&policy, 1, &[]).is_err());
}

#[test]
fn a_rule_in_audit_mode_decides_nothing_and_says_what_it_would_have_changed() {
    let short = |text: &str| Written::Short(text.into());
    let policy = Policy::read(&[
        RuleSpec::short(Effect::Allow, "a=1"),
        named("wider", Effect::Allow, Mode::Audit, short("b=2")),
        named("stricter", Effect::Deny, Mode::Audit, short("c=3")),
    ])
    .unwrap();
    let audited = |attributes: &[(&str, &str)]| {
        let mut said = Vec::new();
        let decision = with_view(1, attributes, |view| {
            let decision = policy.explain(view).map(|_| ());
            said = policy.audit(view, decision.is_ok());
            decision
        });
        let said: Vec<String> = said.into_iter().map(|audited| audited.rule).collect();
        (decision.is_ok(), said)
    };
    assert_eq!(audited(&[("a", "1")]), (true, vec![]));
    assert_eq!(audited(&[("a", "1"), ("b", "2")]), (true, vec![]));
    let both = audited(&[("a", "1"), ("c", "3")]);
    assert_eq!(both, (true, vec!["stricter".to_owned()]));
    assert_eq!(audited(&[("b", "2")]), (false, vec!["wider".to_owned()]));
    let decided = with_view(1, &[("b", "2")], |view| {
        crypto::check::Policy::decide(&policy, view)
    });
    let reason = decided.unwrap_err().reason;
    assert!(reason.contains("wider (audit mode) would have"), "{reason}");
}

#[test]
fn rules_of_one_policy_have_different_names() {
    let rule = named(
        "one",
        Effect::Allow,
        Mode::Enforce,
        Written::Short("a=1".into()),
    );
    let error = Policy::read(&[rule.clone(), rule]).unwrap_err();
    assert_eq!(error.rule, "one");
}

#[test]
fn a_policy_whose_audit_rules_alone_allow_allows_nobody() {
    let short = Written::Short("a=1".into());
    let policy = Policy::read(&[named("later", Effect::Allow, Mode::Audit, short)]).unwrap();
    assert!(!policy.allows_somebody() && !policy.pinned());
    assert!(decide(&policy, 1, &[("a", "1")]).is_err());
}

#[cfg(feature = "policy-cel")]
mod expressions {
    use super::*;
    use crate::limits::{CEL_NODES_MAX, CEL_TEXT_MAX};

    fn policy(effect: Effect, text: &str) -> Policy {
        let rule = named("rule", effect, Mode::Enforce, Written::Cel(text.into()));
        let open = named(
            "open",
            Effect::Allow,
            Mode::Enforce,
            Written::Cel("true".into()),
        );
        let rules = [rule, open];
        let count = if effect == Effect::Deny { 2 } else { 1 };
        Policy::read(&rules[..count]).unwrap_or_else(|error| unreachable!("{text}: {error}"))
    }

    /// Whether a rule of that effect lets the member of [`with_view`] in.
    fn allows(text: &str, attributes: &[(&str, &str)]) -> bool {
        decide(&policy(Effect::Allow, text), 1, attributes).is_ok()
    }

    fn denies(text: &str, attributes: &[(&str, &str)]) -> bool {
        decide(&policy(Effect::Deny, text), 1, attributes).is_err()
    }

    fn error(text: &str) -> PolicyError {
        Expression::parse(text).unwrap_err()
    }

    #[test]
    fn an_expression_sees_the_member_the_target_and_the_time() {
        let id = Id([1; 32]);
        for text in [
            "member.attributes.a == '1'",
            "member.attributes[\"a-b\"] == 'x'",
            "has(member.attributes.a) && 'a-b' in member.attributes",
            &format!("member.id == '{id}'"),
            "member.name == 'somebody' && member.name.startsWith('some')",
            "member.name.endsWith('body') && member.name.contains('meb')",
            "target == 'postgres' && target in ['x', 'postgres']",
            "size(member.attributes.a) == 1 && member.attributes.a.size() == 1",
            "now == timestamp('2026-11-25T09:30:00Z')",
            "now - timestamp('2026-11-25T00:00:00Z') == duration('9h30m')",
            "now.getHours() == 9 && now.getMinutes() == 30 && now.getDayOfWeek() == 3",
            "now.getHours() >= 8 ? true : false",
            "!(1 + 1 != 2) && -1 < 0 && 3 > 2 && 2 <= 2 && 2 >= 2",
        ] {
            assert!(allows(text, &[("a", "1"), ("a-b", "x")]), "{text}");
            let not = format!("!({text})");
            assert!(!allows(&not, &[("a", "1"), ("a-b", "x")]), "{not}");
        }
    }

    #[test]
    fn a_missing_attribute_never_lets_anybody_in() {
        for text in [
            "member.attributes.a == '1'",
            "member.attributes.a != '1'",
            "!(member.attributes.a == '1')",
            "member.attributes.a.startsWith('') || false",
            "false || member.attributes.a != '1'",
            "member.attributes.a == '1' ? true : true",
            "!(member.attributes.a in ['1'])",
            "has(member.attributes.a)",
        ] {
            assert!(!allows(text, &[("b", "2")]), "{text}");
        }
        // What holds without it, holds.
        for text in [
            "member.attributes.a == '1' || member.attributes.b == '2'",
            "member.attributes.b == '2' || member.attributes.a == '1'",
            "!(member.attributes.a == '1' && member.attributes.b == '3')",
            "!has(member.attributes.a)",
        ] {
            assert!(allows(text, &[("b", "2")]), "{text}");
        }
    }

    #[test]
    fn in_a_rule_that_denies_a_missing_attribute_equals_nothing() {
        for text in [
            "member.attributes.a == '1'",
            "member.attributes.a in ['1']",
            "has(member.attributes.a) && member.attributes.a.startsWith('1')",
        ] {
            assert!(!denies(text, &[]), "{text}");
            assert!(denies(text, &[("a", "1")]), "{text}");
        }
        for text in [
            "member.attributes.a != '1'",
            "!(member.attributes.a == '1')",
            "!(member.attributes.a in ['1'])",
            // Undecided.
            "member.attributes.a.startsWith('2')",
            "member.attributes.a > '2'",
        ] {
            assert!(denies(text, &[]), "{text}");
            assert!(!denies(text, &[("a", "1")]), "{text}");
        }
    }

    #[test]
    fn a_denial_names_the_rule_and_the_missing_attribute() {
        let reason = |effect, text: &str, attributes: &[(&str, &str)]| {
            let denial = decide(&policy(effect, text), 1, attributes).unwrap_err();
            assert_eq!(denial.rule, "rule");
            denial.reason
        };
        let both = "member.attributes.a == '1' && member.attributes.b == '2'";
        assert_eq!(
            reason(Effect::Allow, both, &[("a", "1")]),
            "attribute b is missing"
        );
        assert_eq!(
            reason(Effect::Allow, both, &[("a", "1"), ("b", "3")]),
            "the expression is false"
        );
        assert_eq!(
            reason(Effect::Deny, "member.attributes.a > '2'", &[]),
            "the expression can't be evaluated: attribute a is missing; what can't be decided is \
             denied"
        );
        let range = "now + 9223372036854775807 - duration('1s') > 0";
        let why = reason(Effect::Deny, range, &[]);
        assert!(why.contains("a number is out of range"), "{why}");
        assert!(!allows(range, &[]));
    }

    #[test]
    fn a_policy_knows_whether_it_reads_the_clock() {
        assert!(policy(Effect::Allow, "now > 0").reads_now());
        assert!(policy(Effect::Deny, "now.getHours() > 25").reads_now());
        assert!(!policy(Effect::Allow, "target == 'now'").reads_now());
    }

    #[test]
    fn what_may_not_stand_in_an_expression_is_refused_with_its_place() {
        for (text, at, expected) in [
            ("[1].all(x, x > 0)", 8, "comprehensions"),
            ("[1].exists(x, true)", 11, "comprehensions"),
            ("['a'].map(x, x)", 10, "comprehensions"),
            ("target.matches('a+')", 15, "regular expressions"),
            ("membr.id == 'a'", 0, "member.attributes.NAME"),
            ("member == 'a'", 0, "member.attributes.NAME"),
            ("member.role == 'a'", 0, "member.attributes.NAME"),
            ("member.attributes == 'a'", 0, "member.attributes.NAME"),
            ("member.attributes.a.b == 'a'", 0, "member.attributes.NAME"),
            ("member.attributes[target] == 'a'", 0, "in quotes"),
            ("target in member.attributes", 0, "in quotes"),
            ("'a' in target", 0, "a list"),
            ("member.attributes.a-b == '1'", 0, "is unknown"),
            ("1.5 > 1.0", 0, "a whole number"),
            ("b'a' == b'a'", 0, "a text"),
            ("null == null", 0, "a text"),
            ("{'a': 1}['a'] == 1", 0, "not allowed"),
            ("Foo{a: 1} == 1", 0, "not allowed"),
            ("2 * 2 == 4", 0, "not allowed"),
            ("int('3') == 3", 0, "not allowed"),
            ("now.getFullYear() > 1", 0, "now.getHours()"),
            ("timestamp(target) > 0", 0, "a time in quotes"),
            ("timestamp('yesterday') > 0", 0, "a time in quotes"),
            ("duration('8') > 0", 0, "a duration in quotes"),
            (
                "duration('99999999999999999h') > 0",
                0,
                "a duration in quotes",
            ),
            ("member.name", 0, "true or false"),
            ("member.name + 1 == 'a'", 0, "of these types"),
            ("member.attributes.a > 3", 0, "of these types"),
            ("a == ", 0, "an expression"),
            ("a b", 0, "an expression"),
            ("'a", 1, "does not end"),
        ] {
            let error = error(text);
            assert!(error.expected.contains(expected), "{text}: {error}");
            if at > 0 {
                assert_eq!(error.at, at, "{text}: {error}");
            }
            assert!(error.at <= text.chars().count() + 1, "{text}: {error}");
        }
    }

    #[test]
    fn texts_trees_and_nesting_are_bounded() {
        assert!(error(&format!("true{}", " ".repeat(CEL_TEXT_MAX))).at > CEL_TEXT_MAX);
        let sum = |terms: usize| format!("{} > 0", vec!["1"; terms].join("+"));
        assert!(Expression::parse(&sum(40)).is_ok());
        assert!(
            error(&sum(400)).expected.contains("nesting"),
            "{}",
            error(&sum(400))
        );
        let many = vec!["now>0"; CEL_NODES_MAX / 3].join("&&");
        assert!(
            error(&many).expected.contains("512 parts"),
            "{}",
            error(&many)
        );
    }
}
