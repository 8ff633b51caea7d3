//! The cells, state by state, and the record of which were visited.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a cell that is not written is empty"
)]

use super::{Action, Draining, Input, State};
use crate::protocol::command::Role;

/// What `input` means for a stream of this end in this state: the new state and what to do.
/// `None` is an empty cell: out of turn.
pub const fn step(role: Role, state: State, input: Input) -> Option<(State, Action)> {
    match state {
        State::Free => free(role, input),
        State::Opening { ended } => opening(role, state, ended, input),
        State::Connecting { ended } => connecting(role, state, ended, input),
        State::Flowing | State::LocalDone | State::PeerDone => open(state, input),
        State::Closing { closed } => closing(role, state, closed, input),
        State::Draining(draining) => drain(role, draining, input),
    }
}

const fn free(role: Role, input: Input) -> Option<(State, Action)> {
    match (role, input) {
        (Role::Outlet, Input::Open) => Some((State::Connecting { ended: false }, Action::Connect)),
        (Role::Outlet, Input::Abort | Input::Credit) => Some((State::Free, Action::Ignore)),
        _ => None,
    }
}

const fn opening(role: Role, state: State, ended: bool, input: Input) -> Option<(State, Action)> {
    if matches!(role, Role::Outlet) {
        return None;
    }
    match input {
        Input::Opened if ended => Some((State::LocalDone, Action::Opened)),
        Input::Opened => Some((State::Flowing, Action::Opened)),
        Input::Refused => Some((state.reset(true), Action::RefusedAndAnswer)),
        Input::AppFin if !ended => Some((State::Opening { ended: true }, Action::SendEnd)),
        Input::Expired => Some((state.reset(false), Action::ResetAndAbort)),
        Input::AppReset | Input::Abort | Input::LaneLost => ended_early(state, input),
        _ => None,
    }
}

const fn connecting(
    role: Role,
    state: State,
    ended: bool,
    input: Input,
) -> Option<(State, Action)> {
    if matches!(role, Role::Inlet) {
        return None;
    }
    match input {
        Input::Data if !ended => Some((state, Action::Hold)),
        Input::End if !ended => Some((State::Connecting { ended: true }, Action::HoldFin)),
        Input::Switch if !ended => Some((state, Action::Bind)),
        Input::Connected if ended => Some((State::PeerDone, Action::SendOpenedThenFin)),
        Input::Connected => Some((State::Flowing, Action::SendOpened)),
        Input::ConnectFailed | Input::AppReset => Some((state.reset(false), Action::SendRefused)),
        Input::Expired => Some((state.reset(false), Action::ResetAndRefuse)),
        Input::Abort | Input::LaneLost => ended_early(state, input),
        _ => None,
    }
}

/// Flowing, LocalDone and PeerDone: a direction is open as long as its END was not.
const fn open(state: State, input: Input) -> Option<(State, Action)> {
    match (state, input) {
        (State::Flowing | State::LocalDone, Input::Data) => Some((state, Action::Deliver)),
        (State::Flowing | State::LocalDone, Input::Switch) => Some((state, Action::Bind)),
        (State::Flowing, Input::End) => Some((State::PeerDone, Action::FinToApp)),
        (State::LocalDone, Input::End) => Some((CLOSING, Action::FinToApp)),
        (State::Flowing, Input::AppFin) => Some((State::LocalDone, Action::SendEnd)),
        (State::PeerDone, Input::AppFin) => Some((CLOSING, Action::SendEnd)),
        (State::LocalDone, Input::Credit) => Some((state, Action::Ignore)),
        (_, Input::Credit) => Some((state, Action::Grant)),
        (_, Input::AppReset | Input::Abort | Input::LaneLost) => ended_early(state, input),
        _ => None,
    }
}

const CLOSING: State = State::Closing { closed: false };

const fn closing(role: Role, state: State, closed: bool, input: Input) -> Option<(State, Action)> {
    match (role, input) {
        // The outlet has forgotten the number: there is nobody to abort to, and nothing comes.
        (_, Input::AppReset) if closed => Some((State::Free, Action::Forget)),
        (_, Input::Abort | Input::Credit | Input::Closed) if closed => None,
        (Role::Inlet, Input::Closed) => Some((State::Closing { closed: true }, Action::Ignore)),
        (Role::Outlet, Input::AppClosed) => Some((State::Free, Action::SendClosed)),
        (_, Input::Credit) => Some((state, Action::Ignore)),
        (_, Input::AppReset | Input::Abort | Input::LaneLost) => ended_early(state, input),
        _ => None,
    }
}

/// The three columns that look the same in every state with an app.
const fn ended_early(state: State, input: Input) -> Option<(State, Action)> {
    match input {
        Input::AppReset => Some((state.reset(false), Action::SendAbort)),
        Input::Abort => Some((state.reset(true), Action::ResetAndAnswer)),
        Input::LaneLost => Some((State::Free, Action::Reset)),
        _ => None,
    }
}

const fn drain(role: Role, d: Draining, input: Input) -> Option<(State, Action)> {
    let inlet = matches!(role, Role::Inlet);
    if let Input::LaneLost = input {
        return Some((State::Free, Action::Forget));
    }
    if d.answered {
        return None;
    }
    // An outlet sends nothing but CREDIT, ABORT and REFUSED before OPENED.
    let peer_is_open = !(d.read_end || inlet && d.opening);
    match input {
        Input::Data if peer_is_open => Some((State::Draining(d), Action::Discard)),
        Input::Switch if peer_is_open => Some((State::Draining(d), Action::BindToDiscard)),
        Input::End if peer_is_open => Some((
            State::Draining(Draining {
                read_end: true,
                ..d
            }),
            Action::DiscardEnd,
        )),
        Input::Credit => Some((State::Draining(d), Action::Ignore)),
        Input::Opened if inlet && d.opening => Some((
            State::Draining(Draining {
                opening: false,
                ..d
            }),
            Action::Ignore,
        )),
        Input::Refused if inlet && d.opening => Some((answered(d), Action::Ignore)),
        Input::Closed if inlet && d.sent_end && d.read_end => Some((answered(d), Action::Ignore)),
        Input::Abort => Some((answered(d), Action::Ignore)),
        _ => None,
    }
}

const fn answered(d: Draining) -> State {
    State::Draining(Draining {
        answered: true,
        ..d
    })
}

/// Which cells of the table were visited, one bit each: 8 states × 16 inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visits(pub u128);

const STATES: [&str; 8] = [
    "Free",
    "Opening",
    "Connecting",
    "Flowing",
    "LocalDone",
    "PeerDone",
    "Closing",
    "Draining",
];

impl State {
    /// The state's row.
    const fn row(self) -> u32 {
        match self {
            State::Free => 0,
            State::Opening { .. } => 1,
            State::Connecting { .. } => 2,
            State::Flowing => 3,
            State::LocalDone => 4,
            State::PeerDone => 5,
            State::Closing { .. } => 6,
            State::Draining(_) => 7,
        }
    }

    /// Every state there is.
    pub fn all() -> impl Iterator<Item = State> {
        let flags = [false, true];
        let plain = [
            State::Free,
            State::Flowing,
            State::LocalDone,
            State::PeerDone,
        ];
        let flagged = flags.into_iter().flat_map(|flag| {
            [
                State::Opening { ended: flag },
                State::Connecting { ended: flag },
                State::Closing { closed: flag },
            ]
        });
        let draining = (0..16u8).map(|bits| {
            State::Draining(Draining {
                answered: bits & 1 != 0,
                opening: bits & 2 != 0,
                sent_end: bits & 4 != 0,
                read_end: bits & 8 != 0,
            })
        });
        plain.into_iter().chain(flagged).chain(draining)
    }
}

impl Visits {
    /// Notes a visit.
    pub const fn note(&mut self, state: State, input: Input) {
        self.0 |= 1 << (state.row() * 16 + input as u32);
    }

    /// Adds the visits of another.
    pub const fn add(&mut self, other: Visits) {
        self.0 |= other.0;
    }

    /// Every cell that is filled, for either end.
    pub fn filled() -> Visits {
        let mut filled = Visits::default();
        for role in [Role::Inlet, Role::Outlet] {
            for state in State::all() {
                for input in Input::ALL {
                    if step(role, state, input).is_some() {
                        filled.note(state, input);
                    }
                }
            }
        }
        filled
    }

    /// The filled cells that were not visited, by name.
    pub fn missing(self) -> Vec<String> {
        let left = Visits::filled().0 & !self.0;
        let cells = STATES.iter().enumerate().flat_map(|(row, state)| {
            Input::ALL
                .iter()
                .map(move |input| (row * 16 + *input as usize, state, input))
        });
        cells
            .filter(|(bit, ..)| left >> bit & 1 != 0)
            .map(|(_, state, input)| format!("{state}/{input:?}"))
            .collect()
    }
}
