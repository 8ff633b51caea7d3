//! The rig that drives one or more engines, and the engines it can drive.

pub mod connections;
pub mod ending;
mod harness;
pub mod receiving;
pub mod sending;
pub mod splicing;
pub mod turns;

pub use harness::{EpollHarness, Harness, RoughSimHarness, SimHarness, UringHarness};

use std::net::SocketAddr;

use proxy::engine::{
    Buf, Class, Close, Done, Engine, EngineConfig, Errno, Family, Op, Outcome, Sock, SockOpt,
    SockRef, Token, leaks,
};

/// Enough of everything for a test that does not ask for less.
pub fn config() -> EngineConfig {
    EngineConfig {
        sockets: 4096,
        buffers: [256, 256, 64, 16],
        pipes: 8,
    }
}

/// Engines under test, with their completions sorted by token.
pub struct Rig<H: Harness> {
    pub h: H,
    arrived: Vec<Vec<Done>>,
    tokens: u32,
    leaks_before: u64,
}

impl<H: Harness> Rig<H> {
    pub fn new(engines: usize, cfg: &EngineConfig) -> Self {
        Rig {
            leaks_before: leaks(),
            h: H::open(engines, cfg),
            arrived: (0..engines).map(|_| Vec::new()).collect(),
            tokens: 0,
        }
    }

    pub fn one() -> Self {
        Self::new(1, &config())
    }

    pub fn engine(&mut self, i: usize) -> &mut H::E {
        self.h.engine(i)
    }

    pub fn token(&mut self) -> Token {
        self.tokens += 1;
        Token {
            slot: self.tokens,
            generation: 7,
            op: 3,
        }
    }

    /// Submits an operation that must be taken.
    pub fn submit(&mut self, i: usize, op: Op) -> Token {
        let t = self.token();
        if let Err(op) = self.engine(i).submit(t, op) {
            panic!("{op:?} was given back");
        }
        t
    }

    /// Lets all engines run until something completes or a moment has passed.
    pub fn pump(&mut self) {
        self.h.pump(&mut self.arrived);
    }

    /// The next result of that operation.
    pub fn wait(&mut self, i: usize, t: Token) -> Done {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            if let Some(done) = self.take(i, t) {
                return done;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{t:?} never completed"
            );
            self.pump();
        }
    }

    /// A result of that operation, if one has arrived.
    pub fn take(&mut self, i: usize, t: Token) -> Option<Done> {
        let at = self.arrived[i].iter().position(|d| d.token == t)?;
        Some(self.arrived[i].remove(at))
    }

    /// Lets the engines run for a while; none of `tokens` may complete.
    pub fn nothing_for(&mut self, i: usize, tokens: &[Token]) {
        for _ in 0..20 {
            self.h.rest(&mut self.arrived);
        }
        for t in tokens {
            if let Some(done) = self.take(i, *t) {
                panic!("{done:?} too early");
            }
        }
    }

    /// The end of that operation: it must be its last result.
    pub fn end(&mut self, i: usize, t: Token) -> Outcome {
        let done = self.wait(i, t);
        assert!(!done.more, "{done:?}");
        done.what
    }

    pub fn listen(&mut self, i: usize) -> (Sock, SocketAddr) {
        let (carry, addr) = self.h.listener(i);
        let sock = self.engine(i).listen(&carry).unwrap();
        (sock, addr)
    }

    pub fn connect(&mut self, i: usize, to: SocketAddr) -> (Sock, Token) {
        let sock = self
            .engine(i)
            .socket(Family::of(&to), &SockOpt::default())
            .unwrap();
        let t = self.submit(
            i,
            Op::Connect {
                on: sock.name(),
                to,
            },
        );
        (sock, t)
    }

    /// A connection from engine `a` to engine `b`: its two ends.
    pub fn pair(&mut self, a: usize, b: usize) -> (Sock, Sock) {
        let (listener, addr) = self.listen(b);
        let accept = self.submit(
            b,
            Op::Accept {
                on: listener.name(),
            },
        );
        let (near, connect) = self.connect(a, addr);
        let far = self.accepted(b, accept);
        assert!(matches!(self.end(a, connect), Outcome::Connected));
        self.engine(b).cancel(listener.name());
        assert!(matches!(self.end(b, accept), Outcome::Cancelled { .. }));
        self.engine(b).close(listener, Close::Fin);
        (near, far)
    }

    pub fn accepted(&mut self, i: usize, accept: Token) -> Sock {
        let done = self.wait(i, accept);
        match done.what {
            Outcome::Accepted(sock, _) if done.more => sock,
            other => panic!("{other:?}"),
        }
    }

    /// A buffer of the class with `bytes` in front.
    pub fn filled(&mut self, i: usize, class: Class, bytes: &[u8]) -> Buf {
        let mut buf = self.engine(i).alloc(class).unwrap();
        buf[..bytes.len()].copy_from_slice(bytes);
        buf
    }

    /// Sends bytes and waits until they are sent.
    pub fn send(&mut self, i: usize, on: SockRef, bytes: &[u8]) {
        let class = if bytes.len() > Class::Small.size() {
            Class::Bulk
        } else {
            Class::Small
        };
        let buf = self.filled(i, class, bytes);
        let t = self.submit(
            i,
            Op::Send {
                on,
                buf,
                range: 0..bytes.len(),
            },
        );
        match self.end(i, t) {
            Outcome::Sent { buf } => self.engine(i).free(buf),
            other => panic!("{other:?}"),
        }
    }

    pub fn recv_any(&mut self, i: usize, on: SockRef) -> Token {
        self.submit(
            i,
            Op::RecvAny {
                on,
                class: Class::Small,
                at: 0,
                tail: 0,
            },
        )
    }

    /// Receives until `want` bytes are there.
    pub fn recv(&mut self, i: usize, on: SockRef, want: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < want {
            let t = self.recv_any(i, on);
            match self.end(i, t) {
                Outcome::Received { buf, at, len, .. } => {
                    got.extend_from_slice(&buf[at..at + len]);
                    self.engine(i).free(buf);
                }
                other => panic!("{other:?} after {} bytes", got.len()),
            }
        }
        got
    }

    /// Sends at one end and receives at the other at the same time: any amount gets through.
    pub fn transfer(&mut self, i: usize, from: SockRef, to: SockRef, bytes: &[u8]) {
        let buf = self.filled(i, Class::Bulk, bytes);
        let t = self.submit(
            i,
            Op::Send {
                on: from,
                buf,
                range: 0..bytes.len(),
            },
        );
        assert_eq!(self.recv(i, to, bytes.len()), bytes);
        match self.end(i, t) {
            Outcome::Sent { buf } => self.engine(i).free(buf),
            other => panic!("{other:?}"),
        }
    }

    pub fn expect_eof(&mut self, i: usize, on: SockRef) {
        let t = self.recv_any(i, on);
        match self.end(i, t) {
            Outcome::Eof { buf: None } => {}
            other => panic!("{other:?}"),
        }
    }

    pub fn expect_failure(&mut self, i: usize, t: Token) -> Errno {
        match self.end(i, t) {
            Outcome::Failed { errno, buf, part } => {
                assert!(part.is_none());
                if let Some(buf) = buf {
                    self.engine(i).free(buf);
                }
                errno
            }
            other => panic!("{other:?}"),
        }
    }

    /// Closes what is left of a test and checks that nothing was lost.
    pub fn finish(mut self, socks: impl IntoIterator<Item = (usize, Sock)>) {
        for (i, s) in socks {
            self.engine(i).close(s, Close::Reset);
        }
        for i in 0..self.arrived.len() {
            assert!(self.arrived[i].is_empty(), "{:?}", self.arrived[i]);
            let stats = self.engine(i).pool();
            assert!(stats.balanced(), "{stats:?}");
            assert_eq!((stats.out(), stats.foreign), (0, 0), "{stats:?}");
            assert_eq!(stats.pipes, 0, "pipes are out");
        }
        self.h.check();
        drop(self.h);
        assert_eq!(leaks(), self.leaks_before, "something was dropped");
    }
}
