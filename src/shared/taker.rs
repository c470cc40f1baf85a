//! Taking from a buffer in turn, after ranges of files at the front were read without blocking a worker thread.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::task::coop;

use super::{BufferGuard, inner::SharedEvBuffer, interest::Interest, waiter::Waiter};
use crate::{loading::Loading, segment::FilePart};

/// The bytes at the front that are in memory before code with an unknown reach looks at them.
pub(super) const LOADED_AHEAD: usize = 256 << 10;

/// A task that takes from a buffer, in turn with others. Before it looks, ranges of files are read, without the lock.
///
/// Meanwhile the task has no place among those that wait, so others may take the bytes. Nothing is lost by that: all tasks
/// that could continue were woken.
#[derive(Debug)]
pub(super) struct Taker<'a> {
    waiter: Waiter<'a>,
    loading: Loading,
}

impl<'a> Taker<'a> {
    #[inline]
    pub(super) fn new(waiter: Waiter<'a>) -> Self {
        Self {
            waiter,
            loading: Loading::default(),
        }
    }

    #[inline]
    pub(super) fn buffer(&self) -> &SharedEvBuffer {
        self.waiter.buffer()
    }

    /// As [`Waiter::poll_in_turn`], once the first `reach` bytes are in memory.
    #[inline]
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        turn: Interest,
        reach: usize,
        mut look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        loop {
            let Self { waiter, loading } = self;
            let looked =
                waiter.poll_in_turn(cx, turn, |guard| loaded(loading, guard, reach, &mut look));
            match ready!(looked) {
                Ok(output) => return Poll::Ready(output),
                Err(part) => drop(ready!(loading.poll_ready(cx, &part))),
            }
        }
    }

    /// As [`Waiter::poll_once_in_turn`], once the first `reach` bytes are in memory.
    #[inline]
    pub(super) fn poll_once<T>(
        &mut self,
        cx: &mut Context<'_>,
        turn: Interest,
        reach: usize,
        mut look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        loop {
            let Self { waiter, loading } = self;
            let looked = waiter
                .poll_once_in_turn(cx, turn, |guard| loaded(loading, guard, reach, &mut look));
            match ready!(looked) {
                Ok(output) => return Poll::Ready(output),
                Err(part) => drop(ready!(loading.poll_ready(cx, &part))),
            }
        }
    }
}

/// Calls `look`, unless a part of the first `reach` bytes has to be read before.
#[inline]
fn loaded<T>(
    loading: &Loading,
    guard: &mut BufferGuard<'_>,
    reach: usize,
    mut look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
) -> Result<Result<T, FilePart>, Interest> {
    match loading.load_ready(guard, reach) {
        Ok(Some((_, part))) => Ok(Err(part)),
        // A part that cannot be read is an error of `look`.
        Ok(None) | Err(_) => look(guard).map(Ok),
    }
}

/// Waits until `look` has taken what it takes. Several tasks take turns.
#[derive(Debug)]
pub(super) struct Take<'a, F> {
    buffer: &'a SharedEvBuffer,
    /// `None` until it has to wait.
    taker: Option<Taker<'a>>,
    reach: usize,
    look: F,
}

impl<'a, F> Take<'a, F> {
    /// `look` looks at the first `reach` bytes.
    #[inline]
    pub(super) fn new<T>(buffer: &'a SharedEvBuffer, reach: usize, look: F) -> Self
    where
        F: FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    {
        Self {
            buffer,
            taker: None,
            reach,
            look,
        }
    }
}

/// No field is pinned.
impl<F> Unpin for Take<'_, F> {}

impl<T, F: FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>> Take<'_, F> {
    /// Takes under one lock, as it mostly can, if no other task goes first and no file has to be read.
    #[inline]
    fn take_now(&mut self) -> Option<T> {
        let mut guard = self.buffer.lock();
        if guard.state().has_woken() || guard.first_unloaded(self.reach).is_some() {
            return None;
        }
        (self.look)(&mut guard).ok()
    }

    #[inline(never)]
    fn poll_taker(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.taker {
            Some(taker) => taker.poll(cx, Interest::Take, self.reach, &mut self.look),
            None => {
                let taker = self.taker.insert(Taker::new(Waiter::new(self.buffer)));
                taker.poll_once(cx, Interest::Take, self.reach, &mut self.look)
            }
        }
    }
}

impl<T, F: FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>> Future for Take<'_, F> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if this.taker.is_none() {
            let budget = ready!(coop::poll_proceed(cx));
            if let Some(output) = this.take_now() {
                budget.made_progress();
                return Poll::Ready(output);
            }
        }
        this.poll_taker(cx)
    }
}
