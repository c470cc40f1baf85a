//! The waits for changes and conditions, and their futures.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;

use super::{
    Change, Mark, WaitError,
    change::Totals,
    inner::SharedEvBuffer,
    interest::Interest,
    waiter::{Look, Waiter},
};
use crate::{EvBuffer, buffer::End};

/// The future of [`SharedEvBuffer::changed`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Changed<'a> {
    waiter: Waiter<'a>,
    seen: Totals,
}

impl Future for Changed<'_> {
    type Output = Result<Change, WaitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { waiter, seen } = self.get_mut();
        waiter.poll(cx, |guard| {
            let state = guard.state();
            match state.totals().since(*seen) {
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

impl Stream for Changes {
    type Item = Change;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let Self { waiter, seen } = self.get_mut();
        waiter.poll(cx, |guard| {
            let now = guard.state().totals();
            match now.since(*seen) {
                Some(change) => {
                    *seen = now;
                    Ok(Some(change))
                }
                None if now.is_final() => Ok(None),
                None => Err(Interest::Change),
            }
        })
    }
}

/// Waiting for changes and conditions.
///
/// Each wait ends when what it waits for can no longer happen:
///
/// | wait | closed | closed with an error | more than the hard cap | more than the high watermark, or full | frozen |
/// |---|---|---|---|---|---|
/// | [`changed`](Self::changed) | `Closed` | `Stream` | waits | waits | waits |
/// | [`changes`](Self::changes) | ends once empty | ends once empty | waits | waits | waits |
/// | [`wait_for`](Self::wait_for) | `Closed` | `Stream` | `NeverFits` | `AboveHigh` | back: `Frozen` |
/// | [`readable`](Self::readable) | `Closed` | `Stream` | `NeverFits` | `AboveHigh` | back: `Frozen` |
/// | [`take_exact`](Self::take_exact) | `Closed` | `Stream` | `NeverFits` | `AboveHigh` | `Frozen` |
/// | [`next_line`](Self::next_line), [`take_until`](Self::take_until) | the rest, then `None` | the rest, then `Stream` | `NeverFits` | `AboveHigh` | `Frozen` |
/// | [`drained_to`](Self::drained_to) | waits; discarded: `Closed` | waits; discarded: `Stream` | | | front: `Frozen` |
/// | [`Reader`](super::Reader) | the rest, then the end | the rest, then the error | | | front: `PermissionDenied` |
/// | [`Writer`](super::Writer) | `BrokenPipe` | the error | `StorageFull` | waits | back: `PermissionDenied` |
impl SharedEvBuffer {
    /// Waits for a change of the contents.
    ///
    /// The call itself, not the first poll, determines the position: a change made between the two is reported at once.
    /// All changes since then are reported as one.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] or [`WaitError::Stream`] if the buffer is closed and nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses only the position. To see every change, keep a [`changes`](Self::changes) stream.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// let changed = buffer.changed();
    /// buffer.add("abc")?;
    /// buffer.drain(1)?;
    /// let change = changed.await?;
    /// assert_eq!((change.added, change.removed, change.after), (3, 1, 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn changed(&self) -> Changed<'_> {
        Changed {
            seen: self.inner.state.lock().totals(),
            waiter: Waiter::new(self),
        }
    }

    /// Returns a stream of the changes from now on. It ends when the buffer is closed and empty.
    ///
    /// It keeps one position and no queue: changes that happen between two items are merged into one. The sums over all
    /// items are what was added and removed in total.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future of the next item loses nothing: the position changes only with an item.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tokio_evbuffer::BufferError> {
    /// let buffer = SharedEvBuffer::new();
    /// let mut changes = buffer.changes();
    /// buffer.add(b"12345")?;
    /// buffer.drain(2)?;
    /// buffer.close();
    ///
    /// let change = changes.next().await.unwrap();
    /// assert_eq!((change.added, change.removed, change.after), (5, 2, 3));
    /// buffer.drain(3)?;
    /// assert_eq!(changes.next().await.unwrap().after, 0);
    /// assert_eq!(changes.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn changes(&self) -> Changes {
        Changes {
            seen: self.inner.state.lock().totals(),
            waiter: Waiter::owning(self.clone()),
        }
    }

    /// Waits until `pred` returns `true`. It is called now and after changes.
    ///
    /// While it waits, writers do not pause between the watermarks, so the buffer can fill up to the high one. `pred` runs
    /// with the buffer locked and must not use handles of this buffer. To wait for a line, [`next_line`](Self::next_line)
    /// is shorter.
    ///
    /// # Errors
    ///
    /// If `pred` returns `false` and
    /// - the buffer is closed: [`WaitError::Closed`] or [`WaitError::Stream`];
    /// - the buffer is full or its back is frozen, so that nothing is added, and `pred` returns `false` for an empty buffer,
    ///   too, so that removing bytes does not help: [`WaitError::AboveHigh`], [`WaitError::NeverFits`] or
    ///   [`WaitError::Frozen`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: it only looks.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{SharedEvBuffer, Watermarks, shared::WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"GET / HTTP/1.1\r\n\r\n")?;
    /// buffer.wait_for(|b| b.search(b"\r\n\r\n", ..).is_some()).await?;
    ///
    /// buffer.set_watermarks(Watermarks::with_high(16)?);
    /// let waited = buffer.wait_for(|b| b.search(b"no such bytes", ..).is_some()).await;
    /// assert_eq!(waited, Err(WaitError::AboveHigh { high: 16 }));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_for(&self, mut pred: impl FnMut(&EvBuffer) -> bool) -> Result<(), WaitError> {
        Look::new(self, |guard| {
            if pred(guard) {
                return Ok(Ok(()));
            }
            let state = guard.state();
            if let Some(end) = state.end() {
                return Ok(Err(end));
            }
            match state.why_never(state.buffer.len().saturating_add(1)) {
                Some(error) if !pred(&EvBuffer::new()) => Ok(Err(error)),
                _ => Err(Interest::Condition),
            }
        })
        .await
    }

    /// Waits until the buffer holds at least `n` bytes. Zero is ready at once.
    ///
    /// A parser that has searched 100 bytes without success waits for `readable(101)`: it is not woken for what it has
    /// seen. While it waits, writers do not pause between the watermarks before there are `n` bytes.
    ///
    /// # Errors
    ///
    /// If there are fewer bytes and
    /// - `n` is above the hard cap or the high watermark: [`WaitError::NeverFits`], [`WaitError::AboveHigh`];
    /// - the buffer is closed: [`WaitError::Closed`] or [`WaitError::Stream`];
    /// - its back is frozen: [`WaitError::Frozen`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the bytes stay in the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{SharedEvBuffer, shared::WaitError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// let writer = buffer.clone();
    /// tokio::spawn(async move {
    ///     writer.add("head").unwrap();
    ///     writer.add("er").unwrap();
    ///     writer.close();
    /// });
    /// buffer.readable(6).await?;
    /// assert_eq!(buffer.take_bytes(6)?, "header");
    /// assert_eq!(buffer.readable(1).await, Err(WaitError::Closed));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn readable(&self, n: usize) -> Result<(), WaitError> {
        Look::new(self, |guard| {
            if guard.len() >= n {
                return Ok(Ok(()));
            }
            guard.state().why_never(n).map(Err).ok_or(Interest::Len(n))
        })
        .await
    }

    /// Marks the end of what is in the buffer now, for [`drained_to`](Self::drained_to).
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.inner.state.lock().mark()
    }

    /// Waits until everything that was in the buffer when `mark` was made has left it.
    ///
    /// Bytes that were prepended later are waited for, too, if they are still there when this looks. Closing does not end
    /// the wait: readers take what is left.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] or [`WaitError::Stream`] if such bytes will not be delivered, because the reader of a pipe was
    /// dropped, or because the connection whose output this is has ended, has failed to write, or was taken apart by
    /// [`into_inner`](crate::BufferEvent::into_inner); [`WaitError::Frozen`] if the front is frozen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the mark can be waited for again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"first")?;
    /// let mark = buffer.mark();
    /// buffer.add(b"second")?;
    ///
    /// buffer.drain(5)?;
    /// buffer.drained_to(mark).await?;
    /// assert_eq!(buffer.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drained_to(&self, mark: Mark) -> Result<(), WaitError> {
        Look::new(self, |guard| {
            let state = guard.state();
            if state.was_discarded(mark) {
                return Ok(Err(state.end().unwrap_or(WaitError::Closed)));
            }
            if mark.is_reached(state.appended(), state.buffer.len()) {
                return Ok(Ok(()));
            }
            match guard.is_frozen_by_user(End::Front) {
                true => Ok(Err(WaitError::Frozen(End::Front))),
                false => Err(Interest::Drained(mark)),
            }
        })
        .await
    }
}
