//! What a task moves bytes over: a stream, or the other side of a pair.

use std::{
    any::{Any, TypeId},
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::task::{self, JoinHandle};

use super::Transport;
use crate::{
    EvBuffer,
    segment::FilePiece,
    transport::{self, Finder},
};

/// Where bytes come from and go to, without a policy.
pub(super) trait Wire: Send + Unpin + 'static {
    /// Reads at most `max` bytes to the back of `chain`; none is the end.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>>;

    /// Writes at most `max` bytes from the front of `chain`, which is not empty, and drains them.
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>>;

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether what was written may linger in the stream until it is flushed.
    fn needs_flush(&self) -> bool;

    /// What whoever wants the stream back has to know it as.
    fn stream_type(&self) -> TypeId;

    /// The stream, for whom knows what it is.
    fn into_any(self) -> Box<dyn Any + Send>;
}

/// Any stream.
pub(super) struct Stream<S> {
    stream: S,
    /// A file range that the stream cannot send by itself, and who reads it where that holds up nobody.
    loading: Option<Box<(FilePiece, JoinHandle<io::Result<()>>)>>,
}

impl<S: Transport> Stream<S> {
    const FINDER: Finder<S> = Finder::by_type();

    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            loading: None,
        }
    }

    fn is_socket(&self) -> bool {
        Self::FINDER.socket(&self.stream).is_some()
    }

    /// Waits until the front of `chain` can be written without reading from a file.
    fn poll_loaded(&mut self, cx: &mut Context<'_>, chain: &EvBuffer) -> Poll<io::Result<()>> {
        loop {
            let front = chain.first_unloaded();
            let Some(loading) = &mut self.loading else {
                let Some(piece) = front else {
                    return Poll::Ready(Ok(()));
                };
                self.loading = Some(Box::new((piece.clone(), load(piece.clone()))));
                continue;
            };
            let (piece, task) = &mut **loading;
            let loaded = ready!(Pin::new(task).poll(cx));
            // What was put in the place of the output meanwhile has nothing to do with it.
            let is_wanted = front.is_some_and(|front| front.is_part_of_same(piece));
            self.loading = None;
            if is_wanted {
                return Poll::Ready(loaded.map_err(io::Error::other).and_then(|loaded| loaded));
            }
        }
    }
}

fn load(piece: FilePiece) -> JoinHandle<io::Result<()>> {
    task::spawn_blocking(move || piece.load().map(drop).map_err(Into::into))
}

impl<S: Transport> Wire for Stream<S> {
    #[inline]
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        transport::poll_fill(cx, &mut self.stream, Self::FINDER, chain, max)
    }

    #[inline]
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let kernel_sends = cfg!(any(target_os = "linux", target_os = "android"));
        if !(kernel_sends && self.is_socket()) {
            ready!(self.poll_loaded(cx, chain))?;
        }
        transport::poll_drain(cx, &mut self.stream, Self::FINDER, chain, max)
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

    fn stream_type(&self) -> TypeId {
        TypeId::of::<S>()
    }

    fn into_any(self) -> Box<dyn Any + Send> {
        Box::new(self.stream)
    }
}
