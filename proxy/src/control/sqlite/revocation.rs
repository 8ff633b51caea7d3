//! Revocations: who is in the list, and the numbers of lists and beacons.

use crypto::credential::Roles;
use crypto::limits::REVOCATIONS_MAX;
use crypto::revocation::RevocationEntry;
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};
use rusqlite::{Connection, Row};

use super::SqliteStore;
use super::rows::{self, integer, unsigned};
use super::store::audit;
use crate::limits::BEACONS_RESERVED;
use crate::protocol::store::rules::{entry_ends, judge_revoke, revocation_subject};
use crate::protocol::store::{
    AuditAction, MemberKey, MemberRow, Revoke, RevokeAnswer, RevokeTicket, RevokeTicketAnswer,
    Stamp, Stamped, StoreError,
};

/// Numbers of beacons that were taken from the file and are not used up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beacons {
    next: u64,
    end: u64,
}

/// Carries out a revocation.
pub(super) fn revoke(db: &Connection, revoke: &Revoke) -> Result<RevokeAnswer, StoreError> {
    let found = match &revoke.member {
        MemberKey::Id(id) => rows::member_by_id(db, id)?,
        MemberKey::Name(name) => rows::member_by_name(db, name.as_str())?,
    };
    let query = "SELECT count(*) FROM members WHERE revoked IS NULL AND roles & ?1 <> 0";
    let admins: i64 = db.query_row(query, (Roles::ADMIN.bits(),), |row| row.get(0))?;
    let admins = usize::try_from(admins).unwrap_or(usize::MAX);
    let project: [u8; 32] = db.query_row("SELECT id FROM project", (), |row| row.get(0))?;
    let member = match judge_revoke(found, admins, &Id(project), revoke) {
        Ok(member) => member,
        Err(answer) => return Ok(answer),
    };
    let Some((entry, tickets)) = end_membership(db, &member, &revoke.actor, revoke.now)? else {
        return Ok(RevokeAnswer::Full);
    };
    let subject = revocation_subject(&member.id, &revoke.reason);
    let action = AuditAction::MemberRevoked;
    audit(db, revoke.now, &revoke.actor, action, &subject)?;
    Ok(RevokeAnswer::Revoked {
        member: MemberRow {
            revoked: Some(revoke.now),
            ..member
        },
        entry,
        tickets,
    })
}

/// A live member is one no longer. Returns its entry and how many tickets are void now; `None`
/// where the list has no room, and nothing was changed.
pub(super) fn end_membership(
    db: &Connection,
    member: &MemberRow,
    actor: &Id,
    now: UnixTime,
) -> Result<Option<(RevocationEntry, u32)>, StoreError> {
    prune(db, now)?;
    let held: i64 = db.query_row("SELECT count(*) FROM revocations", (), |row| row.get(0))?;
    if usize::try_from(held).unwrap_or(usize::MAX) >= REVOCATIONS_MAX {
        return Ok(None);
    }
    db.execute(
        "UPDATE members SET revoked = ?2 WHERE id = ?1",
        (member.id.0, integer(now.0)?),
    )?;
    let number = next_list(db)?;
    db.execute(
        "INSERT INTO revocations (member, max_serial, number, ends) VALUES (?1, ?2, ?3, ?4)",
        (
            member.id.0,
            integer(member.serial)?,
            integer(number)?,
            integer(entry_ends(member).0)?,
        ),
    )?;
    let tickets = void_tickets(db, &member.id, actor, now)?;
    let entry = RevocationEntry {
        member: member.id,
        max_serial: member.serial,
        number,
    };
    Ok(Some((entry, tickets)))
}

/// Tickets that the member made or that are bound to it.
fn void_tickets(
    db: &Connection,
    member: &Id,
    actor: &Id,
    now: UnixTime,
) -> Result<u32, StoreError> {
    let mut statement = db.prepare(
        "UPDATE tickets SET revoked = ?2
         WHERE revoked IS NULL AND (created_by = ?1 OR bound_to = ?1) RETURNING id",
    )?;
    let ids = statement.query_map((member.0, integer(now.0)?), |row| row.get::<_, [u8; 16]>(0))?;
    let mut ids: Vec<TicketId> = ids
        .map(|id| id.map(TicketId))
        .collect::<Result<_, rusqlite::Error>>()?;
    ids.sort();
    for id in &ids {
        audit(db, now, actor, AuditAction::TicketRevoked, &id.to_string())?;
    }
    Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
}

/// Takes one ticket back.
pub(super) fn revoke_ticket(
    db: &Connection,
    revoke: &RevokeTicket,
) -> Result<RevokeTicketAnswer, StoreError> {
    let Some(row) = rows::ticket_by_id(db, &revoke.ticket)? else {
        return Ok(RevokeTicketAnswer::Unknown);
    };
    if row.revoked.is_some() {
        return Ok(RevokeTicketAnswer::Already);
    }
    db.execute(
        "UPDATE tickets SET revoked = ?2 WHERE id = ?1",
        (revoke.ticket.0, integer(revoke.now.0)?),
    )?;
    let subject = revoke.ticket.to_string();
    let action = AuditAction::TicketRevoked;
    audit(db, revoke.now, &revoke.actor, action, &subject)?;
    Ok(RevokeTicketAnswer::Revoked)
}

/// Forgets the entries that have ended; a list without them is another list.
fn prune(db: &Connection, now: UnixTime) -> Result<(), StoreError> {
    let gone = db.execute(
        "DELETE FROM revocations WHERE ends < ?1",
        (integer(now.0)?,),
    )?;
    if gone > 0 {
        next_list(db)?;
    }
    Ok(())
}

fn next_list(db: &Connection) -> Result<u64, StoreError> {
    let query = "UPDATE numbers SET list = list + 1 RETURNING list";
    number(db, query)
}

fn number(db: &Connection, query: &str) -> Result<u64, StoreError> {
    let number: i64 = db.query_row(query, (), |row| row.get(0))?;
    u64::try_from(number).map_err(|_| StoreError::Damaged("a number is negative".into()))
}

fn entry(row: &Row<'_>) -> Result<RevocationEntry, StoreError> {
    Ok(RevocationEntry {
        member: Id(row.get("member")?),
        max_serial: unsigned(row, "max_serial")?,
        number: unsigned(row, "number")?,
    })
}

impl SqliteStore {
    /// See [`crate::protocol::store::Store::stamp`]. The numbers of beacons are taken from the file
    /// in blocks, for a file is one process's at a time (its directory has a lock): who opens it next
    /// begins behind the block.
    pub(super) fn next_stamp(&mut self, stamp: &Stamp) -> Result<Stamped, StoreError> {
        let now = integer(stamp.now.0)?;
        let query = "SELECT EXISTS (SELECT 1 FROM revocations WHERE ends < ?1)";
        let ended: bool = self.connection.query_row(query, (now,), |row| row.get(0))?;
        if ended {
            self.change(|db| prune(db, stamp.now))?;
        }
        let beacons = match self.beacons.filter(|beacons| beacons.next < beacons.end) {
            Some(beacons) => beacons,
            None => {
                let taken = format!(
                    "UPDATE numbers SET beacons = beacons + {BEACONS_RESERVED} RETURNING beacons"
                );
                let end = self.change(|db| number(db, &taken))?;
                Beacons {
                    next: end - BEACONS_RESERVED,
                    end,
                }
            }
        };
        // List and number from one state of the file.
        let db = self.connection.transaction()?;
        let list_number = number(&db, "SELECT list FROM numbers")?;
        let entries = if stamp.have == Some(list_number) {
            None
        } else {
            let mut statement = db.prepare_cached("SELECT * FROM revocations ORDER BY member")?;
            Some(rows::collect(&mut statement, (), entry)?)
        };
        db.commit()?;
        let number = beacons.next + 1;
        self.beacons = Some(Beacons {
            next: number,
            ..beacons
        });
        Ok(Stamped {
            number,
            list_number,
            entries,
        })
    }
}
