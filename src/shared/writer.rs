//! The writing end of a buffer as Tokio and `futures` know it.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::Sink;
use tokio::{io::AsyncWrite, task::coop};

use super::{BufferGuard, SharedEvBuffer, interest::Interest, wait::Waiter};
use crate::{BufferError, buffer::End, error::clone_io_error};

/// Adds bytes to a [`SharedEvBuffer`]: [`AsyncWrite`] and a [`Sink`] of [`Bytes`].
///
/// It fills the buffer up to its high mark, then waits until that has fallen to its low one, or until more is
/// [waited for](SharedEvBuffer::readable); a hard cap
/// ([`set_max_len`](crate::EvBuffer::set_max_len)) is waited for likewise. Without marks it never waits. Several
/// writers of one buffer take turns, call by call.
///
/// An item of the sink is taken whole, and linked without a copy, once the buffer is below its high mark: one item may pass
/// the mark. To flush is immediate: the bytes are where readers find them. Shutting down, or closing the sink, closes
/// the buffer; dropping does not, except for the writer of a [`pipe`](super::pipe).
///
/// Writing to a closed buffer is an error, [`BrokenPipe`](io::ErrorKind::BrokenPipe); to one with a frozen back
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied); to one with a cap of zero
/// [`StorageFull`](io::ErrorKind::StorageFull).
///
/// # Cancel safety
///
/// `write` is cancel safe: what it did not report was not added.
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
    closes: bool,
}

impl Writer {
    pub(super) fn new(buffer: SharedEvBuffer, closes: bool) -> Self {
        Self {
            waiter: Waiter::holding(buffer),
            closes,
        }
    }

    /// Ends the stream with `error`, which readers get after the bytes that are left. See
    /// [`SharedEvBuffer::close_with`].
    pub fn close_with(&self, error: io::Error) {
        self.waiter.buffer().close_with(error);
    }

    /// Adds `data` if that is allowed and concerns nobody, which is what mostly happens.
    #[inline]
    fn add_quietly(&self, data: &[u8]) -> bool {
        let mut state = self.waiter.buffer().inner.state.lock();
        state.stays_quiet(data.len()) && !state.is_high() && state.buffer.add(data).is_ok()
    }

    /// Waits for room, then has `add` fill it.
    fn poll_room<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut add: impl FnMut(&mut BufferGuard<'_>, usize) -> Result<T, BufferError>,
    ) -> Poll<io::Result<T>> {
        self.waiter.poll(cx, |guard| {
            if let Some(error) = guard.state().error() {
                return Ok(Err(clone_io_error(error)));
            }
            if let Some(error) = guard.refusal() {
                return Ok(Err(error.into()));
            }
            match guard.state().room() {
                0 => Err(Interest::Room),
                room => Ok(add(guard, room).map_err(Into::into)),
            }
        })
    }
}

impl BufferGuard<'_> {
    /// Why waiting for room is in vain.
    fn refusal(&self) -> Option<BufferError> {
        if self.state().owner.closed {
            return Some(BufferError::Closed);
        }
        if self.is_frozen(End::Back) {
            return Some(BufferError::Frozen(End::Back));
        }
        (self.max_len() == Some(0)).then_some(BufferError::Full { max_len: 0 })
    }

    /// Copies as much of `slices` as there is room for, as one change.
    fn add_some(&mut self, slices: &[IoSlice<'_>], room: usize) -> Result<usize, BufferError> {
        let mut left = room;
        for slice in slices {
            let piece = &slice[..slice.len().min(left)];
            match self.add(piece) {
                Ok(()) => {}
                Err(error) if left == room => return Err(error),
                // What went before has been added, and is what is reported.
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
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = self.get_mut();
        if !this.waiter.is_waiting() {
            let budget = ready!(coop::poll_proceed(cx));
            if this.add_quietly(data) {
                budget.made_progress();
                return Poll::Ready(Ok(data.len()));
            }
        }
        this.poll_room(cx, |guard, room| {
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
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.get_mut()
            .poll_room(cx, |guard, room| guard.add_some(slices, room))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiter.buffer().close();
        Poll::Ready(Ok(()))
    }
}

impl Sink<Bytes> for Writer {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_room(cx, |_, _| Ok(())))?;
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, item: Bytes) -> io::Result<()> {
        self.waiter.buffer().add_reference(item)?;
        Ok(())
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
            self.waiter.buffer().close();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
