//! The buffer's lock, with a lock-free fast path for `Reader::consume` while no subscriber needs a notification.

use crate::sync::{AtomicU64, Lock, LockGuard, Ordering};

/// The state of a buffer behind its lock, and the bytes that a reader has consumed without locking.
///
/// A reader that handles one line after another would lock the buffer for each line. While no subscriber needs a
/// notification it only counts the consumed bytes here. The next caller that locks the buffer removes them before it sees
/// anything, and invalidates the reader's token. So for all others it is as if each piece had been removed at once.
#[derive(Debug)]
pub(super) struct BufferLock<S> {
    state: Lock<S>,
    /// The valid [`ConsumeToken`]; zero if there is none.
    consumed: AtomicU64,
}

/// Permission to consume borrowed bytes without the lock: the id of the borrow in the upper half, the number of bytes
/// consumed so far in the lower half. The default is no permission.
#[derive(Debug, Default)]
pub(super) struct ConsumeToken(u64);

/// A state from which borrowed bytes can be removed.
pub(super) trait ConsumeBorrowed {
    /// Removes the first `n` of the borrowed bytes.
    fn consume_borrowed(&mut self, n: usize);
}

impl<S: ConsumeBorrowed> BufferLock<S> {
    pub(super) fn new(state: S) -> Self {
        Self {
            state: Lock::new(state),
            consumed: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> LockGuard<'_, S> {
        self.up_to_date(self.state.lock())
    }

    pub(super) fn try_lock(&self) -> Option<LockGuard<'_, S>> {
        Some(self.up_to_date(self.state.try_lock()?))
    }

    #[inline]
    fn up_to_date<'a>(&self, mut state: LockGuard<'a, S>) -> LockGuard<'a, S> {
        // Tokens are issued under the lock, so a valid one is visible here.
        if self.consumed.load(Ordering::Relaxed) != 0 {
            self.invalidate_token(&mut state);
        }
        state
    }

    #[inline(never)]
    fn invalidate_token(&self, state: &mut S) {
        let consumed = self.consumed.swap(0, Ordering::AcqRel) as u32;
        state.consume_borrowed(consumed as usize);
    }

    /// Lets a reader consume all but the last of the `len` bytes that it has borrowed. Called with the lock held, which
    /// has invalidated every earlier token.
    pub(super) fn issue_token(&self, borrow_id: u32, len: usize) -> ConsumeToken {
        match u32::try_from(len) {
            Ok(_) => {
                let token = u64::from(borrow_id) << 32;
                self.consumed.store(token, Ordering::Release);
                ConsumeToken(token)
            }
            // More than can be counted.
            Err(_) => ConsumeToken::default(),
        }
    }

    /// Returns whether no other caller has locked the buffer since `token` was issued.
    #[inline]
    pub(super) fn is_valid(&self, token: &ConsumeToken) -> bool {
        token.0 != 0 && self.consumed.load(Ordering::Acquire) == token.0
    }

    /// Consumes `n` bytes. Returns `false` if the token is not valid any more; the bytes consumed before are then removed.
    #[inline]
    pub(super) fn consume(&self, token: &mut ConsumeToken, n: usize) -> bool {
        let (before, after) = (token.0, token.0 + n as u64);
        *token = ConsumeToken(after);
        before != 0
            && self
                .consumed
                .compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Removed(usize);

    impl ConsumeBorrowed for Removed {
        fn consume_borrowed(&mut self, n: usize) {
            self.0 += n;
        }
    }

    #[test]
    fn consumed_bytes_are_removed_before_the_next_caller_looks() {
        let lock = BufferLock::new(Removed(0));
        let mut token = lock.issue_token(1, 100);
        assert!(lock.consume(&mut token, 40) && lock.consume(&mut token, 2));
        assert!(lock.is_valid(&token));
        assert_eq!(lock.lock().0, 42);
        assert!(!lock.is_valid(&token), "locking invalidates the token");
        assert!(!lock.consume(&mut token, 1));
        assert_eq!(lock.lock().0, 42);
    }

    #[test]
    fn an_old_token_is_invalid_when_there_is_another() {
        let lock = BufferLock::new(Removed(0));
        let mut old = lock.issue_token(1, 100);
        drop(lock.lock());
        let mut new = lock.issue_token(2, 100);
        assert!(!lock.consume(&mut old, 1));
        assert!(lock.consume(&mut new, 1));
        assert_eq!(lock.lock().0, 1);
    }

    #[test]
    fn no_token_is_issued_for_what_cannot_be_counted() {
        let lock = BufferLock::new(Removed(0));
        let mut token = lock.issue_token(1, 1 << 32);
        assert!(!lock.is_valid(&token));
        assert!(!lock.consume(&mut token, 1));
        assert_eq!(lock.lock().0, 0);
    }
}
