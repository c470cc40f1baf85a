//! Taking the stream back.

use std::{any::TypeId, error::Error, fmt, future::poll_fn, io, sync::Arc};

use super::{
    BufferEvent, CloseReason, Summary, Transport,
    inner::{Inner, same},
    wait::Waiter,
};
use crate::EvBuffer;

/// What [`into_inner`](BufferEvent::into_inner) gives back: the stream, and what was in the buffers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts<S> {
    /// The stream.
    pub stream: S,
    /// What was read from it and not yet taken.
    pub input: EvBuffer,
    /// What was added and not yet written to it.
    pub output: EvBuffer,
}

/// Why [`into_inner`](BufferEvent::into_inner) gave no stream back.
#[derive(Debug)]
#[non_exhaustive]
pub enum IntoInnerError {
    /// The stream is of another type; that of a pair is of none. The handle comes back, untouched.
    /// [`io::ErrorKind::InvalidInput`].
    WrongType(BufferEvent),
    /// The connection has ended before. [`io::ErrorKind::NotConnected`], or the kind of the error that ended it.
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
                CloseReason::Error(cause) => same(cause),
                _ => io::Error::new(io::ErrorKind::NotConnected, error.to_string()),
            },
        }
    }
}

impl BufferEvent {
    /// Takes the stream back, with the bytes that were read and not taken, and those that were added and not written.
    ///
    /// What a stream with a buffer of its own has taken is not flushed: [`flush`](Self::flush) before. Other handles
    /// see the connection end, as [`Detached`](CloseReason::Detached).
    ///
    /// # Errors
    ///
    /// [`IntoInnerError::WrongType`] if the stream is no `S`, with the handle; [`IntoInnerError::Closed`] if the
    /// connection has ended, or is being closed and then has.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is dropping the handle. Nothing is taken before the future is ready; a stream that had been
    /// given up by then is closed.
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
        if TypeId::of::<S>() != self.inner.stream_type {
            return Err(IntoInnerError::WrongType(self));
        }
        let request = Request::new(&self.inner);
        let mut waiter = Waiter::new(&self.inner);
        let answer = poll_fn(|cx| {
            waiter.poll_end(cx, |control| {
                let outcome = control.outcome.as_deref()?;
                Some(match control.taken.take() {
                    Some(taken) => Ok(taken),
                    None => Err(outcome.clone()),
                })
            })
        })
        .await;
        drop(request);
        let taken = answer.map_err(IntoInnerError::Closed)?;
        match taken.stream.downcast() {
            Ok(stream) => Ok(Parts {
                stream: *stream,
                input: taken.input,
                output: taken.output,
            }),
            Err(_) => unreachable!("the type was compared before"),
        }
    }
}

/// Asks the task for its stream, until it is dropped.
struct Request(Arc<Inner>);

impl Request {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.order(|orders| orders.takers += 1);
        Self(Arc::clone(inner))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut control = self.0.control.lock();
        control.orders.takers -= 1;
        let forsaken = match control.orders.takers {
            0 => control.taken.take(),
            _ => None,
        };
        drop(control);
        drop(forsaken);
        self.0.signal.order();
    }
}
