//! Where other threads leave what they have for a driver, and how they wake it.
//!
//! Bounded without a bound of its own: the helpers' queues are, and each question gets one answer.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::store::StoreAnswer;
use crate::protocol::core::{ResolveNo, StoreNo};

/// A helper's answer.
#[derive(Debug)]
pub enum Answer {
    /// The resolver's.
    Resolved {
        /// Which question.
        no: ResolveNo,
        /// Addresses, or what went wrong.
        answer: Result<Vec<SocketAddr>, String>,
    },
    /// The store's.
    Stored {
        /// Which request.
        no: StoreNo,
        /// The answer.
        answer: StoreAnswer,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Inbox {
    answers: Mutex<Vec<Answer>>,
    notify: Notify,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Inbox {
        Inbox::default()
    }

    /// Leaves an answer and wakes the driver.
    pub fn put(&self, answer: Answer) {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(answer);
        self.wake();
    }

    /// Wakes the driver; remembered if it does not wait just now.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Everything that is there.
    pub fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until somebody woke the driver.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}
