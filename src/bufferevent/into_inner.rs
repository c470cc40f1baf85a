//! Gives the stream back to the user.

use std::{any::TypeId, error::Error, fmt, future::poll_fn, io, sync::Arc};

use super::{
    endpoint::Transport,
    event::{CloseReason, Summary},
    inner::{BufferEvent, Inner, Taken},
    interest::Interest,
    wait::Waiter,
};
use crate::{EvBuffer, error::clone_io_error, panic::catch_panic};

/// The stream and the contents of the buffers, returned by [`into_inner`](BufferEvent::into_inner).
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts<S> {
    /// The stream.
    pub stream: S,
    /// Bytes that were read from it and not removed.
    pub input: EvBuffer,
    /// Bytes that were added and not written to it.
    pub output: EvBuffer,
}

/// Why [`into_inner`](BufferEvent::into_inner) returned no stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum IntoInnerError {
    /// The stream is of another type, or the connection is one of a pair. Holds the handle, unchanged.
    /// [`io::ErrorKind::InvalidInput`].
    WrongType(BufferEvent),
    /// The connection ended before. A connection that was reset, or failed in another way, has the reason
    /// [`CloseReason::Error`]. [`io::ErrorKind::NotConnected`], or the kind of that error.
    Closed(Summary),
}

impl fmt::Display for IntoInnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType(_) => f.write_str("the stream is of another type"),
            Self::Closed(_) => f.write_str("the connection has ended"),
        }
    }
}

impl Error for IntoInnerError {}

impl From<IntoInnerError> for io::Error {
    fn from(error: IntoInnerError) -> Self {
        match &error {
            IntoInnerError::WrongType(_) => {
                io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
            }
            IntoInnerError::Closed(summary) => match &summary.reason {
                CloseReason::Error(cause) => clone_io_error(cause),
                _ => io::Error::new(io::ErrorKind::NotConnected, error.to_string()),
            },
        }
    }
}

impl BufferEvent {
    /// Returns the stream, with the bytes that were read and not removed, and those that were added and not written.
    ///
    /// A stream that buffers what is written is not flushed: call [`flush`](Self::flush) before. Other handles see the
    /// connection end with the reason [`Detached`](CloseReason::Detached), and tasks that read get an error of the kind
    /// [`ConnectionAborted`](std::io::ErrorKind::ConnectionAborted).
    ///
    /// # Errors
    ///
    /// [`IntoInnerError::WrongType`] if the stream is not an `S`; it holds the handle. [`IntoInnerError::Closed`] if the
    /// connection has ended, also by an error that the task has read from the stream and the stream will not report again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handle. If the task has already given up the stream, the stream is dropped, and the bytes
    /// with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncWriteExt, DuplexStream};
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (stream, mut peer) = tokio::io::duplex(64);
    /// let bev = BufferEvent::new(stream);
    /// peer.write_all(b"GET / HTTP/1.1\r\n").await?;
    /// bev.input().readable(4).await?;
    /// assert!(bev.input().lock().starts_with(b"GET "));
    ///
    /// let parts = bev.into_inner::<DuplexStream>().await?;
    /// assert!(parts.input == b"GET / HTTP/1.1\r\n"[..]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_getfd")]
    #[doc(alias = "bufferevent_setfd")]
    pub async fn into_inner<S: Transport>(self) -> Result<Parts<S>, IntoInnerError> {
        let taken = match take_stream(&self.inner, TypeId::of::<S>()).await {
            Ok(taken) => taken,
            Err(NotTaken::OtherType) => return Err(IntoInnerError::WrongType(self)),
            Err(NotTaken::Over(summary)) => return Err(IntoInnerError::Closed(summary)),
        };
        match taken.stream.downcast() {
            Ok(stream) => Ok(Parts {
                stream: *stream,
                input: taken.input,
                output: taken.output,
            }),
            Err(_) => unreachable!("the type was compared under the lock of the request"),
        }
    }
}

enum NotTaken {
    /// The stream is of another type, or an upgrade has put another one in its place.
    OtherType,
    Over(Summary),
}

/// Waits until the task has handed over its stream.
async fn take_stream(inner: &Arc<Inner>, stream_type: TypeId) -> Result<Box<Taken>, NotTaken> {
    let request = Request::new(inner, stream_type)?;
    let mut waiter = Waiter::new(inner);
    poll_fn(|cx| {
        waiter.poll(cx, Interest::Closed, |control| {
            if control.extras_mut().stream_number != request.stream_number {
                return Some(Err(NotTaken::OtherType));
            }
            let outcome = control.outcome.as_deref()?.clone();
            let taken = control.extras_mut().taken.take();
            Some(taken.ok_or(NotTaken::Over(outcome)))
        })
    })
    .await
}

/// Asks the task for its stream, until it is dropped.
struct Request {
    inner: Arc<Inner>,
    stream_number: u32,
}

impl Request {
    /// Compares the type under the lock that registers the request: an upgrade may end on another thread.
    fn new(inner: &Arc<Inner>, stream_type: TypeId) -> Result<Self, NotTaken> {
        let mut control = inner.control.lock();
        if control.stream_type != stream_type {
            return Err(NotTaken::OtherType);
        }
        let extras = control.extras_mut();
        extras.takers += 1;
        let stream_number = extras.stream_number;
        drop(control);
        inner.task.command();
        Ok(Self {
            inner: Arc::clone(inner),
            stream_number,
        })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut control = self.inner.control.lock();
        let extras = control.extras_mut();
        if extras.stream_number != self.stream_number {
            return;
        }
        extras.takers -= 1;
        let unclaimed = match extras.takers {
            0 => extras.taken.take(),
            _ => None,
        };
        drop(control);
        self.inner.task.command();
        catch_panic("the drop of a stream", || drop(unclaimed));
    }
}
