//! skeleton
use super::*;
use crate::time::Instant;
use crypto::Random;
/// A node's core.
pub struct ServerCore {}
impl ServerCore {
    /// Begins at `now`; the first outputs are there at once.
    pub fn new(_config: ServerConfig, _random: Box<dyn Random + Send>, _now: Now) -> Self {
        ServerCore {}
    }
}
impl Core for ServerCore {
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
