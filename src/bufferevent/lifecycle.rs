//! From connected to closed: waiting for a connection, flushing it, and ending it.

use std::{future::poll_fn, io};

use super::{
    control::CloseMode,
    event::{CloseReason, Event, Summary},
    inner::BufferEvent,
    wait::Waiter,
};
use crate::error::clone_io_error;

impl BufferEvent {
    /// Waits until the connection is established: at once for a stream that was given, later for
    /// `Builder::connect`.
    ///
    /// # Errors
    ///
    /// The error of the connect; [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the connection was closed before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(not(feature = "net"))]
    /// # fn main() {}
    /// # #[cfg(feature = "net")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use tokio::net::{TcpListener, TcpSocket};
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let address = listener.local_addr()?;
    /// BufferEvent::builder().connect(address).connected().await?;
    ///
    /// let bound = TcpSocket::new_v4()?; // does not listen
    /// bound.bind("127.0.0.1:0".parse().unwrap())?;
    /// let refused = BufferEvent::builder().connect(bound.local_addr()?);
    /// assert!(refused.connected().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connected(&self) -> io::Result<()> {
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_connected(cx)).await
    }

    /// Waits until the kernel has all bytes that are in the output now. A stream with its own buffer is flushed.
    ///
    /// # Errors
    ///
    /// The error that ended writing or the connection; [`TimedOut`](io::ErrorKind::TimedOut) after a write timeout;
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the connection was closed before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect: the bytes are written anyway.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::BufferEvent;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (near, far) = BufferEvent::pair();
    /// near.output().add("to send")?;
    /// near.flush().await?;
    /// assert!(near.output().is_empty());
    /// assert_eq!(far.input().take_exact(7).await?, "to send");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_flush")]
    pub async fn flush(&self) -> io::Result<()> {
        let mark = self.output().mark();
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_flushed(cx, mark)).await
    }

    /// Ends the output: writes the rest of it, then shuts the stream down. Reading continues.
    ///
    /// Nothing can be added after the first poll.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    ///
    /// # Cancel safety
    ///
    /// The output ends once the future was polled, even if it is dropped. Another call waits for the same end.
    #[doc(alias = "BEV_FINISHED")]
    pub async fn shutdown(&self) -> io::Result<()> {
        self.output().close();
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_shutdown(cx)).await
    }

    /// Closes the connection in order: writes the output, shuts the stream down, and returns when the peer has everything and
    /// has ended its stream.
    ///
    /// Bytes that still arrive are read and discarded; the input ends with what it holds. On TCP the peer has everything when
    /// its kernel has acknowledged it, on other streams when the stream was flushed. After that `close` waits for the end of the
    /// peer up to [`close_wait`](super::Builder::close_wait) (2 s). If delivery makes no progress for
    /// [`linger`](super::Builder::linger) (30 s), the connection is reset, and the summary has the reason
    /// [`LingerExpired`](CloseReason::LingerExpired).
    ///
    /// On a runtime without timers neither limit counts.
    ///
    /// # Errors
    ///
    /// The error that ended connecting, reading or writing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handle. Once polled, the connection continues to close.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{BufferEvent, bufferevent::CloseReason};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (near, far) = BufferEvent::pair();
    /// near.output().add("the last bytes")?;
    /// let (near, far) = tokio::join!(near.close(), far.close());
    /// let summary = near?;
    /// assert_eq!((summary.reason, summary.bytes_out), (CloseReason::Finished, 14));
    /// # far.map(drop)
    /// # }
    /// ```
    #[doc(alias = "bufferevent_free")]
    pub async fn close(self) -> io::Result<Summary> {
        self.output().close();
        self.inner.request_close(CloseMode::Close);
        let summary = self.closed().await;
        match &summary.reason {
            CloseReason::Error(error) => Err(clone_io_error(error)),
            _ => Ok(summary),
        }
    }

    /// Closes the connection at once. [`Summary::unsent`] counts what was not written.
    ///
    /// A TCP connection is reset unless the output had ended in order. Other streams are dropped without being shut
    /// down.
    ///
    /// Tasks that read get what the input holds, and then an error of the kind
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), unless the peer had ended its stream.
    #[doc(alias = "bufferevent_free")]
    pub fn abort(&self) {
        self.inner.request_close(CloseMode::Abort);
    }

    /// Waits until the connection is over, and returns why and what it has moved.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{BufferEvent, bufferevent::CloseReason};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let (near, _far) = BufferEvent::pair();
    /// near.abort();
    /// assert_eq!(near.closed().await.reason, CloseReason::Aborted);
    /// # }
    /// ```
    pub async fn closed(&self) -> Summary {
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_closed(cx)).await
    }

    /// Waits for the next event; `None` after [`Event::Closed`].
    ///
    /// All handles share one queue, and each event goes to one caller. The event callback gets each event as well. If no
    /// caller takes the events, only the latest 64 are kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{BufferEvent, Event};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (near, far) = BufferEvent::pair();
    /// far.shutdown().await?; // ends its stream
    /// assert_eq!(near.next_event().await, Some(Event::Eof));
    /// near.shutdown().await?; // now both have ended
    /// assert_eq!(near.next_event().await, Some(Event::Closed));
    /// assert_eq!(near.next_event().await, None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next_event(&self) -> Option<Event> {
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_event(cx)).await
    }

    /// Waits until the peer has ended its stream, has reset the connection or has gone, or the connection is over.
    ///
    /// On TCP and Unix sockets under Linux, and on a [pair](Self::pair), this is noticed while reading is paused, and although
    /// bytes of the peer are still unread: [`Event::PeerClosed`] reports it then. On other streams and systems it is noticed
    /// when the task reads the end. A reset is an [`Event::ReadError`] and ends writing. What had arrived before it is still
    /// read when the input takes it, and then the input ends with the error. If no byte is read for
    /// [`close_wait`](super::Builder::close_wait) (2 s), the rest is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{BufferEvent, bufferevent::Direction};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (near, far) = BufferEvent::pair();
    /// near.disable(Direction::Read);
    /// far.output().add(b"unread")?;
    /// far.shutdown().await?;
    /// near.peer_closed().await;
    /// assert!(near.input().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn peer_closed(&self) {
        let mut waiter = Waiter::new(&self.inner);
        poll_fn(|cx| waiter.poll_peer_closed(cx)).await
    }
}
