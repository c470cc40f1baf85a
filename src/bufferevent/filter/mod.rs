//! Filters: a BufferEvent on top of another one, whose bytes are converted in between.
//!
//! ```text
//!  user ◀── input ◀── dst │ input filter  │ src ◀── input  ◀── stream
//!       ──▶ output ──▶ src │ output filter │ dst ──▶ output ──▶
//!           the filtered BufferEvent               the one below
//! ```
//!
//! The stream of the filtered BufferEvent moves segments between the buffers of the one below and two separate buffers, so
//! that no lock is held while a filter runs.

mod endpoint;
mod stage;
mod traits;

use super::{callbacks::Callbacks, inner::BufferEvent};
use crate::EvBuffer;

use endpoint::FilterEndpoint;
pub use traits::{Filter, FilterStatus, FlushMode};

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
    ///   [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) instead.
    /// - The output below holds up to 256 KiB if it had the default watermarks; others stay as they are.
    /// - A filter that needs more bytes than the high watermark of the connection below allows fails with
    ///   [`InvalidData`](std::io::ErrorKind::InvalidData), since they would never come.
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
        // The task above fills it with what it has read at once, as a join does.
        self.enlarge_output();
        let endpoint = FilterEndpoint::new(self, Box::new(input), Box::new(output));
        let span = tracing::debug_span!("filter", id = crate::sync::next_token());
        Self::builder()
            .defer_to(queue)
            .run(endpoint, EvBuffer::new(), span)
    }
}
