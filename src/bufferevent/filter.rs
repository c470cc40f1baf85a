//! Filters: a BufferEvent on top of another one, whose bytes are converted in between.
//!
//! ```text
//!  user ◀── input ◀── dst │ input filter  │ src ◀── input  ◀── stream
//!       ──▶ output ──▶ src │ output filter │ dst ──▶ output ──▶
//!           the filtered BufferEvent               the one below
//! ```
//!
//! A [`FilterEndpoint`] is the stream of the filtered BufferEvent. It moves segments between the buffers of the one below
//! and two separate buffers, so that no lock is held while a filter runs.

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
    callbacks::Callbacks,
    endpoint::{AnyStream, Endpoint},
    event::Metrics,
    inner::{BufferEvent, Inner},
};
use crate::{
    EvBuffer, loading::Loading, panic::catch_panic, shared::BufferWait,
    transport::poll::yield_to_driver,
};

/// Calls of a filter in one poll that consume bytes without any output, before the task yields.
const CALLS_PER_POLL: u32 = 64;

/// What a filter is asked to do with the bytes that it holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "bufferevent_flush_mode")]
#[expect(
    clippy::exhaustive_enums,
    reason = "a filter handles each mode of libevent"
)]
pub enum FlushMode {
    /// Convert what is there. The filter may hold bytes back until more come.
    #[doc(alias = "BEV_NORMAL")]
    Normal,
    /// Convert everything, so that the other side can use all bytes up to here.
    #[doc(alias = "BEV_FLUSH")]
    Flush,
    /// The same, and no more bytes will come.
    #[doc(alias = "BEV_FINISHED")]
    Finished,
}

/// The answer of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "bufferevent_filter_result")]
#[expect(
    clippy::exhaustive_enums,
    reason = "a filter has made progress, or it has not"
)]
pub enum FilterStatus {
    /// The filter may have more to do: it is called again if it has moved any byte.
    #[doc(alias = "BEV_OK")]
    Ok,
    /// The filter needs more bytes in `src`: it is called again when there are.
    #[doc(alias = "BEV_NEED_MORE")]
    NeedMore,
}

/// Converts the bytes of one direction of a [filtered](BufferEvent::filter) BufferEvent.
///
/// Closures with the same signature are filters.
///
/// # Examples
///
/// A filter with state, which holds back a line until it is whole:
///
/// ```
/// use std::io;
/// use tokio_evbuffer::{
///     BufferEvent, EolStyle, EvBuffer,
///     bufferevent::{Filter, FilterStatus, FlushMode},
/// };
///
/// struct Numbers {
///     last: u32,
/// }
///
/// impl Filter for Numbers {
///     fn filter(
///         &mut self,
///         src: &mut EvBuffer,
///         dst: &mut EvBuffer,
///         _limit: Option<usize>,
///         _mode: FlushMode,
///     ) -> io::Result<FilterStatus> {
///         let Some(line) = src.readln(EolStyle::Lf)? else {
///             return Ok(FilterStatus::NeedMore);
///         };
///         self.last += 1;
///         dst.add(format!("{} ", self.last))?;
///         dst.add(&line)?;
///         dst.add("\n")?;
///         Ok(FilterStatus::Ok) // called again: there may be another line
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> io::Result<()> {
/// let unchanged = |src: &mut EvBuffer, dst: &mut EvBuffer, _, _| {
///     dst.add_buffer(src)?;
///     Ok(FilterStatus::Ok)
/// };
/// let (near, far) = BufferEvent::pair();
/// let near = near.filter(unchanged, Numbers { last: 0 });
/// near.output().add("red\nblue\ngre")?;
/// near.output().add("en\n")?;
/// assert_eq!(far.input().take_exact(21).await?, "1 red\n2 blue\n3 green\n");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "bufferevent_filter_cb")]
pub trait Filter: Send + 'static {
    /// Takes bytes from the front of `src` and adds what they become to the back of `dst`.
    ///
    /// The filter may leave bytes in `src`, for example the start of a frame, and may move whole segments. It is called
    /// again while it makes progress: it took bytes from `src`, or added some to `dst`, and returned
    /// [`FilterStatus::Ok`]. Without progress the status counts as [`NeedMore`](FilterStatus::NeedMore).
    ///
    /// `limit` is how many bytes `dst` should get at most, if that is limited. What a filter adds beyond it is not lost:
    /// it waits in `dst`, and the filter is not called until it is passed on. A filter whose output can be much larger than its
    /// input, such as a decompressor, should observe the limit.
    ///
    /// With [`FlushMode::Finished`] nothing may be left in `src` in the end. No lock is held during the call.
    ///
    /// # Errors
    ///
    /// An error ends the direction as [`Event::ReadError`](crate::Event::ReadError) or
    /// [`Event::WriteError`](crate::Event::WriteError). The filter is not called again. A panic counts as an error.
    fn filter(
        &mut self,
        src: &mut EvBuffer,
        dst: &mut EvBuffer,
        limit: Option<usize>,
        mode: FlushMode,
    ) -> io::Result<FilterStatus>;
}

impl<F> Filter for F
where
    F: FnMut(&mut EvBuffer, &mut EvBuffer, Option<usize>, FlushMode) -> io::Result<FilterStatus>
        + Send
        + 'static,
{
    fn filter(
        &mut self,
        src: &mut EvBuffer,
        dst: &mut EvBuffer,
        limit: Option<usize>,
        mode: FlushMode,
    ) -> io::Result<FilterStatus> {
        self(src, dst, limit, mode)
    }
}

impl BufferEvent {
    /// Puts filters between this connection and its user: what arrives goes through `input`, and what is sent goes
    /// through `output`.
    ///
    /// Use the returned BufferEvent instead of this one, whose callbacks are removed. It has the default settings, and
    /// can be filtered again.
    ///
    /// - Watermarks and backpressure pass through: while the input of the result is full, `input` is not called and
    ///   the stream is soon not read. While the output below is full, `output` is not called, and writing shows
    ///   [`PauseReason::Peer`](crate::bufferevent::PauseReason::Peer).
    /// - [`flush`](Self::flush) calls `output` with [`FlushMode::Flush`] and then flushes the stream.
    ///   [`shutdown`](Self::shutdown) and [`close`](Self::close) call it with [`FlushMode::Finished`] before they end the
    ///   stream. What a filter holds back is not sent before that.
    /// - At the end of the stream `input` is called with [`FlushMode::Finished`], and its last bytes arrive before
    ///   [`Event::Eof`](crate::Event::Eof). If it leaves bytes in `src`, reading fails with
    ///   [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) instead.
    /// - A filter that needs more bytes than the high watermark of the connection below allows fails with
    ///   [`InvalidData`](io::ErrorKind::InvalidData), since they would never come.
    /// - [`Summary`](crate::bufferevent::Summary) and [`metrics`](Self::metrics) count the bytes of the stream below.
    /// - When the result is aborted, or closed after an error, the connection below is aborted.
    ///
    /// [`peer_addr`](Self::peer_addr), [`local_addr`](Self::local_addr) and [`with_stream`](Self::with_stream) of the
    /// result look at the stream below. A filter may call them, as all methods of both.
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use tokio_evbuffer::{BufferEvent, EvBuffer, bufferevent::{FilterStatus, FlushMode}};
    ///
    /// fn swap_case(
    ///     src: &mut EvBuffer,
    ///     dst: &mut EvBuffer,
    ///     _limit: Option<usize>,
    ///     _mode: FlushMode,
    /// ) -> io::Result<FilterStatus> {
    ///     let text: Vec<u8> = src.chunks().flatten().map(|byte| byte ^ 0x20).collect();
    ///     src.clear()?;
    ///     dst.add(&text)?;
    ///     Ok(FilterStatus::Ok)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (near, far) = BufferEvent::pair();
    /// let near = near.filter(swap_case, swap_case);
    ///
    /// near.output().add(b"hello")?;
    /// far.input().readable(5).await?;
    /// assert_eq!(far.input().take_bytes(5)?, "HELLO");
    ///
    /// far.output().add(b"WORLD")?;
    /// near.input().readable(5).await?;
    /// assert_eq!(near.input().take_bytes(5)?, "world");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_filter_new")]
    #[track_caller]
    pub fn filter(self, input: impl Filter, output: impl Filter) -> BufferEvent {
        self.set_callbacks(Callbacks::default());
        let queue = self.inner.queue.clone();
        let endpoint = FilterEndpoint::new(self, Box::new(input), Box::new(output));
        let span = tracing::debug_span!("filter", id = crate::sync::next_token());
        Self::builder()
            .defer_to(queue)
            .run(endpoint, EvBuffer::new(), span)
    }
}

/// One filter, and the bytes on their way through it.
struct Stage {
    /// `None` after it has failed.
    filter: Option<Box<dyn Filter>>,
    /// What the filter has not taken.
    src: EvBuffer,
    /// What it has added, and is not passed on yet.
    dst: EvBuffer,
    /// Whether another call may make progress.
    is_ready: bool,
}

/// The outcome of running a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There is output.
    Output,
    NeedsMore,
    /// It was called often enough for one poll.
    Yields,
}

impl Stage {
    fn new(filter: Box<dyn Filter>) -> Self {
        Self {
            filter: Some(filter),
            src: EvBuffer::new(),
            dst: EvBuffer::new(),
            is_ready: false,
        }
    }

    /// Calls the filter until it has output or needs more.
    fn run(&mut self, limit: Option<usize>, mode: FlushMode) -> io::Result<Outcome> {
        for _ in 0..CALLS_PER_POLL {
            if !self.is_ready {
                return Ok(Outcome::NeedsMore);
            }
            let (src_len, dst_len) = (self.src.len(), self.dst.len());
            let status = self.call(limit, mode)?;
            let has_output = self.dst.len() > dst_len;
            let progress = has_output || self.src.len() < src_len;
            self.is_ready = progress && status == FilterStatus::Ok;
            if has_output {
                return Ok(Outcome::Output);
            }
        }
        Ok(Outcome::Yields)
    }

    fn call(&mut self, limit: Option<usize>, mode: FlushMode) -> io::Result<FilterStatus> {
        let Self {
            filter, src, dst, ..
        } = self;
        let Some(running) = filter else {
            return Err(io::Error::other("the filter has failed before"));
        };
        let mut status = Err(io::Error::other("the filter panicked"));
        catch_panic("a filter", || {
            status = running.filter(src, dst, limit, mode);
        });
        if status.is_err() {
            self.is_ready = false;
            let failed = self.filter.take();
            catch_panic("the drop of a filter", || drop(failed));
        }
        status
    }

    /// Fails if the filter asks for more than it can ever get.
    fn check_held(&self, high: Option<usize>) -> io::Result<()> {
        match high {
            Some(high) if self.src.len() >= high => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the filter needs more bytes at once than the high watermark of {high}"),
            )),
            _ => Ok(()),
        }
    }

    fn held(&self) -> usize {
        self.src.len() + self.dst.len()
    }
}

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
    fn new(below: BufferEvent, input: Box<dyn Filter>, output: Box<dyn Filter>) -> Self {
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
            self.below.inner.check_orderly_end()?;
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
                return Poll::Ready(Err(self.below.inner.write_error()));
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
                below.inner.read_error().map_or(Ok(()), Err)
            })
        });
        hang_up.as_mut().poll(cx)
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
