//! Tokio's I/O traits for a `BufferEvent`.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::{
    event::Direction,
    inner::{BufferEvent, IoState},
};
use crate::{
    error::clone_io_error,
    shared::{Reader, Writer},
};

impl BufferEvent {
    fn io(&mut self) -> &mut IoState {
        self.io.get_or_insert_default()
    }

    fn reader(&mut self) -> Pin<&mut Reader> {
        let Self { inner, io } = self;
        let io = io.get_or_insert_default();
        Pin::new(io.reader.get_or_insert_with(|| inner.input.reader()))
    }

    fn writer(&mut self) -> Pin<&mut Writer> {
        let Self { inner, io } = self;
        let io = io.get_or_insert_default();
        // A flush that was given up does not cover what is written now.
        io.flushing = None;
        Pin::new(io.writer.get_or_insert_with(|| inner.output.writer()))
    }

    /// Returns the bytes that the reader has borrowed from the front of the input.
    #[inline]
    fn borrowed(&self) -> &[u8] {
        let reader = self.io.as_ref().and_then(|io| io.reader.as_ref());
        reader.map_or(&[], Reader::borrowed)
    }

    /// Waits until the reader has borrowed bytes. It borrows none at the end of the input.
    fn poll_borrow(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let filled = self.reader().poll_fill_buf(cx).map_ok(<[u8]>::is_empty);
        if ready!(self.or_timed_out(Direction::Read, filled))? {
            self.check_end_of_input()?;
        }
        Poll::Ready(Ok(()))
    }

    /// Turns waiting for a direction that a timeout has switched off into an error.
    fn or_timed_out<T>(
        &self,
        direction: Direction,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        // A reader with bytes in the input waits for its turn, and will get them.
        let waits =
            polled.is_pending() && (direction == Direction::Write || self.inner.input.is_empty());
        if waits && self.inner.control.lock().state.has_timed_out(direction) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }

    /// Fails if the input has ended by an error.
    fn check_end_of_input(&self) -> io::Result<()> {
        match self.inner.control.lock().state.read.error() {
            None => Ok(()),
            Some(error) => Err(clone_io_error(error)),
        }
    }
}

/// Removes bytes from the input.
impl AsyncRead for BufferEvent {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.remaining();
        let read = this.reader().poll_read(cx, out);
        ready!(this.or_timed_out(Direction::Read, read))?;
        if before > 0 && out.remaining() == before {
            return Poll::Ready(this.check_end_of_input());
        }
        Poll::Ready(Ok(()))
    }
}

/// Borrows the bytes at the front of the input, which stay there until they are consumed.
impl AsyncBufRead for BufferEvent {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        let reader = this.io.as_ref().and_then(|io| io.reader.as_ref());
        if !reader.is_some_and(Reader::is_current) {
            ready!(this.poll_borrow(cx))?;
        }
        Poll::Ready(Ok(this.borrowed()))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        // Without a reader nothing is borrowed.
        let io = self.get_mut().io.as_mut();
        if let Some(reader) = io.and_then(|io| io.reader.as_mut()) {
            reader.consume_borrowed(n);
        }
    }
}

/// Adds bytes to the output, up to its high watermark. A flush waits as [`flush`](BufferEvent::flush) does; a shutdown is
/// [`shutdown`](BufferEvent::shutdown).
impl AsyncWrite for BufferEvent {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.writer().poll_write(cx, data);
        this.or_timed_out(Direction::Write, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.writer().poll_write_vectored(cx, slices);
        this.or_timed_out(Direction::Write, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mark = match this.io().flushing {
            Some(mark) => mark,
            None => this.inner.output.mark(),
        };
        this.io().flushing = Some(mark);
        let inner = Arc::clone(&this.inner);
        let flushed = ready!(inner.poll_flushed(cx, &mut this.io().place, mark));
        this.io().flushing = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.inner.output.close();
        let inner = Arc::clone(&this.inner);
        inner.poll_shutdown(cx, &mut this.io().place)
    }
}
