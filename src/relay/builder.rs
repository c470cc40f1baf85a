//! The builder of a relay.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "net")]
use super::side::SocketHook;
use super::{
    HalfClose, OnError, Progress, RelayCounters, RelayStream, Splice, config::Limits,
    counters::Observers, flow_limits::FlowSettings, side::Side,
};
#[cfg(feature = "net")]
use crate::transport::Socket;
use crate::{
    buffer::chain::EvBuffer,
    limits::{MemoryBudget, RateLimit, RateLimitGroup},
};

/// Configures and runs a relay between two streams.
///
/// | setting | default |
/// |---|---|
/// | [`buffer`](Self::buffer) | 256 KiB in each direction; 1 MiB in the kernel while a flow is spliced |
/// | [`stall_buffer`](Self::stall_buffer) | 16 KiB in each direction |
/// | [`half_close`](Self::half_close) | [`HalfClose::Linger`] with 30 s |
/// | [`idle_timeout`](Self::idle_timeout) | none |
/// | [`max_lifetime`](Self::max_lifetime) | none |
/// | [`max_bytes`](Self::max_bytes) | none |
/// | [`on_error`](Self::on_error) | [`OnError::Reset`] |
/// | [`allow_truncation`](Self::allow_truncation) | `false` |
/// | [`splice`](Self::splice) | [`Splice::Auto`] |
/// | [`rate_limit`](Self::rate_limit), [`rate_group`](Self::rate_group), [`budget`](Self::budget) | none |
///
/// A relay closes the streams that it takes by value when it ends. To keep a stream, pass it as `&mut`: the relay then
/// leaves its socket options alone, and neither resets it nor shuts it down after an error or a time limit.
///
/// # Runtimes without timers
///
/// On a runtime without [`enable_time`](tokio::runtime::Builder::enable_time) a relay works, but its time limits have no
/// effect.
///
/// # Examples
///
/// A proxy that has read the first bytes of its client passes them on first:
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
    pub(super) a: Side<A>,
    pub(super) b: Side<B>,
    pub(super) limits: Limits,
    pub(super) half_close: HalfClose,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) max_bytes: u64,
    pub(super) on_error: OnError,
    pub(super) allow_truncation: bool,
    pub(super) splice: Splice,
    pub(super) from_a: EvBuffer,
    pub(super) from_b: EvBuffer,
    pub(super) observers: Option<Box<Observers>>,
    pub(super) flow: FlowSettings,
}

impl<A: RelayStream, B: RelayStream> Relay<A, B> {
    /// Returns a relay between `a` and `b` with the default settings.
    pub fn new(a: A, b: B) -> Self {
        Self {
            a: Side::new(a),
            b: Side::new(b),
            limits: Limits::DEFAULT,
            half_close: HalfClose::default(),
            idle_timeout: None,
            max_lifetime: None,
            max_bytes: u64::MAX,
            on_error: OnError::Reset,
            allow_truncation: false,
            splice: Splice::default(),
            from_a: EvBuffer::new(),
            from_b: EvBuffer::new(),
            observers: None,
            flow: FlowSettings::default(),
        }
    }

    /// Sets the most bytes to hold in each direction, in memory or in a pipe. Zero counts as one. The default is 256 KiB in
    /// memory, and 1 MiB in a pipe.
    ///
    /// Memory is held only for bytes in transit: an idle relay has none. A full direction reads again when half of it was
    /// written.
    pub fn buffer(mut self, high: usize) -> Self {
        self.limits.set_buffer(high);
        self
    }

    /// Sets how many bytes a direction reads while its sink takes nothing, beyond what it holds. The default is 16 KiB;
    /// with zero it reads nothing then.
    ///
    /// A small value keeps a stalled connection cheap. If the sink is a TCP socket on Linux, its send queue holds enough: 16 KiB
    /// or less count as zero. Between two of them a direction that holds nothing reads up to 1 KiB, and leaves the rest
    /// in the kernel of the source. [`buffer`](Self::buffer) applies, too.
    pub fn stall_buffer(mut self, n: usize) -> Self {
        self.limits.set_stall(n);
        self
    }

    /// Sets what the end of one side's stream means for the other direction. The default is [`HalfClose::Linger`] with 30 s.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # use tokio_evbuffer::{Relay, relay::{HalfClose, RelayEnd}};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let ((mut client, a), (b, mut server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
    /// let relaying = tokio::spawn(Relay::new(a, b).half_close(HalfClose::Close).run());
    /// client.write_all(b"request").await?;
    /// client.shutdown().await?; // ends the relay, although the server has not ended its stream
    /// assert_eq!(relaying.await??.reason, RelayEnd::FirstEof);
    /// let mut request = String::new();
    /// server.read_to_string(&mut request).await?;
    /// assert_eq!(request, "request");
    /// # Ok(())
    /// # }
    /// ```
    pub fn half_close(mut self, policy: HalfClose) -> Self {
        self.half_close = policy;
        self
    }

    /// Ends the relay when no byte was read or written for this duration, in either direction. By default it never does.
    ///
    /// Then a TCP socket is reset if bytes for it were held or not yet read; otherwise each side sees the end of the
    /// stream. [`Duration::ZERO`] ends the relay as soon as it has to wait, [`Duration::MAX`] never.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tokio_evbuffer::{Relay, relay::RelayEnd};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> std::io::Result<()> {
    /// let ((_client, a), (b, _server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
    /// let summary = Relay::new(a, b).idle_timeout(Duration::from_secs(60)).run().await?;
    /// assert_eq!(summary.reason, RelayEnd::Idle);
    /// # Ok(())
    /// # }
    /// ```
    pub fn idle_timeout(mut self, d: Duration) -> Self {
        self.idle_timeout = Some(d);
        self
    }

    /// Ends the relay this long after it was first polled, whether bytes move or not. By default it never does.
    ///
    /// It stops reading and delivers what it has read, for which it has the time of [`HalfClose::Linger`] (30 s with the
    /// other policies). Then a TCP socket is reset if its source had sent more; otherwise each side sees the end of the
    /// stream. The reason is [`RelayEnd::Lifetime`](super::RelayEnd::Lifetime). [`Duration::MAX`] never ends the relay.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio_evbuffer::{Relay, relay::RelayEnd};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (_client, a) = tokio::io::duplex(64);
    /// let (b, _server) = tokio::io::duplex(64);
    /// let relay = Relay::new(a, b).max_lifetime(Duration::from_secs(3600));
    /// assert_eq!(relay.run().await?.reason, RelayEnd::Lifetime);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_lifetime(mut self, d: Duration) -> Self {
        self.max_lifetime = Some(d);
        self
    }

    /// Ends the relay after it has read this many bytes from both sides together. It never reads more.
    ///
    /// What was read is delivered, as with [`max_lifetime`](Self::max_lifetime). The side whose source was cut off is then
    /// reset, if it is a TCP socket. The reason is [`RelayEnd::MaxBytes`](super::RelayEnd::MaxBytes). Zero ends the relay
    /// before it reads anything; `u64::MAX`, the default, is no limit. [`initial`](Self::initial) bytes count.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::AsyncWriteExt;
    /// use tokio_evbuffer::{Relay, relay::RelayEnd};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut client, a) = tokio::io::duplex(64);
    /// let (b, _server) = tokio::io::duplex(64);
    /// client.write_all(b"0123456789").await?;
    /// let summary = Relay::new(a, b).max_bytes(4).run().await?;
    /// assert_eq!((summary.a_to_b, summary.reason), (4, RelayEnd::MaxBytes));
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_bytes(mut self, n: u64) -> Self {
        self.max_bytes = n;
        self
    }

    /// Sets how the connection to the healthy side ends when the other side fails. The default is [`OnError::Reset`].
    pub fn on_error(mut self, how: OnError) -> Self {
        self.on_error = how;
        self
    }

    /// Sets whether a stream that ends with [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) has ended in order.
    ///
    /// TLS streams end so if the peer closes the connection without `close_notify`. By default that is an error, since an
    /// attacker can cut the stream off that way.
    pub fn allow_truncation(mut self, allow: bool) -> Self {
        self.allow_truncation = allow;
        self
    }

    /// Limits the bytes per second: the read rate from `a` to `b`, the write rate from `b` to `a`. The default is no limit.
    ///
    /// The limit does not turn splicing off: it caps the length of each splice. The time that a direction waits for its
    /// rate does not count as idle.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.flow.rate_limit = Some(limit);
        self
    }

    /// Makes the relay a member of a group that shares its rate: the read rate from `a` to `b`, the write rate from `b` to
    /// `a`. The default is no group.
    ///
    /// The relay is a member while it runs. Its [`rate_limit`](Self::rate_limit) applies, too.
    pub fn rate_group(mut self, group: &RateLimitGroup) -> Self {
        self.flow.rate_group = Some(group.clone());
        self
    }

    /// Makes the relay a member of a budget: the memory that it holds counts, and above the limit it stops reading.
    ///
    /// Bytes in a pipe are in the kernel and do not count. Writing always continues. The time that the budget takes does not
    /// count as idle. [`Holder::abort`](crate::limits::Holder::abort) ends the relay at once, with the reason
    /// [`RelayEnd::Aborted`](super::RelayEnd::Aborted); a side that got less than was sent is reset, if it is a TCP socket.
    /// The default is no budget.
    pub fn budget(mut self, budget: &MemoryBudget) -> Self {
        self.flow.budget = Some(budget.clone());
        self
    }

    /// Sets counters that you can read while the relay runs, and after it was dropped.
    pub fn counters(mut self, counters: Arc<RelayCounters>) -> Self {
        self.observers.get_or_insert_default().counters = Some(counters);
        self
    }

    /// Sets functions that find the socket of an enum or a wrapper, so that it takes the fast path.
    ///
    /// The relay then reads from that socket and writes to it directly: return `None` for a stream that changes the
    /// bytes, such as TLS, or that holds bytes that it has read ahead. A [`TcpStream`](tokio::net::TcpStream) or
    /// [`UnixStream`](tokio::net::UnixStream), by value or as `&mut`, is found without a function. A stream made of the two
    /// owned halves of a socket returns [`AsRef::as_ref`] of one half.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "net")] {
    /// use tokio::{io::{AsyncRead, AsyncWrite}, net::TcpStream};
    /// use tokio_evbuffer::{Relay, relay::{RelayStream, Socket}};
    ///
    /// fn metered<S: RelayStream>(client: Metered<TcpStream>, server: S) -> Relay<Metered<TcpStream>, S> {
    ///     Relay::new(client, server).sockets(|client| Some(Socket::from(&client.inner)), |_| None)
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
        a: impl Fn(&A) -> Option<Socket<'_>> + Send + 'static,
        b: impl Fn(&B) -> Option<Socket<'_>> + Send + 'static,
    ) -> Self {
        self.a.hook = Some(Box::new(SocketHook(Box::new(a))));
        self.b.hook = Some(Box::new(SocketHook(Box::new(b))));
        self
    }

    /// Sets bytes that were already read from `a` and from `b`: they reach the other side first.
    ///
    /// They may be more than [`buffer`](Self::buffer) allows, and count as relayed.
    pub fn initial(mut self, from_a: EvBuffer, from_b: EvBuffer) -> Self {
        (self.from_a, self.from_b) = (from_a, from_b);
        self
    }

    /// Sets whether the kernel may move the bytes of bulk flows from socket to socket without copying them. By default it may.
    ///
    /// A flow is spliced after 1 MiB in large reads, until small ones come again. It leases a pipe while bytes are in
    /// transit. The process has a limited number of pipes, see [`set_max_pipes`](super::set_max_pipes); without one, bytes
    /// are copied. Bytes of a flow that makes no progress stay in its pipe. If that would hold up more than half of the pipes,
    /// they are moved to memory after 100 ms, and the pipe is used by others.
    ///
    /// A spliced flow that is slower than this machine, without a limit and without answers from the other side, sets a
    /// low-water mark (`SO_RCVLOWAT`) of up to 256 KiB on the socket it reads from. So the relay is woken once for what
    /// arrives in a millisecond, and not for each packet. Bytes below the mark are looked for 1 ms after the last ones, to
    /// which Tokio's timer adds up to 1 ms. The socket gets its own mark back as soon as the flow becomes quiet or is
    /// answered, and when the relay ends; the kernel may have enlarged a receive buffer of automatic size. Without timers in
    /// the runtime, and with [`Splice::Never`], no mark is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio::net::{TcpListener, TcpStream};
    /// use tokio_evbuffer::{Relay, relay::Splice};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let connect = || TcpStream::connect(listener.local_addr().unwrap());
    /// let (mut client, a) = (connect().await?, listener.accept().await?.0);
    /// let (mut server, b) = (connect().await?, listener.accept().await?.0);
    /// let relay = tokio::spawn(Relay::new(a, b).splice(Splice::Never).run());
    /// client.write_all(b"hello").await?;
    /// client.shutdown().await?;
    /// let mut received = String::new();
    /// server.read_to_string(&mut received).await?;
    /// assert_eq!(received, "hello");
    /// drop(server);
    /// assert_eq!(relay.await??.a_to_b, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn splice(mut self, mode: Splice) -> Self {
        self.splice = mode;
        self
    }

    /// Sets a function that is called after bytes were written, with the counts so far. The last call has the final ones.
    ///
    /// It runs inside the relay, which waits for it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use tokio::io::AsyncWriteExt;
    /// # use tokio_evbuffer::{Relay, relay::HalfClose};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let ((mut client, a), (b, _server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
    /// client.write_all(b"request").await?;
    /// client.shutdown().await?;
    /// let latest = Arc::new(Mutex::new(0));
    /// let seen = latest.clone();
    /// let relay = Relay::new(a, b).half_close(HalfClose::Close);
    /// relay.on_progress(move |progress| *seen.lock().unwrap() = progress.a_to_b).run().await?;
    /// assert_eq!(*latest.lock().unwrap(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_progress(mut self, f: impl FnMut(Progress) + Send + 'static) -> Self {
        self.observers.get_or_insert_default().on_progress = Some(Box::new(f));
        self
    }
}

impl<A: fmt::Debug, B: fmt::Debug> fmt::Debug for Relay<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("a", &self.a.stream)
            .field("b", &self.b.stream)
            .field("limits", &self.limits)
            .field("half_close", &self.half_close)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_lifetime", &self.max_lifetime)
            .field("max_bytes", &self.max_bytes)
            .field("on_error", &self.on_error)
            .finish_non_exhaustive()
    }
}
