//! The two halves of a `BufferEvent`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::inner::BufferEvent;

/// The reading half of a [`BufferEvent`], returned by [`split`](BufferEvent::split). It is a handle like others.
#[derive(Debug)]
pub struct ReadHalf(pub(super) BufferEvent);

/// The writing half of a [`BufferEvent`], returned by [`split`](BufferEvent::split). It is a handle like others.
///
/// Shutting it down ends the output. Dropping it does not, while there is another handle.
#[derive(Debug)]
pub struct WriteHalf(pub(super) BufferEvent);

impl ReadHalf {
    /// Returns the `BufferEvent` that this is a half of.
    #[must_use]
    pub fn buffer_event(&self) -> &BufferEvent {
        &self.0
    }
}

impl WriteHalf {
    /// Returns the `BufferEvent` that this is a half of.
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
