//! Calls and answers as JSON. Unknown calls and keys are refused: client and server are the same
//! program, so a difference is a mistake.

use std::collections::BTreeMap;

use crypto::Id;
use crypto::credential::{Connect, Roles};
use crypto::names::{Attributes, Name, RelayAddress};
use crypto::ticket::TicketId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::show;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::policies;
use crate::error::Problem;
use crate::limits::REVOKE_REASON_MAX;
use crate::protocol::audit::AuditQuery;
use crate::protocol::command::Role;
use crate::protocol::core::{AdminCall, AdminReply, PolicyChange, TicketSpec};
use crate::protocol::policy::{Effect, Mode, RuleSpec, Written};
use crate::protocol::store::MemberKey;
use crate::time::Duration;

/// A call as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// The state of the process.
    Status,
    /// Whether the process can do its work now.
    Health,
    /// The numbers of the process, in Prometheus' text format.
    Metrics,
    /// How much is logged from now on; without a level, only what it is.
    LogLevel {
        /// `error`, `warn`, `info` or `debug`.
        level: Option<String>,
    },
    /// Change the key of the node's identity.
    RotateIdentity,
    /// Make a ticket.
    CreateTicket(Box<TicketCall>),
    /// A page of tickets, behind this id (hexadecimal).
    Tickets {
        /// The last id of the page before.
        after: Option<String>,
    },
    /// A page of members, behind this id.
    Members {
        /// The last id of the page before.
        after: Option<String>,
    },
    /// End a membership.
    RevokeMember {
        /// A name or an id.
        member: String,
        /// Why; may be empty.
        reason: String,
    },
    /// Take a ticket back.
    RevokeTicket {
        /// Its id (hexadecimal).
        ticket: String,
    },
    /// Rows of the audit trail, and where it ends.
    Audit {
        /// How many of the last; without `behind`.
        count: usize,
        /// Those behind the row of this number instead, a page.
        behind: Option<u64>,
    },
    /// Give portals another policy.
    SetPolicy(Box<PolicyCall>),
    /// Whether connections at a relay address are allowed from here.
    Why {
        /// The relay address.
        address: String,
    },
}

/// Another policy for the portals at a relay address, as it travels; see [`PolicyChange`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyCall {
    /// The relay address.
    pub address: String,
    /// `inlet` or `outlet`, where only one is meant.
    pub role: Option<String>,
    /// Its rules.
    pub rules: Vec<RuleCall>,
}

/// A rule as it travels; see [`RuleSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleCall {
    /// Its name.
    pub name: Option<String>,
    /// It denies.
    pub deny: bool,
    /// It decides nothing.
    pub audit: bool,
    /// Its condition is an expression.
    pub cel: bool,
    /// Its condition.
    pub text: String,
}

impl RuleCall {
    /// A rule, to be sent.
    pub fn new(spec: &RuleSpec) -> RuleCall {
        let (cel, text) = match &spec.condition {
            Written::Short(text) => (false, text),
            Written::Cel(text) => (true, text),
        };
        RuleCall {
            name: spec.name.as_ref().map(ToString::to_string),
            deny: spec.effect == Effect::Deny,
            audit: spec.mode == Mode::Audit,
            cel,
            text: text.clone(),
        }
    }

    fn spec(&self) -> Result<RuleSpec, Failure> {
        let text = self.text.clone();
        Ok(RuleSpec {
            name: optional(&self.name, parsed)?,
            effect: if self.deny {
                Effect::Deny
            } else {
                Effect::Allow
            },
            mode: if self.audit {
                Mode::Audit
            } else {
                Mode::Enforce
            },
            condition: if self.cel {
                Written::Cel(text)
            } else {
                Written::Short(text)
            },
        })
    }
}

impl PolicyCall {
    fn checked(&self) -> Result<PolicyChange, Failure> {
        let role = match self.role.as_deref() {
            None => None,
            Some("inlet") => Some(Role::Inlet),
            Some("outlet") => Some(Role::Outlet),
            Some(_) => return Err(malformed("a portal is an inlet or an outlet")),
        };
        let specs: Vec<RuleSpec> = self
            .rules
            .iter()
            .map(RuleCall::spec)
            .collect::<Result<_, _>>()?;
        Ok(PolicyChange {
            address: parsed(&self.address)?,
            role,
            policy: policies::read(&specs).map_err(malformed)?,
        })
    }
}

/// What a ticket should give, as it travels; see [`TicketSpec`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketCall {
    /// The redeemer's name.
    pub name: Option<String>,
    /// Attributes it gets.
    pub attributes: BTreeMap<String, String>,
    /// Names of the roles it gets.
    pub roles: Vec<String>,
    /// Addresses it may serve.
    pub may_serve: Vec<String>,
    /// Addresses it may connect to; nothing: as the ticket's other grants suggest.
    pub may_connect: Option<Vec<String>>,
    /// How many identities may redeem it.
    pub uses: u32,
    /// How long it may be redeemed, in seconds.
    pub life_s: u64,
    /// The only identity that may redeem it.
    pub bound_to: Option<String>,
    /// The member whose place the redeemer takes.
    pub replaces: Option<String>,
}

impl Call {
    /// Checks every text and makes the core's call of it; `None` for those that the driver
    /// answers itself.
    ///
    /// # Errors
    /// What is malformed.
    pub fn checked(&self) -> Result<Option<AdminCall>, Failure> {
        Ok(Some(match self {
            Call::Status
            | Call::Health
            | Call::Metrics
            | Call::LogLevel { .. }
            | Call::RotateIdentity => return Ok(None),
            Call::CreateTicket(ticket) => AdminCall::CreateTicket(Box::new(ticket.checked()?)),
            Call::Tickets { after } => AdminCall::Tickets {
                after: optional(after, ticket_id)?,
            },
            Call::Members { after } => AdminCall::Members {
                after: optional(after, parsed)?,
            },
            Call::RevokeMember { member, reason } => AdminCall::RevokeMember {
                member: member_key(member)?,
                reason: reason_text(reason)?,
            },
            Call::RevokeTicket { ticket } => AdminCall::RevokeTicket(ticket_id(ticket)?),
            Call::Audit { count, behind } => AdminCall::Audit(match behind {
                Some(number) => AuditQuery::Behind(*number),
                None => AuditQuery::Last(*count),
            }),
            Call::SetPolicy(change) => AdminCall::SetPolicy(Box::new(change.checked()?)),
            Call::Why { address } => AdminCall::Why(parsed(address)?),
        }))
    }
}

impl TicketCall {
    fn checked(&self) -> Result<TicketSpec, Failure> {
        let mut attributes = Attributes::new();
        for (name, value) in &self.attributes {
            attributes
                .insert(parsed(name)?, parsed(value)?)
                .map_err(malformed)?;
        }
        let mut roles = Roles::NONE;
        for role in &self.roles {
            roles = roles.with(parsed(role)?);
        }
        Ok(TicketSpec {
            name: optional(&self.name, parsed)?,
            attributes,
            roles,
            may_serve: addresses(&self.may_serve)?,
            may_connect: match &self.may_connect {
                Some(texts) => Some(Connect::Only(addresses(texts)?)),
                None => None,
            },
            uses: self.uses,
            life: Duration::from_secs(self.life_s),
            bound_to: optional(&self.bound_to, parsed::<Id>)?,
            replaces: optional(&self.replaces, parsed::<Name>)?,
        })
    }
}

/// Reads a line that came over the socket.
///
/// # Errors
/// It is no call.
pub fn read_call(line: &str) -> Result<Call, Failure> {
    serde_json::from_str(line).map_err(malformed)
}

/// A core's answer as JSON.
///
/// # Errors
/// The core refused.
pub fn answer(reply: AdminReply, now_s: u64) -> Result<Value, Failure> {
    Ok(match reply {
        AdminReply::Status(status) => show::status(&status),
        AdminReply::Ticket(text) => serde_json::json!({ "ticket": text.as_str() }),
        AdminReply::Tickets(rows) => rows.iter().map(|row| show::ticket(row, now_s)).collect(),
        AdminReply::Members(rows) => rows.iter().map(show::member).collect(),
        AdminReply::Member(row) => row.as_deref().map_or(Value::Null, show::member),
        AdminReply::Revoked(revoked) => show::revoked(&revoked),
        AdminReply::TicketRevoked { already } => serde_json::json!({ "already": already }),
        AdminReply::Audit(page) => show::audit_page(&page),
        AdminReply::PolicySet(portals) => portals
            .iter()
            .map(|(role, cut)| {
                serde_json::json!({
                    "role": role.word(),
                    "changed": cut.is_some(),
                    "lanes_cut": cut.unwrap_or(0),
                })
            })
            .collect(),
        AdminReply::Why(portals) => portals.iter().map(show::why).collect(),
        AdminReply::Refused { code, why } => {
            let what = match code == Problem::NoSuchPortal.code() {
                true => "the process refused",
                false => "the authority refused",
            };
            return Err(Failure::of_core(code, Exit::Runtime, what, &why));
        }
    })
}

/// An answer or a failure as the line that is sent.
pub fn write_answer(answer: Result<Value, Failure>) -> String {
    let object = match answer {
        Ok(value) => serde_json::json!({ "ok": value }),
        Err(failure) => serde_json::json!({ "error": failure.to_json() }),
    };
    format!("{object}\n")
}

fn malformed(error: impl std::fmt::Display) -> Failure {
    Failure::new(codes::ADMIN, Exit::Usage, "the call is malformed", error)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(malformed)
}

fn optional<T>(
    text: &Option<String>,
    parse: impl FnOnce(&str) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    text.as_deref().map(parse).transpose()
}

fn addresses(texts: &[String]) -> Result<Vec<RelayAddress>, Failure> {
    texts.iter().map(|text| parsed(text)).collect()
}

/// An id if it is one, else a name.
fn member_key(text: &str) -> Result<MemberKey, Failure> {
    match text.parse::<Id>() {
        Ok(id) => Ok(MemberKey::Id(id)),
        Err(_) => parsed(text).map(MemberKey::Name),
    }
}

/// Goes into the audit as it is: a bounded line without control characters.
fn reason_text(text: &str) -> Result<String, Failure> {
    if text.len() > REVOKE_REASON_MAX || text.chars().any(char::is_control) {
        let why = format!("a reason is a line of at most {REVOKE_REASON_MAX} bytes");
        return Err(malformed(why));
    }
    Ok(text.to_owned())
}

fn ticket_id(text: &str) -> Result<TicketId, Failure> {
    let bytes = data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .map_err(malformed)?;
    let bytes = bytes
        .try_into()
        .map_err(|_| malformed("a ticket's id has 32 digits"))?;
    Ok(TicketId(bytes))
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let ticket = TicketCall {
            name: Some("bank".into()),
            roles: vec!["member".into()],
            uses: 1,
            life_s: 600,
            ..TicketCall::default()
        };
        for call in [
            Call::Status,
            Call::RotateIdentity,
            Call::Tickets { after: None },
            Call::CreateTicket(Box::new(ticket)),
            Call::Audit {
                count: 3,
                behind: None,
            },
            Call::RevokeMember {
                member: "bank".into(),
                reason: String::new(),
            },
            Call::RevokeTicket {
                ticket: "00".repeat(16),
            },
        ] {
            let line = serde_json::to_string(&call).unwrap();
            assert_eq!(read_call(&line).unwrap(), call, "{line}");
        }
    }

    #[test]
    fn a_ticket_is_checked_before_it_reaches_the_core() {
        let good = TicketCall {
            attributes: BTreeMap::from([("a".into(), "b".into())]),
            roles: vec!["member".into()],
            may_serve: vec!["postgres".into()],
            ..TicketCall::default()
        };
        let call = Call::CreateTicket(Box::new(good.clone()))
            .checked()
            .unwrap();
        let Some(AdminCall::CreateTicket(spec)) = call else {
            panic!("{call:?}")
        };
        assert_eq!(spec.may_connect, None);
        assert_eq!(spec.roles, Roles::MEMBER);
        for bad in [
            TicketCall {
                name: Some("a b".into()),
                ..good.clone()
            },
            TicketCall {
                roles: vec!["root".into()],
                ..good.clone()
            },
            TicketCall {
                may_serve: vec!["Postgres".into()],
                ..good.clone()
            },
            TicketCall {
                bound_to: Some("me".into()),
                ..good.clone()
            },
            TicketCall {
                attributes: BTreeMap::from([("a".into(), "\n".into())]),
                ..good
            },
        ] {
            let failure = Call::CreateTicket(Box::new(bad)).checked().unwrap_err();
            assert_eq!(failure.code, codes::ADMIN);
        }
    }

    #[test]
    fn who_is_revoked_is_named_by_name_or_id_and_the_reason_is_a_line() {
        let call = |member: &str, reason: &str| Call::RevokeMember {
            member: member.into(),
            reason: reason.into(),
        };
        let id = Id([7; 32]);
        for (text, key) in [
            ("bank".into(), MemberKey::Name("bank".parse().unwrap())),
            (id.to_string(), MemberKey::Id(id)),
        ] {
            let checked = call(&text, "left the company").checked().unwrap();
            let expected = AdminCall::RevokeMember {
                member: key,
                reason: "left the company".into(),
            };
            assert_eq!(checked, Some(expected));
        }
        for (member, reason) in [("a b", ""), ("", ""), ("bank", "two\nlines")] {
            assert!(call(member, reason).checked().is_err());
        }
        assert!(call("bank", &"x".repeat(129)).checked().is_err());
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for line in [
            "",
            "{}",
            "[]",
            r#"{"call":"reboot"}"#,
            r#"{"call":"audit","count":-1}"#,
        ] {
            assert_eq!(read_call(line).unwrap_err().code, codes::ADMIN, "{line}");
        }
    }
}
