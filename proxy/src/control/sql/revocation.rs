//! Revocations: who is in the list, and the numbers of lists and beacons.

use crypto::Id;
use crypto::UnixTime;
use crypto::credential::Roles;
use crypto::limits::REVOCATIONS_MAX;
use crypto::revocation::RevocationEntry;
use crypto::ticket::TicketId;

use super::rows::{self, project_id};
use super::value::{Row, integer, values};
use super::{Database, SqlStore, audit};
use crate::limits::BEACONS_RESERVED;
use crate::protocol::store::rules::{entry_ends, judge_revoke};
use crate::protocol::store::{
    MemberKey, MemberRow, Revoke, RevokeAnswer, RevokeTicket, RevokeTicketAnswer, Stamp, Stamped,
    StoreError, told,
};

/// Numbers of beacons that were taken from the database and are not used up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beacons {
    next: u64,
    end: u64,
}

/// Carries out a revocation.
pub(super) fn revoke(db: &mut dyn Database, revoke: &Revoke) -> Result<RevokeAnswer, StoreError> {
    let found = match &revoke.member {
        MemberKey::Id(id) => rows::member_by_id(db, id)?,
        MemberKey::Name(name) => rows::member_by_name(db, name.as_str())?,
    };
    let query = "SELECT count(*) AS admins FROM members WHERE revoked IS NULL AND roles & ?1 <> 0";
    let admins = db.query(query, values![i64::from(Roles::ADMIN.bits())])?;
    let admins = usize::try_from(rows::only(&admins)?.unsigned("admins")?).unwrap_or(usize::MAX);
    let project = project_id(db)?;
    let member = match judge_revoke(found, admins, &project, revoke) {
        Ok(member) => member,
        Err(answer) => return Ok(answer),
    };
    let Some((entry, tickets)) = end_membership(db, &member, &revoke.actor, revoke.now)? else {
        return Ok(RevokeAnswer::Full);
    };
    audit::append(db, told::member_revoked(revoke, &member, &entry))?;
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
    db: &mut dyn Database,
    member: &MemberRow,
    actor: &Id,
    now: UnixTime,
) -> Result<Option<(RevocationEntry, u32)>, StoreError> {
    prune(db, now)?;
    let held = db.query("SELECT count(*) AS held FROM revocations", &[])?;
    let held = rows::only(&held)?.unsigned("held")?;
    if usize::try_from(held).unwrap_or(usize::MAX) >= REVOCATIONS_MAX {
        return Ok(None);
    }
    db.execute(
        "UPDATE members SET revoked = ?2 WHERE id = ?1",
        values![member.id.0, integer(now.0)?],
    )?;
    let number = next_list(db)?;
    db.execute(
        "INSERT INTO revocations (member, max_serial, number, ends) VALUES (?1, ?2, ?3, ?4)",
        values![
            member.id.0,
            integer(member.serial)?,
            integer(number)?,
            integer(entry_ends(member).0)?,
        ],
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
    db: &mut dyn Database,
    member: &Id,
    actor: &Id,
    now: UnixTime,
) -> Result<u32, StoreError> {
    let found = db.query(
        "UPDATE tickets SET revoked = ?2
         WHERE revoked IS NULL AND (created_by = ?1 OR bound_to = ?1) RETURNING id",
        values![member.0, integer(now.0)?],
    )?;
    let id = |row: &Row| row.array("id").map(TicketId);
    let mut ids: Vec<TicketId> = found.iter().map(id).collect::<Result<_, _>>()?;
    ids.sort();
    for id in &ids {
        audit::append(db, told::ticket_void(now, *actor, *id))?;
    }
    Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
}

/// Takes one ticket back.
pub(super) fn revoke_ticket(
    db: &mut dyn Database,
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
        values![revoke.ticket.0, integer(revoke.now.0)?],
    )?;
    audit::append(db, told::ticket_revoked(revoke))?;
    Ok(RevokeTicketAnswer::Revoked)
}

/// Whether entries have ended.
fn has_ended(db: &mut dyn Database, now: UnixTime) -> Result<bool, StoreError> {
    let query = "SELECT count(*) AS ended FROM revocations WHERE ends < ?1";
    let found = db.query(query, values![integer(now.0)?])?;
    Ok(rows::only(&found)?.unsigned("ended")? > 0)
}

/// Forgets the entries that have ended; a list without them is another list.
fn prune(db: &mut dyn Database, now: UnixTime) -> Result<(), StoreError> {
    let query = "DELETE FROM revocations WHERE ends < ?1";
    if db.execute(query, values![integer(now.0)?])? > 0 {
        next_list(db)?;
    }
    Ok(())
}

fn next_list(db: &mut dyn Database) -> Result<u64, StoreError> {
    number(
        db,
        "UPDATE numbers SET list = list + 1 RETURNING list AS number",
    )
}

/// The end of so many more numbers of beacons.
fn take_beacons(db: &mut dyn Database, count: u64) -> Result<u64, StoreError> {
    let query =
        format!("UPDATE numbers SET beacons = beacons + {count} RETURNING beacons AS number");
    number(db, &query)
}

fn number(db: &mut dyn Database, query: &str) -> Result<u64, StoreError> {
    rows::only(&db.query(query, &[])?)?.unsigned("number")
}

fn entry(row: &Row) -> Result<RevocationEntry, StoreError> {
    Ok(RevocationEntry {
        member: Id(row.array("member")?),
        max_serial: row.unsigned("max_serial")?,
        number: row.unsigned("number")?,
    })
}

/// The present list, unless it is the one of that number.
fn list(
    db: &mut dyn Database,
    have: Option<u64>,
) -> Result<(u64, Option<Vec<RevocationEntry>>), StoreError> {
    let list_number = number(db, "SELECT list AS number FROM numbers")?;
    if have == Some(list_number) {
        return Ok((list_number, None));
    }
    let found = db.query("SELECT * FROM revocations ORDER BY member", &[])?;
    let entries = found.iter().map(entry).collect::<Result<_, _>>()?;
    Ok((list_number, Some(entries)))
}

impl<D: Database> SqlStore<D> {
    /// See [`crate::protocol::store::Store::stamp`].
    pub(super) fn next_stamp(&mut self, stamp: &Stamp) -> Result<Stamped, StoreError> {
        if self.database.is_shared() {
            return self.stamp_in_turn(stamp);
        }
        if self.read(|db| has_ended(db, stamp.now))? {
            self.change(|db| prune(db, stamp.now))?;
        }
        let beacons = match self.beacons.filter(|beacons| beacons.next < beacons.end) {
            Some(beacons) => beacons,
            // In blocks, for the database is one process's at a time: who opens it next begins
            // behind the block.
            None => {
                let end = self.change(|db| take_beacons(db, BEACONS_RESERVED))?;
                Beacons {
                    next: end - BEACONS_RESERVED,
                    end,
                }
            }
        };
        let (list_number, entries) = self.read(|db| list(db, stamp.have))?;
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

    /// The same where other processes give numbers too: number and list are from one change, so a
    /// beacon of a higher number, whoever signs it, never names an older list.
    fn stamp_in_turn(&mut self, stamp: &Stamp) -> Result<Stamped, StoreError> {
        self.change(|db| {
            prune(db, stamp.now)?;
            let number = take_beacons(db, 1)?;
            let (list_number, entries) = list(db, stamp.have)?;
            Ok(Stamped {
                number,
                list_number,
                entries,
            })
        })
    }
}
