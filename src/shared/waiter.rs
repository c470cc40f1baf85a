//! The mechanism of all waits for a buffer, and of taking from it in turn.
//!
//! A waiter checks and registers under one lock, so that no change falls between the two.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::task::coop;

use super::{BufferGuard, WaitError, inner::SharedEvBuffer, interest::Interest};
use crate::{loading::Loading, segment::FilePart, sync::Place};

/// The bytes at the front that are in memory before code with an unknown reach looks at them.
pub(super) const LOADED_AHEAD: usize = 256 << 10;

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

/// Waits until `look` is ready, which takes nothing. [`Take`] is for one that does.
#[derive(Debug)]
pub(super) struct Look<'a, F> {
    waiter: Waiter<'a>,
    look: F,
}

impl<'a, F> Look<'a, F> {
    #[inline]
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

/// No field is pinned.
impl<F> Unpin for Look<'_, F> {}

impl<T, F: FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>> Future for Look<'_, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        this.waiter.poll(cx, &mut this.look)
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
        look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        self.poll_loaded(cx, turn, reach, |_| None, look)
    }

    /// [`poll`](Self::poll) for a `look` that may be expensive: it is called once before the task waits.
    #[inline]
    pub(super) fn poll_once<T>(
        &mut self,
        cx: &mut Context<'_>,
        turn: Interest,
        reach: usize,
        look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        self.poll_loaded(cx, turn, reach, |cx| Some(cx.waker().clone()), look)
    }

    #[inline]
    fn poll_loaded<T>(
        &mut self,
        cx: &mut Context<'_>,
        turn: Interest,
        reach: usize,
        waker: impl Fn(&Context<'_>) -> Option<Waker>,
        mut look: impl FnMut(&mut BufferGuard<'_>) -> Result<T, Interest>,
    ) -> Poll<T> {
        loop {
            let Self { waiter, loading } = self;
            let looked = waiter.poll_look(cx, Some(turn), waker(cx), |guard| {
                loaded(loading, guard, reach, &mut look)
            });
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
