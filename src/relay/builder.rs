//! The settings of a relay.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "net")]
use tokio::net::TcpStream;

use super::{
    HalfClose, OnError, Progress, RelayCounters, RelayError, RelayStream, RelaySummary, Splice,
    clock::Clock,
    config::Deadlines,
    direction::{Direction, Most},
    future::{AfterError, Observers, Running, Settings},
    splice_mode::Mode,
};
use crate::{
    EvBuffer,
    transport::{Finder, take_prefix},
};

/// Bytes held each way at most, unless set otherwise. More of them in the pipe cost fewer wake-ups, and no memory of the
/// process: with 16 connections on one CPU a pipe held to 256 KiB took a third more CPU time.
const DEFAULT_MOST: Most = Most {
    chain: 256 << 10,
    pipe: 1 << 20,
};

/// A relay between two streams that has not begun: its settings.
///
/// | setting | default |
/// |---|---|
/// | [`buffer`](Self::buffer) | 256 KiB each way; 1 MiB in the kernel while a flow is spliced |
/// | [`half_close`](Self::half_close) | [`HalfClose::Linger`] with 30 s |
/// | [`idle_timeout`](Self::idle_timeout) | none |
/// | [`on_error`](Self::on_error) | reset a TCP socket, end any other stream |
/// | [`splice`](Self::splice) | [`Splice::Auto`] |
///
/// The streams are taken by value, or as `&mut` to have them back afterwards.
///
/// # Examples
///
/// A proxy that has looked at the first bytes of its client passes them on before all else:
///
/// ```
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio_evbuffer::{EvBuffer, Relay, relay::{HalfClose, RelayEnd}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut client, mut a) = tokio::io::duplex(1024);
/// let (mut server, b) = tokio::io::duplex(1024);
/// client.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
/// client.shutdown().await?;
///
/// let mut method = [0; 4];
/// a.read_exact(&mut method).await?;
/// assert_eq!(&method, b"GET ");
///
/// let server = tokio::spawn(async move {
///     let mut request = String::new();
///     server.read_to_string(&mut request).await?;
///     server.write_all(b"200").await?;
///     std::io::Result::Ok(request)
/// });
/// let summary = Relay::new(a, b)
///     .initial(EvBuffer::from(&method[..]), EvBuffer::new())
///     .half_close(HalfClose::Linger(Duration::from_secs(5)))
///     .idle_timeout(Duration::from_secs(60))
///     .run()
///     .await?;
/// assert_eq!(server.await??, "GET / HTTP/1.1\r\n\r\n");
/// assert_eq!((summary.a_to_b, summary.b_to_a), (18, 3));
/// assert_eq!(summary.reason, RelayEnd::Eof);
/// # Ok(())
/// # }
/// ```
#[must_use = "a relay does nothing until it is run"]
pub struct Relay<A, B> {
    a: A,
    b: B,
    find_a: Finder<A>,
    find_b: Finder<B>,
    most: Most,
    half_close: HalfClose,
    idle_timeout: Option<Duration>,
    on_error: Option<OnError>,
    splice: Splice,
    from_a: EvBuffer,
    from_b: EvBuffer,
    observers: Option<Box<Observers>>,
}

impl<A: RelayStream, B: RelayStream> Relay<A, B> {
    /// A relay between `a` and `b` with the default settings.
    pub fn new(a: A, b: B) -> Self {
        Self {
            a,
            b,
            find_a: Finder::by_type(),
            find_b: Finder::by_type(),
            most: DEFAULT_MOST,
            half_close: HalfClose::default(),
            idle_timeout: None,
            on_error: None,
            splice: Splice::default(),
            from_a: EvBuffer::new(),
            from_b: EvBuffer::new(),
            observers: None,
        }
    }

    /// The most bytes held each way, in memory or in a pipe; zero is taken for one.
    ///
    /// Memory is only held for bytes that wait: an idle relay has none. While a chain is full its stream is not
    /// read, until half of it has been written.
    pub fn buffer(mut self, high: usize) -> Self {
        let high = high.max(1);
        self.most = Most {
            chain: high,
            pipe: high,
        };
        self
    }

    /// What the end of one side's stream means for the other.
    pub fn half_close(mut self, policy: HalfClose) -> Self {
        self.half_close = policy;
        self
    }

    /// Ends the relay when no byte has been read or written for so long, in either direction.
    ///
    /// [`Duration::ZERO`] ends it as soon as it has to wait, [`Duration::MAX`] never.
    pub fn idle_timeout(mut self, d: Duration) -> Self {
        self.idle_timeout = Some(d);
        self
    }

    /// What the healthy side sees when the other fails. Unless set, a TCP socket is reset and any other stream is
    /// ended.
    pub fn on_error(mut self, how: OnError) -> Self {
        self.on_error = Some(how);
        self
    }

    /// Counts that can be read while it runs, and after its future was dropped.
    pub fn counters(mut self, counters: Arc<RelayCounters>) -> Self {
        self.observers.get_or_insert_default().counters = Some(counters);
        self
    }

    /// Where the socket of an enum or a wrapper is, so that it takes the fast path, too.
    ///
    /// The relay then reads from that socket and writes to it directly: say `None` for a stream that changes
    /// the bytes, such as TLS. A [`TcpStream`], by value or as `&mut`, is found without this.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "net")] {
    /// use tokio::{io::{AsyncRead, AsyncWrite}, net::TcpStream};
    /// use tokio_evbuffer::{Relay, relay::RelayStream};
    ///
    /// fn metered<S: RelayStream>(client: Metered<TcpStream>, server: S) -> Relay<Metered<TcpStream>, S> {
    ///     Relay::new(client, server).sockets(|client| Some(&client.inner), |_| None)
    /// }
    /// # use std::{io, pin::Pin, task::{Context, Poll}};
    /// # struct Metered<S> { inner: S }
    /// # impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    /// #     fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut tokio::io::ReadBuf<'_>) -> Poll<io::Result<()>> {
    /// #         Pin::new(&mut self.inner).poll_read(cx, buf)
    /// #     }
    /// # }
    /// # impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    /// #     fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    /// #         Pin::new(&mut self.inner).poll_write(cx, buf)
    /// #     }
    /// #     fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    /// #         Pin::new(&mut self.inner).poll_flush(cx)
    /// #     }
    /// #     fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    /// #         Pin::new(&mut self.inner).poll_shutdown(cx)
    /// #     }
    /// # }
    /// # let _ = metered::<TcpStream>;
    /// # }
    /// ```
    #[cfg(feature = "net")]
    pub fn sockets(
        mut self,
        a: fn(&A) -> Option<&TcpStream>,
        b: fn(&B) -> Option<&TcpStream>,
    ) -> Self {
        self.find_a = Finder::with_hook(a);
        self.find_b = Finder::with_hook(b);
        self
    }

    /// Bytes already read from `a`, and already read from `b`: they reach the other side first.
    ///
    /// They may be more than [`buffer`](Self::buffer) allows, and count as relayed.
    pub fn initial(mut self, from_a: EvBuffer, from_b: EvBuffer) -> Self {
        (self.from_a, self.from_b) = (from_a, from_b);
        self
    }

    /// Whether the kernel may move the bytes of bulk flows from socket to socket without copying them.
    ///
    /// A flow is spliced after 1 MiB in large reads, until small ones come again. It borrows a pipe while bytes are under
    /// way; there are at most 32 in the process, and without one bytes are copied.
    pub fn splice(mut self, mode: Splice) -> Self {
        self.splice = mode;
        self
    }

    /// Calls `f` after bytes were written, with the counts so far; the last call has the final ones.
    ///
    /// It runs inside the relay, which waits for it.
    pub fn on_progress(mut self, f: impl FnMut(Progress) + Send + 'static) -> Self {
        self.observers.get_or_insert_default().on_progress = Some(Box::new(f));
        self
    }

    /// Relays until both sides have ended, or a policy or an error ends it.
    ///
    /// # Errors
    ///
    /// A [`RelayError`] for the first operation that failed, with the bytes delivered. What was read before is
    /// delivered to the healthy side, for which it has as long as [`HalfClose::Linger`] allows (30 s with the other
    /// policies). `Interrupted` is not an error, but tried again.
    ///
    /// # Panics
    ///
    /// When a time limit counts first, outside a runtime or in one without
    /// [`enable_time`](tokio::runtime::Builder::enable_time). By default that is so from the first end of stream or
    /// error on.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what was read and not yet written is lost with the future. What was delivered is known from
    /// [`counters`](Self::counters).
    pub fn run(self) -> impl Future<Output = Result<RelaySummary, RelayError>> {
        self.with(AfterError::Deliver)
    }

    /// As [`run`](Self::run), but an error ends it at once and leaves the streams as they are.
    pub(super) fn run_until_error(self) -> Running<A, B> {
        self.with(|_| AfterError::Stop)
    }

    /// Moved into the future piece by piece: an `async fn` would keep the settings beside them.
    fn with(mut self, after_error: impl FnOnce(Option<OnError>) -> AfterError) -> Running<A, B> {
        // Without its prefix a `Prefixed` socket is as good as a socket.
        let (prefix_a, prefix_b) = (take_prefix(&mut self.a), take_prefix(&mut self.b));
        let sockets =
            self.find_a.socket(&self.a).is_some() && self.find_b.socket(&self.b).is_some();
        let mode = match self.splice {
            Splice::Auto if sockets => Mode::START,
            _ => Mode::Never,
        };
        Running {
            a: self.a,
            b: self.b,
            find_a: self.find_a,
            find_b: self.find_b,
            a_to_b: Direction::new(self.from_a, mode).followed_by(prefix_a),
            b_to_a: Direction::new(self.from_b, mode).followed_by(prefix_b),
            settings: Settings {
                most: self.most,
                close_at_first: self.half_close == HalfClose::Close,
                after_error: after_error(self.on_error),
            },
            observers: self.observers,
            clock: Clock::new(Deadlines::new(self.half_close, self.idle_timeout)),
            failure: None,
            stopped: false,
        }
    }
}

impl<A: fmt::Debug, B: fmt::Debug> fmt::Debug for Relay<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("a", &self.a)
            .field("b", &self.b)
            .field("buffer", &self.most.chain)
            .field("half_close", &self.half_close)
            .field("idle_timeout", &self.idle_timeout)
            .field("on_error", &self.on_error)
            .finish_non_exhaustive()
    }
}
