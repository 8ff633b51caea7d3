//! The authority's store on a thread of its own, because a commit waits for the disk.
//!
//! The queue is bounded and never waited for: a full one is answered with
//! [`StoreError::Unavailable`], as a slow disk would be in the end.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::limits::STORE_QUEUE_MAX;
use crate::protocol::core::StoreNo;
use crate::protocol::store::{Store, StoreError, StoreReply, StoreRequest};

/// The answer to a request.
pub type StoreAnswer = Result<StoreReply, StoreError>;

/// The thread that owns the store. When this is dropped, it ends behind the request it is in.
pub struct StoreThread {
    requests: SyncSender<(StoreNo, StoreRequest)>,
}

impl StoreThread {
    /// Starts the thread; `answer` is called on it once for each request accepted.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(
        store: Box<dyn Store>,
        answer: impl FnMut(StoreNo, StoreAnswer) + Send + 'static,
    ) -> io::Result<StoreThread> {
        let (requests, queue) = sync_channel(STORE_QUEUE_MAX);
        thread::Builder::new()
            .name("adit-store".into())
            .spawn(move || run(store, &queue, answer))
            .map(|_| StoreThread { requests })
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the queue is full or the thread is gone.
    pub fn ask(&self, no: StoreNo, request: StoreRequest) -> Result<(), StoreError> {
        self.requests
            .try_send((no, request))
            .map_err(|_| StoreError::Unavailable("too many requests are waiting".into()))
    }
}

fn run(
    mut store: Box<dyn Store>,
    queue: &Receiver<(StoreNo, StoreRequest)>,
    mut answer: impl FnMut(StoreNo, StoreAnswer),
) {
    while let Ok((no, request)) = queue.recv() {
        let result = store.serve(&request);
        answer(no, result);
    }
}
