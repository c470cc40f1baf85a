//! A BufferEvent as Tokio's traits know it, whole and in halves.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::{BufferEvent, Direction, inner::same, wait::Waiter};
use crate::shared::{Mark, Reader, Writer};

/// What a handle needs to be read from and written to, made at first use.
#[derive(Default)]
pub(super) struct Faces {
    reader: Option<Reader>,
    writer: Option<Writer>,
    /// A flush or shutdown that is waited for, and what it covers.
    waiter: Option<Waiter>,
    flushing: Option<Mark>,
}

impl BufferEvent {
    fn faces(&mut self) -> &mut Faces {
        self.faces.get_or_insert_default()
    }

    fn reader(&mut self) -> Pin<&mut Reader> {
        let Self { inner, faces } = self;
        let faces = faces.get_or_insert_default();
        Pin::new(faces.reader.get_or_insert_with(|| inner.input.reader()))
    }

    fn writer(&mut self) -> Pin<&mut Writer> {
        let Self { inner, faces } = self;
        let faces = faces.get_or_insert_default();
        // A flush that was given up does not cover what is written now.
        faces.flushing = None;
        Pin::new(faces.writer.get_or_insert_with(|| inner.output.writer()))
    }

    fn waiter(&mut self) -> &mut Waiter {
        let Self { inner, faces } = self;
        let faces = faces.get_or_insert_default();
        faces.waiter.get_or_insert_with(|| Waiter::new(inner))
    }

    /// What the reader shows; nothing if it has to look first.
    #[inline]
    fn shown(&self) -> &[u8] {
        let reader = self.faces.as_ref().and_then(|faces| faces.reader.as_ref());
        reader.map_or(&[], Reader::shown)
    }

    /// Waits until there is something to show; nothing is the end.
    fn poll_show(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let filled = self.reader().poll_fill_buf(cx).map_ok(<[u8]>::is_empty);
        if ready!(self.unless_timed_out(Direction::Read, filled))? {
            self.end_of_input()?;
        }
        Poll::Ready(Ok(()))
    }

    /// Who would wait for a direction that a timeout has switched off is told so.
    fn unless_timed_out<T>(
        &self,
        direction: Direction,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        // It may also wait for its turn, with bytes there that it will get.
        let waits =
            polled.is_pending() && (direction == Direction::Write || self.inner.input.is_empty());
        if waits && self.inner.has_timed_out(direction) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }

    /// The end of the input: in order, or because reading has failed.
    fn end_of_input(&self) -> io::Result<()> {
        match &self.inner.control.lock().reading {
            Ok(_) => Ok(()),
            Err(error) => Err(same(error)),
        }
    }
}

/// Takes bytes from the input.
impl AsyncRead for BufferEvent {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.remaining();
        let read = this.reader().poll_read(cx, out);
        ready!(this.unless_timed_out(Direction::Read, read))?;
        if before > 0 && out.remaining() == before {
            return Poll::Ready(this.end_of_input());
        }
        Poll::Ready(Ok(()))
    }
}

/// Shows the bytes at the front of the input, which stay there until they are consumed.
impl AsyncBufRead for BufferEvent {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.shown().is_empty() {
            ready!(this.poll_show(cx))?;
        }
        Poll::Ready(Ok(this.shown()))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        self.get_mut().reader().consume(n);
    }
}

/// Adds bytes to the output, waiting between its marks. To flush is to wait until they were handed to the kernel, to
/// shut down is [`shutdown`](BufferEvent::shutdown).
impl AsyncWrite for BufferEvent {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.writer().poll_write(cx, data);
        this.unless_timed_out(Direction::Write, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.writer().poll_write_vectored(cx, slices);
        this.unless_timed_out(Direction::Write, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mark = match this.faces().flushing {
            Some(mark) => mark,
            None => this.inner.output.mark(),
        };
        this.faces().flushing = Some(mark);
        let flushed = ready!(this.waiter().poll_flushed(cx, mark));
        this.faces().flushing = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.inner.output.close();
        this.waiter().poll_shutdown(cx)
    }
}

/// The reading half of a [`BufferEvent`], had from [`split`](BufferEvent::split): a handle of its own.
#[derive(Debug)]
pub struct ReadHalf(pub(super) BufferEvent);

/// The writing half of a [`BufferEvent`], had from [`split`](BufferEvent::split): a handle of its own.
///
/// To drop it does not end the stream while there is another handle; shutting it down does.
#[derive(Debug)]
pub struct WriteHalf(pub(super) BufferEvent);

impl ReadHalf {
    /// Returns the whole.
    #[must_use]
    pub fn buffer_event(&self) -> &BufferEvent {
        &self.0
    }
}

impl WriteHalf {
    /// Returns the whole.
    #[must_use]
    pub fn buffer_event(&self) -> &BufferEvent {
        &self.0
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, out)
    }
}

impl AsyncBufRead for ReadHalf {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().0).poll_fill_buf(cx)
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        Pin::new(&mut self.get_mut().0).consume(n);
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

impl fmt::Debug for Faces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faces").finish_non_exhaustive()
    }
}
