//! Waiting for a buffer: look and register under one lock, so that no change can fall between the two.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use tokio::task::coop;

use super::{
    BufferGuard, Change, SharedEvBuffer, WaitError,
    change::Totals,
    interest::{Interest, Key},
};

/// A place among the waiters of a buffer, given back when what was waited for is there, and when it is dropped.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    buffer: Handle<'a>,
    key: Option<Key>,
}

/// A future borrows its buffer, a stream or an adapter holds one.
#[derive(Debug)]
enum Handle<'a> {
    Borrowed(&'a SharedEvBuffer),
    Held(SharedEvBuffer),
}

impl<'a> Waiter<'a> {
    pub(super) fn new(buffer: &'a SharedEvBuffer) -> Self {
        Self {
            buffer: Handle::Borrowed(buffer),
            key: None,
        }
    }

    pub(super) fn holding(buffer: SharedEvBuffer) -> Self {
        Self {
            buffer: Handle::Held(buffer),
            key: None,
        }
    }

    /// Whether it waits, or was woken and has not looked yet.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.key.is_some()
    }

    #[inline]
    pub(super) fn buffer(&self) -> &SharedEvBuffer {
        match &self.buffer {
            Handle::Borrowed(buffer) => buffer,
            Handle::Held(buffer) => buffer,
        }
    }

    /// Polls `look`, which runs under the lock and says what to wait for where it is not ready.
    ///
    /// Counts against the budget of the task, so that a loop over a buffer that is always ready lets others run.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        let budget = ready!(coop::poll_proceed(cx));
        let Self { buffer, key } = self;
        let (buffer, is_made_to_wait) = match buffer {
            Handle::Borrowed(buffer) => (*buffer, true),
            Handle::Held(buffer) => (&*buffer, false),
        };
        // What mostly waits has its waker at hand, and need not lock twice to get it in.
        let mut spare = (is_made_to_wait && key.is_none()).then(|| cx.waker().clone());
        loop {
            let mut guard = buffer.lock();
            let interest = match look(&mut guard) {
                Ok(output) => {
                    let kept = key
                        .take()
                        .and_then(|key| guard.state_mut().forget_waiter(key));
                    // WakeList are foreign code, too: none is dropped under the lock.
                    drop(guard);
                    drop((kept, spare));
                    budget.made_progress();
                    return Poll::Ready(output);
                }
                Err(interest) => interest,
            };
            // What waits holds nothing, unless a writer was woken and is about to fill it again.
            if guard.is_empty() && !guard.state().expects_more() {
                guard.shrink_to_fit();
            }
            let state = guard.state_mut();
            let registered = state.register_waiter(key, interest, cx.waker(), &mut spare);
            if registered && matches!(interest, Interest::Len(_)) && guard.is_high() {
                // Between the marks, what fills the buffer waits for bytes to go, unless it is told that more are wanted.
                guard.request_check();
            }
            drop(guard);
            if registered {
                // What is left in `spare`, foreign code, goes after the lock.
                return Poll::Pending;
            }
            spare = Some(cx.waker().clone());
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let mut state = self.buffer().inner.state.lock();
            let waker = state.forget_waiter(key);
            drop(state);
            drop(waker);
        }
    }
}

/// The future of [`SharedEvBuffer::changed`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Changed<'a> {
    waiter: Waiter<'a>,
    seen: Totals,
}

impl<'a> Changed<'a> {
    pub(super) fn new(buffer: &'a SharedEvBuffer) -> Self {
        Self {
            seen: buffer.inner.state.lock().totals(),
            waiter: Waiter::new(buffer),
        }
    }
}

impl Future for Changed<'_> {
    type Output = Result<Change, WaitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let seen = this.seen;
        this.waiter.poll(cx, |guard| {
            let state = guard.state();
            match state.totals().since(seen) {
                Some(change) => Ok(Ok(change)),
                None => state.end().map(Err).ok_or(Interest::Change),
            }
        })
    }
}

/// The stream of [`SharedEvBuffer::changes`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Changes {
    waiter: Waiter<'static>,
    seen: Totals,
}

impl Changes {
    pub(super) fn new(buffer: &SharedEvBuffer) -> Self {
        Self {
            seen: buffer.inner.state.lock().totals(),
            waiter: Waiter::holding(buffer.clone()),
        }
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let Self { waiter, seen } = self.get_mut();
        waiter.poll(cx, |guard| {
            let state = guard.state();
            let now = state.totals();
            match now.since(*seen) {
                Some(change) => {
                    *seen = now;
                    Ok(Some(change))
                }
                None if state.owner.closed => Ok(None),
                None => Err(Interest::Change),
            }
        })
    }
}

/// Waits until `look` is ready.
#[derive(Debug)]
pub(super) struct Until<'a, F> {
    waiter: Waiter<'a>,
    look: F,
}

impl<'a, F> Until<'a, F> {
    pub(super) fn new<T>(buffer: &'a SharedEvBuffer, look: F) -> Self
    where
        F: FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    {
        Self {
            waiter: Waiter::new(buffer),
            look,
        }
    }
}

/// Nothing in it is pinned.
impl<F> Unpin for Until<'_, F> {}

impl<T, F: FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>> Future for Until<'_, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        this.waiter.poll(cx, &mut this.look)
    }
}
