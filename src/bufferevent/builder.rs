//! How a BufferEvent is made: settings, their units, their defaults.

use std::{any::TypeId, sync::Arc, time::Duration};

use tracing::Span;

#[cfg(feature = "net")]
use super::connect;
use super::{
    BufferEvent, Callbacks, Event, Side, Transport,
    endpoint::{Stream, Wire},
    inner::Inner,
    task::{Ends, Settings, Task},
};
use crate::{
    DeferredQueue, SharedEvBuffer, Watermarks, shared::Crossing, sync::next_token,
    transport::Finder,
};

/// The high mark of the input unless set otherwise, in bytes.
const READ_HIGH: usize = 256 * 1024;

/// The high mark of the output unless set otherwise, in bytes.
const WRITE_HIGH: usize = 64 * 1024;

/// Makes a [`BufferEvent`] with other settings than the defaults, had from [`BufferEvent::builder`].
///
/// | setting | default | zero means |
/// |---|---|---|
/// | [`read_watermarks`](Self::read_watermarks) | stop at 256 KiB, go on at 128 KiB | cannot be made |
/// | [`write_watermarks`](Self::write_watermarks) | stop at 64 KiB, go on at 32 KiB | cannot be made |
/// | [`read_timeout`](Self::read_timeout), [`write_timeout`](Self::write_timeout), [`idle_timeout`](Self::idle_timeout), [`stall_timeout`](Self::stall_timeout) | none | over as soon as there is anything to wait for |
/// | [`connect_timeout`](Self::connect_timeout) | that of the operating system | fails unless it is there at once |
/// | [`linger`](Self::linger) | 30 s | what cannot be written at once is not written |
/// | [`max_single_read`](Self::max_single_read), [`max_single_write`](Self::max_single_write) | 256 KiB | is taken for 1 |
/// | [`name`](Self::name) | none | |
/// | [`defer_to`](Self::defer_to) | the queue of the runtime around | |
/// | callbacks | none | |
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
///         if matches!(event, Event::IdleTimeout) {
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
    pub(super) read_marks: Watermarks,
    pub(super) write_marks: Watermarks,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) settings: Settings,
    pub(super) name: Option<String>,
    pub(super) queue: Option<DeferredQueue>,
    pub(super) callbacks: Callbacks,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            read_marks: high(READ_HIGH),
            write_marks: high(WRITE_HIGH),
            connect_timeout: None,
            settings: Settings::DEFAULT,
            name: None,
            queue: None,
            callbacks: Callbacks::new(),
        }
    }

    /// Sets the marks of the input. Reading stops exactly at the high one and goes on at the low one, from which on the
    /// read callback is called, too. A callback that leaves a frame there until it is whole needs a low mark that no
    /// frame is longer than; by default that is 128 KiB.
    pub fn read_watermarks(mut self, marks: Watermarks) -> Self {
        self.read_marks = marks;
        self
    }

    /// Sets the marks of the output. Writers wait at the high one; at the low one they go on, and the write callback is
    /// called.
    pub fn write_watermarks(mut self, marks: Watermarks) -> Self {
        self.write_marks = marks;
        self
    }

    /// Tells [`Event::ReadTimeout`] when nothing came for so long while reading was on, and switches reading off.
    ///
    /// Who reads through [`AsyncRead`](tokio::io::AsyncRead) then gets what is in the input, and after it the error
    /// [`TimedOut`](std::io::ErrorKind::TimedOut), until reading is [enabled](BufferEvent::enable) again. Time in which we
    /// ourselves had paused reading does not count.
    pub fn read_timeout(mut self, d: Duration) -> Self {
        self.settings.limits.read = Some(d);
        self
    }

    /// Tells [`Event::WriteTimeout`] when nothing could be written for so long while output waited, and switches writing
    /// off.
    ///
    /// Who waits to write, to flush or to shut down then gets the error
    /// [`TimedOut`](std::io::ErrorKind::TimedOut), until writing is [enabled](BufferEvent::enable) again.
    pub fn write_timeout(mut self, d: Duration) -> Self {
        self.settings.limits.write = Some(d);
        self
    }

    /// Tells [`Event::IdleTimeout`] when no byte moved either way for so long. Time in which we ourselves had paused
    /// reading, with nothing to write, does not count. It ends nothing by itself: whoever is told may
    /// [`abort`](BufferEvent::abort).
    pub fn idle_timeout(mut self, d: Duration) -> Self {
        self.settings.limits.idle = Some(d);
        self
    }

    /// Tells [`Event::Stalled`] when the output stood above its high mark for so long, though it may be moving. It ends
    /// nothing by itself, either.
    pub fn stall_timeout(mut self, d: Duration) -> Self {
        self.settings.limits.stall = Some(d);
        self
    }

    /// Sets for how long a connection that is being closed may stand still. Each byte written starts the time anew.
    #[doc(alias = "BEV_OPT_CLOSE_ON_FREE")]
    pub fn linger(mut self, d: Duration) -> Self {
        self.settings.limits.linger = d;
        self
    }

    /// Sets for how long [`connect`](Self::connect) tries, all addresses together.
    pub fn connect_timeout(mut self, d: Duration) -> Self {
        self.connect_timeout = Some(d);
        self
    }

    /// Sets the most bytes that one read asks for. Reads start with 2 KiB and grow while they are filled.
    #[doc(alias = "bufferevent_set_max_single_read")]
    pub fn max_single_read(mut self, n: usize) -> Self {
        self.settings.max_single_read = n.max(1);
        self
    }

    /// Sets the most bytes that one write is offered.
    #[doc(alias = "bufferevent_set_max_single_write")]
    pub fn max_single_write(mut self, n: usize) -> Self {
        self.settings.max_single_write = n.max(1);
        self
    }

    /// Names the connection in traces.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Chooses the queue on which the ordinary callbacks run.
    #[doc(alias = "BEV_OPT_DEFER_CALLBACKS")]
    pub fn defer_to(mut self, queue: DeferredQueue) -> Self {
        self.queue = Some(queue);
        self
    }

    /// See [`Callbacks::on_read`].
    pub fn on_read(mut self, f: impl FnMut(&BufferEvent) + Send + 'static) -> Self {
        self.callbacks = self.callbacks.on_read(f);
        self
    }

    /// See [`Callbacks::on_write`].
    pub fn on_write(mut self, f: impl FnMut(&BufferEvent) + Send + 'static) -> Self {
        self.callbacks = self.callbacks.on_write(f);
        self
    }

    /// See [`Callbacks::on_event`].
    pub fn on_event(mut self, f: impl FnMut(&BufferEvent, Event) + Send + 'static) -> Self {
        self.callbacks = self.callbacks.on_event(f);
        self
    }

    /// See [`Callbacks::on_watermark`].
    pub fn on_watermark(
        mut self,
        f: impl FnMut(&BufferEvent, Side, Crossing) + Send + 'static,
    ) -> Self {
        self.callbacks = self.callbacks.on_watermark(f);
        self
    }

    /// Spawns the task that owns `stream`. There is no [`Event::Connected`].
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    #[doc(alias = "bufferevent_socket_new")]
    #[track_caller]
    pub fn spawn(self, stream: impl Transport) -> BufferEvent {
        let span = self.span(&stream);
        self.run(Stream::new(stream), span)
    }

    /// Spawns a task that connects to `addr`, and then owns the connection.
    ///
    /// Host names are resolved by Tokio, and all addresses are tried. What is added to the output meanwhile is written as
    /// soon as it is there. [`Event::Connected`] tells that it is; [`Event::ConnectError`] and then
    /// [`Event::Closed`] that it will not be.
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    #[cfg(feature = "net")]
    #[cfg_attr(docsrs, doc(cfg(feature = "net")))]
    #[doc(alias = "bufferevent_socket_connect")]
    #[doc(alias = "bufferevent_socket_connect_hostname")]
    #[track_caller]
    pub fn connect(self, addr: impl tokio::net::ToSocketAddrs + Send + 'static) -> BufferEvent {
        let (settings, timeout) = (self.settings, self.connect_timeout);
        let span = tracing::debug_span!(
            "bufferevent",
            id = next_token(),
            name = self.name.as_deref(),
            peer = tracing::field::Empty
        );
        let bev = self.handle(TypeId::of::<tokio::net::TcpStream>());
        let ends = Ends::new(&bev.inner);
        tokio::spawn(connect::connect(addr, timeout, ends, settings, span));
        bev
    }

    /// Spawns the task for whatever moves the bytes.
    #[track_caller]
    pub(super) fn run<W: Wire>(self, wire: W, span: Span) -> BufferEvent {
        let settings = self.settings;
        let bev = self.handle(wire.stream_type());
        tokio::spawn(Task::new(wire, Ends::new(&bev.inner), settings, span));
        bev
    }

    fn span<S: Transport>(&self, stream: &S) -> Span {
        tracing::debug_span!(
            "bufferevent",
            id = next_token(),
            name = self.name.as_deref(),
            peer = Finder::by_type().peer(stream).map(tracing::field::display)
        )
    }

    #[track_caller]
    fn handle(self, stream_type: TypeId) -> BufferEvent {
        let queue = match self.queue {
            Some(queue) => queue,
            None => DeferredQueue::current(),
        };
        let (input, output) = (SharedEvBuffer::new(), SharedEvBuffer::new());
        input.set_watermarks(self.read_marks);
        output.set_watermarks(self.write_marks);
        let timeouts = self.settings.limits.timeouts();
        let inner = Arc::new(Inner::new((input, output), queue, timeouts, stream_type));
        let bev = BufferEvent::first(inner);
        bev.inner.set_callbacks(self.callbacks);
        bev
    }
}

fn high(mark: usize) -> Watermarks {
    match Watermarks::with_high(mark) {
        Ok(marks) => marks,
        Err(_) => unreachable!("the default marks are in order"),
    }
}
