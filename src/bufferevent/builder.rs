//! Settings of a `BufferEvent`: their units and defaults.

use std::time::Duration;

#[cfg(feature = "net")]
use super::connect::{self, AddressFamily};
use super::{
    callbacks::Callbacks,
    event::{Event, Side},
    inner::BufferEvent,
    settings::Settings,
};
use crate::{
    DeferredQueue, Watermarks,
    limits::{MemoryBudget, RateLimit, RateLimitGroup},
    shared::Crossing,
};

/// The default high watermark of the input, in bytes.
const READ_HIGH: usize = 256 * 1024;

/// The default high watermark of the output, in bytes.
const WRITE_HIGH: usize = 64 * 1024;

/// The high watermark of an output with the default watermarks while it is joined, in bytes: it takes what was read at once.
const JOINED_WRITE_HIGH: usize = 256 * 1024;

/// The default watermarks of the output, and those while it is joined.
pub(super) const WRITE_WATERMARKS: Watermarks = with_high(WRITE_HIGH);
pub(super) const JOINED_WRITE_WATERMARKS: Watermarks = with_high(JOINED_WRITE_HIGH);

/// Configures a [`BufferEvent`]; created by [`BufferEvent::builder`].
///
/// | setting | default | zero means |
/// |---|---|---|
/// | [`read_watermarks`](Self::read_watermarks) | stop at 256 KiB, resume at 128 KiB | [`Watermarks`] refuse it |
/// | [`write_watermarks`](Self::write_watermarks) | stop at 64 KiB, resume at 32 KiB; 256 and 128 KiB while [joined](BufferEvent::join()), and below filters | [`Watermarks`] refuse it |
/// | [`read_timeout`](Self::read_timeout), [`write_timeout`](Self::write_timeout), [`idle_timeout`](Self::idle_timeout), [`stall_timeout`](Self::stall_timeout) | none | expires as soon as there is anything to wait for |
/// | `connect_timeout` | that of the operating system | fails unless the connection is there at once |
/// | [`linger`](Self::linger) | 30 s | output that cannot be written at once is discarded |
/// | [`close_wait`](Self::close_wait) | 2 s | does not wait for the end of the peer, or for the rest before a reset |
/// | [`max_single_read`](Self::max_single_read) | grows to 256 KiB, for frames to 1,088 KiB | counts as 1 |
/// | [`max_single_write`](Self::max_single_write) | 256 KiB | counts as 1 |
/// | [`nodelay`](Self::nodelay) | on | |
/// | [`allow_truncation`](Self::allow_truncation) | off | |
/// | [`rate_limit`](Self::rate_limit), [`rate_group`](Self::rate_group) | none | [`RateLimit`] refuses it |
/// | [`budget`](Self::budget) | none | |
/// | [`name`](Self::name) | none | |
/// | [`defer_to`](Self::defer_to) | the queue of the current runtime | |
/// | callbacks | none | |
///
/// A clone has the same settings, but no callbacks: a callback belongs to one connection.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio_evbuffer::{BufferEvent, Event, Watermarks};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (stream, mut peer) = tokio::io::duplex(64);
/// let bev = BufferEvent::builder()
///     .read_watermarks(Watermarks::with_high(16 * 1024)?)
///     .idle_timeout(Duration::from_secs(60))
///     .on_read(|bev| {
///         let line = bev.input().take_bytes(usize::MAX).unwrap();
///         bev.output().add_reference(line).unwrap();
///     })
///     .on_event(|bev, event| {
///         if event == Event::IdleTimeout {
///             bev.abort();
///         }
///     })
///     .spawn(stream);
///
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// peer.write_all(b"echo").await?;
/// let mut answer = [0; 4];
/// peer.read_exact(&mut answer).await?;
/// assert_eq!(&answer, b"echo");
/// # drop(bev);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Builder {
    pub(super) read_watermarks: Watermarks,
    pub(super) write_watermarks: Watermarks,
    #[cfg(feature = "net")]
    pub(super) connect: connect::ConnectSettings,
    pub(super) settings: Settings,
    pub(super) nodelay: bool,
    pub(super) name: Option<String>,
    pub(super) queue: Option<DeferredQueue>,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) rate_group: Option<RateLimitGroup>,
    pub(super) budget: Option<MemoryBudget>,
    pub(super) callbacks: Callbacks,
}

/// Copies the settings. The clone has no callbacks.
impl Clone for Builder {
    fn clone(&self) -> Self {
        Self {
            read_watermarks: self.read_watermarks,
            write_watermarks: self.write_watermarks,
            #[cfg(feature = "net")]
            connect: self.connect,
            settings: self.settings,
            nodelay: self.nodelay,
            name: self.name.clone(),
            queue: self.queue.clone(),
            rate_limit: self.rate_limit,
            rate_group: self.rate_group.clone(),
            budget: self.budget.clone(),
            callbacks: Callbacks::new(),
        }
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            read_watermarks: with_high(READ_HIGH),
            write_watermarks: WRITE_WATERMARKS,
            #[cfg(feature = "net")]
            connect: connect::ConnectSettings::default(),
            settings: Settings::DEFAULT,
            nodelay: true,
            name: None,
            queue: None,
            rate_limit: None,
            rate_group: None,
            budget: None,
            callbacks: Callbacks::new(),
        }
    }

    /// Sets the watermarks of the input. By default reading stops at 256 KiB and resumes at 128 KiB.
    ///
    /// Reading stops exactly at the high watermark and resumes at the low one. The read callback is called while the input
    /// holds at least the low watermark. A callback that leaves an incomplete frame in the input needs a low watermark that is
    /// at least as long as the longest frame; by default that is 128 KiB.
    pub fn read_watermarks(mut self, marks: Watermarks) -> Self {
        self.read_watermarks = marks;
        self
    }

    /// Sets the watermarks of the output. By default writers stop at 64 KiB and continue at 32 KiB.
    ///
    /// Writers wait at the high watermark. At the low one they continue, and the write callback is called.
    pub fn write_watermarks(mut self, marks: Watermarks) -> Self {
        self.write_watermarks = marks;
        self
    }

    /// Reports [`Event::ReadTimeout`] if nothing arrives for this time while reading is on, and switches reading off.
    ///
    /// A reader that uses [`AsyncRead`](tokio::io::AsyncRead) then gets the contents of the input, and after them the error
    /// [`TimedOut`](std::io::ErrorKind::TimedOut), until reading is [enabled](BufferEvent::enable) again. The time in which
    /// reading is paused by a watermark does not count. By default there is no timeout; zero expires at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio_evbuffer::{BufferEvent, Event};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let (stream, _silent) = tokio::io::duplex(64);
    /// let connection = BufferEvent::builder()
    ///     .read_timeout(Duration::from_secs(30))
    ///     .spawn(stream);
    /// assert_eq!(connection.next_event().await, Some(Event::ReadTimeout));
    /// # }
    /// ```
    pub fn read_timeout(mut self, d: Duration) -> Self {
        self.settings.limits.read = Some(d);
        self
    }

    /// Reports [`Event::WriteTimeout`] if nothing can be written for this time while output is pending, and switches
    /// writing off. A pending flush or shutdown of the stream counts as output.
    ///
    /// A task that waits to write, to flush or to shut down then gets the error
    /// [`TimedOut`](std::io::ErrorKind::TimedOut), until writing is [enabled](BufferEvent::enable) again. By default
    /// there is no timeout; zero expires at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio_evbuffer::{BufferEvent, Event};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (stream, _slow) = tokio::io::duplex(64);
    /// let connection = BufferEvent::builder()
    ///     .write_timeout(Duration::from_secs(30))
    ///     .spawn(stream);
    /// connection.output().add([0; 100])?;
    /// assert_eq!(connection.next_event().await, Some(Event::WriteTimeout));
    /// assert_eq!(connection.output().len(), 36); // `enable` tries again
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_timeout(mut self, d: Duration) -> Self {
        self.settings.limits.write = Some(d);
        self
    }

    /// Reports [`Event::IdleTimeout`] if no byte moves in either direction for this time. It ends nothing: you may
    /// [`abort`](BufferEvent::abort) when you see it.
    ///
    /// The time in which reading is paused and nothing is to be written does not count; see
    /// [`stall_timeout`](Self::stall_timeout). By default there is no timeout; zero expires at once.
    pub fn idle_timeout(mut self, d: Duration) -> Self {
        self.settings.limits.idle = Some(d);
        self
    }

    /// Reports [`Event::Stalled`] if a buffer stays above its high watermark for this time: an output that the peer
    /// does not accept, though bytes may be moving, or an input that you do not empty. It ends nothing.
    ///
    /// By default there is no timeout; zero expires at once.
    pub fn stall_timeout(mut self, d: Duration) -> Self {
        self.settings.limits.stall = Some(d);
        self
    }

    /// Sets how long closing waits without progress. Each written byte, and on TCP each acknowledged one, starts the time
    /// again. By default 30 s; with zero, output that cannot be written at once is discarded.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio_evbuffer::{BufferEvent, bufferevent::CloseReason};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (stream, _slow) = tokio::io::duplex(64);
    /// let connection = BufferEvent::builder()
    ///     .linger(Duration::from_secs(5))
    ///     .spawn(stream);
    /// connection.output().add([0; 100])?;
    /// let summary = connection.close().await?;
    /// assert_eq!(summary.reason, CloseReason::LingerExpired);
    /// assert_eq!((summary.bytes_out, summary.unsent), (64, 36));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "BEV_OPT_CLOSE_ON_FREE")]
    pub fn linger(mut self, d: Duration) -> Self {
        self.settings.limits.linger = d;
        self
    }

    /// Sets how long closing waits for the end of a peer that has received everything, and how long the rest before a reset
    /// waits to be [read](BufferEvent::peer_closed). By default 2 s; with zero it does not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::net::{TcpListener, TcpStream};
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let _client = TcpStream::connect(listener.local_addr()?).await?;
    /// let bev = BufferEvent::builder()
    ///     .close_wait(Duration::from_millis(10))
    ///     .spawn(listener.accept().await?.0);
    /// bev.output().add(b"bye")?;
    ///
    /// let summary = bev.close().await?; // though the client stays
    /// assert_eq!((summary.bytes_out, summary.unsent), (3, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_wait(mut self, d: Duration) -> Self {
        self.settings.limits.close_wait = d;
        self
    }

    /// Sets how long [`connect`](Self::connect) tries, all addresses together. By default until the operating system gives
    /// up; zero fails unless the connection is there at once.
    #[cfg(feature = "net")]
    pub fn connect_timeout(mut self, d: Duration) -> Self {
        self.connect.timeout = Some(d);
        self
    }

    /// Selects the addresses that [`connect`](Self::connect) tries. By default both families.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::net::TcpListener;
    /// use tokio_evbuffer::{BufferEvent, bufferevent::AddressFamily};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let addresses = vec!["[2001:db8::1]:80".parse()?, listener.local_addr()?];
    /// let connection = BufferEvent::builder()
    ///     .address_family(AddressFamily::V4)
    ///     .connect_resolved(async { Ok(addresses) });
    /// connection.connected().await?;
    /// assert_eq!(connection.peer_addr(), Some(listener.local_addr()?));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "net")]
    #[doc(alias = "AF_INET")]
    #[doc(alias = "AF_INET6")]
    pub fn address_family(mut self, family: AddressFamily) -> Self {
        self.connect.family = family;
        self
    }

    /// Sets the most bytes of one read. Without it, reads start with 2 KiB and grow to 256 KiB while they are filled, or to
    /// whole [frames](crate::shared::FrameDecoder::frame_len): several in up to 576 KiB, or one of up to 1,088 KiB. Zero counts
    /// as 1.
    #[doc(alias = "bufferevent_set_max_single_read")]
    pub fn max_single_read(mut self, n: usize) -> Self {
        self.settings.max_single_read = n.max(1);
        self
    }

    /// Sets the most bytes of one write. By default 256 KiB; zero counts as 1.
    #[doc(alias = "bufferevent_set_max_single_write")]
    pub fn max_single_write(mut self, n: usize) -> Self {
        self.settings.max_single_write = n.max(1);
        self
    }

    /// Sets whether a TCP socket sends small writes at once, without Nagle's algorithm. On by default, because the task
    /// already gathers what is added into few writes. Has no effect on other streams.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::net::{TcpListener, TcpStream};
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let connection = BufferEvent::builder().nodelay(false).spawn(stream);
    /// let nodelay = connection.with_stream(|tcp: &TcpStream| tcp.nodelay());
    /// assert!(!nodelay.unwrap()?);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "TCP_NODELAY")]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// Sets whether a read error [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) counts as the end of the stream. A TLS
    /// stream reports it if the peer closes without close_notify, so the data may be cut short. Off by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use tokio_evbuffer::{BufferEvent, Event};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cut_short = tokio_test::io::Builder::new()
    ///     .read(b"the last bytes")
    ///     .read_error(ErrorKind::UnexpectedEof.into())
    ///     .build();
    /// let connection = BufferEvent::builder()
    ///     .allow_truncation(true)
    ///     .spawn(cut_short);
    /// assert_eq!(connection.next_event().await, Some(Event::Eof));
    /// assert_eq!(connection.input().take_bytes(14)?, "the last bytes");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_openssl_get_allow_dirty_shutdown")]
    #[doc(alias = "bufferevent_openssl_set_allow_dirty_shutdown")]
    pub fn allow_truncation(mut self, on: bool) -> Self {
        self.settings.allow_truncation = on;
        self
    }

    /// Sets the name of the connection in traces. By default it has none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Limits the bytes per second that are read from and written to the stream. By default there is no limit.
    ///
    /// See [`BufferEvent::set_rate_limit`], which changes the limit later.
    #[doc(alias = "bufferevent_set_rate_limit")]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Makes the connection a member of a group that shares a rate limit, until the connection is over. By default it is in
    /// none.
    #[doc(alias = "bufferevent_add_to_rate_limit_group")]
    #[doc(alias = "bufferevent_remove_from_rate_limit_group")]
    pub fn rate_group(mut self, group: &RateLimitGroup) -> Self {
        self.rate_group = Some(group.clone());
        self
    }

    /// Makes the connection a member of a memory budget: the memory of its buffers counts for it. By default it has none.
    ///
    /// While the members hold more than the budget allows, none of them reads. Writing continues.
    /// [`MemoryBudget::largest`] names the connection by its [`name`](Self::name).
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{BufferEvent, bufferevent::{Direction, PauseReason}, limits::MemoryBudget};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = MemoryBudget::new(10_000);
    /// let (stream, _peer) = tokio::io::duplex(64);
    /// let bev = BufferEvent::builder().name("greedy").budget(&budget).spawn(stream);
    ///
    /// bev.output().add(&[0; 50_000])?;
    /// assert!(budget.used() >= 50_000);
    /// assert!(bev.paused(Direction::Read).contains(PauseReason::Budget));
    /// let largest = budget.largest(1);
    /// assert_eq!(largest[0].name(), Some("greedy"));
    ///
    /// largest[0].abort();
    /// assert_eq!(bev.closed().await.bytes_out + bev.closed().await.unsent, 50_000);
    /// drop(bev);
    /// assert_eq!(budget.used(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn budget(mut self, budget: &MemoryBudget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Sets the queue on which the deferred callbacks run. By default that of the current runtime.
    #[doc(alias = "BEV_OPT_DEFER_CALLBACKS")]
    pub fn defer_to(mut self, queue: DeferredQueue) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Sets the read callback. See [`Callbacks::on_read`].
    pub fn on_read(mut self, f: impl FnMut(&BufferEvent) + Send + 'static) -> Self {
        self.callbacks = self.callbacks.on_read(f);
        self
    }

    /// Sets the write callback. See [`Callbacks::on_write`].
    pub fn on_write(mut self, f: impl FnMut(&BufferEvent) + Send + 'static) -> Self {
        self.callbacks = self.callbacks.on_write(f);
        self
    }

    /// Sets the event callback. See [`Callbacks::on_event`].
    pub fn on_event(mut self, f: impl FnMut(&BufferEvent, Event) + Send + 'static) -> Self {
        self.callbacks = self.callbacks.on_event(f);
        self
    }

    /// Sets the watermark callback. See [`Callbacks::on_watermark`].
    pub fn on_watermark(
        mut self,
        f: impl FnMut(&BufferEvent, Side, Crossing) + Send + 'static,
    ) -> Self {
        self.callbacks = self.callbacks.on_watermark(f);
        self
    }
}

const fn with_high(high: usize) -> Watermarks {
    match Watermarks::with_high(high) {
        Ok(marks) => marks,
        Err(_) => panic!("the default watermarks are in order"),
    }
}
