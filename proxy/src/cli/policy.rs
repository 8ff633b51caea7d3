//! `adit policy check`, `explain` and `set`.

use crypto::Id;
use crypto::UnixTime;
use crypto::check::MemberView;
use crypto::credential::Roles;
use crypto::names::{Attributes, RelayAddress};
use serde_json::{Value, json};

use super::args::{End, PolicyCheckArgs, PolicyExplainArgs, PolicySetArgs, RulesArgs};
use super::config_file::ConfigFile;
use super::output::{self, text};
use super::settings::{self, Settings};
use super::{reach, rules};
use crate::control::admin::wire::{Call, PolicyCall, RuleCall};
use crate::control::failure::{Exit, Failure};
use crate::control::{clock, policies};
use crate::error::Problem;
use crate::protocol::command::Role;
use crate::protocol::policy::{Effect, Mode, Outcome, Policy, Rule, RuleSpec};

/// The configuration that is looked at where nothing is named.
const DEFAULT_CONFIG: &str = "adit.toml";

/// A policy, with the portal whose it is where that is known.
struct Portal {
    of: Option<(Role, RelayAddress)>,
    policy: Policy,
}

impl Portal {
    fn title(&self) -> String {
        match &self.of {
            Some((role, address)) => format!("{} {address}", role.word()),
            None => "rules".into(),
        }
    }
}

fn portals(args: &RulesArgs) -> Result<Vec<Portal>, Failure> {
    let of_specs = |specs: &[RuleSpec]| {
        let read = policies::read(specs);
        let policy = read.map_err(|error| Failure::usage("can't read the policy", error))?;
        Ok(vec![Portal { of: None, policy }])
    };
    if !args.allow.is_empty() {
        return of_specs(&settings::specs(&args.allow));
    }
    if let Some(file) = &args.file {
        return of_specs(&rules::of_file(file)?);
    }
    let default = DEFAULT_CONFIG.as_ref();
    let config = ConfigFile::read(args.config.as_deref().unwrap_or(default))?;
    let portals = config.portals.into_iter();
    let portals = portals.map(|portal| Portal {
        of: Some((portal.role(), portal.address().clone())),
        policy: portal.into_policy(),
    });
    Ok(portals.collect())
}

pub(super) fn check(settings: &Settings, args: &PolicyCheckArgs) -> Result<u8, Failure> {
    let portals = portals(&args.rules)?;
    if settings.json {
        let portals: Value = portals.iter().map(described).collect();
        output::json(&portals)?;
        return Ok(0);
    }
    for portal in &portals {
        output::line(&format!("{}:", portal.title()))?;
        for rule in portal.policy.rules() {
            output::line(&format!("  {}\n    {}", rule.line(), meaning(rule)))?;
        }
        if !portal.policy.allows_somebody() {
            output::line("  no rule allows anybody, so nobody is allowed")?;
        } else if portal.policy.pinned() {
            output::line(
                "  every rule that allows pins an id: not even the authority can replace the peer",
            )?;
        }
    }
    Ok(0)
}

fn described(portal: &Portal) -> Value {
    let rules: Value = portal.policy.rules().iter().map(rule_json).collect();
    json!({
        "portal": portal.of.as_ref().map(|(role, _)| role.word()),
        "address": portal.of.as_ref().map(|(_, address)| address.to_string()),
        "rules": rules,
        "pinned": portal.policy.pinned(),
        "allows_somebody": portal.policy.allows_somebody(),
    })
}

fn rule_json(rule: &Rule) -> Value {
    json!({
        "rule": rule.to_string(),
        "effect": if rule.effect() == Effect::Deny { "deny" } else { "allow" },
        "mode": if rule.mode() == Mode::Audit { "audit" } else { "enforce" },
        "cel": rule.is_expression(),
        "condition": rule.text(),
        "meaning": meaning(rule),
    })
}

/// What a rule says, as a sentence.
fn meaning(rule: &Rule) -> String {
    let whom = if rule.is_expression() {
        "every member for which the expression is true".to_owned()
    } else {
        let text = rule.text();
        let terms = text.split(',').map(|term| match term.split_once('=') {
            Some(("id", id)) => format!("the id {id}"),
            Some((name, value)) => format!("attribute {name} = {value}"),
            None => term.to_owned(),
        });
        let terms: Vec<String> = terms.collect();
        format!("every member with {}", terms.join(" and "))
    };
    match (rule.effect(), rule.mode()) {
        (Effect::Allow, Mode::Enforce) => format!("lets in {whom}, unless a rule denies it"),
        (Effect::Deny, Mode::Enforce) => format!("keeps out {whom}, whatever else allows it"),
        (Effect::Allow, Mode::Audit) => {
            format!("decides nothing; says when it would let in {whom}")
        }
        (Effect::Deny, Mode::Audit) => {
            format!("decides nothing; says when it would keep out {whom}")
        }
    }
}

pub(super) fn explain(settings: &Settings, args: &PolicyExplainArgs) -> Result<u8, Failure> {
    let portals = portals(&args.rules)?;
    let of_target = |portal: &&Portal| {
        let address = portal.of.as_ref().map(|(_, address)| address);
        address.is_none_or(|address| *address == args.target)
    };
    let meant: Vec<&Portal> = portals.iter().filter(of_target).collect();
    if meant.is_empty() {
        let what = format!("there is no portal at {} in the configuration", args.target);
        let known: Vec<String> = portals.iter().map(Portal::title).collect();
        return Err(Failure::usage(
            what,
            format!("it has: {}", known.join(", ")),
        ));
    }
    let mut attributes = Attributes::new();
    for attribute in &args.member_attributes {
        let (name, value) = (attribute.name.clone(), attribute.value.clone());
        let added = attributes.insert(name, value);
        added.map_err(|error| Failure::usage("can't use the attributes", error))?;
    }
    let name = match &args.member_name {
        Some(name) => name.clone(),
        None => settings::parsed("somebody")?,
    };
    let view = MemberView {
        id: &args.member_id.unwrap_or(Id([0; 32])),
        name: &name,
        attributes: &attributes,
        roles: Roles::MEMBER,
        address: &args.target,
        now: args.at.map_or(UnixTime(clock::now().wall().0), |at| at.0),
    };
    let mut all = true;
    let mut said = Vec::new();
    for portal in meant {
        let decision = portal.policy.explain(&view);
        all &= decision.is_ok();
        if settings.json {
            said.push(explained_json(portal, &view));
        } else {
            output::line(&explained(portal, &view))?;
        }
    }
    if settings.json {
        output::json(&Value::from(said))?;
    }
    Ok(if all { 0 } else { Exit::Denied.number() })
}

/// The decision, and what each rule says.
fn explained(portal: &Portal, view: &MemberView<'_>) -> String {
    let decision = match portal.policy.explain(view) {
        Ok(rule) => format!("allowed by {rule}"),
        Err(denial) => format!("denied by {}: {}", denial.rule, denial.reason),
    };
    let mut lines = vec![format!("{}: {decision}", portal.title())];
    for rule in portal.policy.rules() {
        let (word, why) = outcome(rule, view);
        let why = if why.is_empty() {
            why
        } else {
            format!(": {why}")
        };
        lines.push(format!("  {word:<9} {}{why}", rule.line()));
    }
    lines.join("\n")
}

fn outcome(rule: &Rule, view: &MemberView<'_>) -> (&'static str, String) {
    match rule.outcome(view) {
        Outcome::Holds => ("holds", String::new()),
        Outcome::Not { why, .. } => ("does not", why.words(view)),
        Outcome::Failed(why) => ("undecided", why),
    }
}

fn explained_json(portal: &Portal, view: &MemberView<'_>) -> Value {
    let rules = portal.policy.rules().iter().map(|rule| {
        let (outcome, why) = outcome(rule, view);
        json!({ "rule": rule.to_string(), "line": rule.line(), "outcome": outcome, "why": why })
    });
    let rules: Value = rules.collect();
    let (allowed, rule, why) = match portal.policy.explain(view) {
        Ok(rule) => (true, rule.to_string(), None),
        Err(denial) => (false, denial.rule, Some(denial.reason)),
    };
    json!({
        "portal": portal.of.as_ref().map(|(role, _)| role.word()),
        "address": view.address.to_string(),
        "allowed": allowed,
        "rule": rule,
        "why": why,
        "rules": rules,
    })
}

pub(super) fn set(settings: &Settings, args: &PolicySetArgs) -> Result<u8, Failure> {
    let specs = match &args.file {
        Some(file) => rules::of_file(file)?,
        None => settings::specs(&args.allow),
    };
    // What is malformed is better said here than by the process.
    policies::read(&specs).map_err(|error| Failure::usage("can't read the policy", error))?;
    let call = Call::SetPolicy(Box::new(PolicyCall {
        address: args.address.to_string(),
        role: args.end.map(|end| match end {
            End::Inlet => Role::Inlet.word().to_owned(),
            End::Outlet => Role::Outlet.word().to_owned(),
        }),
        rules: specs.iter().map(RuleCall::new).collect(),
    }));
    let mut refused = None;
    let mut changed = 0;
    for mut process in reach::processes(settings, args.node.as_ref())? {
        let answer = match process.client.call(&call) {
            Ok(answer) => answer,
            Err(failure) if failure.code == Problem::NoSuchPortal.code() => {
                refused = Some(failure);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        for portal in answer.as_array().into_iter().flatten() {
            changed += 1;
            if settings.json {
                output::json(&json!({ "process": process.name, "portal": portal }))?;
                continue;
            }
            let what = match portal["changed"].as_bool() {
                Some(true) => format!("set; lanes cut: {}", portal["lanes_cut"]),
                Some(false) | None => "as it was".into(),
            };
            let role = text(portal, "role");
            output::line(&format!(
                "{}: {role} {}: {what}",
                process.name, args.address
            ))?;
        }
    }
    match refused {
        Some(failure) if changed == 0 => Err(failure),
        Some(_) | None => Ok(0),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_rules_meaning_is_a_sentence() {
        let rule = Rule::parse("a=1,b=2").unwrap();
        assert_eq!(
            meaning(&rule),
            "lets in every member with attribute a = 1 and attribute b = 2, unless a rule denies it"
        );
        let deny = Rule::read(&RuleSpec::short(Effect::Deny, "a=1")).unwrap();
        assert!(meaning(&deny).starts_with("keeps out every member with attribute a = 1"));
    }
}
