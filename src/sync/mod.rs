//! Locks, atomics and wait lists. The other files import locks and atomics from here, so that loom can replace them.

#[cfg(not(all(test, loom)))]
use std::sync as imp;

#[cfg(all(test, loom))]
use loom::sync as imp;

#[cfg_attr(all(test, loom), allow(dead_code))] // Only the locks of statics are used.
mod lock;
mod wait_list;
mod wake_list;

pub(crate) use imp::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
pub(crate) use lock::NotSend;
#[cfg(not(all(test, loom)))]
pub(crate) use lock::{Lock, LockGuard};
#[cfg(all(test, loom))]
pub(crate) use loom_lock::{Lock, LockGuard};
pub(crate) use wait_list::{Place, WaitList};
pub(crate) use wake_list::WakeList;

/// Loom's mutex with the interface of [`lock::Lock`].
#[cfg(all(test, loom))]
mod loom_lock {
    pub(crate) use loom::sync::MutexGuard as LockGuard;

    #[derive(Debug)]
    pub(crate) struct Lock<T>(loom::sync::Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockGuard<'_, T> {
            self.0.lock().unwrap()
        }

        pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }
}

/// A lock for a `static`. Loom does not model it.
#[derive(Debug)]
pub(crate) struct Global<T>(std::sync::LazyLock<lock::Lock<T>>);

impl<T: Default> Global<T> {
    pub(crate) const fn new() -> Self {
        Self(std::sync::LazyLock::new(|| lock::Lock::new(T::default())))
    }

    pub(crate) fn lock(&self) -> lock::LockGuard<'_, T> {
        self.0.lock()
    }
}

/// Returns a number that no other call returns.
pub(crate) fn next_token() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
