//! Lanes: only their control records, sealed and opened with the keys that the cores handed over.

use crypto::record::{Opener, Sealer};

use super::conn::Carrier;
use super::{HostNo, World};
use crate::error::{CloseReason, Code};
use crate::ids::{BundleId, LinkId, StreamNo};
use crate::limits::{LANE_RECORD_MAX, RECORD_HEADER, RECORD_INNER, RECORD_TAG};
use crate::protocol::command::{Adopt, Becomes, Event, LaneCommand, LaneEvent, Permit, Role};
use crate::protocol::core::Input;
use crate::protocol::record::{Header, Kind};
use crate::time::Instant;

/// One end of a lane.
pub struct LaneEnd {
    pub bundle: BundleId,
    pub permit: Permit,
    pub not_after: Instant,
    /// It takes no more streams.
    pub retiring: bool,
    role: Role,
    sealer: Sealer,
    opener: Opener,
}

impl LaneEnd {
    pub fn seal(&mut self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        seal(&mut self.sealer, kind, payload)
    }
}

/// A control record.
pub fn seal(sealer: &mut Sealer, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![0; RECORD_HEADER];
    record.extend_from_slice(&Header::new(kind, StreamNo::LANE).encode());
    record.extend_from_slice(payload);
    record.resize(record.len() + RECORD_TAG, 0);
    sealer.seal(&mut record).unwrap();
    record
}

impl World {
    pub(super) fn adopt(&mut self, host: HostNo, adopt: Adopt) {
        let Some((no, which)) = self.find(host, adopt.link) else {
            return;
        };
        if adopt.becomes != Becomes::Lane {
            return self.adopt_circuit(host, (no, which), adopt);
        }
        let Adopt {
            link,
            last,
            role,
            bundle,
            sealer,
            opener,
            permit,
            ..
        } = adopt;
        let not_after = permit.not_after;
        let mut lane = LaneEnd {
            bundle,
            permit,
            not_after,
            retiring: false,
            role,
            sealer,
            opener,
        };
        let mut out = Vec::new();
        if !last.is_empty() {
            out.extend_from_slice(&(last.len() as u16).to_be_bytes());
            out.extend_from_slice(&last);
        }
        if role == Role::Outlet {
            out.extend_from_slice(&lane.seal(Kind::Ready, &[]));
            let what = LaneEvent::Ready;
            self.input(host, Input::Event(Event::Lane { link, what }));
        }
        let end = &mut self.conns.get_mut(&no).unwrap().ends[which];
        end.carrier = Carrier::Lane(link, Box::new(lane));
        self.send(no, which, &out);
    }

    /// Opens one record.
    pub(super) fn lane_receive(&mut self, no: u64, which: usize) -> bool {
        let end = &mut self.conns.get_mut(&no).unwrap().ends[which];
        let host = end.host;
        let Carrier::Lane(link, lane) = &mut end.carrier else {
            return false;
        };
        let link = *link;
        let Some(header) = end.inbox.first_chunk::<RECORD_HEADER>() else {
            return false;
        };
        let len = crypto::record::record_len(*header, LANE_RECORD_MAX).unwrap();
        if end.inbox.len() < len {
            return false;
        }
        let mut record: Vec<u8> = end.inbox.drain(..len).collect();
        let inner = lane
            .opener
            .open(&mut record)
            .expect("a record authenticates");
        let (head, payload) = inner.split_first_chunk::<RECORD_INNER>().unwrap();
        let what = match Header::parse(*head).unwrap().kind {
            Kind::Ready => {
                assert_eq!(lane.role, Role::Inlet);
                LaneEvent::Ready
            }
            Kind::Denied => {
                let code = Code(u16::from_be_bytes(payload[..].try_into().unwrap()));
                LaneEvent::Denied(CloseReason::from_code(code.0).unwrap())
            }
            Kind::Credential => LaneEvent::Credential(payload.to_vec()),
            Kind::Retire => {
                lane.retiring = true;
                LaneEvent::Retiring
            }
            other => panic!("an unexpected record: {other:?}"),
        };
        let over = matches!(what, LaneEvent::Retiring) && !self.busy;
        self.input(host, Input::Event(Event::Lane { link, what }));
        if over {
            self.drop_conn(no, None, CloseReason::Finished);
        }
        true
    }

    pub(super) fn lane_command(&mut self, host: HostNo, link: LinkId, what: LaneCommand) {
        let Some((no, which)) = self.find(host, link) else {
            return;
        };
        let Carrier::Lane(_, lane) = &mut self.conns.get_mut(&no).unwrap().ends[which].carrier
        else {
            return;
        };
        match what {
            LaneCommand::Extend { serial, not_after } => {
                assert!(serial > lane.permit.serial);
                lane.permit.serial = serial;
                lane.not_after = not_after;
            }
            LaneCommand::Credential(bytes) => {
                let record = lane.seal(Kind::Credential, &bytes);
                self.send(no, which, &record);
            }
            LaneCommand::Retire => {
                let record = lane.seal(Kind::Retire, &[]);
                lane.retiring = true;
                self.send(no, which, &record);
                // There are no streams in this world: unless it is busy, the lane is empty and ends.
                if !self.busy {
                    self.drop_conn(no, None, CloseReason::Finished);
                }
            }
            LaneCommand::Cut(why) => {
                let bundle = lane.bundle;
                self.lane_closed(host, (link, bundle), why);
                self.drop_conn(no, Some(which), CloseReason::TunnelLost);
            }
        }
    }

    pub(super) fn lane_closed(
        &mut self,
        host: HostNo,
        (link, bundle): (LinkId, BundleId),
        why: CloseReason,
    ) {
        let what = LaneEvent::Closed(why);
        self.input(host, Input::Event(Event::Lane { link, what }));
        self.end_bundle(host, bundle, why);
    }

    /// The lanes that both ends have: bundle and the permit of each end, the inlet's first.
    pub fn lanes(&self) -> Vec<(BundleId, Permit, Permit)> {
        let ends = |role: Role| {
            self.conns
                .values()
                .flat_map(|conn| &conn.ends)
                .filter_map(move |end| match &end.carrier {
                    Carrier::Lane(_, lane) if lane.role == role => Some(lane),
                    _ => None,
                })
        };
        ends(Role::Inlet)
            .filter_map(|inlet| {
                let outlet = ends(Role::Outlet).find(|outlet| outlet.bundle == inlet.bundle)?;
                Some((inlet.bundle, inlet.permit.clone(), outlet.permit.clone()))
            })
            .collect()
    }
}
