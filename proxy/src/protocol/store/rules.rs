//! Who may redeem and renew: pure functions over rows, shared by every store so that they can't
//! differ. A store calls them inside the transaction that also carries out the plan.

use crypto::credential::Roles;
use crypto::identity::Identity;
use crypto::names::Name;
use crypto::{Id, UnixTime};

use super::StoreError;
use super::request::{Admit, Redeem, RedeemAnswer, Renew, RenewAnswer, Revoke, RevokeAnswer};
use super::rows::{MemberRow, TicketRow};
use crate::limits::{ISSUE_INTERVAL, REDEEM_REPEAT, REVOCATION_KEPT};
use crate::time::Duration;

/// What a permitted redemption does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedeemPlan {
    /// This identity redeemed the ticket before and lost the answer: issue from its member row,
    /// count nothing.
    Repeat,
    /// Count one use and make the member, under the first of these names that is free (a member
    /// that redeems a second ticket owns its present one). None free: `NameTaken` of the first.
    First {
        /// Candidates in order, never empty.
        names: Vec<Name>,
        /// The live member to revoke, before names are compared.
        replaces: Option<Name>,
    },
}

/// Judges a redemption. `ticket` is the row of the ticket it names, `member` the row of the
/// identity that asks (a revoked one too).
///
/// The order matters: who has the secret of a used ticket learns who used it, also when it is
/// expired by now; who has not learns nothing.
///
/// # Errors
/// The refusing answer, which the audit tells of ([`super::told`]).
#[expect(clippy::result_large_err, reason = "the answer goes out as it is")]
pub fn judge_redeem(
    ticket: Option<&TicketRow>,
    member: Option<&MemberRow>,
    redeem: &Redeem,
) -> Result<RedeemPlan, RedeemAnswer> {
    let Some(row) = ticket.filter(|row| same_hash(&row.ticket.secret_hash, &redeem.secret_hash))
    else {
        return Err(RedeemAnswer::Unknown);
    };
    if row.revoked.is_some() {
        return Err(RedeemAnswer::TicketRevoked);
    }
    if row.ticket.bound_to.is_some_and(|id| id != redeem.id) {
        return Err(RedeemAnswer::NotForYou);
    }
    if let Some(member) = member {
        if member.revoked.is_some() {
            return Err(RedeemAnswer::MemberRevoked);
        }
        if !history_continues(&member.identity, &redeem.identity) {
            return Err(RedeemAnswer::HistoryForked);
        }
    }
    if let Some(before) = row
        .redemptions
        .iter()
        .find(|redemption| redemption.by == redeem.id)
    {
        let repeats = redeem.now.since(before.at) <= REDEEM_REPEAT.as_secs();
        return match member {
            Some(_) if repeats => Ok(RedeemPlan::Repeat),
            _ => Err(RedeemAnswer::Used {
                by: before.by,
                at: before.at,
            }),
        };
    }
    if row.redemptions.len() >= usize::try_from(row.ticket.uses).unwrap_or(usize::MAX) {
        return Err(match row.redemptions.last() {
            Some(last) => RedeemAnswer::Used {
                by: last.by,
                at: last.at,
            },
            None => RedeemAnswer::Unknown,
        });
    }
    if redeem.now > row.ticket.expires {
        return Err(RedeemAnswer::Expired {
            at: row.ticket.expires,
        });
    }
    Ok(RedeemPlan::First {
        names: candidate_names(row, member, redeem),
        replaces: row.ticket.replaces.clone(),
    })
}

/// Judges a renewal. `member` is the row of the identity that asks (a revoked one too).
///
/// # Errors
/// The refusing answer.
#[expect(clippy::result_large_err, reason = "the answer goes out as it is")]
pub fn judge_renew(member: Option<&MemberRow>, renew: &Renew) -> Result<(), RenewAnswer> {
    let member = member.ok_or(RenewAnswer::Unknown)?;
    if member.revoked.is_some() {
        return Err(RenewAnswer::MemberRevoked);
    }
    if !history_continues(&member.identity, &renew.identity) {
        return Err(RenewAnswer::HistoryForked);
    }
    Ok(())
}

/// Whether the member's present credential answers a request for the next one: it was issued a
/// moment ago, for this very identity. Nothing is written then. A moment is a small part of a
/// credential's `life`.
pub fn is_issued_already(
    member: &MemberRow,
    identity: &[u8],
    now: UnixTime,
    life: Duration,
) -> bool {
    let moment = ISSUE_INTERVAL.min(life / 6).as_secs();
    let begun = now >= member.issued && member.serial > 0;
    begun && now.since(member.issued) < moment && member.identity == identity
}

/// The row of a member that is admitted without a ticket, and whether that changes what it is. `owner` is
/// whose the name is, `before` the member's row.
///
/// # Errors
/// Another member has the name, or this one is revoked.
pub fn judge_admit(
    owner: Option<Id>,
    before: Option<&MemberRow>,
    admit: &Admit,
) -> Result<(MemberRow, bool), StoreError> {
    if owner.is_some_and(|owner| owner != admit.id) {
        let why = format!("a member has the name {}", admit.name);
        return Err(StoreError::Refused(why));
    }
    if before.is_some_and(|member| member.revoked.is_some()) {
        return Err(StoreError::Refused(format!(
            "member {} is revoked",
            admit.id
        )));
    }
    let changed =
        before.is_none_or(|member| member.name != admit.name || member.grants != admit.grants);
    let member = MemberRow {
        id: admit.id,
        name: admit.name.clone(),
        grants: admit.grants.clone(),
        identity: admit.identity.clone(),
        ticket: None,
        enrolled: before.map_or(admit.now, |member| member.enrolled),
        serial: 0,
        issued: admit.now,
        revoked: None,
    };
    Ok((member, changed))
}

/// Judges a revocation. `live_admins`: live members of the role `admin`; `project`: the authority,
/// which may revoke the last of them, for it can make another.
///
/// # Errors
/// The answer, where nothing is to be done.
#[expect(clippy::result_large_err, reason = "the answer goes out as it is")]
pub fn judge_revoke(
    member: Option<MemberRow>,
    live_admins: usize,
    project: &Id,
    revoke: &Revoke,
) -> Result<MemberRow, RevokeAnswer> {
    let member = member.ok_or(RevokeAnswer::Unknown)?;
    if member.revoked.is_some() {
        return Err(RevokeAnswer::Already(member));
    }
    let is_admin = member.grants.roles.has(Roles::ADMIN);
    if is_admin && live_admins <= 1 && revoke.actor != *project {
        return Err(RevokeAnswer::LastAdmin);
    }
    Ok(member)
}

/// Until when a revoked member's entry stays in the list: none of its credentials is valid at any
/// clock then. The newest was issued at `member.issued` at the latest, whatever its life was.
pub fn entry_ends(member: &MemberRow) -> UnixTime {
    member.issued.plus(REVOCATION_KEPT.as_secs())
}

/// The ticket's name if it gives one; else the member's present name, its wish, the wish with a
/// piece of its id, and `member-` with a piece of its id.
fn candidate_names(row: &TicketRow, member: Option<&MemberRow>, redeem: &Redeem) -> Vec<Name> {
    if let Some(name) = &row.ticket.name {
        if row.ticket.uses == 1 {
            return vec![name.clone()];
        }
        let numbered = format!("{name}-{}", row.redemptions.len() + 1);
        if let Ok(numbered) = numbered.parse() {
            return vec![numbered];
        }
    }
    let mut names = Vec::new();
    names.extend(member.map(|member| member.name.clone()));
    names.extend(redeem.wish.clone());
    let piece: String = redeem.id.to_string().chars().skip(1).take(8).collect();
    if let Some(wish) = &redeem.wish {
        names.extend(format!("{wish}-{piece}").parse());
    }
    names.extend(format!("member-{piece}").parse());
    names
}

/// Whether `presented` equals or extends `stored`; both are encoded identities. A row that can't
/// be decoded continues nothing: denied rather than guessed.
pub fn history_continues(stored: &[u8], presented: &[u8]) -> bool {
    if stored == presented {
        return true;
    }
    match (Identity::decode(stored), Identity::decode(presented)) {
        (Ok(stored), Ok(presented)) => presented.extends(&stored),
        _ => false,
    }
}

/// Compares without telling by time where the difference is.
fn same_hash(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
