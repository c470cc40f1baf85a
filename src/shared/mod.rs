//! A buffer that several tasks hold: [`SharedEvBuffer`], its callbacks, and waiting for it.

mod awaiting;
mod callbacks;
mod change;
mod guard;
mod interest;
mod lock;
#[cfg(all(test, loom))]
mod loom;
mod notify;
mod ops;
mod reader;
mod short;
mod state;
mod wait;
mod watermark;
mod watermarks;
mod writer;

use std::{fmt, io, sync::Arc};

pub use crate::error::{Closed, WaitError};
pub use change::{Change, Mark};
pub use guard::BufferGuard;
pub use notify::CallbackHandle;
pub use reader::Reader;
pub(crate) use state::{Edit, Watch};
pub use wait::{Changed, Changes};
pub use watermark::Crossing;
pub use watermarks::{InvalidWatermarks, Watermarks};
pub use writer::Writer;

use crate::{DeferredQueue, EvBuffer, buffer::End, deferred::Source, sync::WakeList};
use callbacks::Callback;
use lock::Lending;
use state::{Aftermath, State};

/// An [`EvBuffer`] that several tasks and threads hold: a handle, cheap to clone.
///
/// All that is done under one [`lock`](Self::lock) is one change; the short forms here, such as [`add`](Self::add), are
/// a change each. Changes can be
///
/// - awaited: [`changed`](Self::changed), [`changes`](Self::changes), [`wait_for`](Self::wait_for),
///   [`readable`](Self::readable), [`drained_to`](Self::drained_to);
/// - told to a callback soon after, merged where there were many: [`on_change`](Self::on_change);
/// - told to a callback at once: [`on_change_inline`](Self::on_change_inline), and
///   [`on_watermark`](Self::on_watermark) for crossings of the [marks](Self::set_watermarks) only.
///
/// Whoever is told keeps a position of its own in two running totals, bytes ever added and bytes ever removed. So
/// nothing is lost, nothing is told twice, and `before + added - removed == after` in each [`Change`].
///
/// No callback, waker or destructor of foreign code runs while the buffer is locked: callbacks may use any handle.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::SharedEvBuffer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffer = SharedEvBuffer::new();
/// let producer = buffer.clone();
/// tokio::spawn(async move {
///     for piece in ["one ", "frame"] {
///         producer.add(piece.as_bytes()).unwrap();
///         tokio::task::yield_now().await;
///     }
/// });
/// buffer.readable(9).await?;
/// assert_eq!(buffer.take_bytes(9)?, "one frame");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "evbuffer_enable_locking")]
pub struct SharedEvBuffer {
    inner: Arc<Inner>,
}

struct Inner {
    state: Lending,
    /// What the queue of deferred callbacks knows this buffer by.
    source: Source,
}

impl Default for SharedEvBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl From<EvBuffer> for SharedEvBuffer {
    fn from(buffer: EvBuffer) -> Self {
        let inner = Arc::new(Inner {
            state: Lending::new(State::new(buffer)),
            source: Source::new(),
        });
        // Marked where it will stay.
        inner.state.lock().attach(0, 0);
        Self { inner }
    }
}

impl SharedEvBuffer {
    /// Makes an empty buffer.
    #[must_use]
    pub fn new() -> Self {
        EvBuffer::new().into()
    }

    /// Locks the buffer. All that is done until the guard is dropped is one change.
    ///
    /// The lock is not re-entrant: a second one in the same thread waits for ever. See [`BufferGuard`].
    #[inline]
    pub fn lock(&self) -> BufferGuard<'_> {
        BufferGuard::new(self)
    }

    /// Has `f` called after changes: soon, by the executor of a [`DeferredQueue`], with no lock held.
    ///
    /// Changes that are made before the call are merged into it, so that it is at most one for each time the queue comes
    /// by. It is told of what happened since it was registered. Callbacks run in the order of registration, never two of
    /// one buffer at once.
    ///
    /// A buffer that no queue was chosen for ([`defer_to`](Self::defer_to)) takes that of the runtime around, now and
    /// for good. `f` may do anything with the buffer: edit it, close it, drop its own handle. A panic in it is caught,
    /// reported and counted; it stays registered. One that blocks delays all callbacks of its queue.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if no queue was chosen before.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tokio_evbuffer::{DeferredQueue, SharedEvBuffer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tokio_evbuffer::BufferError> {
    /// let buffer = SharedEvBuffer::new();
    /// let told = Arc::new(Mutex::new(Vec::new()));
    ///
    /// let log = Arc::clone(&told);
    /// let _handle = buffer.on_change(move |_, change| log.lock().unwrap().push(change.added));
    /// buffer.add(b"three")?;
    /// buffer.add(b" pieces")?;
    /// buffer.add(b" at once")?;
    /// assert!(told.lock().unwrap().is_empty()); // not within the call
    ///
    /// DeferredQueue::current().drained().await;
    /// assert_eq!(*told.lock().unwrap(), [20]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "evbuffer_add_cb")]
    #[doc(alias = "evbuffer_setcb")]
    #[track_caller]
    pub fn on_change(
        &self,
        f: impl FnMut(&SharedEvBuffer, Change) + Send + 'static,
    ) -> CallbackHandle {
        self.bind();
        self.register(Callback::Deferred(Box::new(f)))
    }

    /// Has `f` called after each change, before the call that made it returns.
    ///
    /// Not at once if a call is already delivering for this buffer, on another thread or further up this stack: then that call
    /// delivers this change, too, before it returns, merged with others that came meanwhile. So nothing nests: a callback may
    /// edit the buffer, and is told of its own edit after it has returned. One that edits the buffer each time
    /// it is told never ends.
    ///
    /// It runs in whatever thread made the change, with no lock of this crate held, and without a runtime if need be. Locks
    /// that the caller holds around the change are the caller's deadlock.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// let buffer = SharedEvBuffer::new();
    /// let added = Arc::new(AtomicU64::new(0));
    /// let count = Arc::clone(&added);
    /// buffer
    ///     .on_change_inline(move |_, change| {
    ///         count.fetch_add(change.added, Ordering::Relaxed);
    ///     })
    ///     .detach();
    /// buffer.add(b"data")?;
    /// assert_eq!(added.load(Ordering::Relaxed), 4);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "EVBUFFER_CB_NODEFER")]
    pub fn on_change_inline(
        &self,
        f: impl FnMut(&SharedEvBuffer, Change) + Send + 'static,
    ) -> CallbackHandle {
        self.register(Callback::Inline(Box::new(f)))
    }

    /// Has `f` called when the length crosses one of the [marks](Self::set_watermarks), before the call that made it cross
    /// returns.
    ///
    /// Delivered as by [`on_change_inline`](Self::on_change_inline), before those callbacks, in the order of the crossings.
    /// Crossings that could not be delivered at once merge: High and then Low cancel, so that at most one of each kind waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tokio_evbuffer::{SharedEvBuffer, Watermarks, shared::Crossing};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.set_watermarks(Watermarks::new(2, 8)?);
    /// let told = Arc::new(Mutex::new(Vec::new()));
    /// let log = Arc::clone(&told);
    /// buffer
    ///     .on_watermark(move |_, crossing| log.lock().unwrap().push(crossing))
    ///     .detach();
    ///
    /// buffer.add(b"12345678")?;
    /// buffer.drain(3)?; // between the marks: nothing to tell
    /// buffer.drain(3)?;
    /// assert_eq!(
    ///     *told.lock().unwrap(),
    ///     [Crossing::High { len: 8 }, Crossing::Low { len: 2 }]
    /// );
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_setwatermark")]
    pub fn on_watermark(
        &self,
        f: impl FnMut(&SharedEvBuffer, Crossing) + Send + 'static,
    ) -> CallbackHandle {
        self.register(Callback::Watermark(Box::new(f)))
    }

    /// Sets the marks on the length, and looks at once whether they are crossed.
    ///
    /// [`Crossing::Low`] is also told when the marks are taken away, or raised above the length, while High stands, so that
    /// what has stopped goes on.
    ///
    /// Marks stop a [`Writer`]; they do not refuse anything. A hard bound is [`EvBuffer::set_max_len`]. Callbacks run before
    /// this returns: locks that are held around it are the caller's deadlock.
    #[doc(alias = "bufferevent_setwatermark")]
    pub fn set_watermarks(&self, marks: Watermarks) {
        let mut guard = self.lock();
        let waker = guard.state_mut().set_watermarks(marks);
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns the marks.
    #[doc(alias = "bufferevent_getwatermark")]
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        self.inner.state.lock().watermarks()
    }

    /// Chooses the queue on which the ordinary callbacks of this buffer run.
    ///
    /// A run that waits on another queue already still happens there, unless the runtime of that one goes before; never two at
    /// once. The queue of a runtime that is gone drops notifications silently.
    #[doc(alias = "evbuffer_defer_callbacks")]
    pub fn defer_to(&self, queue: DeferredQueue) {
        let earlier = self.inner.state.lock().rare_mut().queue.replace(queue);
        drop(earlier);
    }

    /// Returns a reader that takes bytes from the front.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone(), false)
    }

    /// Returns a writer that adds bytes at the back and waits between the marks.
    pub fn writer(&self) -> Writer {
        Writer::new(self.clone(), false)
    }

    /// Ends the stream: nothing can be added any more, permanently.
    ///
    /// Readers take the bytes that are left and then see the end. A wait that can no longer come true fails with
    /// [`WaitError::Closed`].
    pub fn close(&self) {
        self.end(None);
    }

    /// Ends the stream with `error`: nothing can be added any more, permanently.
    ///
    /// Readers take the bytes that are left and then get an error of the same kind. A wait that can no longer come
    /// true fails with [`WaitError::Stream`]. Only the first of several calls of this and of [`close`](Self::close) has
    /// an effect.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use tokio::io::AsyncReadExt;
    /// use tokio_evbuffer::{SharedEvBuffer, shared::WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"half an ans").unwrap();
    /// buffer.close_with(io::ErrorKind::ConnectionReset.into());
    ///
    /// let mut read = Vec::new();
    /// let error = buffer.reader().read_to_end(&mut read).await.unwrap_err();
    /// assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    /// assert_eq!(read, b"half an ans");
    /// assert!(matches!(buffer.readable(1).await, Err(WaitError::Stream(_))));
    /// # }
    /// ```
    pub fn close_with(&self, error: io::Error) {
        self.close_with_arc(Arc::new(error));
    }

    /// [`close_with`](Self::close_with), with an error that others share.
    pub(crate) fn close_with_arc(&self, error: Arc<io::Error>) {
        self.end(Some(error));
    }

    fn end(&self, error: Option<Arc<io::Error>>) {
        let mut aftermath = Aftermath::default();
        self.inner.state.lock().close(error, &mut aftermath);
        aftermath.carry_out(self);
    }

    /// Returns whether the buffer was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.state.lock().owner.closed
    }
}

/// For the stream that a buffer belongs to.
impl SharedEvBuffer {
    /// Freezes one end for all but the owner.
    pub(crate) fn set_owner_frozen(&self, end: End, on: bool) {
        self.inner.state.lock().set_owner_frozen(end, on);
    }

    /// Has `watch` told of each change. One at most.
    pub(crate) fn set_watch(&self, watch: Arc<dyn Watch>) {
        self.inner.state.lock().set_watch(watch);
    }

    /// Whether the high mark was reached, and the low one not since.
    pub(crate) fn is_high(&self) -> bool {
        self.inner.state.lock().is_high()
    }

    /// Has all who wait look again: there is something that the buffer does not know of.
    pub(crate) fn rouse(&self) {
        let mut wakers = WakeList::default();
        self.inner.state.lock().take_all(&mut wakers);
        wakers.wake_all();
    }

    /// The queue that was chosen.
    pub(crate) fn queue(&self) -> Option<DeferredQueue> {
        let state = self.inner.state.lock();
        state.rare.as_ref()?.queue.clone()
    }
}

impl fmt::Debug for SharedEvBuffer {
    /// Takes no lock: it may be printed under a guard.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedEvBuffer")
            .field("at", &Arc::as_ptr(&self.inner))
            .finish_non_exhaustive()
    }
}

/// Makes one direction in memory: what is written to the one end is read from the other.
///
/// The writer waits at the high mark of `marks` and goes on at the low one; [`Watermarks::NONE`] is a pipe without a bound.
/// Segments move from end to end; what goes in and comes out as [`Bytes`](bytes::Bytes) is not copied. When the writer is
/// shut down or dropped, the reader takes what is left and then sees the end; when the reader is dropped, what is left is
/// let go of and writing fails with [`BrokenPipe`](std::io::ErrorKind::BrokenPipe).
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use futures::{SinkExt, TryStreamExt};
/// use tokio_evbuffer::{Watermarks, pipe};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut writer, mut reader) = pipe(Watermarks::with_high(64 * 1024)?);
/// tokio::spawn(async move { writer.send(Bytes::from_static(b"through the pipe")).await });
///
/// assert_eq!(reader.try_next().await?.unwrap(), "through the pipe");
/// assert_eq!(reader.try_next().await?, None);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "bufferevent_pair_new")]
#[must_use]
pub fn pipe(marks: Watermarks) -> (Writer, Reader) {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(marks);
    (Writer::new(buffer.clone(), true), Reader::new(buffer, true))
}
