//! The wire of the simulated world: what is under way, when it arrives, and what may happen to it.

use std::net::{IpAddr, SocketAddr};

use super::super::faults::{Flow, Verdict};
use super::dial::Answer;
use super::{Chunk, Kind, Net, Owner, SockId};
use crate::engine::Errno;
use crate::limits::{
    SIM_RETRANSMIT_TIMEOUT, SIM_SYN_RETRIES_MAX, SIM_SYN_RETRY, TUNNEL_KEEPALIVE,
    TUNNEL_KEEPALIVE_PROBE, TUNNEL_USER_TIMEOUT,
};
use crate::time::{Duration, Instant};

/// Nothing is faster: the clock moves between cause and effect.
const HOP: Duration = Duration::from_micros(1);

#[derive(Debug)]
pub(super) enum Event {
    Syn {
        sock: SockId,
        from: SocketAddr,
        to: SocketAddr,
        tries: u32,
    },
    SynAck {
        conn: u64,
    },
    Refused {
        sock: SockId,
    },
    Deliver {
        conn: u64,
        side: usize,
    },
    /// Data of that side has been held up since `since`.
    Unacknowledged {
        conn: u64,
        side: usize,
        since: Instant,
    },
    /// The reader of that side's bytes keeps its window closed since `since`.
    Shut {
        conn: u64,
        side: usize,
        since: Instant,
    },
    /// Keepalive probes of that connection have gone unanswered since `since`.
    Unanswered {
        conn: u64,
        since: Instant,
    },
    /// That side probes a connection that the other side has given up.
    Probe {
        conn: u64,
        side: usize,
    },
    /// The test wants to look.
    Alarm,
    /// An operation moved less than it could: the engine tries again.
    Nudge(u32),
}

fn pair(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    if a <= b { (a, b) } else { (b, a) }
}

impl Net {
    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.events.insert((when, self.next_event), event);
        self.next_event += 1;
    }

    pub(in super::super) fn alarm(&mut self, when: Instant) {
        self.at(when, Event::Alarm);
    }

    pub(in super::super) fn nudge(&mut self, engine: u32) {
        self.nudge_in(engine, HOP);
    }

    pub(in super::super) fn nudge_in(&mut self, engine: u32, delay: Duration) {
        self.after(delay, Event::Nudge(engine));
    }

    fn latency(&mut self) -> Duration {
        let range = self.faults.latency.clone();
        let span = range.end.saturating_sub(range.start).as_nanos();
        let extra = self.rng.below(u64::try_from(span).unwrap_or(0));
        (range.start + Duration::from_nanos(extra)).max(HOP)
    }

    /// When the next thing on the wire happens.
    pub(in super::super) fn next_event(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((when, _), _)| *when)
    }

    /// Everything that is due by now.
    pub(in super::super) fn run_due(&mut self) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Syn {
                sock,
                from,
                to,
                tries,
            } => self.syn(sock, from, to, tries),
            Event::SynAck { conn } => self.syn_ack(conn),
            Event::Refused { sock } => self.fail_dial(sock, Errno::CONNREFUSED),
            Event::Deliver { conn, side } => self.deliver(conn, side),
            Event::Unacknowledged { conn, side, since } => {
                let held = self.conns.get(&conn).and_then(|c| c.pipes[side].held_since);
                if held == Some(since) {
                    self.lose(conn, side, Errno::TIMEDOUT);
                }
            }
            Event::Shut { conn, side, since } => {
                let shut = self.conns.get(&conn).and_then(|c| c.pipes[side].shut_since);
                if shut == Some(since) && self.user_timeout(conn, side).is_some() {
                    // As Linux does, whether the probes are answered or not.
                    self.lose(conn, side, Errno::TIMEDOUT);
                }
            }
            Event::Unanswered { conn, since } => self.unanswered(conn, since),
            Event::Probe { conn, side } => self.probe(conn, side),
            Event::Alarm => {}
            Event::Nudge(engine) => self.tell(Owner::Engine(engine)),
        }
    }

    // ---- connecting -----------------------------------------------------------------------

    pub(super) fn dial(&mut self, sock: SockId, from: SocketAddr, to: SocketAddr, tries: u32) {
        let delay = self.latency();
        self.after(
            delay,
            Event::Syn {
                sock,
                from,
                to,
                tries,
            },
        );
    }

    fn syn(&mut self, sock: SockId, from: SocketAddr, to: SocketAddr, tries: u32) {
        if !matches!(
            self.sockets.get(&sock).map(|s| &s.kind),
            Some(Kind::Dialing)
        ) {
            return;
        }
        let lost = self.blackholes.contains(&to.ip()) || self.is_cut(from.ip(), to.ip());
        let answer = if lost {
            Answer::Dropped
        } else if self.rng.chance(self.faults.refuse) {
            Answer::Refused
        } else {
            self.answer(sock, from, to)
        };
        let delay = self.latency();
        match answer {
            Answer::Accepted(conn) => self.after(delay, Event::SynAck { conn }),
            Answer::Refused => self.after(delay, Event::Refused { sock }),
            Answer::Dropped if tries >= SIM_SYN_RETRIES_MAX => {
                self.fail_dial(sock, Errno::TIMEDOUT)
            }
            Answer::Dropped => {
                let delay = SIM_SYN_RETRY * 2_u32.pow(tries);
                self.after(
                    delay,
                    Event::Syn {
                        sock,
                        from,
                        to,
                        tries: tries + 1,
                    },
                );
            }
        }
    }

    fn syn_ack(&mut self, conn: u64) {
        let Some(sock) = self.conns.get(&conn).and_then(|c| c.socks[0]) else {
            return;
        };
        match self.sockets.get_mut(&sock) {
            Some(s) => {
                s.kind = Kind::End { conn, side: 0 };
                self.tell_sock(Some(sock));
            }
            // The dialer gave up meanwhile: its host answers with a reset.
            None => {
                if let Some(c) = self.conns.get_mut(&conn) {
                    c.socks[0] = None;
                }
                self.abort(conn, 0);
                self.collect(conn);
            }
        }
    }

    // ---- bytes ----------------------------------------------------------------------------

    /// Sends bytes on their way, in one chunk or several.
    pub(super) fn launch(&mut self, conn: u64, side: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = if rest.len() > 1 && self.rng.chance(self.faults.split) {
                self.rng.within(1..rest.len())
            } else {
                rest.len()
            };
            let (now, later) = rest.split_at(n);
            self.launch_chunk(conn, side, Chunk::Bytes(now.to_vec()));
            rest = later;
        }
    }

    pub(super) fn launch_end(&mut self, conn: u64, side: usize, end: Chunk) {
        self.launch_chunk(conn, side, end);
    }

    fn launch_chunk(&mut self, conn: u64, side: usize, chunk: Chunk) {
        let due = self.now + self.latency();
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let pipe = &mut c.pipes[side];
        pipe.last_due = pipe.last_due.max(due);
        if let Chunk::Bytes(bytes) = &chunk {
            pipe.flying_bytes += bytes.len();
        }
        let due = pipe.last_due;
        pipe.flying.push_back((due, chunk));
        self.at(due, Event::Deliver { conn, side });
    }

    /// That side resets the connection: some of what it had under way still arrives, then a RST.
    pub(super) fn abort(&mut self, conn: u64, side: usize) {
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        if c.pipes[side].held_since.is_none() {
            let n = c.pipes[side].flying.len();
            let keep = self.rng.within(0..n + 1);
            let pipe = &mut c.pipes[side];
            for (_, chunk) in pipe.flying.drain(keep..) {
                if let Chunk::Bytes(bytes) = chunk {
                    pipe.flying_bytes -= bytes.len();
                }
            }
        }
        self.launch_chunk(conn, side, Chunk::Rst);
    }

    fn deliver(&mut self, conn: u64, side: usize) {
        let now = self.now;
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let [from, to] = [c.addrs[side], c.addrs[1 - side]];
        if self.is_cut(from.ip(), to.ip()) {
            self.hold(conn, side);
            return;
        }
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let pipe = &mut c.pipes[side];
        pipe.held_since = None;
        if pipe.flying.front().is_none_or(|(due, _)| *due > now) {
            return;
        }
        let Some((_, chunk)) = pipe.flying.pop_front() else {
            return;
        };
        match chunk {
            Chunk::Bytes(bytes) => self.bytes_arrive(conn, side, bytes),
            Chunk::Fin => {
                pipe.fin = true;
                let reader = c.socks[1 - side];
                self.note(|| format!("{from} -> {to} FIN"));
                self.tell_sock(reader);
            }
            Chunk::Rst => {
                self.note(|| format!("{from} -> {to} RST"));
                self.lose(conn, 1 - side, Errno::CONNRESET);
            }
        }
    }

    fn bytes_arrive(&mut self, conn: u64, side: usize, mut bytes: Vec<u8>) {
        let reset = self.rng.chance(self.faults.reset);
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let pipe = &mut c.pipes[side];
        let flow = Flow {
            from: c.addrs[side],
            to: c.addrs[1 - side],
            outward: side == 0,
            offset: pipe.passed,
            connection: conn,
            now: self.now,
        };
        let sent = bytes.len();
        pipe.flying_bytes -= sent;
        pipe.passed += sent as u64;
        let mut verdict = if reset { Verdict::Reset } else { Verdict::Pass };
        if let Some(tap) = &mut self.tap
            && !reset
        {
            verdict = tap(&flow, &mut bytes);
        }
        self.note(|| format!("{} -> {} {sent} bytes, {verdict:?}", flow.from, flow.to));
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let pipe = &mut c.pipes[side];
        let (reader, writer) = (c.socks[1 - side], c.socks[side]);
        if reader.is_none() {
            // Bytes for a closed socket are answered with a reset.
            self.abort(conn, 1 - side);
            return;
        }
        if !pipe.cut && !c.shut_read[1 - side] {
            pipe.arrived.extend(&bytes);
        }
        let is_shut = pipe.blocked && pipe.arrived.len() >= self.faults.window;
        if is_shut && pipe.shut_since.is_none() {
            let since = self.now;
            pipe.shut_since = Some(since);
            self.after(TUNNEL_USER_TIMEOUT, Event::Shut { conn, side, since });
        }
        self.tell_sock(reader);
        self.tell_sock(writer);
        match verdict {
            Verdict::Pass => {}
            Verdict::Fin => {
                if let Some(c) = self.conns.get_mut(&conn) {
                    c.pipes[side].fin = true;
                    c.pipes[side].cut = true;
                }
            }
            Verdict::Reset => {
                self.lose(conn, side, Errno::CONNRESET);
                self.lose(conn, 1 - side, Errno::CONNRESET);
            }
        }
    }

    /// That side learns that the connection is lost; nothing of it is under way any more.
    pub(in super::super) fn lose(&mut self, conn: u64, side: usize, errno: Errno) {
        let discards = self.rng.chance(self.faults.reset_discards);
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        c.errors[side].get_or_insert(errno);
        let own = &mut c.pipes[side];
        own.flying.clear();
        own.flying_bytes = 0;
        if discards {
            c.pipes[1 - side].arrived.clear();
        }
        let sock = c.socks[side];
        self.tell_sock(sock);
        if errno == Errno::TIMEDOUT {
            let side = 1 - side;
            self.after(TUNNEL_KEEPALIVE, Event::Probe { conn, side });
        }
    }

    /// A call on that socket failed by order: the connection is lost, and the peer learns of it.
    pub(in super::super) fn break_off(&mut self, sock: SockId, errno: Errno) {
        match self.end_of(sock) {
            Some((conn, side)) => {
                self.abort(conn, side);
                if let Some(c) = self.conns.get_mut(&conn) {
                    c.errors[side].get_or_insert(errno);
                }
            }
            None => {
                if let Some(s) = self.sockets.get_mut(&sock) {
                    s.kind = Kind::Failed(errno);
                }
            }
        }
    }

    /// Ends every connection between two hosts, as a middlebox does that forgets its state.
    pub(in super::super) fn reset_between(&mut self, a: IpAddr, b: IpAddr) {
        let hit = self.between(a, b);
        for conn in hit {
            self.lose(conn, 0, Errno::CONNRESET);
            self.lose(conn, 1, Errno::CONNRESET);
        }
    }

    fn between(&self, a: IpAddr, b: IpAddr) -> Vec<u64> {
        let of = |c: &super::Conn| pair(c.addrs[0].ip(), c.addrs[1].ip());
        self.conns
            .iter()
            .filter(|(_, c)| of(c) == pair(a, b))
            .map(|(&id, _)| id)
            .collect()
    }

    // ---- partitions -----------------------------------------------------------------------

    fn is_cut(&self, a: IpAddr, b: IpAddr) -> bool {
        self.partitions.contains_key(&pair(a, b))
    }

    fn is_tunnel(&self, sock: Option<SockId>) -> bool {
        sock.and_then(|s| self.sockets.get(&s))
            .is_some_and(|s| s.opt.tunnel)
    }

    /// TCP_USER_TIMEOUT of a side, if it has one.
    fn user_timeout(&self, conn: u64, side: usize) -> Option<Duration> {
        let sock = self.conns.get(&conn)?.socks[side]?;
        let opt = self.sockets.get(&sock)?.opt;
        (opt.tunnel && !opt.patient).then_some(TUNNEL_USER_TIMEOUT)
    }

    pub(in super::super) fn partition(&mut self, a: IpAddr, b: IpAddr) {
        let since = self.now;
        self.partitions.entry(pair(a, b)).or_insert(since);
        let (interval, probes) = TUNNEL_KEEPALIVE_PROBE;
        for conn in self.between(a, b) {
            let delay = TUNNEL_KEEPALIVE + interval * probes;
            self.after(delay, Event::Unanswered { conn, since });
        }
    }

    pub(in super::super) fn heal(&mut self, a: IpAddr, b: IpAddr) {
        if self.partitions.remove(&pair(a, b)).is_none() {
            return;
        }
        for conn in self.between(a, b) {
            for side in 0..2 {
                // One delivery per chunk that was held up; those still due come by themselves.
                let n = self
                    .conns
                    .get(&conn)
                    .map_or(0, |c| c.pipes[side].flying.len());
                let delay = self.latency();
                for _ in 0..n {
                    self.after(delay, Event::Deliver { conn, side });
                }
            }
        }
    }

    pub(in super::super) fn blackhole(&mut self, host: IpAddr, on: bool) {
        if on {
            self.blackholes.insert(host);
        } else {
            self.blackholes.remove(&host);
        }
    }

    fn hold(&mut self, conn: u64, side: usize) {
        let since = self.now;
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        if c.pipes[side].held_since.is_some() {
            return;
        }
        c.pipes[side].held_since = Some(since);
        let timeout = self
            .user_timeout(conn, side)
            .unwrap_or(SIM_RETRANSMIT_TIMEOUT);
        self.after(timeout, Event::Unacknowledged { conn, side, since });
    }

    /// A keepalive probe: the other host knows the connection no more and answers with a reset.
    fn probe(&mut self, conn: u64, side: usize) {
        let Some(c) = self.conns.get(&conn) else {
            return;
        };
        let [own, other] = [c.addrs[side], c.addrs[1 - side]];
        if c.errors[side].is_some() || !self.is_tunnel(c.socks[side]) {
            return;
        }
        if self.is_cut(own.ip(), other.ip()) {
            self.after(TUNNEL_KEEPALIVE_PROBE.0, Event::Probe { conn, side });
        } else {
            self.lose(conn, side, Errno::CONNRESET);
        }
    }

    fn unanswered(&mut self, conn: u64, since: Instant) {
        let Some(c) = self.conns.get(&conn) else {
            return;
        };
        let (hosts, socks) = (pair(c.addrs[0].ip(), c.addrs[1].ip()), c.socks);
        if self.partitions.get(&hosts) != Some(&since) {
            return;
        }
        for (side, sock) in socks.into_iter().enumerate() {
            if self.is_tunnel(sock) {
                self.lose(conn, side, Errno::TIMEDOUT);
            }
        }
    }
}
