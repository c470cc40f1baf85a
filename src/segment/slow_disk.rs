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
    /// Whether it says what is cached.
    reports: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cached: Vec<Range<u64>>,
    /// The bytes of all reads, also of those that are cached.
    read: u64,
    waiting: usize,
    released: bool,
}

impl SlowDisk {
    /// Makes a disk that the present thread must not wait for.
    pub(crate) fn new() -> Self {
        Self {
            worker: thread::current().id(),
            reports: true,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Makes the disk of a file system that does not say what is cached.
    pub(crate) fn without_reports() -> Self {
        Self {
            reports: false,
            ..Self::new()
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

    /// Returns how many bytes were read, from the disk or from the cache.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.state.lock().unwrap().read
    }

    pub(super) fn residency(&self, range: Range<u64>) -> Residency {
        match self.is_cached(range) {
            _ if !self.reports => Residency::Unknown,
            true => Residency::Cached,
            false => Residency::Absent,
        }
    }

    fn is_cached(&self, range: Range<u64>) -> bool {
        let state = self.state.lock().unwrap();
        let contains = |at: u64| state.cached.iter().any(|range| range.contains(&at));
        contains(range.start) && contains(range.end - 1)
    }

    /// Reads `range`: waits unless it is cached.
    pub(super) fn read(&self, range: Range<u64>) {
        self.state.lock().unwrap().read += range.end - range.start;
        if self.is_cached(range.clone()) {
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
