//! What every store must do about revocations.

use crypto::credential::Roles;
use crypto::limits::{CLOCK_TOLERANCE, CREDENTIAL_LIFE_MAX};
use crypto::revocation::RevocationEntry;
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};

use super::audit::rows as audit_rows;
use super::{Check, LIFE, T0, create, enrolled, grants, id, name, redeem, renew, serial, ticket};
use crate::limits::REVOCATION_KEPT;
use crate::protocol::audit::AuditAction;
use crate::protocol::store::{
    Admit, Grants, MemberKey, NewTicket, Redeem, RedeemAnswer, RenewAnswer, Revoke, RevokeAnswer,
    RevokeTicket, RevokeTicketAnswer, Stamp, Stamped, Store,
};
use crate::time::Duration;

pub(super) const CHECKS: &[Check] = &[
    (
        "a revoked member is out for good",
        a_revoked_member_is_out_for_good,
    ),
    (
        "an entry names the highest serial and a new number",
        an_entry_names_the_highest_serial_and_a_new_number,
    ),
    (
        "an entry leaves when its credentials have expired",
        an_entry_leaves_when_its_credentials_have_expired,
    ),
    (
        "an entry outlives its credentials by clocks a minute off",
        an_entry_outlives_its_credentials_by_clocks_a_minute_off,
    ),
    (
        "who is replaced is in the list",
        who_is_replaced_is_in_the_list,
    ),
    (
        "a revoked member's tickets are void",
        a_revoked_member_s_tickets_are_void,
    ),
    (
        "the last administrator is revoked by the authority only",
        the_last_administrator_is_revoked_by_the_authority_only,
    ),
    ("a ticket is taken back once", a_ticket_is_taken_back_once),
    ("numbers of beacons rise", numbers_of_beacons_rise),
];

fn revoke(member: MemberKey, at: UnixTime) -> Revoke {
    Revoke {
        member,
        actor: id(0xaa),
        reason: String::new(),
        now: at,
    }
}

fn stamp(store: &mut dyn Store, have: Option<u64>, at: UnixTime) -> Stamped {
    let stamp = Stamp { have, now: at };
    store.stamp(&stamp).expect("the store is there")
}

fn list(store: &mut dyn Store, at: UnixTime) -> Vec<RevocationEntry> {
    let entries = stamp(store, None, at).entries;
    entries.expect("who holds nothing gets the list")
}

/// Revokes and returns the entry and the tickets that are void.
fn revoked(store: &mut dyn Store, revoke: &Revoke) -> (RevocationEntry, u32) {
    match store.revoke(revoke) {
        Ok(RevokeAnswer::Revoked {
            entry,
            tickets,
            member,
        }) => {
            assert_eq!(member.id, entry.member);
            assert_eq!(member.revoked, Some(revoke.now));
            (entry, tickets)
        }
        other => unreachable!("not revoked: {other:?}"),
    }
}

fn a_revoked_member_is_out_for_good(store: &mut dyn Store) {
    create(store, &ticket(1, Some("bank")));
    enrolled(store, &redeem(1, 7, T0));
    let by_name = revoke(MemberKey::Name(name("bank")), T0.plus(5));
    revoked(store, &by_name);
    let denied = Ok(RenewAnswer::MemberRevoked);
    assert_eq!(store.renew(&renew(7, T0.plus(6))), denied);
    assert_eq!(
        store.redeem(&redeem(1, 7, T0.plus(6))),
        Ok(RedeemAnswer::MemberRevoked),
        "also with the ticket that it had"
    );
    create(store, &ticket(2, None));
    assert_eq!(
        store.redeem(&redeem(2, 7, T0.plus(6))),
        Ok(RedeemAnswer::MemberRevoked),
        "and with another"
    );
    let years = T0.plus(10 * 365 * 24 * 3600);
    assert!(list(store, years).is_empty());
    assert_eq!(
        store.renew(&renew(7, years)),
        Ok(RenewAnswer::MemberRevoked)
    );
    // The name is free again, the id is known.
    assert_eq!(store.revoke(&by_name), Ok(RevokeAnswer::Unknown));
    let by_id = store.revoke(&revoke(MemberKey::Id(id(7)), years));
    assert!(
        matches!(by_id, Ok(RevokeAnswer::Already(member)) if member.revoked == Some(T0.plus(5)))
    );
    let nobody = store.revoke(&revoke(MemberKey::Id(id(99)), years));
    assert_eq!(nobody, Ok(RevokeAnswer::Unknown));
}

fn an_entry_names_the_highest_serial_and_a_new_number(store: &mut dyn Store) {
    let nothing = stamp(store, None, T0);
    assert_eq!(nothing.entries, Some(Vec::new()));
    for n in [1, 2] {
        create(store, &ticket(n, None));
        enrolled(store, &redeem(n, n, T0));
    }
    let newest = serial(store, &renew(1, T0.plus(2400)));
    let (first, _) = revoked(store, &revoke(MemberKey::Id(id(1)), T0.plus(2401)));
    assert_eq!((first.member, first.max_serial), (id(1), newest));
    assert!(first.number > nothing.list_number);
    let held = stamp(store, Some(first.number), T0.plus(2402));
    assert_eq!((held.list_number, held.entries), (first.number, None));
    let (second, _) = revoked(store, &revoke(MemberKey::Id(id(2)), T0.plus(2403)));
    assert!(second.number > first.number);
    let newer = stamp(store, Some(first.number), T0.plus(2404));
    assert_eq!(newer.list_number, second.number);
    assert_eq!(newer.entries, Some(vec![first, second]));
}

fn an_entry_leaves_when_its_credentials_have_expired(store: &mut dyn Store) {
    create(store, &ticket(1, None));
    enrolled(store, &redeem(1, 7, T0));
    let issued = T0.plus(2400);
    serial(store, &renew(7, issued));
    let (entry, _) = revoked(store, &revoke(MemberKey::Id(id(7)), T0.plus(2401)));
    let expired = issued.plus(LIFE.as_secs());
    let ends = issued.plus(REVOCATION_KEPT.as_secs());
    assert!(ends > expired.plus(crypto::limits::CLOCK_TOLERANCE));
    assert_eq!(list(store, ends), [entry]);
    let after = stamp(store, Some(entry.number), ends.plus(1));
    assert_eq!(after.entries, Some(Vec::new()));
    assert!(
        after.list_number > entry.number,
        "another list, another number"
    );
}

fn an_entry_outlives_its_credentials_by_clocks_a_minute_off(store: &mut dyn Store) {
    const OFF: u64 = 60;
    create(store, &ticket(1, None));
    // By a clock that is behind, as are the nodes' that check it.
    let longest = Redeem {
        life: Duration::from_secs(CREDENTIAL_LIFE_MAX),
        ..redeem(1, 7, T0)
    };
    enrolled(store, &longest);
    let (entry, _) = revoked(store, &revoke(MemberKey::Id(id(7)), T0.plus(1)));
    let last_valid = T0.plus(CREDENTIAL_LIFE_MAX + CLOCK_TOLERANCE);
    // A process whose clock is ahead is asked at that moment.
    assert_eq!(list(store, last_valid.plus(2 * OFF)), [entry]);
}

fn who_is_replaced_is_in_the_list(store: &mut dyn Store) {
    create(store, &ticket(1, Some("bank")));
    let (_, old) = enrolled(store, &redeem(1, 7, T0));
    let successor = NewTicket {
        replaces: Some(name("bank")),
        ..ticket(2, Some("bank"))
    };
    create(store, &successor);
    enrolled(store, &redeem(2, 8, T0.plus(1)));
    let entries = list(store, T0.plus(2));
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].member, entries[0].max_serial), (id(7), old));
}

fn a_revoked_member_s_tickets_are_void(store: &mut dyn Store) {
    create(store, &ticket(1, None));
    enrolled(store, &redeem(1, 7, T0));
    let made = NewTicket {
        created_by: id(7),
        ..ticket(2, None)
    };
    let bound = NewTicket {
        bound_to: Some(id(7)),
        ..ticket(3, None)
    };
    create(store, &made);
    create(store, &bound);
    create(store, &ticket(4, None));
    let (_, tickets) = revoked(store, &revoke(MemberKey::Id(id(7)), T0.plus(1)));
    assert_eq!(tickets, 2);
    let late = redeem(2, 9, T0.plus(2));
    assert_eq!(store.redeem(&late), Ok(RedeemAnswer::TicketRevoked));
    enrolled(store, &redeem(4, 9, T0.plus(2)));
    let rows = audit_rows(store);
    let of = |action| rows.iter().filter(move |row| row.event.action == action);
    assert_eq!(of(AuditAction::TicketRevoked).count(), 2);
    let subjects = of(AuditAction::MemberRevoked).map(|row| &row.event.subject);
    assert_eq!(subjects.collect::<Vec<_>>(), [&id(7).to_string()]);
}

fn admin(n: u8) -> Admit {
    Admit {
        id: id(n),
        identity: vec![n],
        name: name(&format!("admin-{n}")),
        grants: Grants {
            roles: Roles::ADMIN,
            ..grants("x")
        },
        now: T0,
        life: LIFE,
    }
}

fn the_last_administrator_is_revoked_by_the_authority_only(store: &mut dyn Store) {
    for n in [1, 2] {
        store.admit(&admin(n)).expect("it is admitted");
    }
    let by = |actor: Id, who: u8| Revoke {
        actor,
        ..revoke(MemberKey::Id(id(who)), T0)
    };
    revoked(store, &by(id(1), 2));
    assert_eq!(store.revoke(&by(id(1), 1)), Ok(RevokeAnswer::LastAdmin));
    assert_eq!(list(store, T0).len(), 1);
    revoked(store, &by(id(0xaa), 1));
}

fn a_ticket_is_taken_back_once(store: &mut dyn Store) {
    create(store, &ticket(1, None));
    let revoke = |n: u8| RevokeTicket {
        ticket: TicketId([n; 16]),
        actor: id(0xaa),
        now: T0.plus(1),
    };
    assert_eq!(
        store.revoke_ticket(&revoke(1)),
        Ok(RevokeTicketAnswer::Revoked)
    );
    assert_eq!(
        store.revoke_ticket(&revoke(1)),
        Ok(RevokeTicketAnswer::Already)
    );
    assert_eq!(
        store.revoke_ticket(&revoke(9)),
        Ok(RevokeTicketAnswer::Unknown)
    );
    assert_eq!(
        store.redeem(&redeem(1, 7, T0.plus(2))),
        Ok(RedeemAnswer::TicketRevoked)
    );
    let rows = store.tickets(None).expect("tickets are listed");
    assert_eq!(rows[0].revoked, Some(T0.plus(1)));
    let refused = audit_rows(store).pop().expect("there are rows");
    assert_eq!(refused.event.action, AuditAction::TicketRefused);
}

fn numbers_of_beacons_rise(store: &mut dyn Store) {
    let mut last = 0;
    // Also while the clock goes back.
    for at in [10, 11, 5, 5, 12] {
        let stamped = stamp(store, Some(0), T0.plus(at));
        assert!(stamped.number > last);
        last = stamped.number;
    }
}
