//! [`Writer`]: the writing end of a buffer, with the traits of Tokio and `futures`.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::Sink;
use tokio::{io::AsyncWrite, task::coop};

use super::{BufferGuard, inner::SharedEvBuffer, interest::Interest, waiter::Waiter};
use crate::{BufferError, error::clone_io_error};

/// Adds bytes to a [`SharedEvBuffer`]: [`AsyncWrite`] and a [`Sink`] of [`Bytes`].
///
/// It fills the buffer up to its high watermark, then waits until the length has fallen to the low one, or until a task
/// [waits for more](SharedEvBuffer::readable). It also waits at a hard cap
/// ([`set_max_len`](crate::EvBuffer::set_max_len)). Without watermarks it never waits. Several writers of one buffer take
/// turns: the one that has waited longest is first.
///
/// An item of the sink is added as a whole, linked without a copy, once the buffer is below its high watermark: one item may
/// exceed that. An item that does not fit below the hard cap now is kept, and added before anything else when there is room;
/// one that never fits is an error.
///
/// Flushing completes when no item is kept: readers find the bytes in the buffer. Shutting down, or closing the sink,
/// flushes and closes the buffer. Dropping does not, except for the writer of a [`pipe`](crate::pipe), and discards an item
/// that is still kept.
///
/// Writing to a closed buffer is an error, [`BrokenPipe`](io::ErrorKind::BrokenPipe), or the error with which it was closed;
/// to one with a frozen back [`PermissionDenied`](io::ErrorKind::PermissionDenied); to one with a cap of zero
/// [`StorageFull`](io::ErrorKind::StorageFull). A writer that waits gets these errors, too.
///
/// # Cancel safety
///
/// `write` is cancel safe: bytes that it did not report were not added.
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncWriteExt;
/// use tokio_evbuffer::{SharedEvBuffer, Watermarks};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffer = SharedEvBuffer::new();
/// buffer.set_watermarks(Watermarks::new(2, 8)?);
///
/// let mut writer = buffer.writer();
/// assert_eq!(writer.write(b"more than eight").await?, 8);
/// buffer.drain(6)?;
/// assert_eq!(writer.write(b" bytes").await?, 6);
/// # Ok(())
/// # }
/// ```
pub struct Writer {
    waiter: Waiter<'static>,
    /// An item of the sink that did not fit yet.
    item: Option<Bytes>,
    /// Whether this is the writer of a pipe.
    closes: bool,
}

impl Writer {
    pub(super) fn new(buffer: SharedEvBuffer, closes: bool) -> Self {
        Self {
            waiter: Waiter::owning(buffer),
            item: None,
            closes,
        }
    }

    /// Returns the buffer that this writes to.
    #[must_use]
    pub fn buffer(&self) -> &SharedEvBuffer {
        self.waiter.buffer()
    }

    /// Ends the stream with `error`, which readers get after the bytes that are left. See
    /// [`SharedEvBuffer::close_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio_evbuffer::Watermarks;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (mut writer, mut reader) = tokio_evbuffer::pipe(Watermarks::NONE);
    /// writer.write_all(b"half").await?;
    /// writer.close_with(std::io::ErrorKind::ConnectionReset.into());
    ///
    /// let mut read = Vec::new();
    /// let error = reader.read_to_end(&mut read).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// assert_eq!(read, b"half");
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_with(&self, error: io::Error) {
        self.buffer().close_with(error);
    }

    /// Adds `data`, if there is room and no subscriber needs a notification.
    #[inline]
    fn add_quietly(&self, data: &[u8]) -> bool {
        let mut state = self.buffer().inner.state.lock();
        let len = state.buffer.len().saturating_add(data.len());
        !state.needs_notify(len) && !state.is_high() && state.buffer.add(data).is_ok()
    }

    /// Waits for the writer's turn, for room below the high watermark, and for room for `n` bytes below the hard cap. Then
    /// calls `add` with the room that there is.
    fn poll_room<T>(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
        mut add: impl FnMut(&mut BufferGuard<'_>, usize) -> Result<T, BufferError>,
    ) -> Poll<io::Result<T>> {
        let interest = Interest::Write(n);
        self.waiter.poll_in_turn(cx, interest, |guard| {
            let state = guard.state();
            if let Some(error) = state.error() {
                return Ok(Err(clone_io_error(error)));
            }
            if let Some(refusal) = state.refusal() {
                return Ok(Err(refusal.into()));
            }
            if let Some(max_len) = state.buffer.max_len().filter(|&max_len| n > max_len) {
                return Ok(Err(BufferError::Full { max_len }.into()));
            }
            match state.room() {
                room if room > 0 && state.room_below_cap() >= n => {
                    Ok(add(guard, room).map_err(Into::into))
                }
                _ => Err(interest),
            }
        })
    }

    /// Adds the item that is kept, if there is one.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(item) = self.item.clone() else {
            return Poll::Ready(Ok(()));
        };
        let added = ready!(self.poll_room(cx, item.len(), |guard, _| {
            guard.add_reference(item.clone())
        }));
        self.item = None;
        Poll::Ready(added)
    }
}

impl BufferGuard<'_> {
    /// Copies as much of `slices` as there is room for, as one change.
    fn add_some(&mut self, slices: &[IoSlice<'_>], room: usize) -> Result<usize, BufferError> {
        let mut left = room;
        for slice in slices {
            let piece = &slice[..slice.len().min(left)];
            match self.add(piece) {
                Ok(()) => {}
                Err(error) if left == room => return Err(error),
                // The pieces before were added and are reported.
                Err(_) => break,
            }
            left -= piece.len();
            if left == 0 {
                break;
            }
        }
        Ok(room - left)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.item.is_some() {
            ready!(this.poll_item(cx))?;
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !this.waiter.is_waiting() {
            let budget = ready!(coop::poll_proceed(cx));
            if this.add_quietly(data) {
                budget.made_progress();
                return Poll::Ready(Ok(data.len()));
            }
        }
        this.poll_room(cx, 1, |guard, room| {
            let n = data.len().min(room);
            guard.add(&data[..n])?;
            Ok(n)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_item(cx))?;
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        this.poll_room(cx, 1, |guard, room| guard.add_some(slices, room))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_item(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(this.poll_item(cx));
        this.buffer().close();
        Poll::Ready(flushed)
    }
}

impl Sink<Bytes> for Writer {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_item(cx))?;
        this.poll_room(cx, 1, |_, _| Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, item: Bytes) -> io::Result<()> {
        let this = self.get_mut();
        match this.buffer().add_reference(item.clone()) {
            Err(BufferError::Full { max_len }) if item.len() <= max_len && this.item.is_none() => {
                this.item = Some(item);
                Ok(())
            }
            added => Ok(added?),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.closes {
            self.buffer().close();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
