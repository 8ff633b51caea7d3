//! A relay's bulk directions: through a pipe and back, and what may go wrong on the way. The test
//! plays both legs itself, so it sees every byte that the relay forwards.

use super::rig::{PLENTY, RELAY, Rig, Via, noise};
use crate::engine::Errno;
use crate::engine::simulated::{Faults, OpKind};
use crate::limits::{LEG_ANSWER, SPLICE_QUIET, SPLICE_UNTIL_SMALL};
use crate::protocol::command::Role;
use crate::time::Duration;

const BULK: usize = 1 << 20;

/// As rough as bulk can be and still be bulk.
fn rough() -> Faults {
    Faults {
        window: 64 * 1024,
        short_reads: 50,
        ..Faults::rough()
    }
}

/// Two bare legs, paired.
struct Pair {
    rig: Rig,
    ends: [usize; 2],
}

impl Pair {
    fn up(seed: u64, faults: Faults) -> Pair {
        let mut rig = Rig::new(seed, Via::Relay, faults, PLENTY);
        rig.adopts = false;
        let outlet = rig.bare_leg(Role::Outlet, 1);
        let inlet = rig.bare_leg(Role::Inlet, 1);
        let mut pair = Pair {
            rig,
            ends: [inlet, outlet],
        };
        let answered = |pair: &mut Pair| (0..2).all(|end| pair.app(end).got.len() >= LEG_ANSWER);
        assert!(pair.until(answered), "seed {seed}: not paired");
        pair
    }

    fn app(&mut self, end: usize) -> &mut super::app::App {
        &mut self.rig.apps[self.ends[end]]
    }

    /// What arrived at that end behind the relay's answer.
    fn got(&mut self, end: usize) -> &[u8] {
        self.app(end).got.get(LEG_ANSWER..).unwrap_or(&[])
    }

    fn count(&self, name: &str) -> u64 {
        let relay = self.rig.relay.as_ref().unwrap();
        let all = relay.counters.all();
        all.iter().find(|(n, _)| *n == name).unwrap().1
    }

    fn until(&mut self, mut holds: impl FnMut(&mut Pair) -> bool) -> bool {
        // The rig drives the world; the pair looks at it in between.
        let limit = self.rig.world.now() + Duration::from_secs(120);
        loop {
            if holds(self) {
                return true;
            }
            let apps = self.rig.pump_apps();
            if !self.rig.step(limit) && !apps {
                return holds(self);
            }
        }
    }

    fn fail_next(&self, kind: OpKind, errno: Errno) {
        let relay = self.rig.relay.as_ref().unwrap();
        assert_eq!(relay.host, RELAY);
        self.rig.world.fail_next(relay.engine, kind, errno);
    }
}

#[test]
fn bulk_goes_through_a_pipe_each_way_and_arrives_unchanged() {
    let mut spliced = 0;
    for seed in 0..40 {
        let faults = if seed % 4 == 0 {
            Faults::none()
        } else {
            rough()
        };
        let mut pair = Pair::up(seed, faults);
        let says = [noise(BULK, seed), noise(BULK / 2, seed + 1000)];
        for (end, says) in says.iter().enumerate() {
            pair.app(end).say(says);
            pair.app(end).fin = true;
        }
        let over = |pair: &mut Pair| (0..2).all(|end| pair.app(end).is_over());
        assert!(pair.until(over), "seed {seed}: it hangs");
        for (end, says) in says.iter().enumerate() {
            assert!(pair.app(end).is_finished(), "seed {seed}: not a clean end");
            assert!(pair.got(1 - end) == says, "seed {seed}: other bytes");
        }
        let all = (BULK + BULK / 2) as u64;
        assert_eq!(pair.count("bytes_relayed"), all, "seed {seed}");
        if seed % 4 == 0 {
            let through = pair.count("bytes_spliced");
            assert!(through > all * 3 / 4, "seed {seed}: only {through} spliced");
        }
        spliced += pair.count("splices");
        pair.rig.close();
    }
    assert!(spliced > 4_000, "only {spliced} splices in all seeds");
}

#[test]
fn a_half_closed_direction_leaves_the_other_to_its_bulk() {
    for seed in 0..10 {
        let mut pair = Pair::up(seed, rough());
        let (request, reply) = (noise(BULK, seed), noise(BULK, seed + 1));
        pair.app(1).answer = reply.clone();
        pair.app(0).say(&request);
        pair.app(0).fin = true;
        assert!(
            pair.until(|pair| pair.app(0).is_over() && pair.app(1).is_over()),
            "seed {seed}: it hangs"
        );
        assert!(pair.app(0).is_finished() && pair.app(1).is_finished());
        assert!(
            pair.got(1) == request && pair.got(0) == reply,
            "seed {seed}"
        );
        pair.rig.close();
    }
}

#[test]
fn a_quiet_direction_gives_its_pipe_back_and_goes_on_without() {
    let mut pair = Pair::up(1, Faults::none());
    let bytes = noise(BULK, 1);
    pair.app(0).say(&bytes);
    assert!(pair.until(|pair| pair.count("pipes_in_use") == 1));
    assert!(pair.until(|pair| pair.got(1).len() == BULK));
    pair.rig.pass(SPLICE_QUIET * 2);
    assert_eq!(pair.count("pipes_in_use"), 0);
    let before = pair.count("splices");
    for n in 1..=3 {
        pair.app(0).say(b"small");
        assert!(pair.until(|pair| pair.got(1).len() == BULK + 5 * n));
    }
    assert_eq!(pair.count("splices"), before);
    // Bulk again, pipe again.
    pair.app(0).say(&bytes);
    assert!(pair.until(|pair| pair.got(1).len() == 2 * BULK + 15));
    assert!(pair.count("splices") > before);
    assert!(pair.got(1)[BULK + 15..] == bytes);
    pair.rig.close();
}

#[test]
fn a_direction_that_becomes_small_gives_its_pipe_back() {
    let mut pair = Pair::up(1, Faults::none());
    pair.app(0).say(&noise(BULK, 1));
    assert!(pair.until(|pair| pair.got(1).len() == BULK));
    assert_eq!(pair.count("pipes_in_use"), 1);
    let most = usize::from(SPLICE_UNTIL_SMALL);
    for n in 1..=most {
        pair.rig.pass(SPLICE_QUIET / 5);
        pair.app(0).say(b"small");
        assert!(pair.until(|pair| pair.got(1).len() == BULK + 5 * n));
    }
    // It was never quiet.
    assert_eq!(pair.count("pipes_in_use"), 0);
    pair.rig.close();
}

#[test]
fn a_slow_reader_holds_one_pipe_and_loses_nothing() {
    for seed in 0..10 {
        let mut pair = Pair::up(seed, Faults::none());
        let bytes = noise(2 * BULK, seed);
        pair.app(1).reads = 0;
        // A sign of life, as every outlet gives one: without it the leg counts as dead.
        pair.app(1).say(b"!");
        pair.app(0).say(&bytes);
        pair.rig.pass(Duration::from_secs(10));
        assert_eq!(pair.count("pipes_in_use"), 1, "seed {seed}");
        assert!(pair.count("bytes_relayed") < bytes.len() as u64);
        let out = pair.rig.relay.as_ref().unwrap().worker.buffers_out();
        assert_eq!(out, 0, "seed {seed}: no buffer is held");
        pair.app(1).reads = usize::MAX;
        assert!(pair.until(|pair| pair.got(1).len() == bytes.len()));
        assert!(pair.got(1) == bytes, "seed {seed}");
        pair.rig.close();
    }
}

#[test]
fn a_reset_in_the_middle_of_bulk_is_a_reset_at_the_other_leg() {
    for seed in 0..40 {
        let (faults, end) = if seed % 2 == 0 {
            (Faults::none(), 0)
        } else {
            (rough(), 1)
        };
        let mut pair = Pair::up(seed, faults);
        let bytes = noise(BULK, seed);
        pair.app(0).say(&bytes);
        let stop = 150_000 + usize::try_from(seed).unwrap() * 9_973;
        assert!(pair.until(|pair| pair.got(1).len() >= stop));
        pair.app(end).reset();
        let other = 1 - end;
        assert!(pair.until(|pair| pair.app(other).is_over()), "seed {seed}");
        assert!(
            pair.app(other).failed.is_some() && !pair.app(other).eof,
            "seed {seed}: a clean end"
        );
        assert!(bytes.starts_with(pair.got(1)), "seed {seed}");
        assert_eq!(pair.count("pipes_in_use"), 0, "seed {seed}");
        pair.rig.close();
    }
}

#[test]
fn without_a_pipe_bulk_is_received_and_sent() {
    let mut pair = Pair::up(1, Faults::none());
    for _ in 0..100 {
        pair.fail_next(OpKind::Pipe, Errno::MFILE);
    }
    let bytes = noise(BULK, 1);
    pair.app(0).say(&bytes);
    assert!(pair.until(|pair| pair.got(1).len() == BULK));
    assert!(pair.got(1) == bytes);
    assert_eq!(pair.count("splices"), 0);
    assert!(pair.count("pipes_refused") > 0);
    pair.rig.close();
}

#[test]
fn where_splicing_does_not_work_the_direction_goes_on_without() {
    let mut pair = Pair::up(1, Faults::none());
    pair.fail_next(OpKind::SpliceIn, Errno::INVAL);
    let bytes = noise(4 * BULK, 1);
    pair.app(0).say(&bytes);
    assert!(pair.until(|pair| pair.got(1).len() == bytes.len()));
    assert!(pair.got(1) == bytes);
    assert_eq!((pair.count("splices"), pair.count("pipes_in_use")), (0, 0));
    assert!(pair.count("pipes_refused") > 0, "no pipe is tried again");
    pair.rig.close();
}

#[test]
fn a_splice_that_fails_resets_both_legs() {
    for (kind, errno) in [
        (OpKind::SpliceIn, Errno::CONNRESET),
        (OpKind::SpliceIn, Errno::TIMEDOUT),
        (OpKind::SpliceOut, Errno::PIPE),
        (OpKind::SpliceOut, Errno::INVAL),
    ] {
        let mut pair = Pair::up(1, Faults::none());
        pair.fail_next(kind, errno);
        pair.app(0).say(&noise(BULK, 1));
        let over = |pair: &mut Pair| (0..2).all(|end| pair.app(end).is_over());
        assert!(pair.until(over), "{kind:?} {errno:?}: it hangs");
        for end in 0..2 {
            assert!(pair.app(end).failed.is_some(), "{kind:?} {errno:?}");
        }
        assert_eq!(pair.count("legs_paired"), 0);
        pair.rig.close();
    }
}

#[test]
fn a_lane_is_spliced_like_any_circuit() {
    for seed in 0..10 {
        let faults = if seed % 2 == 0 {
            Faults::none()
        } else {
            rough()
        };
        let mut rig = Rig::up(seed, Via::Relay, faults, PLENTY);
        let bytes = noise(2 * BULK, seed);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over()),
            "seed {seed}: it hangs"
        );
        assert!(rig.apps[app].is_finished() && rig.apps[app].got == bytes);
        rig.close();
    }
}
