//! [`Reader`]: the reading end of a buffer, with the traits of Tokio and `futures`.

use std::{
    fmt, io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::{
    BufferGuard,
    inner::SharedEvBuffer,
    interest::Interest,
    lock::ConsumeToken,
    waiter::{Taker, Waiter},
};
use crate::{BufferError, buffer::End, error::clone_io_error};

/// Takes bytes from a [`SharedEvBuffer`]: [`AsyncRead`], [`AsyncBufRead`] and a [`Stream`] of [`Bytes`].
///
/// It waits while the buffer is empty and ends when that is closed and drained; a buffer that was closed with an error then
/// returns that error. Several readers of one buffer take turns: the one that has waited longest is first.
///
/// [`poll_fill_buf`](AsyncBufRead::poll_fill_buf) borrows the first segment. Its bytes stay in the buffer, and count in its
/// length, until they are consumed; meanwhile other readers of the buffer wait. If another handle takes some of them,
/// `consume` removes those that are left, and the next `poll_fill_buf` returns what is at the front then.
///
/// The stream yields whole segments as they are linked, without a copy, except for short ones that would keep a long block
/// alive.
///
/// A frozen front is an error, [`PermissionDenied`](io::ErrorKind::PermissionDenied).
///
/// # Cancel safety
///
/// Reading is cancel safe: bytes that were not returned are in the buffer, also after a reader that has borrowed the front
/// was dropped.
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncBufReadExt;
/// use tokio_evbuffer::SharedEvBuffer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffer = SharedEvBuffer::new();
/// buffer.add(b"one\ntwo\n")?;
/// buffer.close();
///
/// let mut lines = buffer.reader().lines();
/// assert_eq!(lines.next_line().await?.as_deref(), Some("one"));
/// assert_eq!(lines.next_line().await?.as_deref(), Some("two"));
/// assert_eq!(lines.next_line().await?, None);
/// # Ok(())
/// # }
/// ```
pub struct Reader {
    taker: Taker<'static>,
    /// The bytes that `fill_buf` has returned and that were not consumed. Others may have taken them since.
    borrowed: Bytes,
    /// The number of the borrow. Later borrows, also of other readers, have other numbers.
    borrow_id: u32,
    /// Valid while the borrowed bytes are certainly at the front, and may be consumed without the lock.
    token: ConsumeToken,
    /// Whether this is the reader of a pipe.
    closes: bool,
}

impl Reader {
    pub(super) fn new(buffer: SharedEvBuffer, closes: bool) -> Self {
        Self {
            taker: Taker::new(Waiter::owning(buffer)),
            borrowed: Bytes::new(),
            borrow_id: 0,
            token: ConsumeToken::default(),
            closes,
        }
    }

    /// Returns the buffer that this reads from.
    #[must_use]
    pub fn buffer(&self) -> &SharedEvBuffer {
        self.taker.buffer()
    }

    /// Returns the bytes that `fill_buf` has returned and that were not consumed.
    #[inline]
    pub(crate) fn borrowed(&self) -> &[u8] {
        &self.borrowed
    }

    /// Returns whether `fill_buf` can return the borrowed bytes again without the lock.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        !self.borrowed.is_empty() && self.buffer().inner.state.is_valid(&self.token)
    }

    /// Removes the first `n` of the borrowed bytes from the buffer, if they are still there.
    #[inline]
    pub(crate) fn consume_borrowed(&mut self, n: usize) {
        // Mostly some are left, and no other handle has locked the buffer.
        let lock = &self.taker.buffer().inner.state;
        match n < self.borrowed.len() && lock.consume(&mut self.token, n) {
            true => self.borrowed.advance(n),
            false => self.consume_rest(n),
        }
    }

    #[inline(never)]
    fn consume_rest(&mut self, n: usize) {
        let n = n.min(self.borrowed.len());
        if n == 0 {
            return;
        }
        let consumed = match n < self.borrowed.len() {
            true => {
                self.borrowed.advance(n);
                Bytes::new()
            }
            // An empty range would still keep its memory.
            false => mem::take(&mut self.borrowed),
        };
        self.consume_locked(n);
        // The owner of the memory is user code: after the lock.
        drop(consumed);
    }

    /// Removes `n` bytes that were split off `borrowed`.
    fn consume_locked(&mut self, n: usize) {
        self.token = ConsumeToken::default();
        let mut guard = self.taker.buffer().lock();
        if guard.is_borrowed_by(self.borrow_id) {
            let taken_by_others = self.borrowed.len() + n - guard.borrowed();
            guard.consume_borrowed(n.saturating_sub(taken_by_others));
            match self.borrowed.is_empty() {
                true => guard.return_front(),
                false => self.token = guard.issue_token(self.borrowed.len()),
            }
        }
    }

    /// Returns the borrowed bytes to the buffer, unless they are certainly at the front.
    fn return_outdated(&mut self) {
        if self.borrowed.is_empty() || self.is_current() {
            return;
        }
        let mut guard = self.taker.buffer().lock();
        if guard.is_borrowed_by(self.borrow_id) {
            guard.return_front();
        }
        drop(guard);
        self.token = ConsumeToken::default();
        self.borrowed = Bytes::new();
    }

    /// Takes something with `take`, which needs the first `reach` bytes in memory.
    fn poll_ready<T>(
        &mut self,
        cx: &mut Context<'_>,
        reach: usize,
        mut take: impl FnMut(&mut BufferGuard<'_>) -> Result<T, BufferError>,
    ) -> Poll<Option<io::Result<T>>> {
        self.taker.poll(cx, Interest::Read, reach, |guard| {
            if guard.is_frozen_by_user(End::Front) {
                return Ok(Some(Err(BufferError::Frozen(End::Front).into())));
            }
            if guard.is_empty() {
                let state = guard.state();
                return match state.error() {
                    Some(error) => Ok(Some(Err(clone_io_error(error)))),
                    None if state.is_closed() => Ok(None),
                    None => Err(Interest::Read),
                };
            }
            if guard.borrowed() > 0 {
                return Err(Interest::Read);
            }
            Ok(Some(take(guard).map_err(Into::into)))
        })
    }
}

impl BufferGuard<'_> {
    fn is_borrowed_by(&self, borrow_id: u32) -> bool {
        let observers = self.state().observers.as_ref();
        observers.is_some_and(|observers| observers.borrow_id == borrow_id) && self.borrowed() > 0
    }

    /// Borrows the front under a number that no other borrow has.
    fn borrow_numbered(&mut self) -> Result<(Bytes, u32, ConsumeToken), BufferError> {
        let front = self.borrow_front()?;
        let observers = self.state_mut().observers_mut();
        // Zero means no borrow. Numbers are reused after four billion borrows.
        observers.borrows = observers.borrows.checked_add(1).unwrap_or(1);
        observers.borrow_id = observers.borrows;
        let borrow_id = observers.borrow_id;
        self.state_mut().update_quiet_range();
        let token = self.issue_token(front.len());
        Ok((front, borrow_id, token))
    }

    /// Lets the reader that has borrowed the first `n` bytes consume them without the lock, if no subscriber needs a
    /// notification as long as a byte is left.
    fn issue_token(&self, n: usize) -> ConsumeToken {
        let state = self.state();
        match &state.observers {
            // No subscriber waits for fewer bytes than there are, so the lengths in between are then quiet as well.
            Some(observers) if self.borrows_first(n) && !state.needs_notify(1) => {
                debug_assert!(!state.needs_notify(self.len()));
                self.buffer_lock().issue_token(observers.borrow_id, n)
            }
            _ => ConsumeToken::default(),
        }
    }
}

impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        this.return_outdated();
        if this.borrowed.is_empty() {
            match ready!(this.poll_ready(cx, 1, |guard| guard.borrow_numbered())) {
                Some(front) => (this.borrowed, this.borrow_id, this.token) = front?,
                None => return Poll::Ready(Ok(&[])),
            }
        }
        Poll::Ready(Ok(&this.borrowed))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        self.get_mut().consume_borrowed(n);
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.return_outdated();
        if !this.borrowed.is_empty() {
            let n = this.borrowed.len().min(out.remaining());
            out.put_slice(&this.borrowed[..n]);
            this.consume_borrowed(n);
            return Poll::Ready(Ok(()));
        }
        let read = this.poll_ready(cx, out.remaining(), |guard| {
            let n = guard.len().min(out.remaining());
            guard.load_first(n)?;
            for chunk in guard.chunks() {
                out.put_slice(&chunk[..chunk.len().min(out.remaining())]);
                if out.remaining() == 0 {
                    break;
                }
            }
            guard.drain(n)?;
            Ok(())
        });
        read.map(|read| read.unwrap_or(Ok(())))
    }
}

impl Stream for Reader {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.return_outdated();
        if !this.borrowed.is_empty() {
            let borrowed = this.borrowed.clone();
            this.consume_borrowed(borrowed.len());
            return Poll::Ready(Some(Ok(borrowed)));
        }
        this.poll_ready(cx, 1, |guard| {
            guard.load_first(1)?;
            let first = guard.chunks().next().map_or(0, <[u8]>::len);
            guard.take_bytes(first)
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !mem::take(&mut self.borrowed).is_empty() {
            let mut guard = self.taker.buffer().lock();
            if guard.is_borrowed_by(self.borrow_id) {
                guard.return_front();
            }
        }
        if self.closes {
            // No reader is left for the remaining bytes.
            self.buffer().close();
            self.buffer().discard_all();
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("borrowed", &self.borrowed.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

    use super::*;

    /// Otherwise, once another handle has locked the buffer, each line of the current segment would take the lock.
    #[tokio::test]
    async fn a_reader_consumes_without_the_lock_again_after_another_handle_has_locked() {
        let buffer = SharedEvBuffer::new();
        buffer.writer().write_all(b"123456").await.unwrap();
        let mut reader = buffer.reader();
        assert_eq!(reader.fill_buf().await.unwrap(), b"123456");
        reader.consume(1);
        assert!(reader.is_current());
        assert_eq!(buffer.len(), 5);
        assert!(
            !reader.is_current(),
            "the lock has removed what was consumed"
        );
        reader.consume(1);
        assert!(reader.is_current());
        reader.consume(1);
        assert!(reader.is_current());
        assert_eq!(buffer.len(), 3);
        assert_eq!(reader.fill_buf().await.unwrap(), b"456");
    }
}
