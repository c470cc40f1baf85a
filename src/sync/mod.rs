//! Locks, atomics and wait lists. The other files import locks and atomics from here, so that loom can replace them.

#[cfg(not(all(test, loom)))]
use std::sync as imp;

#[cfg(all(test, loom))]
use loom::sync as imp;

mod wait_list;
mod wake_list;

pub(crate) use imp::{
    MutexGuard as LockGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};
pub(crate) use wait_list::{Place, WaitList};
pub(crate) use wake_list::WakeList;

#[cfg(not(evbuffer_tsan))]
macro_rules! acquire {
    ($mutex:expr) => {
        match $mutex.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    };
}

/// Spins: the thread sanitizer does not see the synchronisation in the slow path of std's `lock`.
#[cfg(evbuffer_tsan)]
macro_rules! acquire {
    ($mutex:expr) => {
        loop {
            match $mutex.try_lock() {
                Ok(guard) => break guard,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    };
}

/// A mutex without poisoning.
///
/// Only code of this crate runs under it, and that restores its invariants before it can panic. A thread that panics
/// while it holds the guard of a buffer leaves a valid buffer.
#[derive(Debug)]
pub(crate) struct Lock<T>(imp::Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        acquire!(self.0)
    }

    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// A lock for a `static`. Loom does not model it.
#[derive(Debug)]
pub(crate) struct Global<T>(std::sync::LazyLock<std::sync::Mutex<T>>);

impl<T: Default> Global<T> {
    pub(crate) const fn new() -> Self {
        Self(std::sync::LazyLock::new(Default::default))
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        acquire!(self.0)
    }
}

/// Returns a number that no other call returns.
pub(crate) fn next_token() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
