//! What happens to the circuits on their way: paired, checked, ready, denied, lost.

use super::{Circuit, Circuits, Stage};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::limits::{LEG_UNPROVEN, PAIRING_TIMEOUT, SHAKE_TIMEOUT};
use crate::protocol::command::CircuitEvent;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::link_event::LinkEvent;
use crate::protocol::core::member::inlet::terms::{NotShaken, Terms};
use crate::protocol::core::node::Node;
use crate::protocol::pool::{CircuitPool, Failure};

impl Circuits {
    /// An event of a link that is [owned](Self::owns).
    pub fn on_event(
        &mut self,
        node: &mut Node,
        now: Now,
        terms: &Terms,
        link: LinkId,
        event: LinkEvent,
    ) {
        match event {
            LinkEvent::Connected(_) => {
                let why = CloseReason::NoOutlet;
                node.out.deadline(link, now.mono, PAIRING_TIMEOUT, why);
            }
            LinkEvent::Frame(bytes) => self.on_frame(node, now, terms, link, &bytes),
            LinkEvent::Closed(why) | LinkEvent::Circuit(CircuitEvent::Closed(why)) => {
                self.on_closed(node, now, terms, link, why);
            }
            LinkEvent::Circuit(CircuitEvent::Ready) => self.on_ready(node, now, link),
            LinkEvent::Circuit(CircuitEvent::Denied(why)) => {
                self.on_denied(node, now, terms, link, why);
            }
            LinkEvent::Lane(_) => {}
        }
    }

    fn on_frame(&mut self, node: &mut Node, now: Now, terms: &Terms, link: LinkId, bytes: &[u8]) {
        let Some(mut circuit) = self.links.remove(&link) else {
            return;
        };
        circuit.stage = match circuit.stage {
            Stage::Leg(leg) => match leg.on_answer(bytes) {
                Ok(hinted) => match terms.start(node, now, link, hinted) {
                    Ok(shake) => {
                        circuit.unproven = now.mono + LEG_UNPROVEN;
                        Stage::Shaking(Box::new(shake))
                    }
                    Err(trouble) => return self.on_not_shaken(node, now, terms, link, &trouble),
                },
                Err((why, failure)) => {
                    node.out.close(link, false, why);
                    return self.fail(node, now, terms, why, failure);
                }
            },
            Stage::Shaking(shake) => {
                let asks = (self.bundle, circuit.no);
                match terms.check(node, now, *shake, asks, bytes) {
                    Ok(checked) if checked.shaken.peer.id() == self.peer => {
                        terms.adopt(node, now, link, checked);
                        Stage::Waiting(now.mono + SHAKE_TIMEOUT)
                    }
                    // Another member that serves the address: it has no such bundle, and need not
                    // be told of it.
                    Ok(_) => {
                        let why = CloseReason::NoBundle;
                        node.out.close(link, false, why);
                        return self.fail(node, now, terms, why, Failure::Lost);
                    }
                    Err(trouble) => return self.on_not_shaken(node, now, terms, link, &trouble),
                }
            }
            stage @ (Stage::Waiting(_) | Stage::Ready(_) | Stage::Retiring) => stage,
        };
        self.links.insert(link, circuit);
    }

    fn on_ready(&mut self, node: &mut Node, now: Now, link: LinkId) {
        if let Some(circuit) = self.links.get_mut(&link)
            && let Stage::Waiting(_) = circuit.stage
        {
            circuit.stage = Stage::Ready(CircuitPool::retire_at(now.mono, node.out.random()));
            self.pool.on_ready();
            self.denied = None;
            self.lack_logged = false;
            node.out.status_changed();
        }
    }

    fn on_closed(
        &mut self,
        node: &mut Node,
        now: Now,
        terms: &Terms,
        link: LinkId,
        why: CloseReason,
    ) {
        match self.links.remove(&link).map(|circuit| circuit.stage) {
            Some(Stage::Leg(_) | Stage::Shaking(_) | Stage::Waiting(_)) => {
                self.fail(node, now, terms, why, Failure::Lost);
            }
            Some(Stage::Ready(_)) => {
                let record = LogRecord::new(Level::Debug, "a circuit was lost")
                    .code(why.code())
                    .with("why", why)
                    .with("bundle", format_args!("{:?}", self.bundle));
                node.out.log(record);
                self.pool.on_lost(now.mono, node.out.random());
                node.out.status_changed();
            }
            Some(Stage::Retiring) | None => {}
        }
    }

    /// The outlet let the lane in and not the circuit: it has lost the lane, and this end hears of
    /// that soon, or something else has changed there.
    fn on_denied(
        &mut self,
        node: &mut Node,
        now: Now,
        terms: &Terms,
        link: LinkId,
        why: CloseReason,
    ) {
        let waiting = |circuit: &Circuit| matches!(circuit.stage, Stage::Waiting(_));
        if !self.links.get(&link).is_some_and(waiting) {
            return;
        }
        self.cut(node, link, why);
        if why == CloseReason::NoBundle {
            return self.fail(node, now, terms, why, Failure::Lost);
        }
        let record = LogRecord::new(Level::Warn, "the outlet denied this node a circuit")
            .code(why.code())
            .with("why", why)
            .with("address", &terms.config.via);
        self.deny(node, record);
        self.fail(node, now, terms, why, Failure::Refused);
    }

    fn on_not_shaken(
        &mut self,
        node: &mut Node,
        now: Now,
        terms: &Terms,
        link: LinkId,
        trouble: &NotShaken,
    ) {
        let (why, failure) = match trouble {
            NotShaken::NoMember => (CloseReason::NotAuthorized, Failure::Lost),
            NotShaken::Failed(error) => {
                self.deny(node, terms.record(error));
                (error.close_reason(), Failure::Refused)
            }
        };
        node.out.close(link, false, why);
        self.fail(node, now, terms, why, failure);
    }

    /// The same denial again is no news.
    fn deny(&mut self, node: &mut Node, record: LogRecord) {
        if self.denied != record.code {
            self.denied = record.code;
            node.deny(record);
        } else if let Some(why) = record.code {
            node.tally.on_denial(why);
        }
    }

    /// One that was being made is gone. One failure is no news: the lane carries everything
    /// meanwhile. That none comes up is, once.
    pub(super) fn fail(
        &mut self,
        node: &mut Node,
        now: Now,
        terms: &Terms,
        why: CloseReason,
        failure: Failure,
    ) {
        let again = self.pool.is_failing();
        self.pool.on_failed(now.mono, failure, node.out.random());
        if again && self.pool.ready() == 0 && !self.lack_logged && self.denied.is_none() {
            self.lack_logged = true;
            let record = LogRecord::new(
                Level::Info,
                "no circuit to the outlet; the lane carries all",
            )
            .code(why.code())
            .with("why", why)
            .with("address", &terms.config.via);
            node.out.log(record);
        }
        node.out.status_changed();
    }
}
