//! The circuits of a bundle, as one end sees them.
//!
//! A circuit has two directions, and each end uses only the one that it sends on. A *run* is the
//! use of a direction by one stream: CONTINUE, DATA …, and END, CUT or SWITCH{0}. The other end
//! answers the end of a run with ACK on the lane, when everything before it was delivered; only
//! then is the direction idle again. So a direction never waits behind another stream's slow app.
//!
//! # Invariants
//! - A run that is *live* belongs to a stream whose path names this circuit, and the other way
//!   round. A stream that is over leaves its runs behind, not live: they are ended or discarded.
//! - At most one run per direction is on the circuit or on its way to it.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{CircuitNo, StreamNo};
use crate::protocol::command::Role;
use crate::protocol::record::{Body, Header, Switch};
use crate::time::Instant;

/// How a run of ours ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The direction is complete: all its bytes.
    End(u64),
    /// The stream was reset.
    Cut,
    /// It goes on on the lane: its bytes so far.
    Back(u64),
}

/// A run that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) n: StreamNo,
    pub(super) live: bool,
    /// CONTINUE is queued, with the direction's bytes so far.
    pub(super) continue_at: Option<u64>,
    /// The last record is queued.
    pub(super) ending: Option<Ending>,
}

/// Our direction of a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sending {
    /// Nobody's.
    #[default]
    Idle,
    /// This stream's, whose SWITCH is queued on the lane.
    Leaving(StreamNo),
    /// A run.
    Running(Run),
    /// The run's last record has left; no ACK yet.
    Unread { n: StreamNo, live: bool },
}

/// The direction that we receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Receiving {
    /// Nobody's.
    #[default]
    Idle,
    /// CONTINUE came before its SWITCH: the circuit is not read.
    Early { n: StreamNo, at: u64 },
    /// SWITCH was read on the lane, CONTINUE is awaited.
    Awaited { n: StreamNo, at: u64, live: bool },
    /// Within a run.
    Running { n: StreamNo, live: bool },
}

/// How far the end of a circuit is, at this end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Retire {
    #[default]
    No,
    /// RETIRE leaves once our direction is idle.
    Wanted,
    /// It has left: our last record.
    Said,
}

/// One circuit.
#[derive(Debug)]
pub(super) struct Circuit {
    /// Inlet: READY was read. Outlet: it has left.
    pub(super) up: bool,
    /// READY is queued.
    pub(super) ready: bool,
    pub(super) out: Sending,
    pub(super) into: Receiving,
    pub(super) retire: Retire,
    /// RETIRE was read.
    pub(super) peer_retired: bool,
    /// Until when what `into` awaits must have come.
    pub(super) until: Instant,
    /// In the list of circuits with something queued.
    due: bool,
}

impl Circuit {
    fn new(role: Role) -> Circuit {
        Circuit {
            up: false,
            ready: role == Role::Outlet,
            out: Sending::Idle,
            into: Receiving::Idle,
            retire: Retire::No,
            peer_retired: false,
            until: Instant::FAR_FUTURE,
            due: false,
        }
    }

    /// Whether a direction of ours may begin a run here.
    pub(super) fn takes_run(&self) -> bool {
        self.up && self.out == Sending::Idle && self.retire == Retire::No && !self.peer_retired
    }

    fn is_used(&self) -> bool {
        self.out != Sending::Idle || self.into != Receiving::Idle
    }

    /// The record that leaves next, DATA aside.
    pub(super) fn next(&self) -> Option<(StreamNo, Body<'static>)> {
        if self.ready {
            return Some((StreamNo::LANE, Body::Ready));
        }
        match self.out {
            Sending::Running(run) => match (run.continue_at, run.ending) {
                (Some(at), _) => Some((run.n, Body::Continue(at))),
                (None, Some(Ending::End(bytes))) => Some((run.n, Body::End(bytes))),
                (None, Some(Ending::Cut)) => Some((run.n, Body::Cut)),
                (None, Some(Ending::Back(bytes))) => {
                    let circuit = CircuitNo(0);
                    Some((run.n, Body::Switch(Switch { circuit, bytes })))
                }
                (None, None) => None,
            },
            Sending::Idle if self.retire == Retire::Wanted && self.up => {
                Some((StreamNo::LANE, Body::Retire))
            }
            Sending::Idle | Sending::Leaving(_) | Sending::Unread { .. } => None,
        }
    }

    /// What [`Circuit::next`] gave has left.
    pub(super) fn left(&mut self) {
        if self.ready {
            self.ready = false;
            self.up = true;
            return;
        }
        match &mut self.out {
            Sending::Running(run) if run.continue_at.is_some() => run.continue_at = None,
            Sending::Running(run) => {
                let (n, live) = (run.n, run.live);
                self.out = Sending::Unread { n, live };
            }
            Sending::Idle => self.retire = Retire::Said,
            Sending::Leaving(_) | Sending::Unread { .. } => {}
        }
    }

    /// Whether RETIRE went each way: no direction is in use, and none will be.
    pub(super) fn is_spent(&self) -> bool {
        self.retire == Retire::Said && self.peer_retired
    }
}

/// All circuits of a bundle.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    pub(super) table: BTreeMap<CircuitNo, Circuit>,
    /// Circuits whose run was read to its end and whose ACK is queued, each once.
    pub(super) acks: VecDeque<CircuitNo>,
    /// Most in use at once since it was last asked for.
    peak: u16,
    /// Circuits that got something to send since they were last asked about, each once.
    due: VecDeque<CircuitNo>,
    /// The earliest `until`.
    pub(super) deadline: Option<Instant>,
}

impl Circuits {
    pub(super) fn get(&self, no: CircuitNo) -> Option<&Circuit> {
        self.table.get(&no)
    }

    pub(super) fn get_mut(&mut self, no: CircuitNo) -> Option<&mut Circuit> {
        self.table.get_mut(&no)
    }

    pub(super) fn add(&mut self, no: CircuitNo, role: Role) {
        self.table.insert(no, Circuit::new(role));
        self.note_due(no);
    }

    /// Puts the circuit into the list if it has something to send.
    pub(super) fn note_due(&mut self, no: CircuitNo) {
        if let Some(circuit) = self.table.get_mut(&no)
            && circuit.next().is_some()
            && !std::mem::replace(&mut circuit.due, true)
        {
            self.due.push_back(no);
        }
    }

    pub(super) fn next_due(&mut self) -> Option<CircuitNo> {
        loop {
            let no = self.due.pop_front()?;
            if let Some(circuit) = self.table.get_mut(&no) {
                circuit.due = false;
                return Some(no);
            }
        }
    }

    /// The lowest number whose sending direction is free: the highest fall idle and can go.
    pub(super) fn idle(&self) -> Option<CircuitNo> {
        let idle = self.table.iter().find(|(_, circuit)| circuit.takes_run());
        idle.map(|(&no, _)| no)
    }

    /// How many carry a run of this end's, or wait until the other end has read one.
    pub(super) fn sending(&self) -> usize {
        let busy = |circuit: &&Circuit| circuit.out != Sending::Idle;
        self.table.values().filter(busy).count()
    }

    /// Notes how many are in use, after one more is.
    pub(super) fn note_use(&mut self) {
        let used = self.table.values().filter(|circuit| circuit.is_used());
        let used = u16::try_from(used.count()).unwrap_or(u16::MAX);
        self.peak = self.peak.max(used);
    }

    pub(super) fn peak(&self) -> u16 {
        self.peak
    }

    /// The peak begins anew with what is in use now.
    pub(super) fn reset_peak(&mut self) {
        self.peak = 0;
        self.note_use();
    }

    /// Finds the earliest `until` anew.
    pub(super) fn reset_deadline(&mut self) {
        let earliest = self.table.values().map(|circuit| circuit.until).min();
        self.deadline = earliest.filter(|&at| at != Instant::FAR_FUTURE);
    }

    /// The header and body of what leaves next on a circuit.
    pub(super) fn next(&self, no: CircuitNo) -> Option<(Header, Body<'static>)> {
        let (n, body) = self.get(no)?.next()?;
        Some((Header::new(body.kind(), n), body))
    }
}
