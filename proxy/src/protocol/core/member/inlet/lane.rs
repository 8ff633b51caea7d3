//! The lane of an inlet: from PAIRED to READY, and what each way in which it can end means for the
//! next one and for the apps that wait.

use crypto::check::Direction;
use crypto::suite::SuiteMask;

use super::circuits::Circuits;
use super::terms::{NotShaken, Terms};
use super::{Building, Bundle, Inlet, Place};
use crate::error::{CloseReason, Code};
use crate::ids::{BundleId, CircuitNo, LinkId};
use crate::limits::{NO_OUTLET_PATIENCE, SHAKE_TIMEOUT};
use crate::protocol::command::{Command, Gate, LaneCommand, LaneEvent};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::member::exchange::Exchanges;
use crate::protocol::core::member::peer::{Judge, Lane, NotAccepted};
use crate::protocol::core::node::Node;
use crate::protocol::pool::Failure;
use crate::protocol::session::SessionError;
use crate::protocol::shake::{InletShake, Shaken};

impl Inlet {
    /// A frame of what is being built at that place.
    pub(super) fn on_frame(&mut self, node: &mut Node, now: Now, at: usize, bytes: &[u8]) {
        match self.places[at].building.take() {
            Some(Building::Leg(link, leg)) => match leg.on_answer(bytes) {
                Ok(hinted) => self.shake(node, now, (at, link), hinted),
                Err((why, failure)) => {
                    node.out.close(link, false, why);
                    if failure == Failure::Refused || self.is_unserved(now, why) {
                        self.set_gate_at(node, at, Gate::Reset(why));
                    }
                    self.fail(node, now, at, why, failure);
                }
            },
            Some(Building::Shaking(link, shake, bundle)) => {
                self.on_frame_2(node, now, (at, link), *shake, bundle, bytes);
            }
            other @ (Some(Building::Waiting(..)) | None) => self.places[at].building = other,
        }
    }

    fn shake(&mut self, node: &mut Node, now: Now, (at, link): (usize, LinkId), hinted: SuiteMask) {
        match self.terms.start(node, now, link, hinted) {
            Ok(shake) => {
                let bundle = BundleId(node.out.draw());
                self.build(at, Building::Shaking(link, Box::new(shake), bundle));
            }
            Err(trouble) => self.on_not_shaken(node, now, (at, link), &trouble),
        }
    }

    fn on_frame_2(
        &mut self,
        node: &mut Node,
        now: Now,
        (at, link): (usize, LinkId),
        shake: InletShake,
        bundle: BundleId,
        bytes: &[u8],
    ) {
        let asks = (bundle, CircuitNo(0));
        match self.terms.check(node, now, shake, asks, bytes) {
            Ok(checked) => {
                let Shaken {
                    peer,
                    binding,
                    exchanges_keys,
                    ..
                } = &checked.shaken;
                let exchanges = Exchanges::new(*binding, *exchanges_keys);
                let lane = Lane::new(peer, bundle, exchanges);
                lane.log_audited(node, now, &self.terms.judge());
                self.terms.adopt(node, now, link, checked);
                self.build(at, Building::Waiting(link, lane, now.mono + SHAKE_TIMEOUT));
            }
            Err(trouble) => self.on_not_shaken(node, now, (at, link), &trouble),
        }
    }

    fn on_not_shaken(
        &mut self,
        node: &mut Node,
        now: Now,
        (at, link): (usize, LinkId),
        trouble: &NotShaken,
    ) {
        match trouble {
            NotShaken::Failed(error) => self.on_shake_failed(node, now, (at, link), error),
            NotShaken::NoMember => {
                let why = CloseReason::NotAuthorized;
                node.out.close(link, false, why);
                self.fail(node, now, at, why, Failure::Lost);
            }
        }
    }

    fn build(&mut self, at: usize, building: Building) {
        self.places[at].building = Some(building);
    }

    /// The handshake failed at this end: nothing was shown to the outlet. If that is no accident,
    /// trying again at once would give the same result, so apps are reset meanwhile.
    fn on_shake_failed(
        &mut self,
        node: &mut Node,
        now: Now,
        (at, link): (usize, LinkId),
        error: &SessionError,
    ) {
        let why = error.close_reason();
        node.out.close(link, false, why);
        let record = self.terms.record(error);
        let code = record.code.unwrap_or(why.code());
        // A message that was altered once says nothing about the outlet; twice, it will be again.
        let once = self.is_news(code) && !matches!(error, SessionError::Denied(_));
        if self.is_news(code) {
            node.deny(record);
        }
        self.trouble = Some((code, error.to_string()));
        self.set_gate_at(node, at, Gate::Reset(why));
        let failure = if once {
            Failure::Lost
        } else {
            Failure::Refused
        };
        self.gave_up(node, now, at, failure);
    }

    pub(super) fn on_closed(
        &mut self,
        node: &mut Node,
        now: Now,
        (at, link): (usize, LinkId),
        why: CloseReason,
    ) {
        if self.places[at].is_building(link) {
            self.fail(node, now, at, why, Failure::Lost);
        } else {
            self.on_lane_gone(node, now, (at, link), why);
        }
    }

    pub(super) fn on_lane(
        &mut self,
        node: &mut Node,
        now: Now,
        (at, link): (usize, LinkId),
        what: LaneEvent,
    ) {
        match what {
            LaneEvent::Ready => self.on_ready(node, now, (at, link)),
            LaneEvent::Denied(why) => self.on_denied(node, now, (at, link), why),
            LaneEvent::Credential(bytes) => {
                self.on_shown(node, now, (at, link), |lane, node, judge| {
                    lane.on_credential(node, now, link, judge, &bytes)
                });
            }
            LaneEvent::Exchange { number, message } => {
                self.on_shown(node, now, (at, link), |lane, node, judge| {
                    lane.on_exchange(node, now, (link, number), judge, &message)
                });
            }
            LaneEvent::Mixed { .. } => {
                if let Some(bundle) = self.places[at].bundles.get_mut(&link) {
                    bundle.lane.on_mixed(node, now, Direction::Serve);
                }
            }
            LaneEvent::Retiring => {
                let place = &mut self.places[at];
                if let Some(bundle) = place.bundles.get_mut(&link) {
                    place.circuits_before = bundle.retire(node);
                    place.pool.replace(now.mono);
                }
            }
            LaneEvent::Circuits { peak, wanted } => {
                if let Some(bundle) = self.places[at].bundles.get_mut(&link) {
                    bundle.circuits.on_demand(now.mono, peak, wanted);
                }
            }
            LaneEvent::Closed(why) => self.on_closed(node, now, (at, link), why),
        }
    }

    fn on_ready(&mut self, node: &mut Node, now: Now, (at, link): (usize, LinkId)) {
        let first = self.bundles().next().is_none();
        let place = &mut self.places[at];
        match place.building.take() {
            Some(Building::Waiting(own, mut lane, _)) if own == link => {
                for (old, before) in &mut place.bundles {
                    if !before.lane.retiring {
                        place.circuits_before = before.retire(node);
                        let what = LaneCommand::Retire;
                        node.out.command(Command::Lane { link: *old, what });
                    }
                }
                lane.ready = true;
                lane.plan_exchange(node, now);
                if first {
                    let record = LogRecord::new(Level::Info, "portal open")
                        .with("address", &self.terms.config.via)
                        .with("peer", lane.peer)
                        .with("peer_name", &lane.name)
                        .with("bundle", format_args!("{:?}", lane.bundle));
                    node.out.log(record);
                }
                let circuits = Circuits::new(
                    (link.worker(), lane.bundle),
                    lane.peer,
                    &place.circuits_before,
                );
                place.bundles.insert(link, Bundle { lane, circuits });
                place.pool.on_ready(now.mono, node.out.random());
                self.trouble = None;
                self.unserved_since = None;
                self.resets_logged = None;
                self.set_gate(node, Gate::Wait);
                node.out.status_changed();
            }
            other => place.building = other,
        }
    }

    /// Whether nobody has served the address for so long that waiting for a lane is pointless. An
    /// outlet that restarts is back within that time, and its apps should wait for it.
    fn is_unserved(&mut self, now: Now, why: CloseReason) -> bool {
        if why != CloseReason::NoOutlet {
            self.unserved_since = None;
            return false;
        }
        let since = *self.unserved_since.get_or_insert(now.mono);
        now.mono.since(since) >= NO_OUTLET_PATIENCE
    }

    fn on_denied(
        &mut self,
        node: &mut Node,
        now: Now,
        (at, link): (usize, LinkId),
        why: CloseReason,
    ) {
        if !self.places[at].is_building(link) {
            return;
        }
        node.out.command(Command::Lane {
            link,
            what: LaneCommand::Cut(why),
        });
        if self.is_news(why.code()) {
            let record = LogRecord::new(Level::Warn, "the outlet denied this node")
                .code(why.code())
                .with("why", why)
                .with("address", &self.terms.config.via);
            node.deny(record);
        } else {
            node.tally.on_denial(why.code());
        }
        self.trouble = Some((why.code(), format!("the outlet denied this node: {why}")));
        self.set_gate_at(node, at, Gate::Reset(why));
        self.gave_up(node, now, at, Failure::Refused);
    }

    /// The outlet shows itself anew; `accepts` judges it, and has cut the lane if it is an error. If no
    /// lane is left that takes streams, apps are reset for that reason.
    fn on_shown(
        &mut self,
        node: &mut Node,
        now: Now,
        (at, link): (usize, LinkId),
        accepts: impl FnOnce(&mut Lane, &mut Node, &Judge<'_>) -> Result<(), NotAccepted>,
    ) {
        let Some(mut bundle) = self.places[at].bundles.remove(&link) else {
            return;
        };
        let place = &mut self.places[at];
        let Err(cut) = accepts(&mut bundle.lane, node, &self.terms.judge()) else {
            place.bundles.insert(link, bundle);
            return;
        };
        if !bundle.lane.retiring {
            place
                .pool
                .on_lost(now.mono, Failure::Refused, node.out.random());
        }
        bundle.circuits.end(node, cut.why);
        if !self.places.iter().any(Place::is_ready) {
            self.trouble = Some((cut.code, cut.words));
            self.set_gate(node, Gate::Reset(cut.why));
        }
        self.tell_hosts(node);
        node.out.status_changed();
    }

    /// Cuts the lanes that `is_out` names, one that is being built among them. Returns how many. What
    /// has no peer yet is checked when it has one.
    pub fn cut(
        &mut self,
        node: &mut Node,
        now: Now,
        why: CloseReason,
        is_out: impl Fn(&Lane) -> bool,
    ) -> usize {
        self.take_out(
            node,
            now,
            (why, why.to_string()),
            |terms, node, link, lane| {
                let out = is_out(lane);
                if out {
                    lane.cut(node, link, &terms.config.via, why);
                }
                out
            },
        )
    }

    /// Forgets the lanes that `is_out` has cut, one that is being built among them, with their circuits.
    /// Returns how many. If no lane is left that takes streams, apps are reset for that reason.
    pub(super) fn take_out(
        &mut self,
        node: &mut Node,
        now: Now,
        (why, words): (CloseReason, String),
        is_out: impl Fn(&Terms, &mut Node, LinkId, &Lane) -> bool,
    ) -> usize {
        let terms = &self.terms;
        let mut cut = 0;
        for place in &mut self.places {
            let building = place.building.take_if(|building| match building {
                Building::Waiting(link, lane, _) => is_out(terms, node, *link, lane),
                Building::Leg(..) | Building::Shaking(..) => false,
            });
            if building.is_some() {
                place
                    .pool
                    .on_failed(now.mono, Failure::Refused, node.out.random());
                cut += 1;
            }
            let out = place
                .bundles
                .extract_if(.., |link, bundle| is_out(terms, node, *link, &bundle.lane));
            let out: Vec<Bundle> = out.map(|(_, bundle)| bundle).collect();
            if out.iter().any(|bundle| !bundle.lane.retiring) {
                place
                    .pool
                    .on_lost(now.mono, Failure::Refused, node.out.random());
            }
            cut += out.len();
            for Bundle { circuits, .. } in out {
                circuits.end(node, why);
            }
        }
        if cut == 0 {
            return 0;
        }
        // Others may go on: there is one outlet on an address as a rule, but its successor may be up.
        if !self.places.iter().any(Place::is_ready) {
            self.trouble = Some((why.code(), words));
            self.set_gate(node, Gate::Reset(why));
        }
        self.tell_hosts(node);
        node.out.status_changed();
        cut
    }

    fn on_lane_gone(
        &mut self,
        node: &mut Node,
        now: Now,
        (at, link): (usize, LinkId),
        why: CloseReason,
    ) {
        let Some(Bundle { lane, circuits }) = self.places[at].bundles.remove(&link) else {
            return;
        };
        let pool = circuits.end(node, why);
        // A lane that ended with its last stream, or with this process, is no loss.
        let expected = matches!(why, CloseReason::Retired | CloseReason::Stopping);
        if lane.retiring || expected {
            return node.out.status_changed();
        }
        let place = &mut self.places[at];
        place.circuits_before = pool;
        place
            .pool
            .on_lost(now.mono, Failure::Lost, node.out.random());
        let record = LogRecord::new(Level::Warn, "the lane was lost")
            .code(why.code())
            .with("why", why)
            .with("address", &self.terms.config.via)
            .with("peer", lane.peer);
        node.out.log(record);
        self.trouble = Some((why.code(), why.to_string()));
        node.out.status_changed();
    }

    /// What was being built at that place failed.
    pub(super) fn fail(
        &mut self,
        node: &mut Node,
        now: Now,
        at: usize,
        why: CloseReason,
        failure: Failure,
    ) {
        if self.is_news(why.code()) && (self.trouble.is_none() || failure == Failure::Refused) {
            let record = LogRecord::new(Level::Warn, "no lane to the outlet")
                .code(why.code())
                .with("why", why)
                .with("address", &self.terms.config.via);
            match failure {
                Failure::Refused => node.deny(record),
                Failure::Lost => node.out.log(record),
            }
        }
        self.trouble = Some((why.code(), why.to_string()));
        self.gave_up(node, now, at, failure);
    }

    fn gave_up(&mut self, node: &mut Node, now: Now, at: usize, failure: Failure) {
        if let Some(place) = self.places.get_mut(at) {
            place.building = None;
            place.pool.on_failed(now.mono, failure, node.out.random());
        }
        node.out.status_changed();
    }

    fn is_news(&self, code: Code) -> bool {
        self.trouble
            .as_ref()
            .is_none_or(|(before, _)| *before != code)
    }
}
