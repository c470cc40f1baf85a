//! A stream with bytes in front of it.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    io::{self, BufRead, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::poll::retry_interrupted;
use crate::{
    buffer::{End, chain::EvBuffer},
    loading::Loading,
};

/// Bytes that a peek reads at once at most.
const READ_MAX: usize = 4 << 10;

/// A stream with bytes in front of it: what you have peeked at, or what was left in a buffer.
///
/// Reading gives the prefix first, then what the stream sends. Writing goes to the stream. Use it to look at the first
/// bytes of a connection before you decide what to do with it: [`peek`](Self::peek) and
/// [`peek_until`](Self::peek_until) read into the prefix, where the bytes stay until they are read.
///
/// [`Relay`](crate::Relay), [`Transfer`](crate::Transfer), [`copy_bidirectional`](crate::copy_bidirectional) and
/// [`BufferEvent`](crate::BufferEvent) take the prefix of a `Prefixed<TcpStream>` or `Prefixed<UnixStream>` without
/// copying it, and use the socket directly.
///
/// Once its prefix has been read, a `Prefixed` holds no memory.
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio_evbuffer::{EvBuffer, Prefixed};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut client, stream) = tokio::io::duplex(64);
/// client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
/// client.shutdown().await?;
///
/// let mut stream = Prefixed::new(stream, EvBuffer::new());
/// assert_eq!(stream.peek(4).await?, b"GET ");
/// let head = stream.peek_until(b"\r\n\r\n", 8192).await?;
/// assert_eq!(head, Some(27));
///
/// // Nothing is consumed by looking.
/// let mut all = String::new();
/// stream.read_to_string(&mut all).await?;
/// assert_eq!(all, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
/// assert_eq!(stream.prefix().capacity(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Prefixed<S> {
    stream: S,
    prefix: EvBuffer,
    /// Reads ranges of files in the prefix.
    loading: Loading,
}

impl<S> Prefixed<S> {
    /// Puts `prefix` in front of `stream`.
    ///
    /// Freezing and the length limit of `prefix` are lifted. It may be empty.
    pub fn new(stream: S, mut prefix: EvBuffer) -> Self {
        prefix.unfreeze(End::Front);
        prefix.unfreeze(End::Back);
        prefix.set_max_len(None);
        let mut prefixed = Self {
            stream,
            prefix,
            loading: Loading::default(),
        };
        prefixed.release_if_empty();
        prefixed
    }

    /// Returns the bytes that will be read before those of the stream.
    #[must_use]
    pub fn prefix(&self) -> &EvBuffer {
        &self.prefix
    }

    /// Returns the stream.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Returns the stream. What you read from it directly overtakes the prefix.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Returns the stream and what is left of the prefix.
    pub fn into_parts(self) -> (S, EvBuffer) {
        (self.stream, self.prefix)
    }

    /// Takes out at most `max` bytes of the prefix.
    pub(crate) fn take_prefix(&mut self, max: usize) -> EvBuffer {
        if self.prefix.len() <= max {
            return std::mem::take(&mut self.prefix);
        }
        let mut taken = EvBuffer::new();
        let moved = self.prefix.remove_buffer(&mut taken, max);
        debug_assert!(moved.is_ok(), "neither buffer is frozen or limited");
        taken
    }

    fn release_if_empty(&mut self) {
        if self.prefix.is_empty() {
            self.prefix = EvBuffer::new();
        }
    }
}

impl<S: AsyncRead + Unpin> Prefixed<S> {
    /// Returns the next `n` bytes without consuming them, and fewer only at the end of the stream.
    ///
    /// It reads until there are `n` bytes, so bound `n`: the peer decides when they come, and they are held in memory
    /// in one piece. A peek of 0 bytes returns at once.
    ///
    /// # Errors
    ///
    /// The error of the stream. What was read before stays in the prefix.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was read is in the prefix, and the next read or peek begins with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{EvBuffer, Prefixed};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let mut stream = Prefixed::new(&b"abc"[..], EvBuffer::from(&b"123"[..]));
    /// assert_eq!(stream.peek(4).await?, b"123a");
    /// assert_eq!(stream.peek(9).await?, b"123abc");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        while self.prefix.len() < n {
            let missing = n - self.prefix.len();
            if self.read_more(missing.min(READ_MAX)).await? == 0 {
                break;
            }
        }
        let n = n.min(self.prefix.len());
        // A file range in the prefix is read here, and its error must not be lost.
        self.load_first(n).await?;
        (self.prefix.pullup(n)).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Reads until `needle` has come, and returns the position behind it; `None` if the stream ends before.
    ///
    /// Nothing is consumed. At most the first `max` bytes are searched, each of them once. An empty needle is found
    /// at 0.
    ///
    /// # Errors
    ///
    /// [`PeekError::TooLong`] if `needle` does not end within the first `max` bytes, [`PeekError::Io`] if the stream
    /// fails. What was read before stays in the prefix.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was read is in the prefix, and the next call searches it again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{EvBuffer, Prefixed, relay::PeekError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), PeekError> {
    /// let mut stream = Prefixed::new(&b"name: value\n"[..], EvBuffer::new());
    /// assert_eq!(stream.peek_until(b": ", 100).await?, Some(6));
    /// assert_eq!(stream.peek_until(b";", 100).await?, None);
    /// let too_long = stream.peek_until(b"\n", 11).await;
    /// assert!(matches!(too_long, Err(PeekError::TooLong { max: 11 })));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn peek_until(
        &mut self,
        needle: &[u8],
        max: usize,
    ) -> Result<Option<usize>, PeekError> {
        if needle.len() > max {
            return Err(PeekError::TooLong { max });
        }
        let mut searched = 0;
        loop {
            let len = self.prefix.len().min(max);
            self.load_first(len).await?;
            // A needle may begin in the bytes that were searched already.
            let from = searched.max(needle.len()) - needle.len();
            if let Some(at) = self.prefix.search(needle, from..len) {
                return Ok(Some(at + needle.len()));
            }
            searched = len;
            if len == max {
                return Err(PeekError::TooLong { max });
            }
            if self.read_more((max - len).min(READ_MAX)).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Brings the first `n` bytes of the prefix into memory.
    async fn load_first(&mut self, n: usize) -> io::Result<()> {
        let Self {
            prefix, loading, ..
        } = self;
        Ok(poll_fn(|cx| loading.poll_loaded(cx, prefix, n)).await?)
    }

    /// Reads at most `max` bytes to the back of the prefix.
    async fn read_more(&mut self, max: usize) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_more(cx, max)).await
    }

    fn poll_read_more(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<usize>> {
        let read = (self.prefix).poll_read_from(cx, Pin::new(&mut self.stream), max);
        let read = ready!(retry_interrupted(read, cx));
        self.release_if_empty();
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        ready!(this.loading.poll_loaded(cx, &this.prefix, buf.remaining()))?;
        let read = Pin::new(&mut this.prefix).poll_read(cx, buf);
        this.release_if_empty();
        read
    }
}

impl<S: AsyncRead + Unpin> AsyncBufRead for Prefixed<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            ready!(this.poll_read_more(cx, READ_MAX))?;
        }
        ready!(this.loading.poll_loaded(cx, &this.prefix, 1))?;
        Poll::Ready(this.prefix.fill_buf())
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        let this = self.get_mut();
        this.prefix.consume(n);
        this.release_if_empty();
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The error of [`Prefixed::peek_until`].
///
/// Converts into an [`io::Error`]: of kind [`InvalidData`](io::ErrorKind::InvalidData) if it is `TooLong`, else that of
/// the stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum PeekError {
    /// The needle does not end within the first `max` bytes.
    TooLong {
        /// The bound of the search, in bytes.
        max: usize,
    },
    /// Reading failed.
    Io(io::Error),
}

impl fmt::Display for PeekError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max } => write!(f, "not found in the first {max} bytes"),
            Self::Io(_) => f.write_str("reading failed"),
        }
    }
}

impl Error for PeekError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooLong { .. } => None,
            Self::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for PeekError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PeekError> for io::Error {
    fn from(error: PeekError) -> Self {
        match error {
            PeekError::TooLong { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
            PeekError::Io(error) => error,
        }
    }
}
