//! skeleton
use super::*;
use crate::time::Instant;
use crypto::Random;
/// A node's core.
pub struct MemberCore {}
impl MemberCore {
    /// Begins at `now`; the first outputs are there at once.
    pub fn new(_config: MemberConfig, _random: Box<dyn Random + Send>, _now: Now) -> Self {
        MemberCore {}
    }
}
impl Core for MemberCore {
    fn handle(&mut self, _now: Now, _input: Input) {}
    fn poll_output(&mut self) -> Option<Output> {
        None
    }
    fn next_timer(&self) -> Instant {
        Instant::FAR_FUTURE
    }
    fn status(&self, _now: Now) -> Status {
        unreachable!()
    }
}
