//! Locks and atomics: those of the standard library, or loom's in its models. No other file names either.

#[cfg(not(all(test, loom)))]
use std::sync as imp;

#[cfg(all(test, loom))]
use loom::sync as imp;

mod wake_list;

pub(crate) use imp::{
    MutexGuard as LockGuard,
    atomic::{AtomicU8, AtomicU64, Ordering},
};
pub(crate) use wake_list::WakeList;

/// A lock that knows no poison.
///
/// Under our locks runs only our own code, which restores its rules before it lets go of them; what may panic, foreign
/// code, runs outside. A thread that panics while it holds the guard of a buffer leaves a buffer whose rules hold.
#[derive(Debug)]
pub(crate) struct Lock<T>(imp::Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// A lock for a `static`, which loom does not model.
#[derive(Debug)]
pub(crate) struct Global<T>(std::sync::LazyLock<std::sync::Mutex<T>>);

impl<T: Default> Global<T> {
    pub(crate) const fn new() -> Self {
        Self(std::sync::LazyLock::new(Default::default))
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// A number that no other call returns.
pub(crate) fn next_token() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
