//! The states of a stream on a lane, as one pure function: [`step`].
//!
//! A state owns only what is valid in it. Counting bytes, credit and what is queued to be sent are
//! the [`lane`](super::lane)'s; this table says what an input means in a state, and an input that
//! has no cell is out of turn: from the peer it is a violation and the lane ends.
//!
//! | state | OPEN | DATA in | END in | SWITCH in | app FIN | app reset | ABORT in | lane lost |
//! |---|---|---|---|---|---|---|---|---|
//! | Opening (inlet) | | | | | END | ABORT → Draining | app RST → Draining | app RST → Free |
//! | Connecting (outlet) | → here | hold | hold | bind | | REFUSED → Draining | close target → Draining | close target → Free |
//! | Flowing | | deliver | FIN to app → PeerDone | bind | END → LocalDone | ABORT → Draining | app RST → Draining | app RST → Free |
//! | LocalDone | | deliver | FIN to app → Closing | bind | | ABORT → Draining | app RST → Draining | app RST → Free |
//! | PeerDone | | | | | END → Closing | ABORT → Draining | app RST → Draining | app RST → Free |
//! | Closing | | | | | | ABORT → Draining | app RST → Draining | app RST → Free |
//! | Draining | | discard | discard | bind, to discard | | | → Free | → Free |
//!
//! Opening takes no DATA because the outlet sends none before OPENED, which leads to Flowing. An
//! outlet's Free number ignores ABORT and CREDIT: they crossed its CLOSED. DATA and END mean the
//! same wherever they came, lane or circuit; which of the two a direction is on, and what may come
//! there now, is the [`lane`](super::lane)'s (`path.rs`).

mod table;

pub use table::{Visits, step};

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The number is not in use.
    Free,
    /// Inlet: OPEN is queued or sent; no answer yet. Deadline: `limits::OPENING_TIMEOUT`.
    Opening {
        /// The app has ended already.
        ended: bool,
    },
    /// Outlet: the target is being connected. Deadline: `limits::CONNECTING_TIMEOUT`.
    Connecting {
        /// END was read already.
        ended: bool,
    },
    /// Both directions are open.
    Flowing,
    /// We sent END; the peer goes on.
    LocalDone,
    /// The peer sent END; we go on.
    PeerDone,
    /// Both ENDs are there.
    Closing {
        /// Inlet: CLOSED was read; bytes for the app are left.
        closed: bool,
    },
    /// Reset. Our ABORT (an outlet's may be a REFUSED) is queued or sent.
    Draining(Draining),
}

/// What is still expected of a peer whose stream was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Draining {
    /// Its ABORT, REFUSED or CLOSED was read: nothing more of this stream may come.
    pub answered: bool,
    /// The outlet has not said OPENED.
    pub opening: bool,
    /// Our END was queued before the reset.
    pub sent_end: bool,
    /// Its END was read.
    pub read_end: bool,
}

impl State {
    /// Whether bytes from our app may be sent.
    pub const fn may_send(self) -> bool {
        matches!(
            self,
            State::Opening { ended: false } | State::Flowing | State::PeerDone
        )
    }

    /// Whether the peer may still send bytes that count.
    pub const fn may_receive(self) -> bool {
        matches!(
            self,
            State::Connecting { ended: false } | State::Flowing | State::LocalDone
        )
    }

    /// Whether there is an app (or target) behind the stream.
    pub const fn has_app(self) -> bool {
        !matches!(self, State::Free | State::Draining(_))
    }

    /// The same stream after a reset by either end.
    pub(super) const fn reset(self, answered: bool) -> State {
        let (opening, sent_end, read_end) = match self {
            State::Opening { ended } => (true, ended, false),
            State::Connecting { ended } => (true, false, ended),
            State::LocalDone => (false, true, false),
            State::PeerDone => (false, false, true),
            State::Closing { .. } => (false, true, true),
            State::Free | State::Flowing => (false, false, false),
            State::Draining(d) => (d.opening, d.sent_end, d.read_end),
        };
        State::Draining(Draining {
            answered,
            opening,
            sent_end,
            read_end,
        })
    }
}

/// What can happen to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// OPEN was read.
    Open,
    /// DATA was read.
    Data,
    /// END was read.
    End,
    /// SWITCH was read.
    Switch,
    /// Our app sent FIN, and everything before it is sealed.
    AppFin,
    /// Our app's connection is gone.
    AppReset,
    /// ABORT was read.
    Abort,
    /// The lane is gone.
    LaneLost,
    /// OPENED was read.
    Opened,
    /// REFUSED was read.
    Refused,
    /// CREDIT was read.
    Credit,
    /// CLOSED was read.
    Closed,
    /// The target is connected.
    Connected,
    /// It could not be.
    ConnectFailed,
    /// The state's deadline passed.
    Expired,
    /// Everything is written and the target's connection is closed.
    AppClosed,
}

impl Input {
    /// All of them.
    pub const ALL: [Input; 16] = [
        Input::Open,
        Input::Data,
        Input::End,
        Input::Switch,
        Input::AppFin,
        Input::AppReset,
        Input::Abort,
        Input::LaneLost,
        Input::Opened,
        Input::Refused,
        Input::Credit,
        Input::Closed,
        Input::Connected,
        Input::ConnectFailed,
        Input::Expired,
        Input::AppClosed,
    ];
}

/// What a cell asks for besides the new state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing.
    Ignore,
    /// Connect to the target.
    Connect,
    /// Keep the bytes for the target.
    Hold,
    /// The bytes are the app's.
    Deliver,
    /// Count the bytes and forget them.
    Discard,
    /// Check END's count; FIN to the app behind the bytes.
    FinToApp,
    /// Check END's count; FIN follows once the target is connected.
    HoldFin,
    /// Check END's count.
    DiscardEnd,
    /// Bind the direction to the circuit, from which its bytes come now.
    Bind,
    /// Bind it, to discard what comes there.
    BindToDiscard,
    /// Take the credit.
    Grant,
    /// The app's stream is open.
    Opened,
    /// Tell the inlet OPENED.
    SendOpened,
    /// The same, and FIN to the target behind the bytes that were held.
    SendOpenedThenFin,
    /// Tell the peer END.
    SendEnd,
    /// Tell the peer ABORT; the app is gone.
    SendAbort,
    /// Tell the peer ABORT and reset the app.
    ResetAndAbort,
    /// Tell the inlet REFUSED; the target is gone or was never there.
    SendRefused,
    /// Tell the inlet REFUSED and give up connecting.
    ResetAndRefuse,
    /// Reset the app and answer ABORT.
    ResetAndAnswer,
    /// The outlet refused: ABORT is the answer, and the app is reset or tries another lane.
    RefusedAndAnswer,
    /// Tell the inlet CLOSED.
    SendClosed,
    /// Reset the app; nothing can be told any more.
    Reset,
    /// The app is gone and there is nobody to tell.
    Forget,
}

#[cfg(test)]
mod tests;
