//! The hop on adit's engine: a direction of a connection receives into one of its two buffers while
//! the other is sent, and nothing is in flight that has no buffer.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use proxy::engine::{
    Buf, Class, Close, Dir, Done, DoneList, Engine, Family, Op, Outcome, Sock, SockOpt, Token, Wait,
};

const ACCEPT: u8 = 0;
const CONNECT: u8 = 1;
/// Plus the direction: 0 from the client, 1 from the target.
const RECEIVE: u8 = 2;
const SEND: u8 = 4;

/// Buffers of one direction.
const BUFFERS: usize = 2;

/// One direction.
#[derive(Default)]
struct Flow {
    spare: Vec<Buf>,
    full: VecDeque<(Buf, usize)>,
    receiving: bool,
    sending: bool,
    /// The sender has ended.
    ended: bool,
    /// The receiver has been told.
    told: bool,
}

/// A client's connection and the one to the target for it.
struct Pair {
    /// The client's, the target's.
    socks: [Sock; 2],
    flows: [Flow; 2],
    in_flight: u32,
    broken: bool,
}

struct Hop<E: Engine> {
    engine: E,
    target: SocketAddr,
    pairs: Vec<Option<Pair>>,
}

/// Forwards until the process ends.
pub(super) fn forward<E: Engine<Carry = OwnedFd>>(
    mut engine: E,
    listener: TcpListener,
    target: SocketAddr,
) -> io::Result<()> {
    let listener = engine.listen(&OwnedFd::from(listener))?;
    let token = Token {
        slot: 0,
        generation: 0,
        op: ACCEPT,
    };
    let accept = Op::Accept {
        on: listener.name(),
    };
    if engine.submit(token, accept).is_err() {
        return Err(io::Error::other("the engine takes no accept"));
    }
    let mut hop = Hop {
        engine,
        target,
        pairs: Vec::new(),
    };
    let mut done = DoneList::new();
    loop {
        hop.engine.turn(Wait::Forever, &mut done);
        for Done { token, what, .. } in done.drain(..) {
            hop.landed(token, what)?;
        }
    }
}

impl<E: Engine> Hop<E> {
    fn landed(&mut self, token: Token, what: Outcome) -> io::Result<()> {
        if token.op == ACCEPT {
            let Outcome::Accepted(client, _) = what else {
                return Err(io::Error::other(format!("accepting: {what:?}")));
            };
            return self.accepted(client);
        }
        let slot = token.slot as usize;
        let Some(Some(pair)) = self.pairs.get_mut(slot) else {
            return Err(io::Error::other("a completion of nobody"));
        };
        pair.in_flight -= 1;
        let back = if token.op == CONNECT {
            pair.broken |= !matches!(what, Outcome::Connected);
            None
        } else if token.op < SEND {
            let flow = &mut pair.flows[usize::from(token.op - RECEIVE)];
            flow.receiving = false;
            if let Outcome::Received { buf, len, .. } = what {
                flow.full.push_back((buf, len));
                None
            } else if let Outcome::Eof { buf } = what {
                flow.ended = true;
                buf.map(|buf| (flow, buf))
            } else {
                pair.broken = true;
                buffer_of(what).map(|buf| (flow, buf))
            }
        } else {
            let flow = &mut pair.flows[usize::from(token.op - SEND)];
            flow.sending = false;
            if let Outcome::Sent { buf } = what {
                Some((flow, buf))
            } else {
                pair.broken = true;
                buffer_of(what).map(|buf| (flow, buf))
            }
        };
        if let Some((flow, buf)) = back {
            flow.spare.push(buf);
        }
        self.go_on(slot)
    }

    fn accepted(&mut self, client: Sock) -> io::Result<()> {
        let family = Family::of(&self.target);
        let target = self.engine.socket(family, &SockOpt::default())?;
        let mut pair = Pair {
            socks: [client, target],
            flows: Default::default(),
            in_flight: 1,
            broken: false,
        };
        for flow in &mut pair.flows {
            for _ in 0..BUFFERS {
                let buf = self.engine.alloc(Class::Large);
                flow.spare
                    .push(buf.ok_or_else(|| io::Error::other("no buffer is left"))?);
            }
        }
        let free = self.pairs.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        let connect = Op::Connect {
            on: pair.socks[1].name(),
            to: self.target,
        };
        self.pairs[slot] = Some(pair);
        submit(&mut self.engine, slot, CONNECT, connect)
    }

    /// Does whatever the pair can do now.
    fn go_on(&mut self, slot: usize) -> io::Result<()> {
        let Some(Some(pair)) = self.pairs.get_mut(slot) else {
            return Ok(());
        };
        let over = pair.flows.iter().all(|flow| flow.told);
        if pair.broken || over {
            for sock in &pair.socks {
                self.engine.cancel(sock.name());
            }
            if pair.in_flight == 0 {
                self.close(slot);
            }
            return Ok(());
        }
        for (from, flow) in pair.flows.iter_mut().enumerate() {
            let code = u8::from(from == 1);
            if !flow.receiving
                && !flow.ended
                && let Some(buf) = flow.spare.pop()
            {
                let on = pair.socks[from].name();
                let max = buf.len();
                let receive = Op::RecvInto {
                    on,
                    buf,
                    at: 0,
                    max,
                };
                flow.receiving = true;
                pair.in_flight += 1;
                submit(&mut self.engine, slot, RECEIVE + code, receive)?;
            }
            let to = pair.socks[1 - from].name();
            if !flow.sending
                && let Some((buf, len)) = flow.full.pop_front()
            {
                let send = Op::Send {
                    on: to,
                    buf,
                    range: 0..len,
                };
                flow.sending = true;
                pair.in_flight += 1;
                submit(&mut self.engine, slot, SEND + code, send)?;
            }
            if flow.ended && !flow.sending && flow.full.is_empty() && !flow.told {
                flow.told = true;
                pair.broken |= self.engine.shutdown(to, Dir::Write).is_err();
            }
        }
        let over = pair.broken || pair.flows.iter().all(|flow| flow.told);
        if over && pair.in_flight == 0 {
            self.close(slot);
        }
        Ok(())
    }

    fn close(&mut self, slot: usize) {
        let Some(pair) = self.pairs[slot].take() else {
            return;
        };
        let how = if pair.broken {
            Close::Reset
        } else {
            Close::Fin
        };
        for sock in pair.socks {
            self.engine.close(sock, how);
        }
        for flow in pair.flows {
            let full = flow.full.into_iter().map(|(buf, _)| buf);
            for buf in flow.spare.into_iter().chain(full) {
                self.engine.free(buf);
            }
        }
    }
}

fn submit<E: Engine>(engine: &mut E, slot: usize, op: u8, what: Op) -> io::Result<()> {
    let token = Token {
        slot: u32::try_from(slot).map_err(io::Error::other)?,
        // A slot is free again only when nothing of it is in flight.
        generation: 0,
        op,
    };
    let refused = |_| io::Error::other("the engine refused an operation");
    engine.submit(token, what).map_err(refused)
}

fn buffer_of(what: Outcome) -> Option<Buf> {
    if let Outcome::Failed { buf, .. } | Outcome::Cancelled { buf, .. } = what {
        buf
    } else {
        None
    }
}
