//! States and rows as JSON: what `--json` prints, and what the text forms are made from. Times
//! are RFC 3339, durations whole seconds in fields that end in `_s`.

use crypto::UnixTime;
use crypto::credential::Connect;
use crypto::identity::Identity;
use crypto::names::Attributes;
use serde_json::{Value, json};

use crate::protocol::audit::{AuditAction, AuditEvent, AuditHead, AuditPage, AuditRow, Details};
use crate::protocol::command::Role;
use crate::protocol::core::{
    LogRecord, MembershipStatus, PeerWhy, PortalStatus, PortalWhy, Reach, Revoked, ServerStatus,
    Status,
};
use crate::protocol::store::{Grants, MemberRow, TicketRow};

/// A time as RFC 3339, to the second.
pub fn time(at: UnixTime) -> String {
    let seconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| at.0.to_string(), |t| t.to_string())
}

fn attributes(attributes: &Attributes) -> Value {
    attributes
        .iter()
        .map(|(name, value)| (name.to_string(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn texts<T: ToString>(items: &[T]) -> Value {
    items.iter().map(T::to_string).collect()
}

fn grants(grants: &Grants) -> Value {
    json!({
        "attributes": attributes(&grants.attributes),
        "roles": grants.roles.to_string(),
        "may_serve": texts(&grants.may_serve),
        "may_connect": match &grants.may_connect {
            Connect::All => Value::from("all"),
            Connect::Only(addresses) => texts(addresses),
        },
    })
}

/// Two objects as one; keys of `more` win.
pub fn merged(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

/// A ticket, without anything of its secret.
pub fn ticket(row: &TicketRow, now_s: u64) -> Value {
    let ticket = &row.ticket;
    let used = row.redemptions.len();
    let state = if row.revoked.is_some() {
        "revoked"
    } else if used >= usize::try_from(ticket.uses).unwrap_or(usize::MAX) {
        "used"
    } else if now_s > ticket.expires.0 {
        "expired"
    } else {
        "open"
    };
    let redeemed: Value = row
        .redemptions
        .iter()
        .map(|redemption| json!({ "by": redemption.by.to_string(), "at": time(redemption.at) }))
        .collect();
    merged(
        json!({
            "id": ticket.id.to_string(),
            "name": ticket.name.as_ref().map(ToString::to_string),
            "state": state,
            "uses": ticket.uses,
            "redeemed": redeemed,
            "created": time(ticket.created),
            "expires": time(ticket.expires),
            "for": ticket.bound_to.map(|id| id.to_string()),
            "replaces": ticket.replaces.as_ref().map(ToString::to_string),
        }),
        grants(&ticket.grants),
    )
}

/// An identity.
pub fn identity(identity: &Identity) -> Value {
    json!({ "id": identity.id().to_string(), "changes": identity.len() })
}

/// A member.
pub fn member(row: &MemberRow) -> Value {
    merged(
        json!({
            "id": row.id.to_string(),
            "name": row.name.to_string(),
            "enrolled": time(row.enrolled),
            "serial": row.serial,
            "issued": time(row.issued),
            "revoked": row.revoked.map(time),
        }),
        grants(&row.grants),
    )
}

/// A revocation, and whom it has cut as far as the authority knows.
pub fn revoked(revoked: &Revoked) -> Value {
    let nodes: Value = revoked
        .nodes
        .iter()
        .map(|node| {
            json!({
                "id": node.id.to_string(),
                "name": node.name.as_ref().map(ToString::to_string),
                "holds_list": node.holds,
                "lanes_cut": node.cut,
            })
        })
        .collect();
    json!({
        "member": member(&revoked.member),
        "already": revoked.entry.is_none(),
        "max_serial": revoked.entry.map(|entry| entry.max_serial),
        "list": revoked.entry.map(|entry| entry.number),
        "tickets_void": revoked.tickets,
        "sessions_ended": revoked.sessions,
        "nodes": nodes,
    })
}

/// A row of the audit trail; [`audit_row`] reads it.
pub fn audit(row: &AuditRow) -> Value {
    let event = &row.event;
    let details = event.details.iter();
    let details: serde_json::Map<_, _> = details
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    json!({
        "number": row.number,
        "at": time(event.at),
        "actor": event.actor.to_string(),
        "action": event.action.as_str(),
        "subject": event.subject,
        "details": details,
        "hash": row.hash.to_string(),
    })
}

/// Rows of the audit trail, and where it ends; [`audit_head`] reads that.
pub fn audit_page(page: &AuditPage) -> Value {
    let head = &page.head;
    json!({
        "rows": page.rows.iter().map(audit).collect::<Value>(),
        "head": { "number": head.number, "hash": head.hash.to_string() },
        "unreadable": page.unreadable,
    })
}

/// The row that [`audit`] has made this of; nothing if it has not.
pub fn audit_row(value: &Value) -> Option<AuditRow> {
    let text = |key: &str| value[key].as_str();
    let at: jiff::Timestamp = text("at")?.parse().ok()?;
    let details = value["details"].as_object()?.iter();
    let details: Option<Details> = details
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    Some(AuditRow {
        number: value["number"].as_u64()?,
        event: AuditEvent {
            at: UnixTime(u64::try_from(at.as_second()).ok()?),
            actor: text("actor")?.parse().ok()?,
            action: AuditAction::from_name(text("action")?)?,
            subject: text("subject")?.to_owned(),
            details: details?,
        },
        hash: text("hash")?.parse().ok()?,
    })
}

/// Where a trail ends, as [`audit_page`] says it; nothing if it is something else.
pub fn audit_head(value: &Value) -> Option<AuditHead> {
    Some(AuditHead {
        number: value["number"].as_u64()?,
        hash: value["hash"].as_str()?.parse().ok()?,
    })
}

/// A core's state.
pub fn status(status: &Status) -> Value {
    let denials = status.tally.denials();
    let denials = denials.map(|(code, count)| (code.to_string(), Value::from(count)));
    json!({
        "id": status.id.to_string(),
        "project": status.project.as_ref().map(|(name, id)| {
            json!({ "name": name.to_string(), "id": id.to_string() })
        }),
        "ready": status.ready(),
        "membership": membership(&status.membership),
        "authority": reach(&status.authority),
        "relay": reach(&status.relay),
        "clock_ahead_ms": status.clock_ahead_millis,
        "revocations": status.revocations.map(|known| json!({
            "list": known.list,
            "heard_s": known.heard.map(|age| age.as_secs()),
            "max_age_s": known.max_age.as_secs(),
        })),
        "portals": status.portals.iter().map(portal).collect::<Value>(),
        "last_denial": status.last_denial.as_ref().map(record),
        "handshakes": {
            "finished": status.tally.handshakes_finished,
            "failed": status.tally.handshakes_failed,
        },
        "denials": denials.collect::<serde_json::Map<_, _>>(),
        "server": status.server.as_ref().map(server),
    })
}

fn membership(membership: &MembershipStatus) -> Value {
    match membership {
        MembershipStatus::Authority => json!({ "state": "authority" }),
        MembershipStatus::NotEnrolled { code, why } => {
            json!({ "state": "not-enrolled", "code": code.to_string(), "why": why })
        }
        MembershipStatus::Enrolling { since } => {
            json!({ "state": "enrolling", "for_s": since.as_secs() })
        }
        MembershipStatus::Enrolled {
            name,
            attributes: held,
            serial,
            not_after,
            expires_in,
        } => {
            json!({
                "state": "enrolled",
                "name": name.to_string(),
                "attributes": attributes(held),
                "serial": serial,
                "not_after": time(*not_after),
                "expires_in_s": expires_in.as_secs(),
            })
        }
    }
}

fn reach(reach: &Reach) -> Value {
    match reach {
        Reach::NotNeeded => json!({ "state": "not-needed" }),
        Reach::Trying {
            since,
            failures,
            why,
        } => json!({
            "state": "trying",
            "for_s": since.as_secs(),
            "failures": failures,
            "why": why,
        }),
        Reach::Reached { at, since } => {
            json!({ "state": "reached", "at": at.to_string(), "for_s": since.as_secs() })
        }
    }
}

/// The word for an end of a portal.
pub const fn role(role: Role) -> &'static str {
    role.word()
}

fn portal(portal: &PortalStatus) -> Value {
    let peers: Value = portal
        .peers
        .iter()
        .map(|(id, name)| json!({ "id": id.to_string(), "name": name }))
        .collect();
    json!({
        "portal": portal.portal.0,
        "role": role(portal.role),
        "address": portal.address.to_string(),
        "ready": portal.ready,
        "closing": portal.closing,
        "lanes": portal.lanes,
        "parked": portal.parked,
        "circuits": {
            "ready": portal.circuits.ready,
            "building": portal.circuits.building,
            "retiring": portal.circuits.retiring,
            "peak": portal.circuits.peak,
        },
        "peers": peers,
        "targets": texts(&portal.targets),
        "pinned": portal.pinned,
        "rules": portal.rules,
        "why": portal.why,
    })
}

/// What one end knows of whether connections are allowed.
pub fn why(portal: &PortalWhy) -> Value {
    let peer = |peer: &PeerWhy| {
        let (allowed, rule, why) = match &peer.decision {
            Ok(rule) => (true, rule, None),
            Err(denial) => (false, &denial.rule, Some(&denial.reason)),
        };
        json!({
            "id": peer.id.to_string(),
            "name": peer.name,
            "allowed": allowed,
            "rule": rule,
            "why": why,
        })
    };
    json!({
        "role": role(portal.role),
        "permitted": portal.permitted,
        "peers": portal.peers.iter().map(peer).collect::<Value>(),
    })
}

/// A log record as one object.
pub fn record(record: &LogRecord) -> Value {
    let mut object = json!({ "what": record.what });
    if let Some(code) = record.code {
        object["code"] = Value::from(code.to_string());
    }
    for (name, value) in &record.fields {
        object[*name] = Value::from(value.as_str());
    }
    object
}

fn server(server: &ServerStatus) -> Value {
    let served: Value = server
        .served
        .iter()
        .map(|(address, members)| json!({ "address": address.to_string(), "by": texts(members) }))
        .collect();
    json!({
        "ready": server.ready,
        "authority_sessions": server.authority_sessions,
        "relay_sessions": server.relay_sessions,
        "strangers": server.strangers,
        "served": served,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(UnixTime(0)), "1970-01-01T00:00:00Z");
        assert_eq!(time(UnixTime(1_800_000_000)), "2027-01-15T08:00:00Z");
        assert_eq!(time(UnixTime(u64::MAX)), u64::MAX.to_string());
    }

    #[test]
    fn an_audit_row_is_read_as_it_was_shown() {
        let mut head = AuditHead::START;
        let row = head.append(AuditEvent {
            at: UnixTime(1_800_000_000),
            actor: crypto::Id([7; 32]),
            action: AuditAction::TicketCreated,
            subject: "\u{fc}\"".into(),
            details: Details::default().with("uses", 3),
        });
        let rows = vec![row.clone()];
        let page = audit_page(&AuditPage {
            rows,
            head,
            unreadable: None,
        });
        assert_eq!(audit_row(&page["rows"][0]), Some(row));
        assert_eq!(audit_head(&page["head"]), Some(head));
        for key in [
            "number", "at", "actor", "action", "subject", "details", "hash",
        ] {
            let mut other = page["rows"][0].clone();
            other[key] = Value::Null;
            assert_eq!(audit_row(&other), None, "{key}");
        }
    }
}
