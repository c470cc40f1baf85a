//! The tasks that wait for a connection itself, rather than for one of its buffers.

use std::task::Waker;

use slab::Slab;

use crate::shared::Mark;

/// What a task waits for. Every waiter is also woken by the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Everything up to the mark was written and flushed.
    Flushed(Mark),
    /// The stream was shut down.
    Shutdown,
    /// There is an event.
    Event,
    /// The connection is established.
    Connected,
    /// The peer has ended its stream.
    PeerClosed,
    /// The end of the connection, or that the task hands over its stream.
    Closed,
}

impl Interest {
    pub(super) fn is_about_writing(self) -> bool {
        matches!(self, Self::Flushed(_) | Self::Shutdown)
    }
}

/// The place of one waiter.
#[derive(Debug)]
pub(super) struct Key(usize);

#[derive(Debug)]
struct Slot {
    interest: Interest,
    /// Taken when the waiter is woken, until it is polled again.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
pub(super) struct Waiters(Slab<Slot>);

impl Waiters {
    /// Registers the waiter of `key` for `interest`. The caller drops the returned waker after the lock.
    #[must_use]
    pub(super) fn register(
        &mut self,
        key: &mut Option<Key>,
        interest: Interest,
        waker: Waker,
    ) -> Option<Waker> {
        if let Some(Key(at)) = *key {
            let slot = &mut self.0[at];
            slot.interest = interest;
            return slot.waker.replace(waker);
        }
        let slot = Slot {
            interest,
            waker: Some(waker),
        };
        *key = Some(Key(self.0.insert(slot)));
        None
    }

    /// Removes a waiter. The caller drops the returned waker after the lock.
    #[must_use]
    pub(super) fn cancel(&mut self, key: Key) -> Option<Waker> {
        let waker = self.0.remove(key.0).waker;
        if self.0.is_empty() {
            self.0 = Slab::new();
        }
        waker
    }

    /// Takes the wakers of the waiters for which `is_due` holds.
    #[must_use]
    pub(super) fn take(&mut self, is_due: impl Fn(Interest) -> bool) -> Vec<Waker> {
        let due = self.0.iter_mut().filter(|(_, slot)| is_due(slot.interest));
        due.filter_map(|(_, slot)| slot.waker.take()).collect()
    }

    /// Whether a task waits for a flush.
    pub(super) fn has_flush(&self) -> bool {
        self.0
            .iter()
            .any(|(_, slot)| matches!(slot.interest, Interest::Flushed(_)))
    }
}
