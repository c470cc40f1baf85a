//! Who waits for a BufferEvent itself, rather than for one of its buffers.

use std::task::Waker;

use slab::Slab;

use crate::shared::Mark;

/// What is waited for. That the connection is over is waited for by all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// All up to the mark was handed on and flushed.
    Flushed(Mark),
    /// Nothing is written any more.
    Shutdown,
    /// There is an event.
    Event,
    /// Nothing but the end, or the answer to who takes the stream away.
    Closed,
}

/// The place of one waiter, kept until it gives it back.
#[derive(Debug)]
pub(super) struct Key(usize);

#[derive(Debug)]
struct Slot {
    interest: Interest,
    /// Gone once it was woken, until it is polled again.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
pub(super) struct Waiters(Slab<Slot>);

impl Waiters {
    /// Notes that the waiter of `key` waits for `interest`. What was kept before is to be dropped after the lock.
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

    /// Gives the place back. The waker is to be dropped after the lock.
    #[must_use]
    pub(super) fn forget(&mut self, key: Key) -> Option<Waker> {
        let waker = self.0.remove(key.0).waker;
        if self.0.is_empty() {
            self.0 = Slab::new();
        }
        waker
    }

    /// Takes the wakers of those for whom `is_due` holds.
    #[must_use]
    pub(super) fn take(&mut self, is_due: impl Fn(Interest) -> bool) -> Vec<Waker> {
        let due = self.0.iter_mut().filter(|(_, slot)| is_due(slot.interest));
        due.filter_map(|(_, slot)| slot.waker.take()).collect()
    }

    /// Whether anybody waits to hear of writes.
    pub(super) fn has_flush(&self) -> bool {
        self.0
            .iter()
            .any(|(_, slot)| matches!(slot.interest, Interest::Flushed(_)))
    }
}
