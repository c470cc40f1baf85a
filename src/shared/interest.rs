//! Who waits for what: one slot a waiter, looked through after each change.

use std::task::Waker;

use slab::Slab;

use super::change::Mark;
use crate::sync::WakeList;

/// What a waiter waits for. The end of the buffer is waited for by all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Anything that changes the contents.
    Change,
    /// So many bytes; or that so many will never fit.
    Len(usize),
    /// All up to the mark has left.
    Left(Mark),
    /// Something to read, which no other reader shows.
    Front,
    /// A writer may go on.
    Room,
}

/// What waiters are told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) changed: bool,
    pub(super) closed: bool,
    pub(super) len: usize,
    /// The most bytes that there will be.
    pub(super) limit: usize,
    pub(super) appended: u64,
    pub(super) has_room: bool,
    pub(super) is_shown: bool,
}

impl Interest {
    /// How many bytes are waited for. None where it is something else.
    fn bytes(self) -> usize {
        match self {
            Self::Len(n) => n,
            _ => 0,
        }
    }

    /// Whether what is waited for may have come true.
    fn is_due(self, view: &View) -> bool {
        view.closed
            || match self {
                Self::Change => view.changed,
                Self::Len(n) => view.len >= n || n > view.limit,
                Self::Left(mark) => mark.is_reached(view.appended, view.len),
                Self::Front => view.len > 0 && !view.is_shown,
                Self::Room => view.has_room,
            }
    }
}

/// The place of one waiter, which gives it back.
#[derive(Debug)]
pub(super) struct Key(usize);

#[derive(Debug)]
struct Slot {
    interest: Interest,
    /// Gone once it was woken, until it is polled again.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
pub(super) struct Waiters {
    slots: Slab<Slot>,
    /// Slots with a waker.
    waiting: usize,
    /// Where all of them wait for bytes: the least that wakes one. Else zero.
    quiet_below: usize,
}

/// Slots that are kept though nobody waits, so that waiting again and again allocates nothing.
const SLOTS_KEPT: usize = 8;

impl Waiters {
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Whether a writer was woken that has not looked yet.
    pub(super) fn expect_more(&self) -> bool {
        self.slots.len() > self.waiting
            && self
                .slots
                .iter()
                .any(|(_, slot)| slot.interest == Interest::Room && slot.waker.is_none())
    }

    /// The most bytes that somebody waits for.
    pub(super) fn wanted(&self) -> usize {
        let waiting = self.slots.iter().filter(|(_, slot)| slot.waker.is_some());
        waiting
            .map(|(_, slot)| slot.interest.bytes())
            .max()
            .unwrap_or(0)
    }

    /// Whether a change to a length of `len` wakes nobody.
    #[inline]
    pub(super) fn are_quiet(&self, len: usize) -> bool {
        len < self.quiet_below()
    }

    /// The least length that may wake somebody.
    #[inline]
    pub(super) fn quiet_below(&self) -> usize {
        match self.waiting {
            0 => usize::MAX,
            _ => self.quiet_below,
        }
    }

    fn find_quiet_below(&mut self) {
        self.quiet_below = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.waker.is_some())
            .map(|(_, slot)| slot.interest.bytes())
            .min()
            .unwrap_or(0);
    }

    /// Notes that the waiter of `key` waits for `interest`.
    ///
    /// Cloning a waker runs foreign code, and this is called under a lock. So where another waker is wanted than the one
    /// kept, and `spare` holds none, nothing is done and false is returned. What was kept before is left in `spare`.
    #[must_use]
    pub(super) fn register(
        &mut self,
        key: &mut Option<Key>,
        interest: Interest,
        waker: &Waker,
        spare: &mut Option<Waker>,
    ) -> bool {
        let slot = match key {
            Some(key) => &mut self.slots[key.0],
            None if spare.is_none() => return false,
            None => {
                let entry = self.slots.vacant_entry();
                *key = Some(Key(entry.key()));
                entry.insert(Slot {
                    interest,
                    waker: None,
                })
            }
        };
        slot.interest = interest;
        let least = interest.bytes();
        if self.waiting == 0 || least < self.quiet_below {
            self.quiet_below = least;
        }
        if slot
            .waker
            .as_ref()
            .is_some_and(|kept| kept.will_wake(waker))
        {
            return true;
        }
        let Some(fresh) = spare.take() else {
            return false;
        };
        *spare = slot.waker.replace(fresh);
        self.waiting += usize::from(spare.is_none());
        true
    }

    /// Gives the place back. The waker is to be dropped after the lock.
    #[must_use]
    pub(super) fn forget(&mut self, key: Key) -> Option<Waker> {
        let waker = self.slots.remove(key.0).waker;
        self.waiting -= usize::from(waker.is_some());
        if self.slots.is_empty() && self.slots.capacity() > SLOTS_KEPT {
            self.slots = Slab::new();
        }
        waker
    }

    /// Takes the wakers of all, due or not.
    pub(super) fn take_all(&mut self, wakers: &mut WakeList) {
        wakers.extend(
            self.slots
                .iter_mut()
                .filter_map(|(_, slot)| slot.waker.take()),
        );
        self.waiting = 0;
    }

    /// Takes the wakers of all that are due.
    pub(super) fn take_due(&mut self, view: &View, due: &mut WakeList) {
        if self.waiting == 0 {
            return;
        }
        for (_, slot) in &mut self.slots {
            if !slot.interest.is_due(view) {
                continue;
            }
            if let Some(waker) = slot.waker.take() {
                due.push(waker);
                self.waiting -= 1;
            }
        }
        if self.waiting > 0 {
            self.find_quiet_below();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOTHING: View = View {
        changed: false,
        closed: false,
        len: 0,
        limit: 10,
        appended: 0,
        has_room: false,
        is_shown: false,
    };

    #[test]
    fn a_waiter_is_due_when_its_condition_may_hold() {
        use Interest::*;
        let mark = Mark { appended: 3 };
        for (interest, view, due) in [
            (Change, NOTHING, false),
            (
                Change,
                View {
                    changed: true,
                    ..NOTHING
                },
                true,
            ),
            (
                Len(5),
                View {
                    len: 4,
                    changed: true,
                    ..NOTHING
                },
                false,
            ),
            (Len(5), View { len: 5, ..NOTHING }, true),
            (
                Len(5),
                View {
                    limit: 4,
                    ..NOTHING
                },
                true,
            ),
            (
                Left(mark),
                View {
                    len: 2,
                    appended: 4,
                    ..NOTHING
                },
                false,
            ),
            (
                Left(mark),
                View {
                    len: 1,
                    appended: 4,
                    ..NOTHING
                },
                true,
            ),
            (Front, View { len: 1, ..NOTHING }, true),
            (
                Front,
                View {
                    len: 1,
                    is_shown: true,
                    ..NOTHING
                },
                false,
            ),
            (
                Room,
                View {
                    has_room: true,
                    ..NOTHING
                },
                true,
            ),
            (
                Room,
                View {
                    changed: true,
                    ..NOTHING
                },
                false,
            ),
            (
                Room,
                View {
                    closed: true,
                    ..NOTHING
                },
                true,
            ),
        ] {
            assert_eq!(interest.is_due(&view), due, "{interest:?}, {view:?}");
        }
    }

    #[test]
    fn a_waker_is_asked_for_only_where_another_is_wanted() {
        struct Nothing;
        impl std::task::Wake for Nothing {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let waker = &Waker::from(std::sync::Arc::new(Nothing));
        let (mut waiters, mut key, mut spare) = (Waiters::default(), None, None);
        assert!(!waiters.register(&mut key, Interest::Change, waker, &mut spare));
        spare = Some(waker.clone());
        assert!(waiters.register(&mut key, Interest::Change, waker, &mut spare));
        assert!(waiters.register(&mut key, Interest::Len(1), waker, &mut spare));
        assert!(spare.is_none() && waiters.is_waiting());

        let mut due = WakeList::default();
        waiters.take_due(&View { len: 1, ..NOTHING }, &mut due);
        assert_eq!(due.len(), 1);
        assert!(!waiters.is_waiting());
        assert!(waiters.forget(key.unwrap()).is_none());
    }
}
