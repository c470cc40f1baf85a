//! A list of waiting tasks, oldest first.

use std::{collections::VecDeque, task::Waker};

use super::WakeList;

/// Tasks that wait for something that an `I` describes, in order of arrival.
///
/// The owner keeps the list behind its lock, and checks and registers under that lock, so that no event falls between
/// the two. Cloning and dropping a waker runs user code: clone it before you lock, and drop what these methods return
/// after you unlock.
#[derive(Debug)]
pub(crate) struct WaitList<I> {
    /// Sorted by id, which is the order of arrival.
    entries: VecDeque<Entry<I>>,
    last_id: u64,
    /// The number of entries with a waker.
    waiting: usize,
}

#[derive(Debug)]
struct Entry<I> {
    id: u64,
    interest: I,
    /// `None` once the task was woken, until it is polled again.
    waker: Option<Waker>,
    /// How often younger tasks have yielded to this one since it was woken. See [`WaitList::yields`].
    yields: u32,
}

/// A task's place in a [`WaitList`], which the task gives back with [`WaitList::remove`].
#[derive(Debug)]
pub(crate) struct Place(u64);

/// Memory for this many entries is kept while the list is empty, so that one task that waits repeatedly does not
/// allocate each time.
const ENTRIES_KEPT: usize = 8;

impl<I> Default for WaitList<I> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            last_id: 0,
            waiting: 0,
        }
    }
}

impl<I: Copy> WaitList<I> {
    /// Registers a task that waits for `interest`, or updates its entry. Returns the waker that was replaced.
    #[must_use = "drop it after the lock"]
    pub(crate) fn register(
        &mut self,
        place: &mut Option<Place>,
        interest: I,
        waker: Waker,
    ) -> Option<Waker> {
        let entry = self.entry(place, interest);
        entry.yields = 0;
        let replaced = entry.waker.replace(waker);
        self.waiting += usize::from(replaced.is_none());
        replaced
    }

    /// Gives a task that wakes itself a place in the order of arrival.
    #[must_use = "drop it after the lock"]
    pub(crate) fn register_woken(
        &mut self,
        place: &mut Option<Place>,
        interest: I,
    ) -> Option<Waker> {
        let replaced = self.entry(place, interest).waker.take();
        self.waiting -= usize::from(replaced.is_some());
        replaced
    }

    fn entry(&mut self, place: &mut Option<Place>, interest: I) -> &mut Entry<I> {
        let known = place.as_ref().and_then(|place| self.position(place));
        let at = known.unwrap_or_else(|| {
            if self.entries.capacity() == 0 {
                // Mostly one task waits, and many connections wait at once.
                self.entries.reserve_exact(1);
            }
            self.last_id += 1;
            *place = Some(Place(self.last_id));
            self.entries.push_back(Entry {
                id: self.last_id,
                interest,
                waker: None,
                yields: 0,
            });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[at];
        entry.interest = interest;
        entry
    }

    /// Removes a task from the list. Returns its waker, if it was not woken.
    #[must_use = "drop it after the lock"]
    pub(crate) fn remove(&mut self, place: Place) -> Option<Waker> {
        let at = self.position(&place)?;
        let waker = self.entries.remove(at)?.waker;
        self.waiting -= usize::from(waker.is_some());
        if self.entries.capacity() > ENTRIES_KEPT
            && self.entries.len() < self.entries.capacity() / 4
        {
            self.entries
                .shrink_to((2 * self.entries.len()).max(ENTRIES_KEPT));
        }
        waker
    }

    /// Moves the wakers of all tasks for which `is_due` holds into `wakers`, oldest first.
    pub(crate) fn take_due(&mut self, mut is_due: impl FnMut(I) -> bool, wakers: &mut WakeList) {
        if self.waiting == 0 {
            return;
        }
        for entry in &mut self.entries {
            if entry.waker.is_some() && is_due(entry.interest) {
                wakers.extend(entry.waker.take());
                self.waiting -= 1;
            }
        }
    }

    /// Returns whether a task that could continue lets older ones go first: those that were woken for something that
    /// `competes` describes and were not polled since.
    ///
    /// Threads may poll all other tasks before the oldest one, so each of them may yield to it. It may also never be polled
    /// again, so the others yield no more often than that.
    pub(crate) fn yields(&mut self, place: Option<&Place>, competes: impl Fn(I) -> bool) -> bool {
        let mut yields = false;
        let tasks = self.entries.len() + usize::from(place.is_none());
        for entry in &mut self.entries {
            if place.is_some_and(|place| entry.id >= place.0) {
                break;
            }
            let was_woken = entry.waker.is_none() && competes(entry.interest);
            if was_woken && (entry.yields as usize) < tasks - 1 {
                entry.yields += 1;
                yields = true;
            }
        }
        yields
    }

    /// Returns whether no task has a place in the list.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether a task was woken and not polled since.
    #[inline]
    pub(crate) fn has_woken(&self) -> bool {
        self.entries.len() > self.waiting
    }

    /// Returns whether a task waits that was not woken yet.
    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Returns what each task waits for, and whether it was woken and not polled since.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, bool)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.interest, entry.waker.is_none()))
    }

    /// Returns what the tasks wait for that were not woken yet.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = I> {
        let waiting = self.entries.iter().filter(|entry| entry.waker.is_some());
        waiting.map(|entry| entry.interest)
    }

    /// Returns what the tasks waited for that were woken and not polled since.
    pub(crate) fn woken(&self) -> impl Iterator<Item = I> {
        let woken = self.entries.iter().filter(|entry| entry.waker.is_none());
        woken.map(|entry| entry.interest)
    }

    #[inline]
    fn position(&self, place: &Place) -> Option<usize> {
        // Mostly one task waits.
        if self.entries.front()?.id == place.0 {
            return Some(0);
        }
        self.entries
            .binary_search_by_key(&place.0, |entry| entry.id)
            .ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn register(list: &mut WaitList<u32>, interest: u32) -> Place {
        let mut place = None;
        assert!(
            list.register(&mut place, interest, Waker::noop().clone())
                .is_none()
        );
        place.unwrap()
    }

    fn take_due(list: &mut WaitList<u32>, due: u32) -> usize {
        let mut wakers = WakeList::default();
        list.take_due(|interest| interest <= due, &mut wakers);
        wakers.len()
    }

    #[test]
    fn a_task_is_woken_once_until_it_registers_again() {
        let mut list = WaitList::default();
        let mut place = Some(register(&mut list, 5));
        assert_eq!(take_due(&mut list, 4), 0);
        assert_eq!(take_due(&mut list, 5), 1);
        assert_eq!(take_due(&mut list, 5), 0);
        assert!(
            list.register(&mut place, 7, Waker::noop().clone())
                .is_none()
        );
        assert_eq!(list.waiting().collect::<Vec<_>>(), [7]);
        assert!(list.remove(place.unwrap()).is_some());
        assert_eq!(take_due(&mut list, 9), 0);
    }

    #[test]
    fn the_latest_waker_is_kept_and_the_replaced_one_is_returned() {
        struct Other;
        impl std::task::Wake for Other {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let mut list = WaitList::default();
        let mut place = Some(register(&mut list, 1));
        let other = Waker::from(std::sync::Arc::new(Other));
        let replaced = list.register(&mut place, 1, other.clone());
        assert!(replaced.is_some());
        assert!(
            list.remove(place.unwrap())
                .is_some_and(|waker| waker.will_wake(&other))
        );
    }

    #[test]
    fn each_younger_task_yields_once_to_an_older_one_that_was_woken() {
        let mut list = WaitList::default();
        let older = register(&mut list, 1);
        let younger = register(&mut list, 1);
        assert!(!list.yields(Some(&younger), |_| true), "no task was woken");
        assert_eq!(take_due(&mut list, 1), 2);
        assert!(!list.yields(Some(&older), |_| true));
        assert!(!list.yields(Some(&younger), |_| false));
        assert!(list.yields(Some(&younger), |_| true));
        assert!(!list.yields(Some(&younger), |_| true));
        assert!(list.yields(None, |_| true), "a newcomer yields to both");
        let mut newcomer = None;
        assert!(list.register_woken(&mut newcomer, 1).is_none());
        // It has yielded to the older one, and yields to the younger one once more.
        assert!(list.yields(newcomer.as_ref(), |_| true));
        assert!(!list.yields(newcomer.as_ref(), |_| true));
    }

    #[test]
    fn the_list_knows_whether_tasks_wait_or_were_woken() {
        let mut list = WaitList::default();
        let known = |list: &WaitList<u32>| (list.is_empty(), list.has_waiting(), list.has_woken());
        assert_eq!(known(&list), (true, false, false));
        let first = register(&mut list, 1);
        let mut second = Some(register(&mut list, 2));
        assert_eq!(known(&list), (false, true, false));
        assert_eq!(take_due(&mut list, 1), 1);
        assert_eq!(known(&list), (false, true, true));
        assert!(list.register_woken(&mut second, 2).is_some());
        assert_eq!(known(&list), (false, false, true));
        assert!(
            list.register(&mut second, 2, Waker::noop().clone())
                .is_none()
        );
        assert!(list.remove(first).is_none());
        assert_eq!(known(&list), (false, true, false));
        assert!(list.remove(second.unwrap()).is_some());
        assert_eq!(known(&list), (true, false, false));
    }

    #[test]
    fn a_crowd_leaves_no_memory_behind() {
        let mut list = WaitList::default();
        let places: Vec<_> = (0..10_000).map(|n| register(&mut list, n)).collect();
        for place in places {
            assert!(list.remove(place).is_some());
        }
        assert!(list.entries.capacity() <= 2 * ENTRIES_KEPT);
    }
}
