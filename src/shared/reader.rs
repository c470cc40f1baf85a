//! The reading end of a buffer as Tokio and `futures` know it.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::{
    BufferGuard, SharedEvBuffer,
    interest::Interest,
    lock::{Lender, Loan},
    state::State,
    wait::Waiter,
};
use crate::{BufferError, buffer::End, error::clone_io_error};

/// Takes bytes from a [`SharedEvBuffer`]: [`AsyncRead`], [`AsyncBufRead`] and a [`Stream`] of [`Bytes`].
///
/// It waits while the buffer is empty and ends when that is closed and drained. Several readers of one buffer compete for
/// its bytes.
///
/// [`poll_fill_buf`](AsyncBufRead::poll_fill_buf) shows the first segment; its bytes stay in the buffer, and count in
/// its length, until they are consumed. Meanwhile other readers of the buffer wait. If a guard takes some of them, `consume`
/// removes what is left; what a guard prepends stays before them.
///
/// The stream yields whole segments as they are linked, without a copy, but for short ones that would pin a long block.
///
/// A frozen front is an error, [`PermissionDenied`](io::ErrorKind::PermissionDenied).
///
/// # Cancel safety
///
/// Reading is cancel safe: what was not handed out is in the buffer, also after a reader that has been shown something
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
    waiter: Waiter<'static>,
    /// What `fill_buf` shows.
    shown: Bytes,
    /// The number of the showing: others follow once its bytes have gone.
    showing: u64,
    /// Whether its bytes may be taken without the lock.
    loan: Loan,
    /// The other end is told when this one goes.
    closes: bool,
}

impl Reader {
    pub(super) fn new(buffer: SharedEvBuffer, closes: bool) -> Self {
        Self {
            waiter: Waiter::holding(buffer),
            shown: Bytes::new(),
            showing: 0,
            loan: Loan::default(),
            closes,
        }
    }

    /// What `fill_buf` shows; nothing if it has to look first.
    #[inline]
    pub(crate) fn shown(&self) -> &[u8] {
        &self.shown
    }

    /// Removes the first `n` of the bytes shown from the buffer, as far as they are still there.
    fn settle(&mut self, n: usize) {
        let n = n.min(self.shown.len());
        self.shown.advance(n);
        let lending = &self.waiter.buffer().inner.state;
        if self.shown.is_empty() || !lending.take(&mut self.loan, n) {
            self.settle_locked(n);
        }
    }

    /// Removes `n` bytes, which [`shown`](Self::shown) does not show any more.
    fn settle_locked(&mut self, n: usize) {
        self.loan = Loan::default();
        let mut guard = self.waiter.buffer().lock();
        if !guard.is_shown_by(self.showing) {
            return;
        }
        let before = self.shown.len() + n;
        let gone = before - guard.borrowed();
        guard.consume_borrowed(n.saturating_sub(gone));
        if self.shown.is_empty() {
            guard.return_front();
        } else {
            self.loan = guard.lend(self.shown.len());
        }
    }

    fn poll_ready<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut BufferGuard<'_>) -> Result<T, BufferError>,
    ) -> Poll<Option<io::Result<T>>> {
        self.waiter.poll(cx, |guard| {
            if guard.is_empty() {
                let state = guard.state();
                return match state.error() {
                    Some(error) => Ok(Some(Err(clone_io_error(error)))),
                    None if state.owner.closed => Ok(None),
                    None => Err(Interest::Front),
                };
            }
            if guard.borrowed() > 0 {
                return Err(Interest::Front);
            }
            if guard.is_frozen(End::Front) {
                return Ok(Some(Err(BufferError::Frozen(End::Front).into())));
            }
            Ok(Some(take(guard).map_err(Into::into)))
        })
    }
}

impl BufferGuard<'_> {
    fn is_shown_by(&self, showing: u64) -> bool {
        let state = self.state();
        state
            .rare
            .as_ref()
            .is_some_and(|rare| rare.shown_by == showing)
            && self.borrowed() > 0
    }

    /// Shows the front under a number that no other showing has.
    fn show(&mut self) -> Result<(Bytes, u64, Loan), BufferError> {
        let shown = self.borrow_front()?;
        let rare = self.state_mut().rare_mut();
        rare.showings += 1;
        rare.shown_by = rare.showings;
        let showing = rare.showings;
        let loan = self.lend(shown.len());
        Ok((shown, showing, loan))
    }

    /// Lets the reader that shows the first `n` bytes take of them past the lock, if that concerns nobody.
    fn lend(&self, n: usize) -> Loan {
        let state = self.state();
        match &state.rare {
            Some(rare) if self.borrows_first(n) && state.is_quiet_down_to_one() => {
                self.lending().lend(rare.shown_by, n)
            }
            _ => Loan::default(),
        }
    }
}

impl Lender for State {
    fn take_back(&mut self, n: usize) {
        self.buffer.consume_borrowed(n);
    }
}

impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.shown.is_empty() {
            match ready!(this.poll_ready(cx, |guard| guard.show())) {
                Some(shown) => (this.shown, this.showing, this.loan) = shown?,
                None => return Poll::Ready(Ok(&[])),
            }
        }
        Poll::Ready(Ok(&this.shown))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        if n > 0 {
            self.get_mut().settle(n);
        }
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
        if !this.shown.is_empty() {
            let n = this.shown.len().min(out.remaining());
            out.put_slice(&this.shown[..n]);
            this.settle(n);
            return Poll::Ready(Ok(()));
        }
        let read = this.poll_ready(cx, |guard| {
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
        if !this.shown.is_empty() {
            let shown = this.shown.clone();
            this.settle(shown.len());
            return Poll::Ready(Some(Ok(shown)));
        }
        this.poll_ready(cx, |guard| {
            guard.load_first(1)?;
            let first = guard.chunks().next().map_or(0, <[u8]>::len);
            guard.take_bytes(first)
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let buffer = self.waiter.buffer();
        if !self.shown.is_empty() {
            let mut guard = buffer.lock();
            if guard.is_shown_by(self.showing) {
                guard.return_front();
            }
        }
        if self.closes {
            buffer.close();
            // Nobody will read what is left.
            let left = buffer.lock().replace(crate::EvBuffer::new());
            drop(left);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("shown", &self.shown.len())
            .finish_non_exhaustive()
    }
}
