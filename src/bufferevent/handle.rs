//! The handle of a connection: its buffers, directions, settings and stream.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use super::{
    builder::Builder,
    callbacks::Callbacks,
    control::CloseMode,
    endpoint::{Stream, Transport},
    event::{Direction, Event, Metrics, PauseReason, PauseReasons, Side},
    inner::{BufferEvent, Calls},
    pair,
    split::{ReadHalf, WriteHalf},
    stream_cell::StreamCell,
};
use crate::{EvBuffer, SharedEvBuffer, Watermarks, sync::Ordering};

impl BufferEvent {
    /// Spawns a task that owns `stream`, with the default settings of [`Builder`].
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    #[doc(alias(
        "bufferevent_socket_new",
        "bufferevent_new",
        "bufferevent_openssl_socket_new"
    ))]
    #[track_caller]
    #[must_use = "dropping the last handle closes the connection"]
    pub fn new(stream: impl Transport) -> Self {
        Self::builder().spawn(stream)
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Creates two that are joined in memory: bytes added to the output of one appear in the input of the other.
    ///
    /// Segments move from one to the other; nothing is copied. Watermarks work as for a socket. When one of them is closed or
    /// dropped, the other sees the end of the stream, and a broken pipe if it continues to write. When one is aborted, the other
    /// sees a reset after the bytes that were written.
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
    #[doc(alias("bufferevent_pair_new", "bufferevent_pair_get_partner"))]
    #[track_caller]
    pub fn pair() -> (BufferEvent, BufferEvent) {
        let (near, far) = pair::ends();
        let span = || tracing::debug_span!("bufferevent", id = crate::sync::next_token());
        (
            Self::builder().run(near, EvBuffer::new(), span()),
            Self::builder().run(far, EvBuffer::new(), span()),
        )
    }

    /// Returns the buffer of bytes that were read. Only the stream adds to it: its back is frozen.
    #[doc(alias = "bufferevent_get_input")]
    #[doc(alias = "bufferevent_read")]
    #[doc(alias = "bufferevent_read_buffer")]
    #[must_use]
    pub fn input(&self) -> &SharedEvBuffer {
        &self.inner.input
    }

    /// Returns the buffer of bytes to write. Only the stream removes from it: its front is frozen.
    ///
    /// Its length is exactly what the stream has not accepted yet. The task writes what is added as soon as it runs.
    #[doc(alias = "bufferevent_get_output")]
    #[doc(alias = "bufferevent_write")]
    #[doc(alias = "bufferevent_write_buffer")]
    #[must_use]
    pub fn output(&self) -> &SharedEvBuffer {
        &self.inner.output
    }

    /// Returns whether a direction is on. Both are on at first; an end of stream, an error or a timeout of a direction
    /// switches it off.
    #[doc(alias = "bufferevent_get_enabled")]
    #[must_use]
    pub fn is_enabled(&self, direction: Direction) -> bool {
        self.inner.control.lock().state.is_enabled(direction)
    }

    /// Switches a direction on. One that has ended stays off.
    #[doc(alias = "bufferevent_enable")]
    pub fn enable(&self, direction: Direction) {
        self.inner.set_enabled(direction, true);
    }

    /// Switches a direction off: the task does not read, or does not write. An operation that is in progress still
    /// completes. A connection that is being closed is read and written anyway.
    #[doc(alias = "bufferevent_disable")]
    pub fn disable(&self, direction: Direction) {
        self.inner.set_enabled(direction, false);
    }

    /// Returns why a direction moves no bytes now. The set is empty if it moves bytes, or would if there were any.
    ///
    /// For writing, [`HighWatermark`](PauseReason::HighWatermark) means that you should stop adding for a while, and
    /// [`Peer`](PauseReason::Peer) that the stream accepts no more. For reading, `Peer` means that the connection which this
    /// one is [joined](Self::join) with accepts no more.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{BufferEvent, bufferevent::{Direction, PauseReason}};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let (near, _far) = BufferEvent::pair();
    /// assert!(near.paused(Direction::Read).is_empty());
    /// near.disable(Direction::Read);
    /// assert!(near.paused(Direction::Read).contains(PauseReason::User));
    /// # }
    /// ```
    #[must_use]
    pub fn paused(&self, direction: Direction) -> PauseReasons {
        let control = self.inner.control.lock();
        let enabled = control.state.is_enabled(direction);
        let blocked = match direction {
            Direction::Read => control.state.read.is_blocked(),
            Direction::Write => control.state.write.is_blocked(),
        };
        let rate = control.rate_pause(direction);
        let over_budget = direction == Direction::Read
            && (control.account()).is_some_and(|account| account.is_exceeded());
        drop(control);
        let buffer = match direction {
            Direction::Read => self.input(),
            Direction::Write => self.output(),
        };
        let reasons = PauseReasons::default()
            .with(PauseReason::User, !enabled)
            .with(PauseReason::HighWatermark, buffer.is_high())
            .with(PauseReason::Peer, blocked)
            .with(PauseReason::Budget, over_budget);
        rate.map_or(reasons, |reason| reasons.with(reason, true))
    }

    /// Sets the watermarks of one of the buffers. They apply at once. See [`SharedEvBuffer::set_watermarks`].
    #[doc(alias = "bufferevent_setwatermark")]
    pub fn set_watermarks(&self, side: Side, marks: Watermarks) {
        match side {
            Side::Input => self.input().set_watermarks(marks),
            Side::Output => self.output().set_watermarks(marks),
        }
    }

    /// Sets the read timeout and the write timeout. `None` removes a timeout; zero expires as soon as there is anything to
    /// wait for.
    #[doc(alias("bufferevent_set_timeouts", "bufferevent_settimeout"))]
    pub fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) {
        self.inner.command(|control| {
            let limits = &mut control.extras_mut().settings.limits;
            (limits.read, limits.write) = (read, write);
        });
    }

    /// Sets the most bytes of one read or one write. Zero counts as 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{BufferEvent, bufferevent::Direction};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (near, far) = BufferEvent::pair();
    /// near.set_max_single(Direction::Write, 10);
    /// near.output().add(&[0; 100])?;
    /// far.input().readable(100).await?;
    /// assert_eq!(near.metrics().writes, 10);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("bufferevent_set_max_single_read", "bufferevent_get_max_single_read"))]
    #[doc(alias("bufferevent_set_max_single_write", "bufferevent_get_max_single_write"))]
    pub fn set_max_single(&self, direction: Direction, n: usize) {
        self.inner.command(|control| {
            let settings = &mut control.extras_mut().settings;
            match direction {
                Direction::Read => settings.max_single_read = n.max(1),
                Direction::Write => settings.max_single_write = n.max(1),
            }
        });
    }

    /// Replaces all four callbacks. You can call it at any time, also from one of them.
    ///
    /// A callback whose condition already holds is called soon: for bytes in the input, for a write or for events that no
    /// callback was called for.
    #[doc(alias = "bufferevent_setcb")]
    #[doc(alias = "bufferevent_getcb")]
    pub fn set_callbacks(&self, callbacks: Callbacks) {
        self.inner.set_callbacks(callbacks);
    }

    /// Schedules the read or the write callback, regardless of the watermarks. It is called soon after, not within this
    /// call.
    #[doc(alias = "bufferevent_trigger")]
    #[doc(alias = "BEV_TRIG_IGNORE_WATERMARKS")]
    pub fn trigger(&self, direction: Direction) {
        match direction {
            Direction::Read => self.inner.call(Calls::READ_BELOW_LOW | Calls::READ),
            Direction::Write => self.inner.call(Calls::WRITE),
        }
    }

    /// Reports `event` as if it had happened: to the event callback, soon after, and to
    /// [`next_event`](Self::next_event). Does nothing after [`Event::Closed`].
    #[doc(alias = "bufferevent_trigger_event")]
    pub fn trigger_event(&self, event: Event) {
        self.inner.report(event);
    }

    /// Calls `f` with the stream: to ask for the protocol or the certificate of a TLS peer, or to set socket options.
    ///
    /// Returns `None` if the stream is not an `S`, if the connection is not established yet, or if it is over. The task does not
    /// use the stream meanwhile, so `f` should be short, and must not wait for the connection.
    ///
    /// Only one thread uses a stream at a time, and `with_stream` waits for the others. Inside of `f`, or of a function of a
    /// stream, waiting could deadlock: if user code uses the stream then, `with_stream`, [`peer_addr`](Self::peer_addr) and
    /// [`local_addr`](Self::local_addr) return `None` instead.
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
    /// let bev = BufferEvent::new(TcpStream::connect(listener.local_addr()?).await?);
    /// let ttl = bev.with_stream(|tcp: &TcpStream| {
    ///     tcp.set_ttl(42)?;
    ///     tcp.ttl()
    /// });
    /// assert_eq!(ttl.unwrap()?, 42);
    /// assert!(bev.with_stream(|_: &tokio::io::DuplexStream| ()).is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_getfd")]
    #[doc(alias = "bufferevent_openssl_get_ssl")]
    pub fn with_stream<S: 'static, R>(&self, f: impl FnOnce(&S) -> R) -> Option<R> {
        let stream = self.inner.control.lock().stream.clone()?;
        let (mut f, mut returned) = (Some(f), None);
        stream.with_cell(&mut |cell| {
            let cell: Option<&StreamCell<Stream<S>>> = cell.downcast_ref();
            if let (Some(cell), Some(f)) = (cell, f.take()) {
                returned = cell.with_user_code(|stream| f(stream.get_ref()));
            }
        });
        returned
    }

    /// Returns the address of the peer of a TCP connection, while it is established; `None` without the feature `net`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(not(feature = "net"))]
    /// # fn main() {}
    /// # #[cfg(feature = "net")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use tokio::net::{TcpListener, TcpStream};
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = BufferEvent::new(TcpStream::connect(listener.local_addr()?).await?);
    /// let (_server, client_addr) = listener.accept().await?;
    /// assert_eq!(client.peer_addr(), Some(listener.local_addr()?));
    /// assert_eq!(client.local_addr(), Some(client_addr));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        let stream = self.inner.control.lock().stream.clone()?;
        stream.peer_addr()
    }

    /// Returns the local address of a TCP connection, while it is established; `None` without the feature `net`.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let stream = self.inner.control.lock().stream.clone()?;
        stream.local_addr()
    }

    /// Returns the bytes and system calls so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.counters.read()
    }

    /// Keeps the connection alive without a handle until it has ended. Its callbacks continue to be called.
    #[doc(alias("bufferevent_incref", "bufferevent_decref"))]
    pub fn detach(self) {
        self.inner.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// Splits it into two handles, one to read and one to write.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # use tokio_evbuffer::BufferEvent;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (near, far) = BufferEvent::pair();
    /// let (mut reader, mut writer) = near.split();
    /// let (_, mut to_near) = far.split();
    /// to_near.write_all(b"both ways").await?;
    /// to_near.shutdown().await?;
    /// writer.write_all(b"at once").await?;
    /// let mut received = String::new();
    /// reader.read_to_string(&mut received).await?;
    /// assert_eq!(received, "both ways");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let other = self.clone();
        // `self` may have borrowed the front of the input, which other handles cannot see. It becomes the reader.
        (ReadHalf(self), WriteHalf(other))
    }
}

impl Clone for BufferEvent {
    fn clone(&self) -> Self {
        self.inner.handles.fetch_add(1, Ordering::AcqRel);
        Self::first(Arc::clone(&self.inner))
    }
}

/// Dropping the last handle closes the connection in the background, as [`close`](BufferEvent::close) does.
impl Drop for BufferEvent {
    fn drop(&mut self) {
        if let Some(place) = self.io.as_mut().and_then(|io| io.place.take()) {
            self.inner.stop_waiting(place);
        }
        if self.inner.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.output.close();
            self.inner.request_close(CloseMode::Drop);
            self.inner.drop_callbacks();
        }
    }
}

impl fmt::Debug for BufferEvent {
    /// Takes no lock: you can print a handle while you hold a guard.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferEvent")
            .field("at", &Arc::as_ptr(&self.inner))
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}
