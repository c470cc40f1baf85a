//! The types of a connection: the handle, what the handles share with the task and the callbacks, and what its lock guards.
//!
//! They are in one file because they refer to each other: callbacks take a handle, and a handle holds the connection.

use std::{
    any::{Any, TypeId},
    sync::Arc,
};

use tracing::Span;

use super::{
    control::ConnectionState,
    endpoint::{AnyStream, Endpoint},
    event::{Event, EventQueue, Metrics, Side, Summary},
    interest::Interest,
    settings::Settings,
    task_waker::TaskWaker,
    throttles::RateControl,
};
use crate::{
    DeferredQueue, EvBuffer, SharedEvBuffer,
    buffer::End,
    deferred::Source,
    limits::budget::Account,
    shared::{CallbackHandle, Crossing, Mark, Reader, Writer},
    sync::{AtomicU8, AtomicU64, Lock, Ordering, Place, WaitList, WakeList},
};

/// A buffered stream: a cheap handle to a task that owns the stream and moves bytes between it and two buffers.
///
/// Bytes from the peer appear in [`input`](Self::input). Bytes that you add to [`output`](Self::output) go to the peer.
/// Both are bounded by watermarks, also by default (see [`Builder`](super::Builder)). You can
///
/// - wait for what happens: [`input().readable(n)`](SharedEvBuffer::readable), [`next_event`](Self::next_event),
///   [`flush`](Self::flush), [`closed`](Self::closed);
/// - set callbacks: `Builder::on_read` and its siblings;
/// - read and write through Tokio's traits, by the handle or its [halves](Self::split).
///
/// You need not flush: the task writes what was added as soon as it runs, many additions in one write.
///
/// # Ends
///
/// Each direction ends on its own: by the end of the stream, by a write error, or by [`shutdown`](Self::shutdown). A read
/// error, such as a reset by the peer, ends both. The connection is over when both directions have ended, or by
/// [`close`](Self::close) or [`abort`](Self::abort). Then [`Event::Closed`] is the last event, and [`closed`](Self::closed)
/// returns the summary.
///
/// The peer sees an orderly end if and only if it got everything that was added and the output was ended in order.
/// Otherwise a TCP connection is reset, and any other stream is dropped without being shut down.
///
/// The input ends in order if the peer ended its stream, or if this side closed the input or the connection. Otherwise tasks that
/// read get an error after the bytes that it holds: the error of the stream, or
/// [`ConnectionAborted`](std::io::ErrorKind::ConnectionAborted).
///
/// When the last handle is dropped, the output is delivered in the background as by [`close`](Self::close). No
/// callback starts after that.
///
/// # Examples
///
/// ```
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
/// use tokio_evbuffer::{BufferEvent, EolStyle};
///
/// async fn serve(stream: TcpStream) -> std::io::Result<()> {
///     let bev = BufferEvent::new(stream);
///     while let Some(line) = bev.input().next_line(EolStyle::Lf, 8192).await? {
///         bev.output().add("you said ")?;
///         bev.output().add(&line)?;
///         bev.output().add("\n")?;
///     }
///     bev.close().await.map(drop)
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
    pub(super) inner: Arc<Inner>,
    pub(super) io: Option<Box<IoState>>,
}

/// What a handle needs to read and write, created at first use.
#[derive(Default)]
pub(super) struct IoState {
    pub(super) reader: Option<Reader>,
    pub(super) writer: Option<Writer>,
    /// A flush or a shutdown that is waited for.
    pub(super) place: Option<Place>,
    /// The end of what a pending flush covers.
    pub(super) flushing: Option<Mark>,
}

/// One connection.
pub(super) struct Inner {
    pub(super) input: SharedEvBuffer,
    pub(super) output: SharedEvBuffer,
    pub(super) task: Arc<TaskWaker>,
    pub(super) control: Lock<Control>,
    pub(super) source: Source,
    pub(super) queue: DeferredQueue,
    /// The number of handles, plus one if the connection was detached.
    pub(super) handles: AtomicU64,
    /// The callbacks that are set: bits of [`Calls`].
    pub(super) subscribed: AtomicU8,
    /// The callbacks that are due: bits of [`Calls`].
    pub(super) due: AtomicU8,
    pub(super) counters: Counters,
}

/// Bits of [`Inner::subscribed`] and [`Inner::due`].
pub(super) struct Calls;

impl Calls {
    pub(super) const READ: u8 = 1;
    pub(super) const WRITE: u8 = 1 << 1;
    pub(super) const EVENT: u8 = 1 << 2;
    /// The read callback, even if the input is below its low watermark.
    pub(super) const READ_BELOW_LOW: u8 = 1 << 3;
}

/// Written by the task only.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    /// Bytes that have left the output and not reached the stream below.
    pub(super) unsent_below: AtomicU64,
}

/// What the lock of a connection guards.
pub(super) struct Control {
    pub(super) state: ConnectionState,
    /// `None` for the default, so that an idle connection is small.
    pub(super) extras: Option<Box<Extras>>,
    pub(super) slots: Option<Box<Slots>>,
    /// `None` while no task waits.
    pub(super) waiters: Option<Box<WaitList<Interest>>>,
    pub(super) events: Option<Box<EventQueue>>,
    /// Set when the connection is over.
    pub(super) outcome: Option<Box<Summary>>,
    /// The stream that the task uses; handles reach it through `with_stream`.
    pub(super) stream: Option<Arc<dyn AnyStream>>,
    pub(super) stream_type: TypeId,
}

/// What few connections need.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) settings: Settings,
    pub(super) upgrade: Upgrade,
    /// The number of `into_inner` calls that wait for the stream.
    pub(super) takers: u32,
    /// The number of streams before this one. Waiting calls of an earlier stream do not count.
    pub(super) stream_number: u32,
    /// The stream, for a call that waits for it.
    pub(super) taken: Option<Box<Taken>>,
    /// `None` without rate limits.
    pub(super) rate: Option<Box<RateControl>>,
    /// Its account with a memory budget.
    pub(super) account: Option<Arc<Account>>,
}

pub(super) type OnBytes = Box<dyn FnMut(&BufferEvent) + Send>;
pub(super) type OnEvent = Box<dyn FnMut(&BufferEvent, Event) + Send>;
pub(super) type OnWatermark = Box<dyn FnMut(&BufferEvent, Side, Crossing) + Send>;

/// The callbacks that are set. One that runs is taken out meanwhile.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) read: Option<OnBytes>,
    pub(super) write: Option<OnBytes>,
    pub(super) event: Option<OnEvent>,
    /// Subscriptions to the watermarks of the two buffers.
    pub(super) watermarks: Option<[CallbackHandle; 2]>,
    /// Distinguishes these callbacks from those that replace them.
    pub(super) generation: u64,
}

/// The progress of [`BufferEvent::upgrade`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Upgrade {
    #[default]
    None,
    /// The task is to hand over the stream.
    Requested,
    /// The task ends and hands over the stream. The call ends the connection if it is dropped.
    Running,
}

/// What the task hands to a call that waits for the stream.
pub(super) struct Taken {
    pub(super) span: Option<Box<Span>>,
    pub(super) stream: Box<dyn Any + Send>,
    pub(super) input: EvBuffer,
    pub(super) output: EvBuffer,
}

impl BufferEvent {
    /// Wraps the first handle.
    pub(super) fn first(inner: Arc<Inner>) -> Self {
        Self { inner, io: None }
    }

    /// Creates another handle, unless the last one was dropped.
    pub(super) fn revive(inner: &Arc<Inner>) -> Option<Self> {
        let increment = |n: u64| (n > 0).then_some(n + 1);
        let before = inner
            .handles
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, increment);
        before.ok().map(|_| Self::first(Arc::clone(inner)))
    }
}

impl Inner {
    pub(super) fn new(
        (input, output): (SharedEvBuffer, SharedEvBuffer),
        queue: DeferredQueue,
        state: ConnectionState,
        extras: Option<Box<Extras>>,
        stream_type: TypeId,
    ) -> Self {
        input.set_owner_frozen(End::Back, true);
        output.set_owner_frozen(End::Front, true);
        input.defer_to(queue.clone());
        output.defer_to(queue.clone());
        let task = Arc::new(TaskWaker::new());
        task.follow(&input, &output);
        Self {
            input,
            output,
            task,
            control: Lock::new(Control {
                state,
                extras,
                slots: None,
                waiters: None,
                events: None,
                outcome: None,
                stream: None,
                stream_type,
            }),
            source: Source::new(),
            queue,
            handles: AtomicU64::new(1),
            subscribed: AtomicU8::new(0),
            due: AtomicU8::new(0),
            counters: Counters::default(),
        }
    }
}

impl Control {
    pub(super) fn settings(&self) -> &Settings {
        self.extras()
            .map_or(&Settings::DEFAULT, |extras| &extras.settings)
    }

    pub(super) fn extras(&self) -> Option<&Extras> {
        self.extras.as_deref()
    }

    pub(super) fn account(&self) -> Option<&Arc<Account>> {
        self.extras()?.account.as_ref()
    }

    pub(super) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Returns the tasks to wake after the lock was released.
    #[must_use]
    pub(super) fn take_due(&mut self, is_due: impl Fn(Interest) -> bool) -> WakeList {
        let mut wakers = WakeList::default();
        if let Some(waiters) = &mut self.waiters {
            waiters.take_due(is_due, &mut wakers);
        }
        wakers
    }

    /// Returns the number of events that the event callback has not seen.
    pub(super) fn events_for_callback(&self) -> usize {
        (self.events.as_deref()).map_or(0, EventQueue::len_for_callback)
    }
}

impl Counters {
    pub(super) fn read(&self) -> Metrics {
        Metrics {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }

    /// Replaces the counts by those of the stream below, if the endpoint has one.
    pub(super) fn update_below(&self, endpoint: &impl Endpoint) {
        let Some(below) = endpoint.metrics_below() else {
            return;
        };
        self.bytes_in.store(below.bytes_in, Ordering::Relaxed);
        self.bytes_out.store(below.bytes_out, Ordering::Relaxed);
        self.reads.store(below.reads, Ordering::Relaxed);
        self.writes.store(below.writes, Ordering::Relaxed);
        let unsent = endpoint.unsent_below() as u64;
        self.unsent_below.store(unsent, Ordering::Relaxed);
    }

    /// Adds to a count of bytes and one of calls. Only the task writes, so that a load and a store are enough.
    #[inline]
    pub(super) fn count(bytes: &AtomicU64, calls: &AtomicU64, n: usize) {
        bytes.store(bytes.load(Ordering::Relaxed) + n as u64, Ordering::Relaxed);
        calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}
