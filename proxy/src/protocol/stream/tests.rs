//! The table of the design, written out once more, against the function.

use super::*;
use crate::protocol::command::Role;
use Action as A;
use Input as I;

const OPENING: State = State::Opening { ended: false };
const CONNECTING: State = State::Connecting { ended: false };
const CLOSING: State = State::Closing { closed: false };

/// The state that a reset leads to: answered, opening, sent END, read END.
const fn draining(answered: u8, opening: u8, sent_end: u8, read_end: u8) -> State {
    State::Draining(Draining {
        answered: answered != 0,
        opening: opening != 0,
        sent_end: sent_end != 0,
        read_end: read_end != 0,
    })
}

/// Every filled cell of every state that differs, for an inlet.
fn inlet() -> Vec<(State, Input, State, Action)> {
    let ended = State::Opening { ended: true };
    let closed = State::Closing { closed: true };
    let mut cells = vec![
        (OPENING, I::Opened, State::Flowing, A::Opened),
        (
            OPENING,
            I::Refused,
            draining(1, 1, 0, 0),
            A::RefusedAndAnswer,
        ),
        (OPENING, I::AppFin, ended, A::SendEnd),
        (OPENING, I::AppReset, draining(0, 1, 0, 0), A::SendAbort),
        (OPENING, I::Abort, draining(1, 1, 0, 0), A::ResetAndAnswer),
        (OPENING, I::Expired, draining(0, 1, 0, 0), A::ResetAndAbort),
        (OPENING, I::LaneLost, State::Free, A::Reset),
        (ended, I::Opened, State::LocalDone, A::Opened),
        (ended, I::Refused, draining(1, 1, 1, 0), A::RefusedAndAnswer),
        (ended, I::AppReset, draining(0, 1, 1, 0), A::SendAbort),
        (ended, I::Abort, draining(1, 1, 1, 0), A::ResetAndAnswer),
        (ended, I::Expired, draining(0, 1, 1, 0), A::ResetAndAbort),
        (ended, I::LaneLost, State::Free, A::Reset),
        (CLOSING, I::Closed, closed, A::Ignore),
        (closed, I::AppReset, State::Free, A::Forget),
        (closed, I::LaneLost, State::Free, A::Reset),
        (
            draining(0, 1, 0, 0),
            I::Opened,
            draining(0, 0, 0, 0),
            A::Ignore,
        ),
        (
            draining(0, 1, 1, 0),
            I::Opened,
            draining(0, 0, 1, 0),
            A::Ignore,
        ),
        (
            draining(0, 1, 0, 0),
            I::Refused,
            draining(1, 1, 0, 0),
            A::Ignore,
        ),
        (
            draining(0, 1, 1, 0),
            I::Refused,
            draining(1, 1, 1, 0),
            A::Ignore,
        ),
        (
            draining(0, 0, 1, 1),
            I::Closed,
            draining(1, 0, 1, 1),
            A::Ignore,
        ),
    ];
    cells.extend(both());
    for (sent, read) in [(0, 0), (1, 0)] {
        cells.push(credit_in(draining(0, 1, sent, read)));
        cells.push(abort_in(1, sent, read));
        cells.push((
            draining(0, 1, sent, read),
            I::LaneLost,
            State::Free,
            A::Forget,
        ));
        cells.push((
            draining(1, 1, sent, read),
            I::LaneLost,
            State::Free,
            A::Forget,
        ));
    }
    cells
}

/// The same for an outlet.
fn outlet() -> Vec<(State, Input, State, Action)> {
    let ended = State::Connecting { ended: true };
    let mut cells = vec![
        (State::Free, I::Open, CONNECTING, A::Connect),
        (State::Free, I::Abort, State::Free, A::Ignore),
        (State::Free, I::Credit, State::Free, A::Ignore),
        (CONNECTING, I::Data, CONNECTING, A::Hold),
        (CONNECTING, I::End, ended, A::HoldFin),
        (CONNECTING, I::Switch, CONNECTING, A::Bind),
        (CONNECTING, I::Connected, State::Flowing, A::SendOpened),
        (
            CONNECTING,
            I::ConnectFailed,
            draining(0, 1, 0, 0),
            A::SendRefused,
        ),
        (
            CONNECTING,
            I::AppReset,
            draining(0, 1, 0, 0),
            A::SendRefused,
        ),
        (
            CONNECTING,
            I::Expired,
            draining(0, 1, 0, 0),
            A::ResetAndRefuse,
        ),
        (
            CONNECTING,
            I::Abort,
            draining(1, 1, 0, 0),
            A::ResetAndAnswer,
        ),
        (CONNECTING, I::LaneLost, State::Free, A::Reset),
        (ended, I::Connected, State::PeerDone, A::SendOpenedThenFin),
        (
            ended,
            I::ConnectFailed,
            draining(0, 1, 0, 1),
            A::SendRefused,
        ),
        (ended, I::AppReset, draining(0, 1, 0, 1), A::SendRefused),
        (ended, I::Expired, draining(0, 1, 0, 1), A::ResetAndRefuse),
        (ended, I::Abort, draining(1, 1, 0, 1), A::ResetAndAnswer),
        (ended, I::LaneLost, State::Free, A::Reset),
        (CLOSING, I::AppClosed, State::Free, A::SendClosed),
        (
            draining(0, 1, 0, 0),
            I::Data,
            draining(0, 1, 0, 0),
            A::Discard,
        ),
        (
            draining(0, 1, 0, 0),
            I::End,
            draining(0, 1, 0, 1),
            A::DiscardEnd,
        ),
        (
            draining(0, 1, 0, 0),
            I::Switch,
            draining(0, 1, 0, 0),
            A::BindToDiscard,
        ),
    ];
    cells.extend(both());
    for (sent, read) in [(0, 0), (0, 1)] {
        cells.push(credit_in(draining(0, 1, sent, read)));
        cells.push(abort_in(1, sent, read));
        cells.push((
            draining(0, 1, sent, read),
            I::LaneLost,
            State::Free,
            A::Forget,
        ));
        cells.push((
            draining(1, 1, sent, read),
            I::LaneLost,
            State::Free,
            A::Forget,
        ));
    }
    cells
}

fn credit_in(state: State) -> (State, Input, State, Action) {
    (state, I::Credit, state, A::Ignore)
}

fn abort_in(opening: u8, sent: u8, read: u8) -> (State, Input, State, Action) {
    (
        draining(0, opening, sent, read),
        I::Abort,
        draining(1, opening, sent, read),
        A::Ignore,
    )
}

/// The cells that are the same at both ends.
fn both() -> Vec<(State, Input, State, Action)> {
    let mut cells = vec![
        (State::Flowing, I::Data, State::Flowing, A::Deliver),
        (State::Flowing, I::End, State::PeerDone, A::FinToApp),
        (State::Flowing, I::Switch, State::Flowing, A::Bind),
        (State::Flowing, I::AppFin, State::LocalDone, A::SendEnd),
        (State::Flowing, I::Credit, State::Flowing, A::Grant),
        (State::LocalDone, I::Data, State::LocalDone, A::Deliver),
        (State::LocalDone, I::End, CLOSING, A::FinToApp),
        (State::LocalDone, I::Switch, State::LocalDone, A::Bind),
        (State::LocalDone, I::Credit, State::LocalDone, A::Ignore),
        (State::PeerDone, I::AppFin, CLOSING, A::SendEnd),
        (State::PeerDone, I::Credit, State::PeerDone, A::Grant),
        (CLOSING, I::Credit, CLOSING, A::Ignore),
    ];
    for (state, sent, read) in [
        (State::Flowing, 0, 0),
        (State::LocalDone, 1, 0),
        (State::PeerDone, 0, 1),
        (CLOSING, 1, 1),
    ] {
        cells.push((state, I::AppReset, draining(0, 0, sent, read), A::SendAbort));
        cells.push((
            state,
            I::Abort,
            draining(1, 0, sent, read),
            A::ResetAndAnswer,
        ));
        cells.push((state, I::LaneLost, State::Free, A::Reset));
        let reset = draining(0, 0, sent, read);
        cells.push(credit_in(reset));
        cells.push(abort_in(0, sent, read));
        cells.push((reset, I::LaneLost, State::Free, A::Forget));
        cells.push((
            draining(1, 0, sent, read),
            I::LaneLost,
            State::Free,
            A::Forget,
        ));
        if read == 0 {
            cells.push((reset, I::Data, reset, A::Discard));
            cells.push((reset, I::Switch, reset, A::BindToDiscard));
            cells.push((reset, I::End, draining(0, 0, sent, 1), A::DiscardEnd));
        }
    }
    cells
}

/// States that this end can be in: some draining ones can't come about.
fn reachable(role: Role) -> Vec<State> {
    let cells = if role == Role::Inlet {
        inlet()
    } else {
        outlet()
    };
    let mut seen = vec![State::Free];
    if role == Role::Inlet {
        seen.push(OPENING);
    }
    let mut at = 0;
    while let Some(&state) = seen.get(at) {
        for &(_, _, next, _) in cells.iter().filter(|cell| cell.0 == state) {
            if !seen.contains(&next) {
                seen.push(next);
            }
        }
        at += 1;
    }
    seen
}

#[test]
fn each_cell_is_what_the_written_table_says_and_all_others_are_violations() {
    for role in [Role::Inlet, Role::Outlet] {
        let cells = if role == Role::Inlet {
            inlet()
        } else {
            outlet()
        };
        let states = reachable(role);
        assert!(
            states.len() >= 17,
            "{role:?} reaches {} states",
            states.len()
        );
        for state in states {
            for input in Input::ALL {
                let mut written = cells
                    .iter()
                    .filter(|cell| (cell.0, cell.1) == (state, input));
                let expected = written.next().map(|cell| (cell.2, cell.3));
                assert_eq!(
                    written.next(),
                    None,
                    "{role:?} {state:?} {input:?} written twice"
                );
                assert_eq!(
                    step(role, state, input),
                    expected,
                    "{role:?} {state:?} {input:?}"
                );
            }
        }
    }
}

#[test]
fn no_state_is_left_without_a_way_to_free() {
    for role in [Role::Inlet, Role::Outlet] {
        for state in reachable(role)
            .into_iter()
            .filter(|&state| state != State::Free)
        {
            let lost = step(role, state, Input::LaneLost).map(|(next, _)| next);
            assert_eq!(lost, Some(State::Free), "{role:?} {state:?}");
        }
    }
}

#[test]
fn an_app_is_told_of_its_reset_exactly_when_it_did_not_begin_it() {
    let tells = |action: Action| {
        matches!(
            action,
            A::ResetAndAbort
                | A::ResetAndRefuse
                | A::ResetAndAnswer
                | A::RefusedAndAnswer
                | A::Reset
        )
    };
    for role in [Role::Inlet, Role::Outlet] {
        for state in reachable(role) {
            for input in Input::ALL {
                let Some((next, action)) = step(role, state, input) else {
                    continue;
                };
                let by_app = matches!(input, I::AppReset | I::ConnectFailed | I::AppClosed);
                let lost = state.has_app() && !next.has_app() && !by_app;
                assert_eq!(tells(action), lost, "{role:?} {state:?} {input:?}");
            }
        }
    }
}

#[test]
fn what_was_not_visited_is_named() {
    let mut visits = Visits::filled();
    assert!(visits.missing().is_empty());
    visits.0 = 0;
    visits.note(State::Flowing, Input::Data);
    let missing = visits.missing();
    assert!(missing.contains(&"Draining/Abort".to_owned()));
    assert!(!missing.contains(&"Flowing/Data".to_owned()));
    assert!(missing.contains(&"Connecting/Switch".to_owned()));
    assert!(!missing.contains(&"PeerDone/Switch".to_owned()));
}
