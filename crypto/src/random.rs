//! Where randomness comes from: always from the caller.

use ring::rand::SecureRandom;

/// A source of unpredictable bytes. It can't fail: a source that has nothing to give must stop
/// the process, because every caller would otherwise have to decide how to go on without keys.
pub trait Random {
    /// Fills all of `out`.
    fn fill(&mut self, out: &mut [u8]);
}

/// Draws a fixed-size array from `random`.
pub fn bytes<const N: usize>(random: &mut dyn Random) -> [u8; N] {
    let mut out = [0; N];
    random.fill(&mut out);
    out
}

/// The operating system's generator.
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// A handle; it holds no state of its own.
    pub fn new() -> SystemRandom {
        SystemRandom(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> SystemRandom {
        SystemRandom::new()
    }
}

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        // getrandom(2) on a booted system does not fail; a process that has no randomness must
        // not go on with zeros.
        self.0
            .fill(out)
            .expect("the operating system gives no randomness");
    }
}

/// Bytes that follow from a seed: SHA-256(`adit-seeded-random` ‖ seed ‖ block number), block
/// after block. For tests and simulations only: whoever knows the seed knows every key.
#[cfg(any(test, feature = "sim"))]
pub struct SeededRandom {
    seed: u64,
    block_no: u64,
    block: [u8; 32],
    used: usize,
}

#[cfg(any(test, feature = "sim"))]
impl SeededRandom {
    /// The stream of `seed`, from its beginning.
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom {
            seed,
            block_no: 0,
            block: [0; 32],
            used: 32,
        }
    }
}

#[cfg(any(test, feature = "sim"))]
impl Random for SeededRandom {
    fn fill(&mut self, out: &mut [u8]) {
        use sha2::{Digest, Sha256};
        for byte in out {
            if self.used == self.block.len() {
                let mut hash = Sha256::new_with_prefix(b"adit-seeded-random");
                hash.update(self.seed.to_be_bytes());
                hash.update(self.block_no.to_be_bytes());
                self.block = hash.finalize().into();
                self.block_no += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_stream_however_it_is_cut() {
        let whole: [u8; 100] = bytes(&mut SeededRandom::new(7));
        let mut cut = SeededRandom::new(7);
        let mut pieces = [0; 100];
        for piece in pieces.chunks_mut(9) {
            cut.fill(piece);
        }
        assert_eq!(whole, pieces);
        assert_ne!(whole, bytes(&mut SeededRandom::new(8)));
    }

    #[test]
    fn the_system_does_not_repeat_itself() {
        let mut random = SystemRandom::new();
        assert_ne!(bytes::<32>(&mut random), bytes::<32>(&mut random));
    }
}
