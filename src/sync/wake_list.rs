//! Wakers that are collected under a lock and woken after it.

use std::{mem, task::Waker};

use crate::panic::catch_panic;

/// Wakers to wake once the lock is released. One waker, the usual case, needs no allocation.
#[derive(Debug, Default)]
pub(crate) struct WakeList {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Extend<Waker> for WakeList {
    #[inline]
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        wakers.into_iter().for_each(|waker| self.push(waker));
    }
}

impl WakeList {
    fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.more.push(waker),
        }
    }

    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        self.first.is_some()
    }

    /// Wakes all and leaves the list empty. No lock may be held: a waker is user code.
    pub(crate) fn wake_all(&mut self) {
        let Some(first) = self.first.take() else {
            return;
        };
        catch_panic("a waker", || first.wake());
        for waker in mem::take(&mut self.more) {
            catch_panic("a waker", || waker.wake());
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }
}
