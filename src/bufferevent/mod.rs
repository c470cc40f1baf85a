//! A stream that is pumped through two buffers: [`BufferEvent`], its callbacks, and waiting for it.
//!
//! ```text
//!            read                     link                 take
//!  stream ─────────▶ task's segments ──────▶ input  ──────────────▶ user: callback, waiter, reader
//!         ◀───────── task's segments ◀────── output ◀──────────────
//!            write                    share                add
//! ```
//!
//! One task owns the stream. What it reads it links into [`input`](BufferEvent::input), up to the high mark; what is added to
//! [`output`](BufferEvent::output) it shares, writes, and removes when the stream has taken it. No buffer is locked during a
//! system call. The task is woken only for what it waits for, so lines that are added one by one leave in one write.
//!
//! # What became of libevent's functions
//!
//! | libevent | here |
//! |---|---|
//! | `bufferevent_socket_new` | [`BufferEvent::new`], [`Builder::spawn`]. Both directions are on from the start, since callbacks are set before |
//! | `BEV_OPT_CLOSE_ON_FREE` | not needed: the task owns the stream; [`into_inner`](BufferEvent::into_inner) takes it back |
//! | `BEV_OPT_THREADSAFE` | always |
//! | `BEV_OPT_DEFER_CALLBACKS`, `BEV_OPT_UNLOCK_CALLBACKS` | always, but for [`on_watermark`](Builder::on_watermark), which is told inline, with no lock held either |
//! | `bufferevent_socket_connect`, `_connect_hostname`, `bufferevent_socket_get_dns_error` | [`Builder::connect`]: all addresses are tried; [`Event::Connected`] or [`Event::ConnectError`] |
//! | `bufferevent_pair_new` | [`BufferEvent::pair`] |
//! | `bufferevent_pair_get_partner` | not needed, because both are returned |
//! | `bufferevent_openssl_*`, `bufferevent_mbedtls_*` | not needed, because any [`AsyncRead`] + [`AsyncWrite`] will do, such as a stream of `tokio-rustls` |
//! | `bufferevent_getfd`, `_setfd`, `_replacefd` | [`into_inner`](BufferEvent::into_inner), then a new one |
//! | `bufferevent_enable`, `_disable`, `_get_enabled` | [`enable`](BufferEvent::enable), [`disable`](BufferEvent::disable), [`is_enabled`](BufferEvent::is_enabled); why nothing moves: [`paused`](BufferEvent::paused) |
//! | `bufferevent_setcb`, `_getcb` | [`set_callbacks`](BufferEvent::set_callbacks). What has arrived before is told |
//! | `bufferevent_get_input`, `_read`, `_read_buffer` | [`input`](BufferEvent::input) and its methods |
//! | `bufferevent_get_output`, `_write`, `_write_buffer` | [`output`](BufferEvent::output) and its methods. After an error they fail |
//! | `bufferevent_setwatermark`, `_getwatermark` | [`set_watermarks`](BufferEvent::set_watermarks). Reading stops at the high mark and goes on at the low one; the high mark of the output holds up writers |
//! | `bufferevent_set_timeouts` | [`set_timeouts`](BufferEvent::set_timeouts); also idle, stall, linger and connect timeouts |
//! | `bufferevent_set_max_single_read`, `_write` and their getters | [`Builder::max_single_read`], [`Builder::max_single_write`] |
//! | `bufferevent_flush` | [`flush`](BufferEvent::flush), which waits for the kernel to have it; `BEV_FINISHED` is [`shutdown`](BufferEvent::shutdown) |
//! | `bufferevent_free` | [`close`](BufferEvent::close), [`abort`](BufferEvent::abort), or dropping the last handle, which sends what is queued |
//! | `bufferevent_incref`, `_decref` | [`Clone`] and [`Drop`]; [`detach`](BufferEvent::detach) to do without a handle |
//! | `bufferevent_trigger`, `_trigger_event` | [`trigger`](BufferEvent::trigger), [`trigger_event`](BufferEvent::trigger_event) |
//! | `bufferevent_lock`, `_unlock` | [`input().lock()`](SharedEvBuffer::lock) locks a buffer; nothing locks the whole |
//! | `bufferevent_priority_set`, `_get_priority`, `_base_set`, `_get_base` | not needed, because Tokio schedules; a slow callback is given a queue of its own by [`Builder::defer_to`] |
//! | `bufferevent_get_underlying` | not needed, because a stream that wraps another is made before |

mod builder;
mod callbacks;
mod clock;
#[cfg(feature = "net")]
mod connect;
mod endpoint;
mod event;
mod inner;
mod into_inner;
mod io;
mod pair;
mod task;
mod task_waker;
mod timeouts;
mod wait;
mod waiters;

use std::{fmt, future::poll_fn, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::io::{ReadHalf, WriteHalf};
pub use builder::Builder;
pub use callbacks::Callbacks;
pub use event::{CloseReason, Direction, Event, Metrics, PauseReason, PauseReasons, Side, Summary};
pub use into_inner::{IntoInnerError, Parts};

use self::io::Faces;
use crate::{SharedEvBuffer, Watermarks, sync::Ordering};
use inner::{Hears, Inner, Timeouts, Wish, Written, same};
use wait::Waiter;

/// A stream that a [`BufferEvent`] can own.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// A stream that is pumped through two buffers: a handle, cheap to clone, on the task that owns the stream.
///
/// What the peer sends appears in [`input`](Self::input), what is added to [`output`](Self::output) goes to the peer.
/// Both are bounded by marks; the [defaults](Builder) are. What happens can be
///
/// - awaited: [`input().readable(n)`](SharedEvBuffer::readable), [`next_event`](Self::next_event),
///   [`flush`](Self::flush), [`closed`](Self::closed);
/// - told to callbacks: [`Builder::on_read`] and the like;
/// - read and written through Tokio's traits, by the handle or its [halves](Self::split).
///
/// Nothing needs to be flushed: what has been added is written as soon as the task gets its turn, however many additions it
/// was.
///
/// # Ends
///
/// Each direction ends by itself: by the end of the stream, by an error, by [`shutdown`](Self::shutdown). When both have
/// ended, or by [`close`](Self::close) or [`abort`](Self::abort), the connection is over: [`Event::Closed`] is the last
/// event, and [`closed`](Self::closed) has the summary.
///
/// When the last handle is dropped, what is queued is still written in the background, for as long as that does not stand
/// still for the [linger time](Builder::linger). From then on no callback runs.
///
/// # Examples
///
/// ```
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
/// use tokio_evbuffer::{BufferEvent, EolStyle};
///
/// async fn serve(stream: TcpStream) -> std::io::Result<()> {
///     let bev = BufferEvent::new(stream);
///     loop {
///         while let Some(line) = bev.input().readln(EolStyle::Lf)? {
///             bev.output().add(b"you said ")?;
///             bev.output().add(&line)?;
///             bev.output().add(b"\n")?;
///         }
///         let seen = bev.input().len();
///         if bev.input().readable(seen + 1).await.is_err() {
///             bev.close().await?;
///             return Ok(());
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// tokio::spawn(serve(listener.accept().await?.0));
///
/// client.write_all(b"hello\n").await?;
/// client.shutdown().await?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert_eq!(answer, "you said hello\n");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "bufferevent")]
pub struct BufferEvent {
    inner: Arc<Inner>,
    faces: Option<Box<Faces>>,
}

impl BufferEvent {
    /// Spawns a task that owns `stream`, with the default settings of [`Builder`].
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    #[doc(alias = "bufferevent_socket_new")]
    #[track_caller]
    pub fn new(stream: impl Transport) -> Self {
        Self::builder().spawn(stream)
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Makes two that are joined in memory: what is added to the output of one appears in the input of the other.
    ///
    /// Segments move from one to the other, nothing is copied. The marks hold as for a socket. When one of them goes away, the
    /// other sees the end of the stream, and then a broken pipe if it goes on writing.
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (a, b) = BufferEvent::pair();
    /// a.output().add(b"to b")?;
    /// b.input().readable(4).await?;
    /// assert_eq!(b.input().take_bytes(4)?, "to b");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_pair_new")]
    #[track_caller]
    pub fn pair() -> (BufferEvent, BufferEvent) {
        let (near, far) = pair::ends();
        let span = || tracing::debug_span!("bufferevent", id = crate::sync::next_token());
        (
            Self::builder().run(near, span()),
            Self::builder().run(far, span()),
        )
    }

    /// Returns the buffer of what was read. To add to it is for the stream only: its back is frozen.
    #[doc(alias = "bufferevent_get_input")]
    #[doc(alias = "bufferevent_read")]
    #[doc(alias = "bufferevent_read_buffer")]
    #[must_use]
    pub fn input(&self) -> &SharedEvBuffer {
        &self.inner.input
    }

    /// Returns the buffer of what will be written. To take from it is for the stream only: its front is frozen.
    ///
    /// Its length is exactly what the stream has not taken yet. Adding needs no flush: what has gathered is written
    /// as soon as the task gets its turn.
    #[doc(alias = "bufferevent_get_output")]
    #[doc(alias = "bufferevent_write")]
    #[doc(alias = "bufferevent_write_buffer")]
    #[must_use]
    pub fn output(&self) -> &SharedEvBuffer {
        &self.inner.output
    }

    /// Returns whether a direction is switched on. Both are at first; an end of stream, an error or a timeout of a direction
    /// switches it off.
    #[doc(alias = "bufferevent_get_enabled")]
    #[must_use]
    pub fn is_enabled(&self, direction: Direction) -> bool {
        self.inner.is_enabled(direction)
    }

    /// Switches a direction on. One that has ended stays off.
    #[doc(alias = "bufferevent_enable")]
    pub fn enable(&self, direction: Direction) {
        self.inner.set_enabled(direction, true);
    }

    /// Switches a direction off: nothing is read, or nothing is written. What is being read or written now may still
    /// come through. A connection that is being closed is written to all the same.
    #[doc(alias = "bufferevent_disable")]
    pub fn disable(&self, direction: Direction) {
        self.inner.set_enabled(direction, false);
    }

    /// Returns why a direction moves no bytes now: nothing, if it does or would.
    ///
    /// For writing, [`HighWatermark`](PauseReason::HighWatermark) means that those who add should wait, and
    /// [`Peer`](PauseReason::Peer) that the stream takes no more.
    #[must_use]
    pub fn paused(&self, direction: Direction) -> PauseReasons {
        let reasons = PauseReasons::default().with(PauseReason::User, !self.is_enabled(direction));
        let (buffer, peer) = match direction {
            Direction::Read => (self.input(), false),
            Direction::Write => {
                let written = self.inner.written.load(Ordering::Relaxed);
                (self.output(), written & Written::WAITS != 0)
            }
        };
        reasons
            .with(PauseReason::HighWatermark, buffer.is_high())
            .with(PauseReason::Peer, peer)
    }

    /// Sets the marks of one of the buffers, and acts on them at once. See [`SharedEvBuffer::set_watermarks`].
    #[doc(alias = "bufferevent_setwatermark")]
    pub fn set_watermarks(&self, side: Side, marks: Watermarks) {
        match side {
            Side::Input => self.input().set_watermarks(marks),
            Side::Output => self.output().set_watermarks(marks),
        }
    }

    /// Sets the read and the write timeout; `None` is none.
    #[doc(alias = "bufferevent_set_timeouts")]
    pub fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) {
        self.inner.control.lock().timeouts = Timeouts { read, write };
        self.inner.signal.order();
    }

    /// Replaces all four callbacks. May be called at any time, also within one of them.
    ///
    /// One whose condition holds already is run soon: for bytes in the input, for a write that nobody was told of, for
    /// events that nobody was told of.
    #[doc(alias = "bufferevent_setcb")]
    #[doc(alias = "bufferevent_getcb")]
    pub fn set_callbacks(&self, callbacks: Callbacks) {
        self.inner.set_callbacks(callbacks);
    }

    /// Has the read or the write callback run, whatever the marks say: soon after, not within this call.
    #[doc(alias = "bufferevent_trigger")]
    #[doc(alias = "BEV_TRIG_IGNORE_WATERMARKS")]
    pub fn trigger(&self, direction: Direction) {
        match direction {
            Direction::Read => self.inner.call(Hears::READ_ANYWAY | Hears::READ),
            Direction::Write => self.inner.call(Hears::WRITE),
        }
    }

    /// Tells of `event` as if it had happened: to the event callback, soon after, and to
    /// [`next_event`](Self::next_event). To nobody after [`Event::Closed`].
    #[doc(alias = "bufferevent_trigger_event")]
    pub fn trigger_event(&self, event: Event) {
        self.inner.tell(event);
    }

    /// Waits until all that is in the output now has been handed to the kernel, and a stream with a buffer of its own has
    /// been flushed.
    ///
    /// # Errors
    ///
    /// The error of the write that failed; `BrokenPipe` if the connection has ended otherwise.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: the bytes are written all the same.
    #[doc(alias = "bufferevent_flush")]
    pub async fn flush(&self) -> std::io::Result<()> {
        let mark = self.output().mark();
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_flushed(cx, mark)).await
    }

    /// Ends the output: writes what is in it, then tells the peer that nothing more will come. Reading goes on.
    ///
    /// Nothing can be added from the first poll on.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    ///
    /// # Cancel safety
    ///
    /// Once it was polled the output ends, whether the future is dropped or not; another call waits for the same.
    #[doc(alias = "BEV_FINISHED")]
    pub async fn shutdown(&self) -> std::io::Result<()> {
        self.output().close();
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_shutdown(cx)).await
    }

    /// Closes the connection: writes what is in the output, ends it, and waits for the peer to do the same.
    ///
    /// What the peer still sends is read and let go; the input ends with what is there. Where nothing is written for as
    /// long as `linger`, the connection is closed all the same, and the summary says so.
    ///
    /// # Errors
    ///
    /// The error by which reading or writing had failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is dropping the handle. If it was polled, the connection goes on closing.
    #[doc(alias = "bufferevent_free")]
    pub async fn close(self) -> std::io::Result<Summary> {
        self.output().close();
        self.inner.wish(Wish::Close);
        let summary = self.closed().await;
        match &summary.reason {
            CloseReason::Error(error) => Err(same(error)),
            _ => Ok(summary),
        }
    }

    /// Closes the connection now. What was not written is counted in [`Summary::unsent`].
    #[doc(alias = "bufferevent_free")]
    pub fn abort(&self) {
        self.inner.wish(Wish::Abort);
    }

    /// Waits until the connection is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> Summary {
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_closed(cx)).await
    }

    /// Waits for the next event; `None` after [`Event::Closed`].
    ///
    /// There is one queue for all handles, from which each event goes to one caller; the event callback is told as
    /// well. Of events that nobody asks for the latest 64 are kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next_event(&self) -> Option<Event> {
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_event(cx)).await
    }

    /// Returns the bytes and system calls so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.counters.read()
    }

    /// Lets the connection live on without a handle until it has ended. Its callbacks keep it going.
    pub fn detach(self) {
        self.inner.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// Splits it into two handles, one to read by and one to write by.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let other = self.clone();
        // What this one shows of the input stays with whoever reads on: it is hidden from others.
        (ReadHalf(self), WriteHalf(other))
    }

    /// The first handle.
    fn first(inner: Arc<Inner>) -> Self {
        Self { inner, faces: None }
    }

    /// One more handle, if there still is one.
    fn revive(inner: &Arc<Inner>) -> Option<Self> {
        let more = |n: u64| (n > 0).then_some(n + 1);
        let before = inner
            .handles
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        before.ok().map(|_| Self::first(Arc::clone(inner)))
    }
}

impl Clone for BufferEvent {
    fn clone(&self) -> Self {
        self.inner.handles.fetch_add(1, Ordering::AcqRel);
        Self::first(Arc::clone(&self.inner))
    }
}

/// What is queued is flushed in the background, up to `linger`, when the last handle goes.
impl Drop for BufferEvent {
    fn drop(&mut self) {
        if self.inner.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.wish(Wish::Drop);
            self.inner.forget_callbacks();
        }
    }
}

impl fmt::Debug for BufferEvent {
    /// Takes no lock: it may be printed under a guard.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferEvent")
            .field("at", &Arc::as_ptr(&self.inner))
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}
