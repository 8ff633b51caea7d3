//! Lanes: only their control records, sealed and opened with the keys that the cores handed over.

use crypto::record::{MixSecret, Opener, Sealer};

use super::conn::Carrier;
use super::{HostNo, World};
use crate::error::{CloseReason, Code};
use crate::ids::{BundleId, LinkId, StreamNo};
use crate::limits::{LANE_RECORD_MAX, RECORD_HEADER, RECORD_INNER, RECORD_TAG};
use crate::protocol::command::{Adopt, Becomes, Event, LaneCommand, LaneEvent, Permit, Role};
use crate::protocol::core::Input;
use crate::protocol::record::{Header, Kind};
use crate::time::Instant;

/// What happens to the messages of key exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeFault {
    /// They are read and forgotten.
    Lost,
    /// That one of the three is altered by who sends it.
    Garbled(u8),
    /// Message 2 of that lane is altered.
    GarbledOn(BundleId),
    /// That end of that lane reads nothing more once it has read so many of an exchange.
    Held(BundleId, Role, u8),
}

/// One end of a lane.
pub struct LaneEnd {
    pub bundle: BundleId,
    pub permit: Permit,
    pub not_after: Instant,
    /// It takes no more streams.
    pub retiring: bool,
    /// Key exchanges that both directions have gone over to.
    pub exchanges: usize,
    role: Role,
    /// The secret of the exchange that is under way.
    mix: Option<MixSecret>,
    /// Directions that have gone over to it.
    mixed: u8,
    /// Messages of exchanges that were read.
    messages: u8,
    sealer: Sealer,
    opener: Opener,
}

impl LaneEnd {
    pub fn seal(&mut self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        seal(&mut self.sealer, kind, payload)
    }

    /// The last record under the present key.
    fn goes_over(&mut self, number: u32) -> Vec<u8> {
        let record = self.seal(Kind::KeyUpdate, &number.to_be_bytes());
        self.sealer.update(Some(self.mix.as_ref().unwrap()));
        self.mixed += 1;
        record
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
            exchanges: 0,
            mix: None,
            mixed: 0,
            messages: 0,
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
        if self.exchange_fault == Some(ExchangeFault::Held(lane.bundle, lane.role, lane.messages)) {
            return false;
        }
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
        let payload = payload.to_vec();
        let number = |bytes: &[u8]| u32::from_be_bytes(*bytes.first_chunk().unwrap());
        let what = match Header::parse(*head).unwrap().kind {
            Kind::KeyExchange if self.exchange_fault == Some(ExchangeFault::Lost) => return true,
            Kind::KeyExchange => {
                lane.messages += 1;
                let mut message = payload[4..].to_vec();
                // Messages 1 and 3 come to the outlet, 2 to the inlet.
                let garbled = match lane.role {
                    Role::Inlet => 2,
                    Role::Outlet => 1 + 2 * (1 - lane.messages % 2),
                };
                let on_this = ExchangeFault::GarbledOn(lane.bundle);
                if self.exchange_fault == Some(ExchangeFault::Garbled(garbled))
                    || garbled == 2 && self.exchange_fault == Some(on_this)
                {
                    message[7] ^= 1;
                }
                LaneEvent::Exchange {
                    number: number(&payload),
                    message,
                }
            }
            Kind::KeyReady => {
                let record = lane.goes_over(number(&payload));
                self.send(no, which, &record);
                return true;
            }
            Kind::KeyUpdate => {
                let number = number(&payload);
                lane.opener.update(Some(lane.mix.as_ref().unwrap()));
                lane.mixed += 1;
                assert_eq!(lane.mixed, 2, "a direction goes over before KEY_READY");
                lane.exchanges += 1;
                lane.messages = 0;
                LaneEvent::Mixed { number }
            }
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
            LaneCommand::Exchange { number, message } => {
                let payload = [&number.to_be_bytes(), &message[..]].concat();
                let record = lane.seal(Kind::KeyExchange, &payload);
                self.send(no, which, &record);
            }
            LaneCommand::Mix {
                number,
                secret,
                message,
            } => {
                lane.mix = Some(secret);
                lane.mixed = 0;
                let mut out = Vec::new();
                match message {
                    Some(message) => {
                        let payload = [&number.to_be_bytes(), &message[..]].concat();
                        out.extend(lane.seal(Kind::KeyExchange, &payload));
                    }
                    None => {
                        out.extend(lane.seal(Kind::KeyReady, &number.to_be_bytes()));
                        out.extend(lane.goes_over(number));
                    }
                }
                self.send(no, which, &out);
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

    /// The lane that was made first, of those that both ends have.
    pub fn oldest_lane(&self) -> BundleId {
        let of = |conn: &super::conn::Conn| {
            conn.ends.iter().find_map(|end| match &end.carrier {
                Carrier::Lane(_, lane) => Some(lane.bundle),
                _ => None,
            })
        };
        self.conns.values().find_map(of).unwrap()
    }

    /// Key exchanges on a lane that are over, at its inlet and at its outlet.
    pub fn exchanges(&self, bundle: BundleId) -> [usize; 2] {
        [Role::Inlet, Role::Outlet].map(|role| {
            let ends = self.conns.values().flat_map(|conn| &conn.ends);
            let mut lanes = ends.filter_map(|end| match &end.carrier {
                Carrier::Lane(_, lane) => Some(lane),
                _ => None,
            });
            let lane = lanes.find(|lane| (lane.bundle, lane.role) == (bundle, role));
            lane.map_or(0, |lane| lane.exchanges)
        })
    }

    /// Whether something has come to an end of a lane that it has not read.
    pub fn is_unread(&self, bundle: BundleId, role: Role) -> bool {
        let mut ends = self.conns.values().flat_map(|conn| &conn.ends);
        ends.any(|end| match &end.carrier {
            Carrier::Lane(_, lane) => {
                (lane.bundle, lane.role) == (bundle, role) && !end.inbox.is_empty()
            }
            _ => false,
        })
    }

    /// The bundles of the lanes that both ends have.
    pub fn bundles(&self) -> Vec<BundleId> {
        let lanes = self.lanes().into_iter();
        lanes.map(|(bundle, ..)| bundle).collect()
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
