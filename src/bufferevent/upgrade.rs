//! Replaces the stream of a live connection.

use std::{
    any::{Any, TypeId},
    error::Error,
    fmt,
    future::poll_fn,
    io, mem,
    sync::Arc,
};

use tracing::Span;

use super::{
    endpoint::{Stream, Transport},
    establish::establish,
    event::{CloseReason, Summary},
    inner::{BufferEvent, Inner, Taken, Upgrade},
    interest::Interest,
    task::{FinishOnDrop, Task},
    wait::Waiter,
};
use crate::{Prefixed, error::clone_io_error, panic::catch_panic, transport::take_prefix};

/// Why [`upgrade`](BufferEvent::upgrade) did not replace the stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The stream is of another type, or the connection is one of a pair. The connection is unchanged.
    /// [`io::ErrorKind::InvalidInput`].
    WrongType,
    /// Another upgrade, or [`into_inner`](BufferEvent::into_inner), waits for the stream. The connection is unchanged.
    /// [`io::ErrorKind::ResourceBusy`].
    Busy,
    /// The output could not be flushed. The kind of the error.
    Flush(io::Error),
    /// The connection ended before, or was closed meanwhile. [`io::ErrorKind::NotConnected`], or the kind of the error that
    /// ended it.
    Closed(Summary),
    /// The closure failed, and the connection has ended with this error. Its kind.
    Failed(Arc<io::Error>),
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType => f.write_str("the stream is of another type"),
            Self::Busy => f.write_str("another call waits for the stream"),
            Self::Flush(error) => write!(f, "the output could not be flushed: {error}"),
            Self::Closed(_) => f.write_str("the connection has ended"),
            Self::Failed(error) => write!(f, "the new stream could not be made: {error}"),
        }
    }
}

impl Error for UpgradeError {}

impl From<UpgradeError> for io::Error {
    fn from(error: UpgradeError) -> Self {
        let kind = match error {
            UpgradeError::Flush(cause) => return cause,
            UpgradeError::Failed(cause) => return clone_io_error(&cause),
            UpgradeError::Closed(Summary {
                reason: CloseReason::Error(cause),
                ..
            }) => return clone_io_error(&cause),
            UpgradeError::WrongType => io::ErrorKind::InvalidInput,
            UpgradeError::Busy => io::ErrorKind::ResourceBusy,
            UpgradeError::Closed(_) => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error.to_string())
    }
}

impl BufferEvent {
    /// Replaces the stream: STARTTLS, a proxy's CONNECT, a reconnect.
    ///
    /// Flushes the output, calls `f` with the stream, and continues with the stream that `f` returns. The bytes of the input that
    /// you have not removed are in front of the stream that `f` gets. Handles, callbacks, watermarks, settings and what is
    /// added to the output meanwhile stay.
    ///
    /// # Errors
    ///
    /// - [`WrongType`](UpgradeError::WrongType), [`Busy`](UpgradeError::Busy) and [`Flush`](UpgradeError::Flush): the
    ///   connection is unchanged.
    /// - [`Closed`](UpgradeError::Closed): the connection is over.
    /// - [`Failed`](UpgradeError::Failed): `f` failed. The connection ends with [`Event::ReadError`](crate::Event::ReadError).
    ///
    /// # Panics
    ///
    /// If `f` panics. The connection ends with an error then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future during the flush has no effect. After that it drops the stream, with the future of `f`, and the
    /// connection ends with the reason [`Aborted`](CloseReason::Aborted).
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream};
    /// use tokio_evbuffer::{BufferEvent, Prefixed};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (stream, mut peer) = tokio::io::duplex(64);
    /// let bev = BufferEvent::new(stream);
    /// bev.output().add(b"220 ready\r\n")?;
    /// // In place of a TLS handshake.
    /// bev.upgrade(|mut plain: Prefixed<DuplexStream>| async move {
    ///     plain.write_all(b"hello\r\n").await?;
    ///     Ok(BufStream::new(plain))
    /// })
    /// .await?;
    /// bev.output().add(b"over the new stream")?;
    ///
    /// let mut received = [0; 37];
    /// peer.read_exact(&mut received).await?;
    /// assert_eq!(&received, b"220 ready\r\nhello\r\nover the new stream");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_openssl_filter_new")]
    #[doc(alias = "bufferevent_replacefd")]
    pub async fn upgrade<S, T, F, Fut>(&self, f: F) -> Result<(), UpgradeError>
    where
        S: Transport,
        T: Transport,
        F: FnOnce(Prefixed<S>) -> Fut,
        Fut: Future<Output = io::Result<T>>,
    {
        if self.inner.control.lock().stream_type != TypeId::of::<S>() {
            return Err(UpgradeError::WrongType);
        }
        self.flush().await.map_err(UpgradeError::Flush)?;
        let mut upgrading = Upgrading::request(&self.inner, TypeId::of::<S>())?;
        let taken = upgrading.taken().await?;
        let Ok(stream) = taken.stream.downcast() else {
            unreachable!("no other upgrade has run since the type was compared")
        };
        let old = Prefixed::new(*stream, taken.input);
        match establish(async { f(old).await }, None, &self.inner).await {
            Ok(mut stream) => {
                let same: Option<&mut Prefixed<S>> = (&mut stream as &mut dyn Any).downcast_mut();
                // These bytes were read and counted before.
                let prefix = match same {
                    Some(prefixed) => prefixed.take_prefix(usize::MAX),
                    None => take_prefix(&mut stream, usize::MAX),
                };
                let finish = FinishOnDrop::new(&self.inner);
                upgrading.complete = true;
                self.inner.replace_stream(TypeId::of::<T>(), prefix);
                let span = taken.span.map_or_else(Span::none, |span| *span);
                tokio::spawn(Task::new(Stream::new(stream), finish, span));
                Ok(())
            }
            Err(CloseReason::Error(error)) => {
                self.inner.end_reading(Some(Arc::clone(&error)));
                self.inner.finish(CloseReason::Error(Arc::clone(&error)));
                Err(UpgradeError::Failed(error))
            }
            Err(reason) => {
                self.inner.finish(reason);
                Err(UpgradeError::Closed(self.closed().await))
            }
        }
    }
}

/// An upgrade. Dropping it takes back the request, or ends the connection if the stream was handed over and not replaced.
struct Upgrading<'a> {
    inner: &'a Arc<Inner>,
    /// The stream was replaced.
    complete: bool,
}

impl<'a> Upgrading<'a> {
    fn request(inner: &'a Arc<Inner>, stream_type: TypeId) -> Result<Self, UpgradeError> {
        let mut control = inner.control.lock();
        let is_other_type = control.stream_type != stream_type;
        let extras = control.extras_mut();
        if extras.upgrade != Upgrade::None || extras.takers > 0 {
            return Err(UpgradeError::Busy);
        }
        if is_other_type {
            return Err(UpgradeError::WrongType);
        }
        extras.upgrade = Upgrade::Requested;
        drop(control);
        inner.task.command();
        Ok(Self {
            inner,
            complete: false,
        })
    }

    /// Waits until the task has handed over its stream.
    async fn taken(&self) -> Result<Box<Taken>, UpgradeError> {
        let mut waiter = Waiter::new(self.inner);
        poll_fn(|cx| {
            waiter.poll(cx, Interest::Closed, |control| {
                let extras = control.extras_mut();
                let taken = match extras.upgrade {
                    Upgrade::Running => extras.taken.take(),
                    _ => None,
                };
                if let Some(taken) = taken {
                    return Some(Ok(taken));
                }
                let outcome = control.outcome.as_deref()?;
                Some(Err(UpgradeError::Closed(outcome.clone())))
            })
        })
        .await
    }
}

impl Drop for Upgrading<'_> {
    fn drop(&mut self) {
        if self.complete {
            return;
        }
        let mut control = self.inner.control.lock();
        let extras = control.extras_mut();
        let upgrade = mem::take(&mut extras.upgrade);
        let unclaimed = match upgrade {
            Upgrade::Running => extras.taken.take(),
            _ => None,
        };
        drop(control);
        if upgrade == Upgrade::Running {
            self.inner.finish(match std::thread::panicking() {
                true => CloseReason::Error(Arc::new(io::Error::other("the upgrade panicked"))),
                false => CloseReason::Aborted,
            });
        }
        catch_panic("the drop of a stream", || drop(unclaimed));
    }
}
