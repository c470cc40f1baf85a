//! What a task moves bytes to and from: a stream, the other side of a pair, or a connection below filters.

use std::{
    any::{Any, TypeId},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::event::Metrics;
use crate::{
    EvBuffer,
    loading::Loading,
    transport::{self, Finder, HangUp, Layout},
};

/// A stream that a [`BufferEvent`](crate::BufferEvent) can own.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// A source and sink of bytes, without a policy.
pub(super) trait Endpoint: Send + Unpin + 'static {
    /// Whether it wraps another connection, whose bytes are counted instead.
    const HAS_STREAM_BELOW: bool = false;

    /// Whether moving bytes that are in no chain costs less, for short messages.
    const TAKES_SLICES: bool = false;

    /// Returns whether its functions run code of the user, such as a filter or an implementation of [`AsyncRead`].
    fn runs_user_code() -> bool;

    /// Returns the stream that the handles see.
    fn visible_stream(&self) -> Option<Arc<dyn AnyStream>> {
        None
    }

    /// Reads at most `max` bytes to the back of `chain`, in blocks of at most `block` bytes. Zero bytes are the end of the
    /// stream.
    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
        block: usize,
    ) -> Poll<io::Result<usize>>;

    /// Writes at most `max` bytes from the front of `chain`, which is not empty, and removes them.
    fn poll_write_from(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>>;

    /// Reads to `message`. `None` if it has to be a chain, this time or always.
    fn poll_read_slice(
        &mut self,
        _cx: &mut Context<'_>,
        _message: &mut ReadBuf<'_>,
    ) -> Option<Poll<io::Result<()>>> {
        None
    }

    /// Writes a prefix of `message`, which is not empty.
    fn poll_write_slice(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_from(cx, &mut EvBuffer::from(message), message.len())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Returns whether written bytes may stay in the stream until it is flushed.
    fn needs_flush(&self) -> bool;

    /// Passes written bytes on, when there is nothing more to write and no flush is awaited.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    /// Returns whether [`poll_idle`](Self::poll_idle) flushes.
    fn flushes_when_idle(&self) -> bool {
        true
    }

    /// Waits until the peer has ended its stream, or reset it, which is an error. Reads nothing. A stream that cannot detect
    /// this is always `Pending`.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Returns whether bytes that arrived before a reset can still be read.
    fn has_unread(&self) -> bool;

    /// Returns the number of bytes that the peer has not acknowledged, if that is known.
    fn unacknowledged(&self) -> Option<usize>;

    /// Makes the end of the stream visible as an error to the peer, where the stream has a way to do so.
    fn reset_on_drop(&mut self);

    /// Returns the counts of the stream below, if the bytes that the task moves are not those of the stream.
    fn metrics_below(&self) -> Option<Metrics> {
        None
    }

    /// Returns the bytes that were written and have not reached the stream below.
    fn unsent_below(&self) -> usize {
        0
    }

    /// Returns the type that the user knows the stream by.
    fn stream_type(&self) -> TypeId;

    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Returns the stream itself.
    fn into_any(self) -> Box<dyn Any + Send>;
}

/// A stream whose type is erased, for the handles.
pub(super) trait AnyStream: Send + Sync {
    /// Calls `f` with the [`StreamCell`](super::stream_cell::StreamCell), unless the connection that has it is over.
    fn with_cell(&self, f: &mut dyn FnMut(&dyn Any));

    fn peer_addr(&self) -> Option<SocketAddr>;

    fn local_addr(&self) -> Option<SocketAddr>;

    fn unacknowledged(&self) -> Option<usize>;
}

/// Any stream.
pub(super) struct Stream<S> {
    stream: S,
    /// Reads ranges of files in the output.
    loading: Loading,
    hang_up: HangUp,
}

impl<S> Stream<S> {
    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Transport> Stream<S> {
    const FINDER: Finder<'static, S> = Finder::by_type();

    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            loading: Loading::default(),
            hang_up: HangUp::default(),
        }
    }

    fn is_socket(&self) -> bool {
        Self::FINDER.socket(&self.stream).is_some()
    }
}

impl<S: Transport> Endpoint for Stream<S> {
    const TAKES_SLICES: bool = true;

    #[inline]
    fn runs_user_code() -> bool {
        !Finder::<S>::is_socket_type()
    }

    #[inline]
    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
        block: usize,
    ) -> Poll<io::Result<usize>> {
        let Self {
            stream, hang_up, ..
        } = self;
        transport::poll_fill(
            cx,
            stream,
            Self::FINDER,
            chain,
            max,
            Layout::Blocks(block),
            hang_up,
        )
    }

    #[inline]
    fn poll_write_from(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let Self {
            stream, loading, ..
        } = self;
        transport::poll_write_from(cx, stream, Self::FINDER, chain, max, loading)
    }

    #[inline]
    fn poll_read_slice(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut ReadBuf<'_>,
    ) -> Option<Poll<io::Result<()>>> {
        let is_plain =
            !self.hang_up.is_cleared() && transport::reads_plainly(&self.stream, Self::FINDER);
        is_plain.then(|| Pin::new(&mut self.stream).poll_read(cx, message))
    }

    #[inline]
    fn poll_write_slice(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
    ) -> Poll<io::Result<usize>> {
        transport::poll_write(cx, &mut self.stream, Self::FINDER, message)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn needs_flush(&self) -> bool {
        !self.is_socket()
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        transport::poll_hang_up(cx, &self.stream, Self::FINDER, &mut self.hang_up)
    }

    fn has_unread(&self) -> bool {
        Self::FINDER.unread(&self.stream).is_some_and(|n| n > 0)
    }

    fn unacknowledged(&self) -> Option<usize> {
        Self::FINDER.unacknowledged(&self.stream)
    }

    fn reset_on_drop(&mut self) {
        Self::FINDER.reset_on_close(&self.stream);
    }

    fn stream_type(&self) -> TypeId {
        TypeId::of::<S>()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        Self::FINDER.peer(&self.stream)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Self::FINDER.local(&self.stream)
    }

    fn into_any(self) -> Box<dyn Any + Send> {
        Box::new(self.stream)
    }
}
