//! Those who wait until so many jobs are finished.

use std::{collections::VecDeque, task::Waker};

use crate::sync::WakeList;

/// A place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    target: u64,
    number: u64,
}

/// In the order of their tickets, which is mostly that in which they come: so a list will do, which keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    list: VecDeque<(Ticket, Waker)>,
    tickets: u64,
}

impl Waiting {
    /// A ticket for `target` finished jobs.
    pub(super) fn ticket(&mut self, target: u64) -> Ticket {
        self.tickets += 1;
        Ticket {
            target,
            number: self.tickets,
        }
    }

    /// Whether the holder of `ticket` waits with a waker like this one.
    pub(super) fn has(&self, ticket: Ticket, waker: &Waker) -> bool {
        self.position(ticket)
            .is_ok_and(|at| self.list[at].1.will_wake(waker))
    }

    /// Has `waker` woken for `ticket`. Returns the one before it, to be dropped after the lock.
    #[must_use]
    pub(super) fn put(&mut self, ticket: Ticket, waker: Waker) -> Option<Waker> {
        match self.position(ticket) {
            Ok(at) => Some(std::mem::replace(&mut self.list[at].1, waker)),
            Err(at) => {
                self.list.insert(at, (ticket, waker));
                None
            }
        }
    }

    /// Gives a place back. The waker is to be dropped after the lock.
    #[must_use]
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waker> {
        let at = self.position(ticket).ok()?;
        self.list.remove(at).map(|(_, waker)| waker)
    }

    /// Takes the wakers of all whose target is reached by `finished`.
    #[inline]
    pub(super) fn take_due(&mut self, finished: u64, due: &mut WakeList) {
        while let Some((ticket, _)) = self.list.front() {
            if ticket.target > finished {
                break;
            }
            due.extend(self.list.pop_front().map(|(_, waker)| waker));
        }
    }

    /// Takes the wakers of all.
    pub(super) fn take_all(&mut self) -> WakeList {
        let mut all = WakeList::default();
        all.extend(self.list.drain(..).map(|(_, waker)| waker));
        all
    }

    fn position(&self, ticket: Ticket) -> Result<usize, usize> {
        self.list.binary_search_by_key(&ticket, |&(kept, _)| kept)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_less_is_due_first_whenever_they_came() {
        let mut waiting = Waiting::default();
        let tickets = [5, 3, 9, 3].map(|target| waiting.ticket(target));
        for ticket in tickets {
            assert!(waiting.put(ticket, Waker::noop().clone()).is_none());
        }
        let due = |waiting: &mut Waiting, finished| {
            let mut due = WakeList::default();
            waiting.take_due(finished, &mut due);
            due.len()
        };
        assert_eq!(due(&mut waiting, 2), 0);
        assert_eq!(due(&mut waiting, 4), 2);
        assert!(waiting.remove(tickets[0]).is_some());
        assert_eq!(due(&mut waiting, 8), 0);
        assert_eq!(waiting.take_all().len(), 1);
    }

    #[test]
    fn a_place_holds_the_latest_waker() {
        struct Nothing;
        impl std::task::Wake for Nothing {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let other = Waker::from(std::sync::Arc::new(Nothing));
        let mut waiting = Waiting::default();
        let ticket = waiting.ticket(1);
        assert!(!waiting.has(ticket, &other));
        assert!(waiting.put(ticket, Waker::noop().clone()).is_none());
        assert!(!waiting.has(ticket, &other));
        assert!(waiting.put(ticket, other.clone()).is_some());
        assert!(waiting.has(ticket, &other));
        assert!(waiting.remove(ticket).is_some() && waiting.remove(ticket).is_none());
    }
}
