//! What every store must do about the audit: a row for each change and refusal, in a chain that fits.

use super::{Check, T0, create, enrolled, id, name, redeem, renew, serial, ticket};
use crate::limits::{REFUSALS_AUDITED_EVERY, REFUSALS_AUDITED_MAX, STORE_PAGE_MAX};
use crate::protocol::audit::{AuditAction, AuditEvent, AuditHead, AuditQuery, AuditRow};
use crate::protocol::store::{
    MemberKey, NewTicket, RedeemAnswer, RenewAnswer, Revoke, RevokeTicket, Store,
};
use crypto::ticket::TicketId;

pub(super) const CHECKS: &[Check] = &[
    (
        "every change has its audit row",
        every_change_has_its_audit_row,
    ),
    (
        "uses of a used ticket are audited up to a bound",
        uses_of_a_used_ticket_are_audited_up_to_a_bound,
    ),
    (
        "refusals are audited up to a bound",
        refusals_are_audited_up_to_a_bound,
    ),
    ("a row says who and what", a_row_says_who_and_what),
    (
        "the chain fits and has its head",
        the_chain_fits_and_has_its_head,
    ),
];

/// All rows, of a trail that fits on a page.
pub(super) fn rows(store: &mut dyn Store) -> Vec<AuditRow> {
    let page = store.audit(AuditQuery::Behind(0)).expect("rows are listed");
    assert!(page.rows.len() < STORE_PAGE_MAX);
    page.rows
}

fn count(store: &mut dyn Store, action: AuditAction) -> u64 {
    let rows = rows(store);
    rows.iter().filter(|row| row.event.action == action).count() as u64
}

fn every_change_has_its_audit_row(store: &mut dyn Store) {
    create(store, &ticket(1, Some("bank")));
    enrolled(store, &redeem(1, 7, T0.plus(1)));
    store.redeem(&redeem(1, 8, T0.plus(2))).expect("answered");
    let successor = NewTicket {
        replaces: Some(name("bank")),
        ..ticket(2, Some("bank"))
    };
    create(store, &successor);
    enrolled(store, &redeem(2, 9, T0.plus(3)));
    serial(store, &renew(9, T0.plus(2400)));
    assert_eq!(
        store.renew(&renew(7, T0.plus(2401))),
        Ok(RenewAnswer::MemberRevoked)
    );
    let rows = rows(store);
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row.event.action, row.event.actor))
        .collect();
    let expected = [
        (AuditAction::ProjectCreated, id(0xaa)),
        (AuditAction::TicketCreated, id(0xaa)),
        (AuditAction::TicketRedeemed, id(7)),
        (AuditAction::CredentialIssued, id(7)),
        (AuditAction::TicketReused, id(8)),
        (AuditAction::TicketCreated, id(0xaa)),
        (AuditAction::MemberReplaced, id(9)),
        (AuditAction::TicketRedeemed, id(9)),
        (AuditAction::CredentialIssued, id(9)),
        (AuditAction::CredentialIssued, id(9)),
        (AuditAction::CredentialRefused, id(7)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(rows[4].event.subject, TicketId([1; 16]).to_string());
    assert_eq!(rows[4].event.at, T0.plus(2));
    let last = store.audit(AuditQuery::Last(2)).expect("rows are listed");
    assert_eq!(last.rows, rows[9..]);
    let behind = store.audit(AuditQuery::Behind(9)).expect("rows are listed");
    assert_eq!(behind.rows, rows[9..]);
}

fn uses_of_a_used_ticket_are_audited_up_to_a_bound(store: &mut dyn Store) {
    create(store, &ticket(1, None));
    enrolled(store, &redeem(1, 7, T0));
    let mut reuse = |who: u8, after: u64| {
        let used = store.redeem(&redeem(1, who, T0.plus(after)));
        assert!(matches!(used, Ok(RedeemAnswer::Used { .. })));
        count(store, AuditAction::TicketReused)
    };
    for _ in 0..3 {
        assert_eq!(reuse(8, 1), 1, "once an identity");
    }
    let last = (9..99).map(|who| reuse(who, 2)).last();
    assert_eq!(last, Some(REFUSALS_AUDITED_MAX));
    let later = REFUSALS_AUDITED_EVERY.as_secs() + 3;
    assert_eq!(reuse(8, later), REFUSALS_AUDITED_MAX + 1, "the next hour");
}

fn refusals_are_audited_up_to_a_bound(store: &mut dyn Store) {
    // Strangers choose ids and tickets; neither makes more rows.
    for who in 1..99 {
        let unknown = store.redeem(&redeem(100 + who, who, T0));
        assert_eq!(unknown, Ok(RedeemAnswer::Unknown));
        assert_eq!(store.renew(&renew(who, T0)), Ok(RenewAnswer::Unknown));
    }
    assert_eq!(
        count(store, AuditAction::TicketRefused),
        REFUSALS_AUDITED_MAX
    );
    assert_eq!(
        count(store, AuditAction::CredentialRefused),
        REFUSALS_AUDITED_MAX
    );
    // A ticket that there is has rows of its own.
    create(store, &ticket(1, None));
    let late = redeem(1, 7, T0.plus(6000));
    assert!(matches!(
        store.redeem(&late),
        Ok(RedeemAnswer::Expired { .. })
    ));
    let row = rows(store).pop().expect("there are rows");
    assert_eq!(row.event.action, AuditAction::TicketRefused);
    assert_eq!(row.event.subject, TicketId([1; 16]).to_string());
    assert_eq!(row.event.details.get("code"), Some("ADIT-2004"));
}

fn a_row_says_who_and_what(store: &mut dyn Store) {
    let successor = NewTicket {
        uses: 2,
        ..ticket(1, Some("bank"))
    };
    create(store, &successor);
    let (first, newest) = enrolled(store, &redeem(1, 7, T0.plus(1)));
    let revoke = Revoke {
        member: MemberKey::Id(id(7)),
        actor: id(0xaa),
        reason: "contract ended".into(),
        now: T0.plus(2),
    };
    store.revoke(&revoke).expect("answered");
    let take_back = RevokeTicket {
        ticket: TicketId([1; 16]),
        actor: id(0xaa),
        now: T0.plus(3),
    };
    store.revoke_ticket(&take_back).expect("answered");
    let rows = rows(store);
    let of = |action: AuditAction| -> &AuditEvent {
        let found = rows.iter().find(|row| row.event.action == action);
        &found.expect("there is such a row").event
    };
    let told = |action: AuditAction, name: &str| of(action).details.get(name);
    let serial = newest.to_string();
    assert_eq!(told(AuditAction::TicketCreated, "uses"), Some("2"));
    assert_eq!(
        told(AuditAction::TicketCreated, "attributes"),
        Some("postgres-inlet=true")
    );
    assert_eq!(told(AuditAction::TicketRedeemed, "name"), Some("bank-1"));
    assert_eq!(of(AuditAction::CredentialIssued).subject, first.as_str());
    assert_eq!(
        told(AuditAction::CredentialIssued, "serial"),
        Some(serial.as_str())
    );
    let revoked = of(AuditAction::MemberRevoked);
    assert_eq!(revoked.subject, id(7).to_string());
    assert_eq!(revoked.details.get("reason"), Some("contract ended"));
    assert_eq!(revoked.details.get("max_serial"), Some(serial.as_str()));
    assert_eq!(
        of(AuditAction::TicketRevoked).subject,
        TicketId([1; 16]).to_string()
    );
}

fn the_chain_fits_and_has_its_head(store: &mut dyn Store) {
    for n in 1..=20 {
        create(store, &ticket(n, None));
        enrolled(store, &redeem(n, n, T0.plus(u64::from(n))));
    }
    let page = store.audit(AuditQuery::Behind(0)).expect("rows are listed");
    let mut head = AuditHead::START;
    for row in &page.rows {
        assert_eq!(head.accept(row), Ok(()));
    }
    assert_eq!(page.rows.len(), 61);
    assert_eq!(head.ends_at(&page.head), Ok(()));
}
