//! What a hostile relay, or anyone on the path, does to the bytes it carries.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crypto::leg::LegKey;
use proxy::engine::simulated::{Flow, Rng, Verdict, World};
use proxy::limits::{LEG_ANSWER, LEG_PREFACE};
use proxy::protocol::preface::Kind;
use proxy::time::Instant;

use super::cast::{RELAY, SERVER};
use super::process::LegKeys;

/// What is done to bytes between nodes and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A bit flips.
    Corrupt,
    /// A piece is missing.
    Drop,
    /// A piece comes twice.
    Duplicate,
    /// Two chunks change places.
    Reorder,
    /// An earlier chunk of the same direction comes again.
    Replay,
    /// What the receiver itself sent comes back.
    Reflect,
    /// A chunk of another connection comes.
    Splice,
    /// Everything is held back, and comes later at once.
    HoldUp,
    /// The direction ends in order.
    Finish,
    /// The connection is reset.
    Reset,
}

const HARMS: [Harm; 10] = [
    Harm::Corrupt,
    Harm::Drop,
    Harm::Duplicate,
    Harm::Reorder,
    Harm::Replay,
    Harm::Reflect,
    Harm::Splice,
    Harm::HoldUp,
    Harm::Finish,
    Harm::Reset,
];

impl Harm {
    /// One of them.
    pub fn draw(rng: &mut Rng) -> Harm {
        HARMS[rng.below(HARMS.len() as u64) as usize]
    }
}

/// One direction of a connection.
type Way = (u64, bool);

struct State {
    rng: Rng,
    harm: Option<Harm>,
    held: BTreeMap<Way, Vec<u8>>,
    /// The last chunk of each direction.
    last: BTreeMap<Way, Vec<u8>>,
}

/// Meddles with a world's wires between nodes and server while it is told to.
pub struct Meddler(Rc<RefCell<State>>);

/// A chunk of bytes on a connection between a node and the server.
pub struct Passing<'a> {
    /// Which connection.
    pub connection: u64,
    /// The fifth byte of its preface: 1 authority session, 2 relay session, 3 leg.
    pub kind: u8,
    /// The node's host.
    pub node: IpAddr,
    /// The bytes go to the node.
    pub to_node: bool,
    /// Bytes of this direction before these.
    pub offset: u64,
    /// When they arrive.
    pub now: Instant,
    /// The bytes; they may be changed.
    pub bytes: &'a mut Vec<u8>,
}

impl Passing<'_> {
    /// Where the bytes lie in what the two ends say to each other through the relay; `None` for a
    /// session, for a leg's preface and for the answer to it.
    pub fn place_in_circuit(&self) -> Option<u64> {
        let head = if self.to_node {
            LEG_ANSWER
        } else {
            LEG_PREFACE
        } as u64;
        let circuit = self.kind == Kind::Leg as u8;
        self.offset.checked_sub(head).filter(|_| circuit)
    }
}

/// Puts `hand` on every wire between nodes and server.
pub fn intercept(world: &World, mut hand: impl FnMut(&mut Passing<'_>) -> Verdict + 'static) {
    let mut kinds: BTreeMap<u64, u8> = BTreeMap::new();
    world.tap(Some(Box::new(move |flow, bytes| {
        if !is_tunnel(flow) {
            return Verdict::Pass;
        }
        let to_node = is_server(&flow.from);
        if !to_node && flow.offset == 0 {
            kinds.insert(flow.connection, bytes.get(5).copied().unwrap_or(0));
        }
        let node = if to_node {
            flow.to.ip()
        } else {
            flow.from.ip()
        };
        hand(&mut Passing {
            connection: flow.connection,
            kind: kinds.get(&flow.connection).copied().unwrap_or(0),
            node,
            to_node,
            offset: flow.offset,
            now: flow.now,
            bytes,
        })
    })));
}

/// Opens a leg's preface as its relay can, lets `change` alter what is sealed in it, and seals it
/// again. False if it is no preface of a session in `keys`.
pub fn rewrite_preface(
    keys: &LegKeys,
    bytes: &mut [u8],
    change: impl FnOnce(&mut [u8; 48]),
) -> bool {
    let Some((key, counter)) = leg_key(keys, bytes) else {
        return false;
    };
    let Some((clear, rest)) = bytes.split_first_chunk_mut::<32>() else {
        return false;
    };
    let Some(sealed) = rest.first_chunk_mut::<64>() else {
        return false;
    };
    let Ok(mut body) = key.open_preface(counter, clear, sealed) else {
        return false;
    };
    change(&mut body);
    *sealed = key.seal_preface(counter, clear, &body);
    true
}

/// The key and the counter of a leg, from the clear part of its preface.
pub fn leg_key(keys: &LegKeys, preface: &[u8]) -> Option<(LegKey, u64)> {
    let session = preface.get(8..24)?;
    let counter = u64::from_be_bytes(preface.get(24..32)?.try_into().ok()?);
    let keys = keys.borrow();
    let entry = keys.iter().rev().find(|entry| entry.session.0 == session)?;
    Some((entry.key.clone(), counter))
}

/// Whether these bytes are on a wire to or from the server.
pub fn is_tunnel(flow: &Flow) -> bool {
    is_server(&flow.from) || is_server(&flow.to)
}

fn is_server(end: &SocketAddr) -> bool {
    [SERVER, RELAY].contains(&end.ip())
}

impl Meddler {
    /// One that does nothing yet.
    pub fn new(world: &World, seed: u64) -> Meddler {
        let state = Rc::new(RefCell::new(State {
            rng: Rng::new(seed),
            harm: None,
            held: BTreeMap::new(),
            last: BTreeMap::new(),
        }));
        let own = Rc::clone(&state);
        world.tap(Some(Box::new(move |flow, bytes| {
            if is_tunnel(flow) {
                own.borrow_mut().pass(flow, bytes)
            } else {
                Verdict::Pass
            }
        })));
        Meddler(state)
    }

    /// Does this from now on.
    pub fn begin(&self, harm: Harm) {
        self.0.borrow_mut().harm = Some(harm);
    }

    /// Stops. What was held back comes with the next bytes of its direction.
    pub fn end(&self) {
        self.0.borrow_mut().harm = None;
    }
}

impl State {
    fn pass(&mut self, flow: &Flow, bytes: &mut Vec<u8>) -> Verdict {
        let way = (flow.connection, flow.outward);
        let fresh = bytes.clone();
        let verdict = self.meddle(way, bytes);
        if self.harm != Some(Harm::HoldUp)
            && let Some(mut held) = self.held.remove(&way)
        {
            if self.harm == Some(Harm::Reorder) {
                bytes.append(&mut held);
            } else {
                held.append(bytes);
                *bytes = held;
            }
        }
        self.last.insert(way, fresh);
        verdict
    }

    fn meddle(&mut self, way: Way, bytes: &mut Vec<u8>) -> Verdict {
        let Some(harm) = self.harm else {
            return Verdict::Pass;
        };
        if harm == Harm::HoldUp {
            self.held.entry(way).or_default().append(bytes);
            return Verdict::Pass;
        }
        if bytes.is_empty() || !self.rng.chance(250) {
            return Verdict::Pass;
        }
        let at = self.rng.within(0..bytes.len());
        match harm {
            Harm::Corrupt => bytes[at] ^= 1 << self.rng.below(8),
            Harm::Drop => {
                let to = self.rng.within(at..bytes.len() + 1);
                bytes.drain(at..to);
            }
            Harm::Duplicate => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece);
            }
            Harm::Reorder => {
                self.held
                    .entry(way)
                    .or_insert_with(|| std::mem::take(bytes));
            }
            Harm::Replay => {
                let last = self.last.get(&way).cloned().unwrap_or_default();
                bytes.extend(last);
            }
            Harm::Reflect => {
                if let Some(own) = self.last.get(&(way.0, !way.1)) {
                    bytes.clone_from(own);
                }
            }
            Harm::Splice => {
                let other = self
                    .last
                    .iter()
                    .find(|((no, out), _)| *no != way.0 && *out == way.1);
                if let Some((_, other)) = other {
                    bytes.clone_from(other);
                }
            }
            Harm::HoldUp => {}
            Harm::Finish => {
                bytes.truncate(at);
                return Verdict::Fin;
            }
            Harm::Reset => {
                bytes.truncate(at);
                return Verdict::Reset;
            }
        }
        Verdict::Pass
    }
}
