//! A relay that means harm: each of its tricks, and what must come of it. It may stop a portal;
//! it may not read, alter or feign anything. That no byte is wrong and no end comes too early is
//! checked after every step of every test ([`portal`](crate::portal)).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use crate::cast::{INLET, OUTLET, POSTGRES, PUBLIC, SERVER, STAGING, Shape, Who};
use crate::endpoint::{Ending, Part, Say};
use crate::portal::Portal;
use crate::process::Seat;
use crate::relay::{Passing, intercept, leg_key, rewrite_preface};
use crate::script::Script;
use crypto::identity::IdentitySecret;
use crypto::{SeededRandom, suite::Suite, suite::SuiteMask};
use proxy::engine::simulated::{SimRead, Verdict};
use proxy::error::{CloseReason, Problem};
use proxy::limits::{LANE_QUIET, LANE_SILENT, LEG_PREFACE, PREFACE};
use proxy::protocol::command::address_hash;
use proxy::protocol::leg::{Answer, read_answer, seal_answer};
use proxy::protocol::preface::Kind;
use proxy::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(30);

/// A portal that is ready, with that hand on its wires from the beginning.
fn up(shape: &Shape, hand: impl FnMut(&mut Passing<'_>) -> Verdict + 'static) -> Portal {
    let mut portal = Portal::new(7, shape);
    intercept(&portal.world, hand);
    assert!(portal.within(SOON, |portal| portal.is_ready()));
    portal
}

fn two_routes() -> Shape {
    Shape {
        routes: vec![POSTGRES, STAGING],
        ..Shape::default()
    }
}

/// A small exchange works on that route.
fn works(portal: &mut Portal, route: usize) {
    let started = portal.world.now();
    while portal.world.now().since(started) < LATER {
        let app = portal.app(route, Script::echo(60, 20));
        portal.within(SOON, |portal| portal.apps[app].end.is_over());
        if portal.apps[app].end.ending == Ending::Clean {
            return;
        }
        portal.pass(Duration::from_millis(50));
    }
    panic!("the portal does not work: {}", portal.story());
}

/// The app was reset, and not sooner or later than that.
fn is_reset(portal: &mut Portal, app: usize, within: Duration) {
    let over = portal.within(within, |portal| portal.apps[app].end.is_over());
    assert!(over, "app {app} hangs: {}", portal.story());
    let ending = portal.apps[app].end.ending;
    assert!(matches!(ending, Ending::Failed(_)), "app {app}: {ending:?}");
}

// ---- who is who -------------------------------------------------------------------------------

#[test]
fn a_relay_that_pairs_the_wrong_address_gets_no_lane() {
    let mut portal = Portal::new(3, &two_routes());
    let keys = Rc::clone(&portal.see(Who::Server).leg_keys);
    let project = project(&portal);
    let [from, to] =
        [POSTGRES, STAGING].map(|route| address_hash(&project, &route.address.parse().unwrap()).0);
    let mispaired = Rc::new(Cell::new(0));
    let count = Rc::clone(&mispaired);
    intercept(&portal.world, move |passing| {
        if passing.node == INLET && is_preface(passing) {
            // The inlet's legs for one address are paired with outlets of the other.
            rewrite_preface(&keys, passing.bytes, |body| {
                if body[4..36] == from {
                    body[4..36].copy_from_slice(&to);
                    count.set(count.get() + 1);
                }
            });
        }
        Verdict::Pass
    });
    portal.pass(Duration::from_secs(5));
    assert!(mispaired.get() > 0, "no leg was mispaired");
    let app = portal.app(0, Script::echo(60, 20));
    is_reset(&mut portal, app, Duration::from_secs(7));
    assert!(portal.served.is_empty(), "a service was contacted");
    // The prologues differ, so message 2 does not open.
    let failed = CloseReason::ShakeFailed.code();
    let logs = &portal.see(Who::Inlet).logs;
    assert!(logs.iter().any(|(_, record)| record.code == Some(failed)));
    works(&mut portal, 1);
    portal.close(false);
}

#[test]
fn a_relay_that_answers_enrollment_itself_sees_no_message_3() {
    let mut portal = Portal::new(4, &Shape::default());
    portal.of(Who::Server).kill();
    // The project's name and id, and another key: all that a relay's operator can have.
    let mallory = IdentitySecret::create(&mut SeededRandom::new(666));
    if let Seat::Server { authority, .. } = &mut portal.of(Who::Server).seat {
        *authority = mallory.to_bytes();
    }
    let said: Rc<RefCell<BTreeMap<u64, Vec<u8>>>> = Rc::default();
    let heard = Rc::clone(&said);
    intercept(&portal.world, move |passing| {
        if passing.kind == Kind::AuthoritySession as u8 && !passing.to_node {
            let mut heard = heard.borrow_mut();
            let all = heard.entry(passing.connection).or_default();
            all.extend_from_slice(passing.bytes);
        }
        Verdict::Pass
    });
    portal.restart(Who::Server);
    portal.pass(Duration::from_secs(10));
    let said = said.borrow();
    assert!(said.len() >= 2, "nobody tried to enroll");
    for bytes in said.values() {
        let frame = &bytes[PREFACE..];
        let length = usize::from(u16::from_be_bytes([frame[0], frame[1]]));
        assert_eq!(frame.len(), 2 + length, "more than message 1 was sent");
    }
    let code = Problem::WrongProject.code();
    for who in [Who::Outlet, Who::Inlet] {
        let logs = &portal.see(who).logs;
        assert!(
            logs.iter().any(|(_, record)| record.code == Some(code)),
            "{who:?} does not say what is wrong: {}",
            portal.story()
        );
    }
    assert!(!portal.is_ready());
}

#[test]
fn stripped_suites_end_the_handshake() {
    let mut portal = Portal::new(5, &Shape::default());
    let keys = Rc::clone(&portal.see(Who::Server).leg_keys);
    let prefaces: Rc<RefCell<BTreeMap<u64, Vec<u8>>>> = Rc::default();
    let stripped = Rc::new(Cell::new(0));
    let count = Rc::clone(&stripped);
    intercept(&portal.world, move |passing| {
        let mut prefaces = prefaces.borrow_mut();
        if passing.node == INLET && is_preface(passing) {
            prefaces.insert(passing.connection, passing.bytes.clone());
        } else if passing.node == INLET
            && passing.to_node
            && passing.offset == 0
            && let Some(preface) = prefaces.get(&passing.connection)
            && let Some((key, counter)) = leg_key(&keys, preface)
            && let Ok(Answer::Paired { .. }) = read_answer(&key, counter, passing.bytes)
        {
            let suites = SuiteMask::NONE.with(Suite::ChaChaPoly);
            *passing.bytes = seal_answer(&key, counter, Answer::Paired { suites }).to_vec();
            count.set(count.get() + 1);
        }
        Verdict::Pass
    });
    portal.pass(Duration::from_secs(5));
    assert!(stripped.get() > 0, "no answer was altered");
    let app = portal.app(0, Script::echo(60, 20));
    is_reset(&mut portal, app, Duration::from_secs(7));
    assert!(portal.served.is_empty(), "a service was contacted");
    portal.world.tap(None);
    works(&mut portal, 0);
    portal.close(false);
}

#[test]
fn a_forged_paired_is_followed_by_nothing() {
    let mut portal = Portal::new(6, &Shape::default());
    let after: Rc<RefCell<BTreeMap<u64, usize>>> = Rc::default();
    let seen = Rc::clone(&after);
    intercept(&portal.world, move |passing| {
        if passing.kind != Kind::Leg as u8 {
            return Verdict::Pass;
        }
        if passing.to_node && passing.offset == 0 {
            // Who has no leg key can only guess.
            passing.bytes.fill(0x5a);
            seen.borrow_mut().insert(passing.connection, 0);
        } else if !passing.to_node
            && let Some(bytes) = seen.borrow_mut().get_mut(&passing.connection)
        {
            *bytes += passing.bytes.len();
        }
        Verdict::Pass
    });
    portal.pass(Duration::from_secs(3));
    let forged = after.borrow().clone();
    assert!(!forged.is_empty(), "no answer was forged");
    assert!(forged.values().all(|&bytes| bytes == 0), "{forged:?}");
    portal.world.tap(None);
    works(&mut portal, 0);
    portal.close(false);
}

#[test]
fn a_replayed_leg_preface_is_refused_here_and_after_a_restart() {
    for workers in [1, 2, 3] {
        let shape = Shape {
            workers: vec![(Who::Server, workers)],
            ..Shape::default()
        };
        replay_prefaces(&shape);
    }
}

/// Every preface that passed, sent again by somebody else.
fn replay_prefaces(shape: &Shape) {
    let mut portal = Portal::new(8, shape);
    let prefaces: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let taken = Rc::clone(&prefaces);
    intercept(&portal.world, move |passing| {
        if is_preface(passing) {
            taken.borrow_mut().push(passing.bytes.clone());
        }
        Verdict::Pass
    });
    assert!(portal.within(SOON, |portal| portal.is_ready()));
    works(&mut portal, 0);
    portal.world.tap(None);
    for restarted in [false, true] {
        if restarted {
            portal.of(Who::Server).kill();
            portal.restart(Who::Server);
            works(&mut portal, 0);
        }
        let pairs = |portal: &Portal| {
            portal
                .see(Who::Server)
                .counters()
                .unwrap()
                .get("pairs_total")
        };
        let before = pairs(&portal);
        let thief = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 66));
        for preface in prefaces.borrow().iter() {
            let mut sock = portal
                .world
                .app_connect(thief, SocketAddr::new(SERVER, PUBLIC.1));
            portal.within(SOON, |_| sock.connected() == Ok(true));
            assert_eq!(sock.write(preface), Ok(LEG_PREFACE));
            let mut buf = [0; 256];
            let mut bytes = 0;
            let ended = portal.within(SOON, |_| match sock.read(&mut buf) {
                Ok(SimRead::Bytes(len)) => {
                    bytes += len;
                    false
                }
                Ok(SimRead::Nothing) => false,
                Ok(SimRead::Eof) | Err(_) => true,
            });
            assert!(ended, "a replayed preface is kept (restarted: {restarted})");
            assert_eq!(bytes, 0, "a replayed preface is answered");
        }
        assert_eq!(pairs(&portal), before, "a replayed preface was paired");
        works(&mut portal, 0);
    }
    portal.close(false);
}

// ---- bytes ------------------------------------------------------------------------------------

/// What is done to one byte, or from one byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Flip,
    Fin,
    Reset,
}

/// Strikes byte `at` of what passes next towards `node` on a lane.
#[derive(Clone, Copy, Debug)]
struct Strike {
    node: IpAddr,
    at: usize,
    blow: Blow,
}

/// For every offset of an exchange: strike there; the app is reset (or was done before), and the
/// portal works again.
fn strike_everywhere(blow: Blow) {
    for node in [OUTLET, INLET] {
        let armed: Rc<Cell<Option<Strike>>> = Rc::default();
        let hand = Rc::clone(&armed);
        let mut portal = up(&Shape::default(), move |passing| {
            let on_lane = passing.place_in_circuit().is_some();
            let Some(strike) = hand.get() else {
                return Verdict::Pass;
            };
            if !on_lane || !passing.to_node || passing.node != strike.node {
                return Verdict::Pass;
            }
            if strike.at >= passing.bytes.len() {
                let at = strike.at - passing.bytes.len();
                hand.set(Some(Strike { at, ..strike }));
                return Verdict::Pass;
            }
            hand.set(None);
            match strike.blow {
                Blow::Flip => {
                    passing.bytes[strike.at] ^= 1 << (strike.at % 8);
                    Verdict::Pass
                }
                Blow::Fin => {
                    passing.bytes.truncate(strike.at);
                    Verdict::Fin
                }
                Blow::Reset => {
                    passing.bytes.truncate(strike.at);
                    Verdict::Reset
                }
            }
        });
        for at in 0.. {
            armed.set(Some(Strike { node, at, blow }));
            // The service's answer and its end come after the request's end: records of all kinds.
            let service = Part {
                say: Say::AfterEnd,
                ..Part::plain(40)
            };
            let script = Script {
                app: Part::plain(40),
                service,
            };
            let app = portal.app(0, script);
            let over = portal.within(LANE_QUIET + LANE_SILENT + SOON, |portal| {
                portal.apps[app].end.is_over()
            });
            assert!(over, "{blow:?} at {at}: the app hangs: {}", portal.story());
            if armed.take().is_some() {
                // The exchange was over before that byte.
                assert!(at > 100, "only {at} bytes went to {node}");
                assert!(portal.is_clean(app), "{blow:?} at {at}: {}", portal.story());
                break;
            }
            // The blow may strike CREDIT or CLOSED behind everything that the app needs.
            let ending = portal.apps[app].end.ending;
            assert_ne!(ending, Ending::Open, "{blow:?} at {at}");
            let whole = portal.apps[app].end.got == 40;
            assert!(
                ending != Ending::Clean || whole,
                "{blow:?} at {at}: a clean end without all bytes"
            );
            works(&mut portal, 0);
        }
        portal.within(LATER, |portal| portal.apps_are_over() && portal.is_idle());
        portal.close(false);
    }
}

#[test]
fn any_byte_corrupted_after_pairing_is_a_reset_and_never_a_wrong_byte() {
    strike_everywhere(Blow::Flip);
}

#[test]
fn a_fin_at_every_offset_of_every_record_is_a_reset() {
    strike_everywhere(Blow::Fin);
}

#[test]
fn a_reset_at_every_offset_of_every_record_is_a_reset() {
    strike_everywhere(Blow::Reset);
}

#[test]
fn a_replayed_circuit_contacts_nobody() {
    let mut portal = Portal::new(9, &Shape::default());
    let recorded: Rc<RefCell<Vec<u8>>> = Rc::default();
    let replayed: Rc<RefCell<BTreeMap<u64, usize>>> = Rc::default();
    let playing = Rc::new(Cell::new(false));
    let (tape, done, on) = (recorded.clone(), replayed.clone(), playing.clone());
    intercept(&portal.world, move |passing| {
        if passing.node != OUTLET || !passing.to_node || passing.place_in_circuit().is_none() {
            return Verdict::Pass;
        }
        if on.get() {
            let mut done = done.borrow_mut();
            let from = done.entry(passing.connection).or_default();
            let tape = tape.borrow();
            *passing.bytes = tape[*from..].to_vec();
            *from = tape.len();
        } else {
            tape.borrow_mut().extend_from_slice(passing.bytes);
        }
        Verdict::Pass
    });
    assert!(portal.within(SOON, |portal| portal.is_ready()));
    works(&mut portal, 0);
    assert_eq!(portal.served.len(), 1);
    playing.set(true);
    portal.world.reset_between(INLET, SERVER);
    let app = portal.app(0, Script::echo(60, 20));
    is_reset(&mut portal, app, Duration::from_secs(7));
    assert!(!replayed.borrow().is_empty(), "nothing was replayed");
    assert_eq!(
        portal.served.len(),
        1,
        "a replayed circuit reached the service"
    );
    playing.set(false);
    recorded.borrow_mut().clear();
    works(&mut portal, 0);
    portal.close(false);
}

#[test]
fn an_open_replayed_a_thousand_times_contacts_its_target_once() {
    let armed = Rc::new(Cell::new(false));
    let hand = Rc::clone(&armed);
    let mut portal = up(&Shape::default(), move |passing| {
        let to_outlet = passing.node == OUTLET && passing.to_node;
        if to_outlet && passing.place_in_circuit().is_some() && hand.replace(false) {
            *passing.bytes = passing.bytes.repeat(1 + 1000);
        }
        Verdict::Pass
    });
    armed.set(true);
    let app = portal.app(0, Script::echo(60, 20));
    is_reset(&mut portal, app, SOON);
    assert!(!armed.get(), "nothing was replayed");
    portal.pass(SOON);
    assert!(portal.served.len() <= 1, "{} contacts", portal.served.len());
    works(&mut portal, 0);
    portal.close(false);
}

/// What is held back, and when.
#[derive(Clone)]
struct Hold {
    /// From then on …
    from: Rc<Cell<Instant>>,
    /// … until then; what was held comes with the next chunk of its connection.
    until: Rc<Cell<Instant>>,
}

/// A portal where everything towards `node` on lanes can be held back.
fn up_with_hold(node: IpAddr) -> (Portal, Hold) {
    let hold = Hold {
        from: Rc::new(Cell::new(Instant::FAR_FUTURE)),
        until: Rc::new(Cell::new(Instant::FAR_FUTURE)),
    };
    let own = hold.clone();
    let mut held: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let portal = up(&Shape::default(), move |passing| {
        let holds = passing.now >= own.from.get();
        if holds && passing.node == node && passing.to_node && passing.place_in_circuit().is_some()
        {
            let held = held.entry(passing.connection).or_default();
            held.append(passing.bytes);
            if passing.now >= own.until.get() {
                passing.bytes.append(held);
            }
        }
        Verdict::Pass
    });
    (portal, hold)
}

#[test]
fn an_open_that_comes_too_late_contacts_nobody() {
    let (mut portal, hold) = up_with_hold(OUTLET);
    hold.from.set(portal.world.now());
    let app = portal.app(0, Script::echo(60, 20));
    is_reset(&mut portal, app, Duration::from_secs(11));
    // The lane is still there, so that the held OPEN arrives whole and authentic, with another
    // one that is fresh behind it.
    portal.pass(Duration::from_secs(4));
    hold.until.set(portal.world.now());
    let fresh = portal.app(0, Script::echo(60, 20));
    portal.within(SOON, |portal| portal.apps[fresh].end.is_over());
    assert!(portal.is_clean(fresh), "{}", portal.story());
    assert_eq!(portal.served.len(), 1, "only the fresh one was contacted");
    assert_eq!(portal.ended(Who::Outlet, CloseReason::OpenTooOld), 1);
    portal.close(false);
}

#[test]
fn an_open_held_for_a_minute_contacts_nobody() {
    let (mut portal, hold) = up_with_hold(OUTLET);
    hold.from.set(portal.world.now());
    let app = portal.app(0, Script::echo(60, 20));
    is_reset(&mut portal, app, Duration::from_secs(11));
    portal.pass(Duration::from_secs(50));
    hold.until.set(portal.world.now());
    portal.pass(Duration::from_secs(5));
    assert!(portal.served.is_empty(), "a held OPEN reached the service");
    works(&mut portal, 0);
    portal.close(false);
}

#[test]
fn a_held_end_is_no_fin() {
    for node in [OUTLET, INLET] {
        let (mut portal, hold) = up_with_hold(node);
        let mut script = Script::echo(60, 20);
        script.service.ends_last = true;
        let app = portal.app(0, script);
        portal.apps[app].end.lingers = true;
        let all = portal.within(SOON, |portal| portal.apps[app].end.got == 60);
        assert!(all, "{}", portal.story());
        // Everything has been said; only the ends are left.
        hold.from.set(portal.world.now());
        portal.apps[app].end.lingers = false;
        portal.pass(Duration::from_secs(8));
        let (end, service) = portal.ends(app);
        let held = if node == OUTLET {
            service.unwrap()
        } else {
            end
        };
        assert!(!held.eof && !held.is_over(), "towards {node}: {held:?}");
        // The relay cuts the circuit: a reset, although everything but the end has come.
        portal.world.reset_between(SERVER, node);
        portal.pass(SOON);
        let (end, service) = portal.ends(app);
        let held = if node == OUTLET {
            service.unwrap()
        } else {
            end
        };
        assert!(matches!(held.ending, Ending::Failed(_)), "{held:?}");
        hold.from.set(Instant::FAR_FUTURE);
        works(&mut portal, 0);
        portal.close(false);
    }
}

#[test]
fn two_spliced_circuits_are_two_resets() {
    for node in [OUTLET, INLET] {
        let swaps = Rc::new(Cell::new(None));
        let count = Rc::clone(&swaps);
        let mut last: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        // Each circuit gets what the other should have got.
        let mut portal = up(&two_routes(), move |passing| {
            if let Some(swaps) = count.get()
                && passing.node == node
                && passing.to_node
                && passing.place_in_circuit().is_some()
            {
                let own = passing.bytes.clone();
                let other = last.iter().find(|(no, _)| **no != passing.connection);
                if let Some((_, bytes)) = other {
                    passing.bytes.clone_from(bytes);
                    count.set(Some(swaps + 1));
                }
                last.insert(passing.connection, own);
            }
            Verdict::Pass
        });
        let apps = [0, 1].map(|route| {
            let app = portal.app(route, Script::echo(4000, 40));
            portal.apps[app].end.lingers = true;
            app
        });
        portal.within(SOON, |portal| {
            apps.iter().all(|&app| portal.apps[app].end.got >= 400)
        });
        swaps.set(Some(0));
        for app in apps {
            is_reset(&mut portal, app, SOON);
        }
        assert!(swaps.replace(None) >= Some(1), "nothing was spliced");
        works(&mut portal, 0);
        works(&mut portal, 1);
        portal.close(false);
    }
}

fn is_preface(passing: &Passing<'_>) -> bool {
    passing.kind == Kind::Leg as u8
        && !passing.to_node
        && passing.offset == 0
        && passing.bytes.len() == LEG_PREFACE
}

fn project(portal: &Portal) -> crypto::Id {
    match &portal.see(Who::Server).seat {
        Seat::Server { project, .. } => project.id,
        Seat::Node { .. } | Seat::Relay { .. } => panic!("the server is a node"),
    }
}
