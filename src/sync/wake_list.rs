//! Wakers that are collected under a lock and woken after it.

use std::task::Waker;

use crate::panic::catch_panic;

/// Wakers to wake once the lock is released. One waker, the usual case, needs no allocation.
#[derive(Debug, Default)]
pub(crate) struct WakeList {
    first: Option<Waker>,
    /// Boxed, so that a list that comes and goes with each change is small.
    #[allow(clippy::box_collection)]
    more: Option<Box<Vec<Waker>>>,
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
            Some(_) => self.more.get_or_insert_default().push(waker),
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
        if let Some(more) = self.more.take() {
            for waker in *more {
                catch_panic("a waker", || waker.wake());
            }
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.as_ref().map_or(0, |more| more.len())
    }
}
