//! A place among the tasks that wait for a buffer. A waiter checks and registers under one lock, so that no change falls
//! between the two.

use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

use super::{BufferGuard, WaitError, inner::SharedEvBuffer, interest::Interest};
use crate::sync::Place;

/// A place among the waiting tasks of a buffer. It is given back when the wait is over or dropped.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    buffer: Handle<'a>,
    place: Option<Place>,
}

/// A future borrows its buffer; a stream or an adapter owns a handle.
#[derive(Debug)]
enum Handle<'a> {
    Borrowed(&'a SharedEvBuffer),
    Owned(SharedEvBuffer),
}

impl Handle<'_> {
    #[inline]
    fn get(&self) -> &SharedEvBuffer {
        match self {
            Self::Borrowed(buffer) => buffer,
            Self::Owned(buffer) => buffer,
        }
    }
}

impl<'a> Waiter<'a> {
    pub(super) fn new(buffer: &'a SharedEvBuffer) -> Self {
        Self {
            buffer: Handle::Borrowed(buffer),
            place: None,
        }
    }

    pub(super) fn owning(buffer: SharedEvBuffer) -> Self {
        Self {
            buffer: Handle::Owned(buffer),
            place: None,
        }
    }

    /// Whether it waits, or was woken and not polled since.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.place.is_some()
    }

    #[inline]
    pub(super) fn buffer(&self) -> &SharedEvBuffer {
        self.buffer.get()
    }

    /// Polls `look`, which runs under the lock and returns what to wait for if it is not ready.
    ///
    /// Counts against the budget of the task, so that a loop over a buffer that is always ready lets other tasks run.
    #[inline]
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        self.poll_look(cx, None, Some(cx.waker().clone()), look)
    }

    /// [`poll`](Self::poll) for an operation that several tasks compete for, of the kind of `turn`: it lets tasks go first
    /// that have waited longer and were woken.
    ///
    /// Mostly it is ready, so the waker is cloned only if it is not. Then `look` is called once more before the task waits.
    #[inline]
    pub(super) fn poll_in_turn<T>(
        &mut self,
        cx: &mut Context<'_>,
        turn: Interest,
        look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        self.poll_look(cx, Some(turn), None, look)
    }

    /// [`poll_in_turn`](Self::poll_in_turn) for a `look` that may be expensive: it is called once.
    #[inline]
    pub(super) fn poll_once_in_turn<T>(
        &mut self,
        cx: &mut Context<'_>,
        turn: Interest,
        look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        self.poll_look(cx, Some(turn), Some(cx.waker().clone()), look)
    }

    /// Without a `waker`, clones it before the task waits, and looks again.
    #[inline]
    fn poll_look<T>(
        &mut self,
        cx: &mut Context<'_>,
        turn: Option<Interest>,
        mut waker: Option<Waker>,
        mut look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        let budget = ready!(coop::poll_proceed(cx));
        loop {
            let mut guard = self.buffer.get().lock();
            let mut replaced = None;
            let yields = turn.is_some_and(|turn| {
                let state = guard.state_mut();
                state.yields(&mut self.place, turn, &mut replaced)
            });
            if yields {
                drop(guard);
                drop((replaced, waker)); // user code: after the lock
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match look(&mut guard) {
                Ok(output) => {
                    let place = self.place.take();
                    let kept = place.and_then(|place| guard.state_mut().remove_waiter(place));
                    drop(guard);
                    drop((kept, waker)); // user code: after the lock
                    budget.made_progress();
                    return Poll::Ready(output);
                }
                Err(interest) => {
                    let Some(waker) = waker.take() else {
                        drop(guard);
                        waker = Some(cx.waker().clone()); // user code: before the lock
                        continue;
                    };
                    wait(guard, &mut self.place, interest, waker);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Waits for `interest`.
fn wait(mut guard: BufferGuard<'_>, place: &mut Option<Place>, interest: Interest, waker: Waker) {
    // A task that waits at an empty buffer keeps no memory, unless a writer was woken to fill it again.
    if guard.is_empty() && !guard.state().expects_bytes() {
        guard.shrink_to_fit();
    }
    let replaced = guard.state_mut().register_waiter(place, interest, waker);
    drop(guard);
    drop(replaced); // user code: after the lock
}

impl Drop for Waiter<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let mut state = self.buffer().inner.state.lock();
            let waker = state.remove_waiter(place);
            drop(state);
            drop(waker);
        }
    }
}

/// Polls the conditions of a buffer repeatedly, for a task of this crate that owns a handle.
#[derive(Debug)]
pub(crate) struct BufferWait(Waiter<'static>);

impl BufferWait {
    pub(crate) fn new(buffer: SharedEvBuffer) -> Self {
        Self(Waiter::owning(buffer))
    }

    /// Waits for at least one byte. Fails once the buffer is closed and empty.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WaitError>> {
        self.0.poll(cx, |guard| match guard.state().end() {
            _ if !guard.is_empty() => Ok(Ok(())),
            Some(end) => Ok(Err(end)),
            None => Err(Interest::Len(1)),
        })
    }

    /// Waits until a writer may add something. Fails once the buffer is closed.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WaitError>> {
        self.0.poll(cx, |guard| match guard.state().end() {
            Some(end) => Ok(Err(end)),
            None if guard.state().room() > 0 => Ok(Ok(())),
            None => Err(Interest::Write(1)),
        })
    }
}
