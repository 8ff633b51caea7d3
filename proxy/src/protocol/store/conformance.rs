//! What every store must do: one function, run against each implementation. It panics on the
//! first difference and says in which check.

mod audit;
mod revocation;

use crypto::credential::{Connect, Roles};
use crypto::names::{Attributes, Name};
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};

use super::{
    Admit, Grants, MemberKey, NewTicket, ProjectRow, Redeem, RedeemAnswer, Renew, RenewAnswer,
    Store, StoreError, TicketAnswer,
};
use crate::limits::REDEEM_REPEAT;
use crate::time::Duration;

const T0: UnixTime = UnixTime(1_800_000_000);
const LIFE: Duration = Duration::from_secs(3600);

/// A check and what it shows.
type Check = (&'static str, fn(&mut dyn Store));

/// Runs the whole suite; `make` gives an empty store each time it is called.
///
/// # Panics
/// When the store does not conform.
pub fn conformance(make: &mut dyn FnMut() -> Box<dyn Store>) {
    let checks: &[Check] = &[
        ("a project is created once", a_project_is_created_once),
        ("a ticket is redeemed once", a_ticket_is_redeemed_once),
        (
            "a repeat within a day counts nothing",
            a_repeat_within_a_day_counts_nothing,
        ),
        ("an expired ticket is refused", an_expired_ticket_is_refused),
        (
            "unknown and wrong secret look alike",
            unknown_and_wrong_secret_look_alike,
        ),
        (
            "several uses number the names",
            several_uses_number_the_names,
        ),
        (
            "a bound ticket fits one identity",
            a_bound_ticket_fits_one_identity,
        ),
        (
            "names are unique among live members",
            names_are_unique_among_live_members,
        ),
        (
            "a replaced member can't renew",
            a_replaced_member_cannot_renew,
        ),
        (
            "a renewal takes the next serial",
            a_renewal_takes_the_next_serial,
        ),
        (
            "who asks again at once gets what it has",
            who_asks_again_at_once_gets_what_it_has,
        ),
        (
            "a changed history must continue",
            a_changed_history_must_continue,
        ),
        ("a wish is only a wish", a_wish_is_only_a_wish),
        (
            "a second ticket replaces the grants",
            a_second_ticket_replaces_the_grants,
        ),
        (
            "an admitted member needs no ticket",
            an_admitted_member_needs_no_ticket,
        ),
        (
            "pages are in order and complete",
            pages_are_in_order_and_complete,
        ),
    ];
    let checks = [checks, revocation::CHECKS, audit::CHECKS].concat();
    for (name, check) in checks {
        println!("store conformance: {name}");
        let mut store = make();
        store
            .create_project(&project())
            .expect("a new store takes a project");
        check(store.as_mut());
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a literal name")
}

fn id(n: u8) -> Id {
    Id([n; 32])
}

fn project() -> ProjectRow {
    let addresses = vec!["relay.example.com:7348".parse().expect("a literal address")];
    ProjectRow {
        id: id(0xaa),
        name: name("acme"),
        addresses,
        note_number: 1,
        created: T0,
    }
}

fn grants(attribute: &str) -> Grants {
    let mut attributes = Attributes::new();
    attributes
        .insert(name(attribute), "true".parse().expect("a literal value"))
        .expect("the first attribute fits");
    let may_serve = vec!["postgres".parse().expect("a literal address")];
    let may_connect = Connect::Only(vec!["other".parse().expect("a literal address")]);
    Grants {
        attributes,
        roles: Roles::MEMBER,
        may_serve,
        may_connect,
    }
}

/// Ticket `n`, whose secret's hash is `[n; 32]`.
fn ticket(n: u8, member: Option<&str>) -> NewTicket {
    NewTicket {
        id: TicketId([n; 16]),
        secret_hash: [n; 32],
        name: member.map(name),
        grants: grants("postgres-inlet"),
        uses: 1,
        bound_to: None,
        replaces: None,
        created_by: id(0xaa),
        created: T0,
        expires: T0.plus(600),
    }
}

fn redeem(n: u8, who: u8, at: UnixTime) -> Redeem {
    Redeem {
        ticket: TicketId([n; 16]),
        secret_hash: [n; 32],
        wish: None,
        id: id(who),
        identity: vec![who],
        now: at,
        life: LIFE,
    }
}

fn renew(who: u8, at: UnixTime) -> Renew {
    Renew {
        id: id(who),
        identity: vec![who],
        now: at,
        life: LIFE,
    }
}

fn create(store: &mut dyn Store, ticket: &NewTicket) {
    assert_eq!(store.create_ticket(ticket), Ok(TicketAnswer::Created));
}

/// Redeems and returns the member's name and serial.
fn enrolled(store: &mut dyn Store, redeem: &Redeem) -> (Name, u64) {
    match store.redeem(redeem) {
        Ok(RedeemAnswer::Enrolled(issue)) => {
            assert_eq!(issue.member.id, redeem.id);
            assert_eq!(issue.member.issued, redeem.now);
            assert_eq!(issue.not_after, redeem.now.plus(LIFE.as_secs()));
            (issue.member.name, issue.member.serial)
        }
        other => unreachable!("not enrolled: {other:?}"),
    }
}

fn serial(store: &mut dyn Store, renew: &Renew) -> u64 {
    match store.renew(renew) {
        Ok(RenewAnswer::Renewed(issue)) => issue.member.serial,
        other => unreachable!("not renewed: {other:?}"),
    }
}

fn a_project_is_created_once(store: &mut dyn Store) {
    assert_eq!(store.project(), Ok(Some(project())));
    assert!(matches!(
        store.create_project(&project()),
        Err(StoreError::Refused(_))
    ));
}

fn a_ticket_is_redeemed_once(store: &mut dyn Store) {
    create(store, &ticket(1, Some("analysis")));
    let (first, _) = enrolled(store, &redeem(1, 7, T0.plus(5)));
    assert_eq!(first, name("analysis"));
    let used = RedeemAnswer::Used {
        by: id(7),
        at: T0.plus(5),
    };
    assert_eq!(store.redeem(&redeem(1, 8, T0.plus(6))), Ok(used.clone()));
    // Also when it is expired by now: who used it is the better answer.
    assert_eq!(store.redeem(&redeem(1, 8, T0.plus(6000))), Ok(used));
    assert_eq!(store.member(&MemberKey::Id(id(8))), Ok(None));
}

fn a_repeat_within_a_day_counts_nothing(store: &mut dyn Store) {
    create(store, &ticket(1, Some("analysis")));
    let (_, first) = enrolled(store, &redeem(1, 7, T0));
    let later = T0.plus(REDEEM_REPEAT.as_secs());
    let (same, second) = enrolled(store, &redeem(1, 7, later));
    assert_eq!(same, name("analysis"));
    assert!(second > first, "a repeat gets a current credential");
    let rows = store.tickets(None).expect("tickets are listed");
    assert_eq!(rows[0].redemptions.len(), 1);
    let used = RedeemAnswer::Used { by: id(7), at: T0 };
    assert_eq!(store.redeem(&redeem(1, 7, later.plus(1))), Ok(used));
}

fn an_expired_ticket_is_refused(store: &mut dyn Store) {
    create(store, &ticket(1, None));
    create(store, &ticket(2, None));
    enrolled(store, &redeem(1, 7, T0.plus(600)));
    let expired = RedeemAnswer::Expired { at: T0.plus(600) };
    assert_eq!(store.redeem(&redeem(2, 8, T0.plus(601))), Ok(expired));
}

fn unknown_and_wrong_secret_look_alike(store: &mut dyn Store) {
    create(store, &ticket(1, None));
    assert_eq!(store.redeem(&redeem(9, 7, T0)), Ok(RedeemAnswer::Unknown));
    let mut wrong = redeem(1, 7, T0);
    wrong.secret_hash[31] ^= 1;
    assert_eq!(store.redeem(&wrong), Ok(RedeemAnswer::Unknown));
    // Nor does a used or expired ticket tell more to who lacks its secret.
    enrolled(store, &redeem(1, 7, T0));
    wrong.id = id(8);
    assert_eq!(store.redeem(&wrong), Ok(RedeemAnswer::Unknown));
}

fn several_uses_number_the_names(store: &mut dyn Store) {
    create(
        store,
        &NewTicket {
            uses: 2,
            ..ticket(1, Some("web"))
        },
    );
    assert_eq!(enrolled(store, &redeem(1, 7, T0)).0, name("web-1"));
    assert_eq!(enrolled(store, &redeem(1, 8, T0)).0, name("web-2"));
    assert_eq!(enrolled(store, &redeem(1, 7, T0.plus(60))).0, name("web-1"));
    let used = RedeemAnswer::Used { by: id(8), at: T0 };
    assert_eq!(store.redeem(&redeem(1, 9, T0.plus(61))), Ok(used));
}

fn a_bound_ticket_fits_one_identity(store: &mut dyn Store) {
    create(
        store,
        &NewTicket {
            bound_to: Some(id(7)),
            ..ticket(1, None)
        },
    );
    assert_eq!(store.redeem(&redeem(1, 8, T0)), Ok(RedeemAnswer::NotForYou));
    enrolled(store, &redeem(1, 7, T0));
}

fn names_are_unique_among_live_members(store: &mut dyn Store) {
    create(store, &ticket(1, Some("bank")));
    create(store, &ticket(2, Some("bank")));
    enrolled(store, &redeem(1, 7, T0));
    assert_eq!(
        store.redeem(&redeem(2, 8, T0)),
        Ok(RedeemAnswer::NameTaken(name("bank")))
    );
    assert_eq!(store.member(&MemberKey::Id(id(8))), Ok(None));
    let rows = store
        .tickets(Some(TicketId([1; 16])))
        .expect("tickets are listed");
    assert!(rows[0].redemptions.is_empty(), "a refusal uses nothing up");
    let taken = Ok(TicketAnswer::NameTaken(name("bank")));
    assert_eq!(store.create_ticket(&ticket(3, Some("bank"))), taken);
}

fn a_replaced_member_cannot_renew(store: &mut dyn Store) {
    create(store, &ticket(1, Some("bank")));
    enrolled(store, &redeem(1, 7, T0));
    let nobody = NewTicket {
        replaces: Some(name("nobody")),
        ..ticket(2, None)
    };
    let missing = Ok(TicketAnswer::NoSuchMember(name("nobody")));
    assert_eq!(store.create_ticket(&nobody), missing);
    create(
        store,
        &NewTicket {
            replaces: Some(name("bank")),
            ..ticket(2, Some("bank"))
        },
    );
    assert_eq!(enrolled(store, &redeem(2, 8, T0.plus(1))).0, name("bank"));
    assert_eq!(
        store.renew(&renew(7, T0.plus(2))),
        Ok(RenewAnswer::MemberRevoked)
    );
    assert_eq!(
        store.redeem(&redeem(1, 7, T0.plus(2))),
        Ok(RedeemAnswer::MemberRevoked)
    );
    let live = store
        .member(&MemberKey::Name(name("bank")))
        .expect("members are found");
    assert_eq!(live.map(|member| member.id), Some(id(8)));
    let old = store
        .member(&MemberKey::Id(id(7)))
        .expect("members are found");
    assert_eq!(old.and_then(|member| member.revoked), Some(T0.plus(1)));
    serial(store, &renew(8, T0.plus(2)));
}

fn a_renewal_takes_the_next_serial(store: &mut dyn Store) {
    assert_eq!(store.renew(&renew(7, T0)), Ok(RenewAnswer::Unknown));
    create(store, &ticket(1, None));
    let (_, first) = enrolled(store, &redeem(1, 7, T0));
    let second = serial(store, &renew(7, T0.plus(2400)));
    let third = serial(store, &renew(7, T0.plus(4800)));
    assert!(first < second && second < third);
    let rows = store.issued(first).expect("issued credentials are listed");
    let serials: Vec<u64> = rows.iter().map(|row| row.serial).collect();
    assert_eq!(serials, [second, third]);
    assert_eq!(rows[1].member, id(7));
    assert_eq!(rows[1].at, T0.plus(4800));
    assert_eq!(rows[1].not_after, T0.plus(4800 + 3600));
    let member = store
        .member(&MemberKey::Id(id(7)))
        .expect("members are found");
    let member = member.expect("it is a member");
    assert_eq!(
        (member.serial, member.issued, member.enrolled),
        (third, T0.plus(4800), T0)
    );
}

fn who_asks_again_at_once_gets_what_it_has(store: &mut dyn Store) {
    create(store, &ticket(1, None));
    let (_, first) = enrolled(store, &redeem(1, 7, T0));
    for after in [0, 1, 59] {
        let again = store.renew(&renew(7, T0.plus(after)));
        let Ok(RenewAnswer::Renewed(again)) = again else {
            unreachable!("not renewed: {again:?}")
        };
        assert_eq!((again.member.serial, again.member.issued), (first, T0));
        assert_eq!(again.not_after, T0.plus(LIFE.as_secs()));
    }
    let repeated = store.redeem(&redeem(1, 7, T0.plus(2)));
    let Ok(RedeemAnswer::Enrolled(repeated)) = repeated else {
        unreachable!("not repeated: {repeated:?}")
    };
    assert_eq!(repeated.member.serial, first);
    let issued = store.issued(0).expect("issued credentials are listed");
    assert_eq!(issued.len(), 1, "nothing was written");
    // A clock that was set back is no reason to go on with a credential from the future.
    let back = serial(store, &renew(7, UnixTime(T0.0 - 1)));
    assert!(back > first);
    assert!(serial(store, &renew(7, T0.plus(60))) > back);
}

fn a_changed_history_must_continue(store: &mut dyn Store) {
    create(store, &ticket(1, None));
    enrolled(store, &redeem(1, 7, T0));
    let forked = Renew {
        identity: vec![99],
        ..renew(7, T0)
    };
    assert_eq!(store.renew(&forked), Ok(RenewAnswer::HistoryForked));
    let forked = Redeem {
        identity: vec![99],
        ..redeem(1, 7, T0)
    };
    assert_eq!(store.redeem(&forked), Ok(RedeemAnswer::HistoryForked));
}

fn a_wish_is_only_a_wish(store: &mut dyn Store) {
    for n in 1..=3 {
        create(store, &ticket(n, None));
    }
    let wishing = |n, who| Redeem {
        wish: Some(name("app")),
        ..redeem(n, who, T0)
    };
    assert_eq!(enrolled(store, &wishing(1, 7)).0, name("app"));
    let (second, _) = enrolled(store, &wishing(2, 8));
    assert!(second.as_str().starts_with("app-"), "{second}");
    let (third, _) = enrolled(store, &redeem(3, 9, T0));
    assert!(third.as_str().starts_with("member-"), "{third}");
}

fn a_second_ticket_replaces_the_grants(store: &mut dyn Store) {
    create(store, &ticket(1, Some("app")));
    create(
        store,
        &NewTicket {
            grants: grants("other"),
            ..ticket(2, None)
        },
    );
    enrolled(store, &redeem(1, 7, T0));
    assert_eq!(enrolled(store, &redeem(2, 7, T0.plus(9))).0, name("app"));
    let member = store
        .member(&MemberKey::Id(id(7)))
        .expect("members are found");
    let member = member.expect("it is a member");
    assert_eq!(member.grants, grants("other"));
    assert_eq!(member.ticket, Some(TicketId([2; 16])));
    assert_eq!(member.enrolled, T0);
}

fn an_admitted_member_needs_no_ticket(store: &mut dyn Store) {
    let admit = Admit {
        id: id(5),
        identity: vec![5],
        name: name("relay"),
        grants: grants("relay"),
        now: T0,
        life: LIFE,
    };
    let first = store.admit(&admit).expect("admitted");
    assert_eq!(first.member.grants, admit.grants);
    let again = store
        .admit(&Admit {
            now: T0.plus(60),
            ..admit.clone()
        })
        .expect("again");
    assert!(again.member.serial > first.member.serial);
    assert_eq!(again.member.enrolled, T0);
    assert!(serial(store, &renew(5, T0.plus(130))) > again.member.serial);
    let other = Admit { id: id(6), ..admit };
    assert!(
        matches!(store.admit(&other), Err(StoreError::Refused(_))),
        "the name is taken"
    );
}

fn pages_are_in_order_and_complete(store: &mut dyn Store) {
    for n in [3, 1, 2] {
        create(store, &ticket(n, None));
        enrolled(store, &redeem(n, n + 10, T0));
    }
    let tickets = store.tickets(None).expect("tickets are listed");
    let ids: Vec<TicketId> = tickets.iter().map(|row| row.ticket.id).collect();
    assert_eq!(
        ids,
        [TicketId([1; 16]), TicketId([2; 16]), TicketId([3; 16])]
    );
    let mut first = ticket(1, None);
    first.secret_hash = [1; 32];
    assert_eq!(
        tickets[0].ticket, first,
        "a ticket reads back as it was written"
    );
    let rest = store
        .tickets(Some(TicketId([1; 16])))
        .expect("tickets are listed");
    assert_eq!(rest, tickets[1..]);
    let members = store.members(None).expect("members are listed");
    let ids: Vec<Id> = members.iter().map(|row| row.id).collect();
    assert_eq!(ids, [id(11), id(12), id(13)]);
    assert_eq!(
        store.members(Some(id(11))).expect("members are listed"),
        members[1..]
    );
}
