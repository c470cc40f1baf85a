//! Holds the stream: the task uses it for each operation, and the handles look at it in between.

use std::{any::Any, cell::Cell, net::SocketAddr, thread};

use super::endpoint::{AnyStream, Endpoint};
use crate::sync::{AtomicBool, Lock, LockGuard, Ordering};

/// Gives the stream to one user at a time, since it need not be `Sync`.
///
/// A stream that is not a socket, a filter and the closure of [`with_stream`](crate::BufferEvent::with_stream) run user
/// code, which may look at the streams of this and of other connections. So user code that uses one stream waits only for
/// streams that no user code uses: those are free after one system call. No thread waits for itself, and no two threads
/// wait for each other.
pub(super) struct StreamCell<E> {
    stream: Lock<Option<E>>,
    /// Set while user code uses the stream. Changes only under the lock.
    runs_user_code: AtomicBool,
}

impl<E: Endpoint> StreamCell<E> {
    pub(super) fn new(endpoint: E) -> Self {
        Self {
            stream: Lock::new(Some(endpoint)),
            runs_user_code: AtomicBool::new(false),
        }
    }

    /// Calls `f` for the task with the stream, if it is still here.
    #[inline]
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut E) -> R) -> Option<R> {
        let mut stream = self.stream.lock();
        let _running = E::runs_user_code().then(|| UserCode::enter(&self.runs_user_code));
        stream.as_mut().map(f)
    }

    /// Asks the stream something that runs no user code. `None` as in [`with_user_code`](Self::with_user_code).
    fn ask<R>(&self, f: impl FnOnce(&E) -> Option<R>) -> Option<R> {
        // Only sockets know an answer.
        if E::runs_user_code() {
            return None;
        }
        f(self.lock_for_handle()?.as_ref()?)
    }
}

impl<E> StreamCell<E> {
    /// Calls user code with the stream. `None` if it is gone, or if user code that the caller is part of may use it.
    pub(super) fn with_user_code<R>(&self, f: impl FnOnce(&E) -> R) -> Option<R> {
        let stream = self.lock_for_handle()?;
        let endpoint = stream.as_ref()?;
        let _running = UserCode::enter(&self.runs_user_code);
        Some(f(endpoint))
    }

    pub(super) fn take(&self) -> Option<E> {
        self.stream.lock().take()
    }

    fn lock_for_handle(&self) -> Option<LockGuard<'_, Option<E>>> {
        if !UserCode::runs_here() {
            return Some(self.stream.lock());
        }
        loop {
            if let Some(stream) = self.stream.try_lock() {
                return Some(stream);
            }
            if self.runs_user_code.load(Ordering::Acquire) {
                return None;
            }
            thread::yield_now();
        }
    }
}

/// Records that user code uses a stream on this thread, until it is dropped.
struct UserCode<'a> {
    runs: &'a AtomicBool,
}

thread_local! {
    /// The number of [`UserCode`] in this thread.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

impl<'a> UserCode<'a> {
    fn enter(runs: &'a AtomicBool) -> Self {
        runs.store(true, Ordering::Release);
        RUNNING.set(RUNNING.get() + 1);
        Self { runs }
    }

    fn runs_here() -> bool {
        RUNNING.get() > 0
    }
}

impl Drop for UserCode<'_> {
    fn drop(&mut self) {
        RUNNING.set(RUNNING.get() - 1);
        self.runs.store(false, Ordering::Release);
    }
}

impl<E: Endpoint> AnyStream for StreamCell<E> {
    fn with_cell(&self, f: &mut dyn FnMut(&dyn Any)) {
        f(self);
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.ask(E::peer_addr)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.ask(E::local_addr)
    }

    fn unacknowledged(&self) -> Option<usize> {
        self.ask(E::unacknowledged)
    }
}
