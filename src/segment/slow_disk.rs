//! A disk for tests, whose reads wait until they are released.

use std::{
    ops::Range,
    sync::{Condvar, Mutex},
    thread::{self, ThreadId},
};

use super::page_cache::Residency;

/// Replaces the page cache of a file. At first nothing is cached.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    /// The thread that must not wait for it.
    worker: ThreadId,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cached: Vec<Range<u64>>,
    waiting: usize,
    released: bool,
}

impl SlowDisk {
    /// Makes a disk that the present thread must not wait for.
    pub(crate) fn new() -> Self {
        Self {
            worker: thread::current().id(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Lets the reads continue.
    pub(crate) fn release(&self) {
        self.state.lock().unwrap().released = true;
        self.changed.notify_all();
    }

    /// Returns how many reads wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().unwrap().waiting
    }

    /// Returns how many reads the disk has served.
    pub(crate) fn served(&self) -> usize {
        self.state.lock().unwrap().cached.len()
    }

    pub(super) fn residency(&self, range: Range<u64>) -> Residency {
        let state = self.state.lock().unwrap();
        let is_cached = |at: u64| state.cached.iter().any(|range| range.contains(&at));
        match is_cached(range.start) && is_cached(range.end - 1) {
            true => Residency::Cached,
            false => Residency::Absent,
        }
    }

    /// Reads `range`: waits unless it is cached.
    pub(super) fn read(&self, range: Range<u64>) {
        if self.residency(range.clone()) == Residency::Cached {
            return;
        }
        let id = thread::current().id();
        assert_ne!(id, self.worker, "a worker thread waits for the disk");
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        while !state.released {
            state = self.changed.wait(state).unwrap();
        }
        state.waiting -= 1;
        state.cached.push(range);
    }
}
