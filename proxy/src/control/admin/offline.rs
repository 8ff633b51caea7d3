//! The same calls where no process serves the project: the command line runs the authority's core
//! itself, on the project's store, while it holds the state directory's lock.

use crate::control::clock;
use crate::control::failure::{Exit, Failure, codes};
use crate::limits::OFFLINE_STEPS_MAX;
use crate::protocol::core::{AdminCall, AdminNo, AdminReply, Core, Input, Output};
use crate::protocol::store::Store;

/// Carries out one call. Commands for a worker are dropped: there is none, and an administrator's
/// call needs none.
///
/// # Errors
/// The store's, as the core reports it, or that the core left the call unanswered.
pub fn call(
    core: &mut dyn Core,
    store: &mut dyn Store,
    call: AdminCall,
) -> Result<AdminReply, Failure> {
    let no = AdminNo(0);
    core.handle(clock::now(), Input::Admin { no, call });
    // An answer takes a handful of steps; the bound keeps a mistake from becoming a hang.
    for _ in 0..OFFLINE_STEPS_MAX {
        match core.poll_output() {
            Some(Output::Store { no, request }) => {
                let answer = store.serve(&request);
                core.handle(clock::now(), Input::Store { no, answer });
            }
            Some(Output::Admin {
                no: answered,
                reply,
            }) if answered == no => return Ok(*reply),
            Some(_) => {}
            None => break,
        }
    }
    let what = "the authority did not answer";
    Err(Failure::new(
        codes::ADMIN,
        Exit::Runtime,
        what,
        "this is a bug of adit",
    ))
}
