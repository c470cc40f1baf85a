//! The stream of a filtered BufferEvent.

use std::{
    any::{Any, TypeId},
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;

use super::{
    stage::{Outcome, Stage},
    traits::{Filter, FlushMode},
};
use crate::{
    EvBuffer,
    bufferevent::{
        endpoint::{AnyStream, Endpoint},
        event::Metrics,
        inner::{BufferEvent, Inner},
    },
    loading::Loading,
    shared::BufferWait,
    transport::poll::yield_to_driver,
};

/// The stream of a filtered BufferEvent: the BufferEvent below, seen through two filters.
pub(super) struct FilterEndpoint {
    below: BufferEvent,
    input: Stage,
    output: Stage,
    /// Reads ranges of files in the output.
    loading: Loading,
    /// `Finished` once nothing more comes from below.
    input_mode: FlushMode,
    /// The strongest mode with which the output filter was called for the current flush or shutdown.
    output_mode: FlushMode,
    more_input: BufferWait,
    room_below: BufferWait,
    /// A flush or shutdown of the connection below.
    finishing: Option<BoxFuture<'static, io::Result<()>>>,
    hang_up: Option<BoxFuture<'static, io::Result<()>>>,
}

impl FilterEndpoint {
    pub(super) fn new(below: BufferEvent, input: Box<dyn Filter>, output: Box<dyn Filter>) -> Self {
        Self {
            more_input: BufferWait::new(below.input().clone()),
            room_below: BufferWait::new(below.output().clone()),
            below,
            input: Stage::new(input),
            output: Stage::new(output),
            loading: Loading::default(),
            input_mode: FlushMode::Normal,
            output_mode: FlushMode::Normal,
            finishing: None,
            hang_up: None,
        }
    }

    /// Waits for bytes from below, or for the end of its stream.
    fn poll_more_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let high = self.below.input().watermarks().high();
        self.input.check_held(high)?;
        let ended = ready!(self.more_input.poll_readable(cx)).is_err();
        if ended {
            self.below.check_orderly_end()?;
            self.input_mode = FlushMode::Finished;
        } else {
            let max = high.map_or(usize::MAX, |high| high - self.input.src.len());
            let mut guard = self.below.input().lock();
            guard.remove_buffer(&mut self.input.src, max)?;
        }
        self.input.is_ready = true;
        Poll::Ready(Ok(()))
    }

    /// Runs the output filter until it needs more, and hands its output to the connection below.
    fn poll_run_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.output.is_ready || !self.output.dst.is_empty() {
            if ready!(self.room_below.poll_room(cx)).is_err() {
                return Poll::Ready(Err(self.below.write_error()));
            }
            if !self.output.dst.is_empty() {
                self.below.output().add_buffer(&mut self.output.dst)?;
                continue;
            }
            let limit = self.room_limit();
            if self.output.run(limit, self.output_mode)? == Outcome::Yields {
                yield_to_driver(cx);
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Asks the output filter once for what it holds back.
    fn set_output_mode(&mut self, mode: FlushMode) {
        if self.output_mode != mode {
            self.output_mode = mode;
            self.output.is_ready = true;
        }
    }

    fn room_limit(&self) -> Option<usize> {
        let output = self.below.output();
        let high = output.watermarks().high()?;
        Some(high.saturating_sub(output.len()).max(1))
    }

    fn finish_below<F>(
        &mut self,
        finish: impl FnOnce(BufferEvent) -> F,
    ) -> &mut BoxFuture<'static, io::Result<()>>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let below = &self.below;
        self.finishing
            .get_or_insert_with(|| Box::pin(finish(below.clone())))
    }
}

impl Endpoint for FilterEndpoint {
    const HAS_STREAM_BELOW: bool = true;

    fn runs_user_code() -> bool {
        true
    }

    fn visible_stream(&self) -> Option<Arc<dyn AnyStream>> {
        Some(Arc::new(StreamBelow(Arc::clone(&self.below.inner))))
    }

    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
        _block: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            if !self.input.dst.is_empty() {
                let moved = self.input.dst.remove_buffer(chain, max)?;
                return Poll::Ready(Ok(moved));
            }
            match self.input.run(Some(max), self.input_mode)? {
                Outcome::Output => {}
                Outcome::Yields => {
                    yield_to_driver(cx);
                    return Poll::Pending;
                }
                Outcome::NeedsMore if self.input_mode == FlushMode::Finished => {
                    return Poll::Ready(match self.input.src.is_empty() {
                        true => Ok(0),
                        false => Err(io::ErrorKind::UnexpectedEof.into()),
                    });
                }
                Outcome::NeedsMore => ready!(self.poll_more_input(cx))?,
            }
        }
    }

    fn poll_write_from(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_run_output(cx))?;
        let high = self.below.output().watermarks().high();
        self.output.check_held(high)?;
        let loaded = ready!(self.loading.poll_some_loaded(cx, chain, max))?;
        let taken = chain.remove_buffer(&mut self.output.src, loaded)?;
        self.output.is_ready = true;
        // The bytes have left the output, so they count as written; `poll_idle` continues with the rest.
        match self.poll_run_output(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_run_output(cx)
    }

    fn flushes_when_idle(&self) -> bool {
        false
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.set_output_mode(FlushMode::Flush);
        ready!(self.poll_run_output(cx))?;
        let finishing = self.finish_below(|below| async move { below.flush().await });
        let flushed = ready!(finishing.as_mut().poll(cx));
        self.finishing = None;
        self.output_mode = FlushMode::Normal;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output_mode != FlushMode::Finished {
            self.set_output_mode(FlushMode::Finished);
            // It may be the future of a flush.
            self.finishing = None;
        }
        ready!(self.poll_run_output(cx))?;
        if !self.output.src.is_empty() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the output filter left bytes at the end",
            )));
        }
        let finishing = self.finish_below(|below| async move { below.shutdown().await });
        finishing.as_mut().poll(cx)
    }

    fn needs_flush(&self) -> bool {
        true
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let below = &self.below;
        let hang_up = self.hang_up.get_or_insert_with(|| {
            let below = below.clone();
            Box::pin(async move {
                below.peer_closed().await;
                below.read_error().map_or(Ok(()), Err)
            })
        });
        hang_up.as_mut().poll(cx)
    }

    fn has_unread(&self) -> bool {
        let is_read = self.below.inner.control.lock().state.read.error().is_some();
        !is_read || self.input.held() > 0 || !self.below.input().is_empty()
    }

    fn unacknowledged(&self) -> Option<usize> {
        None
    }

    fn reset_on_drop(&mut self) {
        self.below.abort();
    }

    fn metrics_below(&self) -> Option<Metrics> {
        Some(self.below.metrics())
    }

    fn unsent_below(&self) -> usize {
        self.output.held() + self.below.output().len()
    }

    fn stream_type(&self) -> TypeId {
        TypeId::of::<Self>()
    }

    fn into_any(self) -> Box<dyn Any + Send> {
        Box::new(self)
    }
}

/// The stream of the connection below, as handles of the filtered one see it. It is found without a lock that is held
/// while a filter runs.
struct StreamBelow(Arc<Inner>);

impl StreamBelow {
    fn stream(&self) -> Option<Arc<dyn AnyStream>> {
        self.0.control.lock().stream.clone()
    }
}

impl AnyStream for StreamBelow {
    fn with_cell(&self, f: &mut dyn FnMut(&dyn Any)) {
        if let Some(stream) = self.stream() {
            stream.with_cell(f);
        }
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream()?.peer_addr()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.stream()?.local_addr()
    }

    fn unacknowledged(&self) -> Option<usize> {
        self.stream()?.unacknowledged()
    }
}
