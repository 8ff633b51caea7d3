//! Connections: two ends, bytes both ways, cut into pieces where an end belongs to control.

use std::net::SocketAddr;

use super::circuits::CircuitEnd;
use super::lanes::LaneEnd;
use super::{HostNo, World};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::limits::{FRAME_MAX, LEG_PREFACE, PREFACE};
use crate::protocol::command::{Becomes, CircuitEvent, Command, Event, Expect};
use crate::protocol::core::Input;
use crate::protocol::preface::Kind;
use crate::time::Instant;

/// What carries an end.
pub enum Carrier {
    /// Control's link.
    Link(LinkId),
    /// Accepted, and no preface yet.
    Fresh,
    /// A leg at the relay, see `legs.rs`.
    Leg,
    /// A leg that was joined with another connection's end: bytes are passed on.
    Joined(u64),
    /// A lane.
    Lane(LinkId, Box<LaneEnd>),
    /// A circuit of one.
    Circuit(LinkId, Box<CircuitEnd>),
}

/// One end.
pub struct End {
    pub host: HostNo,
    pub carrier: Carrier,
    /// Bytes that arrived and were not read.
    pub inbox: Vec<u8>,
    pub expect: Expect,
    pub deadline: (Instant, CloseReason),
}

impl End {
    fn new(host: HostNo, carrier: Carrier, expect: Expect) -> End {
        let deadline = (Instant::FAR_FUTURE, CloseReason::TunnelLost);
        End {
            host,
            carrier,
            inbox: Vec::new(),
            expect,
            deadline,
        }
    }
}

/// A connection. End 0 has dialed.
pub struct Conn {
    pub ends: [End; 2],
    /// It is a session with the authority.
    pub is_authority: bool,
}

impl Conn {
    pub fn next_timer(&self) -> Instant {
        let [a, b] = &self.ends;
        [a, b]
            .into_iter()
            .map(|end| match &end.carrier {
                Carrier::Lane(_, lane) => lane.not_after.min(end.deadline.0),
                _ => end.deadline.0,
            })
            .min()
            .unwrap_or(Instant::FAR_FUTURE)
    }
}

impl World {
    pub(super) fn conns_of(&self, host: HostNo) -> Vec<u64> {
        let touches = |conn: &&u64| self.conns[conn].ends.iter().any(|end| end.host == host);
        self.conns.keys().filter(touches).copied().collect()
    }

    /// The end that is this host's link.
    pub(super) fn find(&self, host: HostNo, link: LinkId) -> Option<(u64, usize)> {
        self.conns.iter().find_map(|(no, conn)| {
            conn.ends
                .iter()
                .position(|end| {
                    end.host == host
                        && match &end.carrier {
                            Carrier::Link(own)
                            | Carrier::Lane(own, _)
                            | Carrier::Circuit(own, _) => *own == link,
                            Carrier::Fresh | Carrier::Leg | Carrier::Joined(_) => false,
                        }
                })
                .map(|end| (*no, end))
        })
    }

    pub(super) fn command(&mut self, host: HostNo, command: Command) {
        match command {
            Command::Dial {
                link,
                to,
                hello,
                expect,
                ..
            } => {
                self.dial(host, link, &to, &hello, expect);
            }
            Command::Send {
                link,
                bytes,
                framed,
                then,
            } => {
                assert!(bytes.len() <= FRAME_MAX);
                if let Some((conn, end)) = self.find(host, link) {
                    let mut out = Vec::new();
                    if framed && !bytes.is_empty() {
                        out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
                    }
                    out.extend_from_slice(&bytes);
                    self.send(conn, end, &out);
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.ends[end].expect = then;
                    }
                }
            }
            Command::Deadline { link, at, why } => {
                if let Some((conn, end)) = self.find(host, link) {
                    self.conns.get_mut(&conn).unwrap().ends[end].deadline = (at, why);
                }
            }
            Command::Close { link, flush, .. } => {
                // What was adopted is no link any more.
                let adopted =
                    |carrier: &Carrier| matches!(carrier, Carrier::Lane(..) | Carrier::Circuit(..));
                if let Some((conn, end)) = self.find(host, link)
                    && !adopted(&self.conns.get(&conn).unwrap().ends[end].carrier)
                {
                    if flush {
                        self.deliver(conn);
                    }
                    self.close(conn, end);
                }
            }
            Command::Adopt(adopt) => self.adopt(host, *adopt),
            Command::HandOver { link, adopt } => {
                assert_ne!(link.worker(), adopt.link.worker());
                match self.find(host, link) {
                    Some((conn, end)) => {
                        let end = &mut self.conns.get_mut(&conn).unwrap().ends[end];
                        end.carrier = Carrier::Link(adopt.link);
                        if self.slow {
                            self.on_the_way.push((host, adopt));
                        } else {
                            self.adopt(host, *adopt);
                        }
                    }
                    None => {
                        let (link, why) = (adopt.link, CloseReason::TunnelLost);
                        self.input(host, Input::Event(Event::Closed { link, why }));
                    }
                }
            }
            Command::Lane { link, what } => self.lane_command(host, link, what),
            Command::Circuit { link, what } => self.circuit_command(host, link, what),
            Command::LegKey(entry) => {
                self.host_mut(host).relay_worker.publish(*entry);
                self.tell_wants(host);
            }
            Command::LegKeyGone { session } => {
                let now = self.now;
                self.host_mut(host).relay_worker.end_session(session, now);
            }
            Command::MemberGone { member } => self.member_gone(host, member),
            Command::MemberDenied { address, member } => {
                let now = self.now;
                let relay = &mut self.host_mut(host).relay_worker;
                relay.denied(address, member, now);
            }
            Command::Targets { targets, .. } => self.host_mut(host).targets = targets,
            // Drivers say these to workers.
            Command::Limits { .. } => {}
            Command::ClosePortal { portal, .. } => {
                let host = self.host_mut(host);
                host.closed.push(portal);
                host.gates.remove(&portal);
            }
            Command::Gate { portal, gate } => {
                self.host_mut(host).gates.insert(portal, gate);
            }
            Command::AuthorityTime { unix_millis, at } => {
                self.host_mut(host).authority_time = Some((unix_millis, at));
            }
            Command::Hosts { portal, workers } => {
                self.host_mut(host).serving.insert(portal, workers);
            }
            Command::Drain { .. } | Command::Stop => {}
        }
    }

    /// How many lanes of that host are on their way from one worker to another.
    pub fn lanes_on_the_way(&self, host: HostNo) -> usize {
        let of_host = self.on_the_way.iter().filter(|(of, _)| *of == host);
        of_host
            .filter(|(_, adopt)| adopt.becomes == Becomes::Lane)
            .count()
    }

    /// The links that are on the way arrive.
    pub fn hand_on(&mut self) {
        for (host, adopt) in std::mem::take(&mut self.on_the_way) {
            self.adopt(host, *adopt);
        }
    }

    fn dial(
        &mut self,
        host: HostNo,
        link: LinkId,
        to: &[SocketAddr],
        hello: &[u8],
        expect: Expect,
    ) {
        *self.dials.entry(host).or_default() += 1;
        let walled = |a: HostNo, b: HostNo| {
            self.walls
                .iter()
                .any(|wall| *wall == (a, b) || *wall == (b, a))
        };
        let target = self
            .hosts
            .iter()
            .position(|other| to.contains(&other.address) && other.alive());
        let target = target.map(HostNo).filter(|target| !walled(host, *target));
        let Some(target) = target else {
            let why = CloseReason::DialFailed;
            return self.input(host, Input::Event(Event::Closed { link, why }));
        };
        let no = self.next_conn;
        self.next_conn += 1;
        let near = End::new(host, Carrier::Link(link), expect);
        let far = End::new(target, Carrier::Fresh, Expect::Exact(PREFACE as u16));
        self.conns.insert(
            no,
            Conn {
                ends: [near, far],
                is_authority: false,
            },
        );
        let peer = self.host(target).address;
        self.input(host, Input::Event(Event::Connected { link, peer }));
        self.send(no, 0, hello);
    }

    /// Bytes from end `from` arrive at the other.
    pub(super) fn send(&mut self, conn: u64, from: usize, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.ends[1 - from].inbox.extend_from_slice(bytes);
        }
    }

    /// Cuts what has arrived everywhere. Returns whether anything was cut.
    pub(super) fn move_bytes(&mut self) -> bool {
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        conns
            .into_iter()
            .fold(false, |moved, conn| self.deliver(conn) | moved)
    }

    fn deliver(&mut self, no: u64) -> bool {
        let mut moved = false;
        for end in [0, 1] {
            while self.deliver_one(no, end) {
                moved = true;
            }
        }
        moved
    }

    fn deliver_one(&mut self, no: u64, which: usize) -> bool {
        let Some(conn) = self.conns.get_mut(&no) else {
            return false;
        };
        if conn.is_authority && self.withheld.contains(&conn.ends[0].host) {
            return false;
        }
        let end = &mut conn.ends[which];
        match &mut end.carrier {
            Carrier::Joined(other) => {
                let (other, bytes) = (*other, std::mem::take(&mut end.inbox));
                // The relay's ends are the accepted ones.
                self.send(other, 1, &bytes);
                !bytes.is_empty()
            }
            Carrier::Lane(..) => self.lane_receive(no, which),
            Carrier::Circuit(..) => self.circuit_receive(no, which),
            Carrier::Leg => false,
            Carrier::Fresh | Carrier::Link(_) => {
                let Some(piece) = cut(end) else {
                    return false;
                };
                self.on_piece(no, which, piece);
                true
            }
        }
    }

    fn on_piece(&mut self, no: u64, which: usize, piece: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(&no) else {
            return;
        };
        let peer_host = conn.ends[1 - which].host;
        let end = &mut conn.ends[which];
        let host = end.host;
        if let Carrier::Link(link) = end.carrier {
            end.deadline.0 = Instant::FAR_FUTURE;
            return self.input(host, Input::Event(Event::Frame { link, bytes: piece }));
        }
        if piece.len() == LEG_PREFACE - PREFACE {
            end.carrier = Carrier::Leg;
            return self.on_leg(no, host, &piece);
        }
        let preface: [u8; PREFACE] = piece.try_into().unwrap();
        if preface[5] == Kind::Leg as u8 {
            end.expect = Expect::Exact((LEG_PREFACE - PREFACE) as u16);
            return;
        }
        conn.is_authority = preface[5] == Kind::AuthoritySession as u8;
        let accepted = &mut self.hosts[host.0].next_accepted;
        let link = LinkId(*accepted);
        *accepted += 2;
        self.conns.get_mut(&no).unwrap().ends[which].carrier = Carrier::Link(link);
        let mut peer = self.host(peer_host).address;
        peer.set_port(40_000 + (no % 20_000) as u16);
        self.input(
            host,
            Input::Event(Event::Accepted {
                link,
                preface,
                peer,
            }),
        );
    }

    /// An end closed its connection: it hears nothing, the other end does.
    pub(super) fn close(&mut self, no: u64, from: usize) {
        self.drop_conn(no, Some(from), CloseReason::TunnelLost);
    }

    /// A connection breaks; the ends on `silent` hear nothing.
    pub fn break_conn(&mut self, no: u64, silent: Option<HostNo>) {
        let quiet = self
            .conns
            .get(&no)
            .and_then(|conn| conn.ends.iter().position(|end| Some(end.host) == silent));
        self.drop_conn(no, quiet, CloseReason::TunnelLost);
    }

    /// Takes a connection away and tells the ends, except `quiet`.
    pub(super) fn drop_conn(&mut self, no: u64, quiet: Option<usize>, why: CloseReason) {
        // What was sent before the end is still read.
        self.deliver(no);
        let Some(conn) = self.conns.remove(&no) else {
            return;
        };
        let now = self.now;
        for (which, end) in conn.ends.into_iter().enumerate() {
            if matches!(end.carrier, Carrier::Leg | Carrier::Joined(_)) {
                self.host_mut(end.host).relay_worker.leg_gone(no, now);
            }
            if let Carrier::Joined(other) = end.carrier {
                self.drop_conn(other, Some(1), why);
                continue;
            }
            if Some(which) == quiet {
                continue;
            }
            self.tell_closed(end, why);
        }
    }

    fn tell_closed(&mut self, end: End, why: CloseReason) {
        match end.carrier {
            Carrier::Link(link) => {
                self.input(end.host, Input::Event(Event::Closed { link, why }));
            }
            Carrier::Lane(link, lane) => self.lane_closed(end.host, (link, lane.bundle), why),
            Carrier::Circuit(link, _) => {
                self.circuit_event(end.host, link, CircuitEvent::Closed(why));
            }
            Carrier::Fresh | Carrier::Leg | Carrier::Joined(_) => {}
        }
    }

    /// Deadlines and permits that are over.
    pub(super) fn fire_deadlines(&mut self) {
        let now = self.now;
        let due: Vec<(u64, usize, CloseReason)> = self
            .conns
            .iter()
            .flat_map(|(no, conn)| {
                conn.ends
                    .iter()
                    .enumerate()
                    .filter_map(move |(which, end)| {
                        if end.deadline.0 <= now {
                            return Some((*no, which, end.deadline.1));
                        }
                        match &end.carrier {
                            Carrier::Lane(_, lane) if lane.not_after <= now => {
                                Some((*no, which, CloseReason::PermitExpired))
                            }
                            _ => None,
                        }
                    })
            })
            .collect();
        for (no, which, why) in due {
            let Some(conn) = self.conns.get_mut(&no) else {
                continue;
            };
            let host = conn.ends[which].host;
            match &conn.ends[which].carrier {
                Carrier::Link(link) => {
                    let link = *link;
                    self.input(host, Input::Event(Event::Closed { link, why }));
                }
                Carrier::Lane(link, lane) => {
                    let lane = (*link, lane.bundle);
                    self.lane_closed(host, lane, why);
                }
                Carrier::Circuit(..) | Carrier::Fresh | Carrier::Leg | Carrier::Joined(_) => {}
            }
            self.drop_conn(no, Some(which), CloseReason::TunnelLost);
        }
    }

    /// Cuts all connections between two hosts.
    pub fn cut(&mut self, a: HostNo, b: HostNo) {
        for no in self.conns_of(a) {
            let between = self
                .conns
                .get(&no)
                .is_some_and(|conn| conn.ends.iter().any(|end| end.host == b));
            if between {
                self.drop_conn(no, None, CloseReason::TunnelLost);
            }
        }
    }
}

/// The piece that an end expects, if it is there.
fn cut(end: &mut End) -> Option<Vec<u8>> {
    let (skip, len) = match end.expect {
        Expect::Nothing => return None,
        Expect::Exact(len) => (0, usize::from(len)),
        Expect::Frame => {
            let head = end.inbox.first_chunk::<2>()?;
            (2, usize::from(u16::from_be_bytes(*head)))
        }
    };
    if end.inbox.len() < skip + len {
        return None;
    }
    let piece = end.inbox[skip..skip + len].to_vec();
    end.inbox.drain(..skip + len);
    end.expect = Expect::Nothing;
    Some(piece)
}
