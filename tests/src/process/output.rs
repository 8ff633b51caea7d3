//! What programs print, kept from the first byte on, with a signal for those who wait for it.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, Outcome};

/// What one pipe of a program brought.
pub struct Output {
    so_far: Mutex<SoFar>,
    news: Condvar,
}

#[derive(Default)]
struct SoFar {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Reads the pipe to its end on a thread of its own.
    pub fn collect(pipe: Option<impl Read + Send + 'static>) -> Arc<Output> {
        let output = Arc::new(Output {
            so_far: Mutex::default(),
            news: Condvar::new(),
        });
        let collector = Arc::clone(&output);
        thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            if let Some(mut pipe) = pipe {
                while let Ok(len @ 1..) = pipe.read(&mut chunk) {
                    collector.lock().bytes.extend_from_slice(&chunk[..len]);
                    collector.news.notify_all();
                    News::announce();
                }
            }
            collector.lock().ended = true;
            collector.news.notify_all();
            News::announce();
        });
        output
    }

    /// A test that failed elsewhere must still be able to print what it has.
    fn lock(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it up to now; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// Waits until `find` finds something in the complete lines so far.
    pub fn wait_for<T>(&self, end: Instant, find: impl Fn(&str) -> Option<T>) -> Outcome<T> {
        let mut so_far = self.lock();
        loop {
            let newline = so_far.bytes.iter().rposition(|&byte| byte == b'\n');
            let complete = if so_far.ended {
                so_far.bytes.len()
            } else {
                newline.map_or(0, |at| at + 1)
            };
            if let Some(found) = find(&String::from_utf8_lossy(&so_far.bytes[..complete])) {
                return Ok(found);
            }
            if so_far.ended {
                return Err(Failure("it ended before".to_owned()));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure("the time is over".to_owned()));
            }
            so_far = self
                .news
                .wait_timeout(so_far, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// All of it, once the program closed the pipe, or what there is at the deadline.
    pub fn all(&self, end: Instant) -> Vec<u8> {
        let left = end.saturating_duration_since(Instant::now());
        let waited = self
            .news
            .wait_timeout_while(self.lock(), left, |so_far| !so_far.ended);
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .bytes
            .clone()
    }
}

/// Counts the pieces that any watched program printed: whatever one prints may be what somebody
/// waits for.
pub struct News;

static PIECES: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

impl News {
    /// How many there were.
    pub fn so_far() -> u64 {
        *PIECES.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are more than `seen`, at most so long.
    pub fn wait(seen: u64, at_most: Duration) {
        let pieces = PIECES.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            PIECES
                .1
                .wait_timeout_while(pieces, at_most, |now| *now == seen),
        );
    }

    fn announce() {
        *PIECES.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        PIECES.1.notify_all();
    }
}
