//! The receiving side of credit: what the peer may still send, and what is granted anew.
//!
//! ```text
//! size = left (peer may send) + held (received, not delivered) + returned (delivered, not granted)
//! ```
//!
//! Once half of the size is returned, a CREDIT grants it again. The size doubles, up to
//! `limits::CREDIT_MAX`, when the peer had used up nearly all of it while the app kept up: then
//! the round trip is what limits the stream, and not the app.

use crate::limits::{CREDIT_INITIAL, CREDIT_MAX};

/// Credit of one stream's receiving direction.
#[derive(Debug)]
pub(super) struct Window {
    size: u32,
    left: u32,
    held: u32,
    returned: u32,
    /// The peer came close to the end of its credit since the last grant.
    pressed: bool,
    /// All bytes received.
    total: u64,
}

impl Default for Window {
    fn default() -> Self {
        let size = CREDIT_INITIAL;
        Window {
            size,
            left: size,
            held: 0,
            returned: 0,
            pressed: false,
            total: 0,
        }
    }
}

impl Window {
    /// Takes in a record of `len` bytes.
    ///
    /// # Errors
    /// What was left, when that is less.
    pub(super) fn receive(&mut self, len: usize) -> Result<(), u32> {
        let len = u32::try_from(len).map_err(|_| self.left)?;
        self.left = self.left.checked_sub(len).ok_or(self.left)?;
        self.held += len;
        self.total += u64::from(len);
        self.pressed |= self.left < self.size / 8;
        Ok(())
    }

    /// Takes in a record of `len` bytes from a circuit: no credit is used.
    pub(super) fn receive_aside(&mut self, len: usize) {
        self.total += len as u64;
    }

    /// `len` held bytes were written to the app. Whether a grant is due.
    pub(super) fn deliver(&mut self, len: usize) -> bool {
        let len = u32::try_from(len).ok().filter(|&len| len <= self.held);
        assert!(len.is_some(), "more bytes were delivered than received");
        let len = len.unwrap_or(0);
        self.held -= len;
        self.returned += len;
        self.returned >= self.size / 2
    }

    /// Grants what was returned, and more if `may_grow` allows so many bytes more; how many bytes
    /// the CREDIT says.
    pub(super) fn grant(&mut self, may_grow: impl FnOnce(u32) -> bool) -> u32 {
        let room = (CREDIT_MAX - self.size).min(self.size);
        let mut granted = std::mem::take(&mut self.returned);
        if self.pressed && self.held <= self.size / 2 && room > 0 && may_grow(room) {
            self.size += room;
            granted += room;
        }
        self.pressed = false;
        self.left += granted;
        granted
    }

    /// Ends growth: the bytes beyond the initial size, which are no more counted in this window.
    pub(super) fn shrink(&mut self) -> u32 {
        let grown = self.grown();
        self.size -= grown;
        grown
    }

    pub(super) fn grown(&self) -> u32 {
        self.size - CREDIT_INITIAL
    }

    /// What the peer may still send.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    pub(super) fn is_delivered(&self) -> bool {
        self.held == 0
    }

    /// All bytes received.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// All bytes delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.total - u64::from(self.held)
    }

    /// Forgets bytes that nobody will take any more.
    pub(super) fn discard(&mut self) {
        self.held = 0;
    }

    /// The equation above; true for a stream that has an app.
    pub(super) fn is_balanced(&self) -> bool {
        self.size == self.left + self.held + self.returned && self.size <= CREDIT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: usize = CREDIT_INITIAL as usize / 2;

    #[test]
    fn a_grant_is_due_when_half_is_delivered() {
        let mut w = Window::default();
        assert_eq!(w.receive(HALF + 10), Ok(()));
        assert!(!w.deliver(HALF - 1));
        assert!(w.deliver(1));
        assert_eq!(
            w.grant(|_| true),
            HALF as u32,
            "the peer was not pressed: no growth"
        );
        assert!(w.is_balanced());
        assert_eq!(
            (w.left(), w.total(), w.delivered()),
            (16 * 1024 - 10, HALF as u64 + 10, HALF as u64)
        );
    }

    #[test]
    fn a_byte_more_than_granted_is_refused() {
        let mut w = Window::default();
        assert_eq!(w.receive(2 * HALF), Ok(()));
        assert_eq!(w.receive(1), Err(0));
        assert_eq!(w.receive(usize::MAX), Err(0));
    }

    #[test]
    fn it_doubles_while_the_peer_is_pressed_and_the_app_keeps_up() {
        let mut w = Window::default();
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let all = w.left();
            assert_eq!(w.receive(all as usize), Ok(()));
            assert!(w.deliver(all as usize));
            w.grant(|_| true);
            assert!(w.is_balanced());
            sizes.push(w.left() / 1024);
        }
        assert_eq!(sizes, [32, 64, 128, 256, 256, 256]);
        assert_eq!(w.shrink(), CREDIT_MAX - CREDIT_INITIAL);
    }

    #[test]
    fn it_stays_when_the_app_is_slow_or_the_budget_is_used_up() {
        let mut w = Window::default();
        assert_eq!(w.receive(2 * HALF), Ok(()));
        assert!(!w.deliver(HALF - 1), "the app is slow");
        w.grant(|_| false);
        assert_eq!(w.grown(), 0);
        let mut w = Window::default();
        assert_eq!(w.receive(2 * HALF), Ok(()));
        assert!(w.deliver(2 * HALF));
        assert_eq!(w.grant(|_| false), 2 * HALF as u32);
        assert_eq!(w.grown(), 0);
    }
}
