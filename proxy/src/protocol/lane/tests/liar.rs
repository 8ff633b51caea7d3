//! A peer that sends anything. Each record is taken or is a violation; nothing panics, nothing
//! grows, and this end's invariants hold to the end.

use super::super::*;
use super::chance::{Chance, Seed, seeds};
use super::world::{NOW_MILLIS, open_at, record};
use crate::error::Code;
use crate::ids::CircuitNo;
use crate::limits::CREDIT_BUDGET;
use crate::protocol::record::{Body, Header, Kind, Switch};
use crate::time::Instant;

const SEEDS: u64 = 4_000;

/// A record that may be in turn: mostly small numbers, so that states are reached.
fn plausible(chance: &mut Chance) -> (Header, Vec<u8>) {
    let n = 1 + u16::try_from(chance.below(6)).unwrap_or(0);
    let small = chance.below(300);
    let count = chance.below(4) as u64 * small as u64;
    let bytes = vec![0; 1 + small];
    let code = [
        CloseReason::TargetRefused,
        CloseReason::LaneRetiring,
        CloseReason::Finished,
    ];
    let code = code[chance.below(3)].code();
    let circuit = CircuitNo(chance.below(4) as u16);
    let number = 1 + chance.below(3) as u32;
    match chance.below(23) {
        // Most of these are out of turn, and end the lane.
        20 if small < 60 => record(&Body::KeyExchange(number, &[1]), 0),
        21 => record(&Body::KeyReady(number), 0),
        22 if small < 20 => record(&Body::KeyUpdate(Some(number)), 0),
        16 => record(
            &Body::Switch(Switch {
                circuit,
                bytes: count,
            }),
            n,
        ),
        17 => record(&Body::Switch(Switch { circuit, bytes: 0 }), n),
        18 => record(&Body::Continue(count), n),
        19 => record(&Body::Ack(circuit), 0),
        0 | 1 => record(
            &Body::Open(open_at("postgres", NOW_MILLIS + small as u64)),
            n,
        ),
        2 => record(&Body::Opened, n),
        3 => record(&Body::Refused(code), n),
        4..7 => (Header::new(Kind::Data, StreamNo(n)), bytes),
        7 => record(&Body::Credit(1 + small as u32 * 100), n),
        8 => record(&Body::End(count), n),
        9 => record(&Body::End(0), n),
        10 => record(&Body::Closed, n),
        11 => record(
            &Body::Abort(if small < 9 { Code(small as u16) } else { code }),
            n,
        ),
        12 => record(&Body::Retire, 0),
        13 => record(&Body::Ping(count), 0),
        14 => record(&Body::KeyUpdate(None), 0),
        _ => record(&Body::Ready, 0),
    }
}

/// Whether the table has a cell for it; most lies are told in turn, so that they get far.
fn is_in_turn(lane: &Lane, header: Header) -> bool {
    let input = match header.kind {
        Kind::Open => Input::Open,
        Kind::Opened => Input::Opened,
        Kind::Refused => Input::Refused,
        Kind::Data => Input::Data,
        Kind::Credit => Input::Credit,
        Kind::End => Input::End,
        Kind::Switch => Input::Switch,
        Kind::Closed => Input::Closed,
        Kind::Abort => Input::Abort,
        Kind::Ping | Kind::KeyUpdate => return true,
        Kind::KeyExchange => return lane.exchange.takes_message(lane.role),
        Kind::Ready
        | Kind::Denied
        | Kind::Continue
        | Kind::Cut
        | Kind::Want
        | Kind::Retire
        | Kind::KeyReady
        | Kind::Credential
        | Kind::Pong
        | Kind::Ack => return false,
    };
    let state = lane
        .slot(header.stream)
        .map_or(State::Free, |slot| slot.state);
    step(lane.role, state, input).is_some()
}

/// Any bytes whose header can be read.
fn anything(chance: &mut Chance) -> Option<(Header, Vec<u8>)> {
    let bits = chance.next();
    let [.., kind, flags, low, len] = bits.to_be_bytes();
    let flags = if flags < 240 { 0 } else { flags };
    let stream = if low < 128 { 0 } else { low & 7 };
    let header = Header::parse([kind % 25, flags, 0, stream]).ok()?;
    let payload = (0..len % 40).map(|_| chance.next() as u8 % 3).collect();
    Some((header, payload))
}

/// What an owner of sockets does at some time or other.
fn own_part(lane: &mut Lane, chance: &mut Chance, apps: &mut Vec<StreamNo>) {
    if lane.takes_streams() && lane.role == Role::Inlet {
        apps.extend(lane.open(
            Instant::ZERO,
            StreamKey(0),
            &open_at("postgres", NOW_MILLIS),
        ));
    }
    if lane.role == Role::Inlet && lane.exchange.is_quiet() && chance.below(8) == 0 {
        lane.exchange(lane.exchange.next_number(), vec![1]);
    }
    while lane.next_control(&mut [0; 256]).is_some() {}
    if lane.mix_due().is_some() {
        lane.on_mixed();
    }
    let Some(&n) = apps.get(chance.below(apps.len())) else {
        return;
    };
    if let Some(no) = lane.sends_on(n) {
        while lane.next_circuit_control(no, &mut [0; 16]).is_some() {}
        lane.on_circuit_data(n, 50);
        match chance.below(3) {
            0 => assert!(lane.go_back(n)),
            1 => lane.on_app_fin(n),
            _ => {}
        }
        while lane.next_circuit_control(no, &mut [0; 16]).is_some() {}
        return;
    }
    if chance.below(4) == 0 {
        let _ = lane.promote(n);
    }
    let may = lane.sendable(n).min(100);
    if may > 0 {
        lane.on_app_data(n, may);
        match chance.below(4) {
            0 => lane.on_app_fin(n),
            1 => lane.on_app_reset(n, CloseReason::AppReset),
            _ => {}
        }
    }
}

fn react(lane: &mut Lane, chance: &mut Chance, apps: &mut Vec<StreamNo>) {
    while let Some(reaction) = lane.poll_reaction() {
        match reaction {
            Reaction::Connect { n, .. } => {
                lane.bind(n, StreamKey(1));
                if chance.below(2) == 0 {
                    lane.on_connected(n);
                }
                apps.push(n);
            }
            Reaction::Freed { n, .. } | Reaction::Retry { n, .. } => apps.retain(|&app| app != n),
            Reaction::CircuitDead { circuit } => {
                lane.on_circuit_lost(circuit, CloseReason::Violation);
            }
            Reaction::Exchange { number, .. } => {
                if lane.exchange.is_asked() {
                    lane.exchange(number, vec![2]);
                } else {
                    let message = (lane.role == Role::Inlet).then(|| vec![3]);
                    assert!(lane.mix(number, message));
                }
            }
            Reaction::Behind { .. }
            | Reaction::Merge { .. }
            | Reaction::Moved { .. }
            | Reaction::CircuitReady { .. }
            | Reaction::CircuitDenied { .. }
            | Reaction::CircuitRead { .. }
            | Reaction::CircuitIdle { .. }
            | Reaction::Want(_)
            | Reaction::Refused { .. }
            | Reaction::Opened { .. }
            | Reaction::Deliver { .. }
            | Reaction::Hold { .. }
            | Reaction::FinToApp { .. }
            | Reaction::Resume { .. }
            | Reaction::ResetApp { .. }
            | Reaction::Ready
            | Reaction::Denied(_)
            | Reaction::Retiring
            | Reaction::KeyUpdate { .. }
            | Reaction::Mixed { .. }
            | Reaction::Credential(_)
            | Reaction::Pong { .. } => {}
        }
    }
}

/// A record on a circuit, and what an owner does then.
fn on_circuit(lane: &mut Lane, chance: &mut Chance) -> Result<(), Violation> {
    let no = CircuitNo(1 + chance.below(3) as u16);
    let n = 1 + u16::try_from(chance.below(6)).unwrap_or(0);
    let count = chance.below(3) as u64 * 50;
    let circuit = CircuitNo(u16::from(chance.below(8) == 0));
    let (header, payload) = match chance.below(12) {
        0..4 => record(&Body::Continue(count), n),
        4..7 => (Header::new(Kind::Data, StreamNo(n)), vec![0; 50]),
        7 => record(&Body::End(count), n),
        8 => record(&Body::Cut, n),
        9 => record(
            &Body::Switch(Switch {
                circuit,
                bytes: count,
            }),
            n,
        ),
        10 if chance.below(9) == 0 => record(&Body::Retire, 0),
        10 => record(&Body::KeyUpdate(None), 0),
        _ => anything(chance).unwrap_or_else(|| record(&Body::Cut, n)),
    };
    let took = lane.on_circuit_record(Instant::ZERO, no, header, &payload)?;
    if let Took::Deliver { n, .. } = took {
        lane.on_circuit_delivered(n, payload.len());
    }
    Ok(())
}

/// Whether a circuit could take it: most lies get that far.
fn is_on_circuit(chance: &mut Chance) -> bool {
    chance.below(6) == 0
}

/// One liar; how many records it got away with.
fn run(seed: u64) -> usize {
    let _seed = Seed(seed);
    let mut chance = Chance::new(seed);
    let role = if chance.below(2) == 0 {
        Role::Inlet
    } else {
        Role::Outlet
    };
    let shared = LaneShared::new(CREDIT_BUDGET);
    shared.set_authority_time(NOW_MILLIS, Instant::ZERO);
    let mut lane = Lane::new(role, &shared);
    let mut apps = Vec::new();
    let mut taken = 0;
    if role == Role::Outlet {
        lane.next_control(&mut [0; 8]);
    }
    for no in 1..=3 {
        assert!(lane.add_circuit(CircuitNo(no)));
        while lane
            .next_circuit_control(CircuitNo(no), &mut [0; 16])
            .is_some()
        {}
    }
    let mut ready = false;
    for at in 0..200 {
        if at > 0 && role == Role::Inlet && !std::mem::replace(&mut ready, true) {
            for no in 1..=3 {
                let (header, payload) = record(&Body::Ready, 0);
                let took = lane.on_circuit_record(Instant::ZERO, CircuitNo(no), header, &payload);
                assert_eq!(took, Ok(Took::Nothing));
            }
        }
        if at > 0 && is_on_circuit(&mut chance) {
            let answer = on_circuit(&mut lane, &mut chance);
            react(&mut lane, &mut chance, &mut apps);
            lane.check();
            if answer.is_err() {
                break;
            }
            taken += 1;
            continue;
        }
        let sent = match chance.below(60) {
            _ if at == 0 && role == Role::Inlet => Some(record(&Body::Ready, 0)),
            0 => anything(&mut chance),
            1 => Some(plausible(&mut chance)),
            _ => {
                let lies = std::iter::repeat_with(|| plausible(&mut chance));
                lies.take(20).find(|lie| is_in_turn(&lane, lie.0))
            }
        };
        let Some((header, payload)) = sent else {
            continue;
        };
        let answer = lane.on_record(Instant::ZERO, header, &payload);
        react(&mut lane, &mut chance, &mut apps);
        lane.check();
        if answer.is_err() {
            break;
        }
        taken += 1;
        own_part(&mut lane, &mut chance, &mut apps);
        react(&mut lane, &mut chance, &mut apps);
        lane.check();
        assert!(lane.slots.len() <= 400, "numbers are dense");
    }
    lane.on_lost(CloseReason::Violation);
    while lane.poll_reaction().is_some() {}
    lane.check();
    drop(lane);
    assert_eq!(shared.credit_left(), CREDIT_BUDGET);
    taken
}

#[test]
fn any_records_are_in_turn_or_a_violation_and_never_a_panic() {
    let seeds = seeds(SEEDS);
    let taken: usize = seeds.iter().map(|&seed| run(seed)).sum();
    assert!(
        seeds.len() == 1 || taken > 2 * seeds.len(),
        "only {taken} records were in turn"
    );
}
