//! Callers of a local listener: a bounded number at once, each served by a task of its own. Who comes then
//! waits in the kernel's queue.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::limits::ADMIN_WAIT;

/// Accepts and serves callers until this is dropped. Must be called on a local task set of a Tokio runtime.
pub async fn serve<S>(
    at_most: usize,
    accept: impl AsyncFn() -> io::Result<S>,
    serve: impl AsyncFn(S) + Clone + 'static,
) where
    S: 'static,
{
    let room = Arc::new(Semaphore::new(at_most));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok(stream) = accept().await else {
            // Descriptors are used up: the next one waits, nothing spins.
            tokio::time::sleep(ADMIN_WAIT).await;
            continue;
        };
        let serve = serve.clone();
        tokio::task::spawn_local(async move {
            let _permit = permit;
            serve(stream).await;
        });
    }
}
