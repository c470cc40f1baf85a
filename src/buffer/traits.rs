//! The traits of the standard library, `bytes` and Tokio.

use std::{
    fmt,
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::UninitSlice};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::chain::EvBuffer;
use crate::error::End;

impl From<&[u8]> for EvBuffer {
    /// Copies the bytes.
    fn from(data: &[u8]) -> Self {
        let mut buffer = Self::new();
        buffer
            .add(data)
            .expect("a new buffer takes whatever memory there is for");
        buffer
    }
}

impl From<Bytes> for EvBuffer {
    /// Links the bytes, without a copy.
    fn from(data: Bytes) -> Self {
        let mut buffer = Self::new();
        buffer.extend([data]);
        buffer
    }
}

impl From<Vec<u8>> for EvBuffer {
    /// Links the bytes, without a copy.
    fn from(data: Vec<u8>) -> Self {
        Bytes::from(data).into()
    }
}

impl From<BytesMut> for EvBuffer {
    /// Links the bytes, without a copy.
    fn from(data: BytesMut) -> Self {
        data.freeze().into()
    }
}

impl From<String> for EvBuffer {
    /// Links the bytes, without a copy.
    fn from(data: String) -> Self {
        Bytes::from(data).into()
    }
}

impl FromIterator<Bytes> for EvBuffer {
    fn from_iter<I: IntoIterator<Item = Bytes>>(items: I) -> Self {
        let mut buffer = Self::new();
        buffer.extend(items);
        buffer
    }
}

impl Extend<Bytes> for EvBuffer {
    /// Links each item, without a copy.
    ///
    /// # Panics
    ///
    /// If the back is frozen or the limit would be passed. [`add_reference`](EvBuffer::add_reference) returns an error
    /// instead.
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, items: I) {
        for item in items {
            self.add_reference(item)
                .expect("the buffer takes the bytes");
        }
    }
}

impl PartialEq<[u8]> for EvBuffer {
    fn eq(&self, other: &[u8]) -> bool {
        self.len() == other.len() && self.starts_with(other)
    }
}

impl PartialEq<&[u8]> for EvBuffer {
    fn eq(&self, other: &&[u8]) -> bool {
        self == *other
    }
}

impl PartialEq<Vec<u8>> for EvBuffer {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self == other.as_slice()
    }
}

impl PartialEq for EvBuffer {
    /// Compares the bytes, however they are divided into segments. Bytes of a file that cannot be loaded equal nothing.
    fn eq(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let (mut ours, mut theirs) = (self.chunks(), other.chunks());
        let (mut a, mut b): (&[u8], &[u8]) = (&[], &[]);
        let mut left = self.len();
        while left > 0 {
            if a.is_empty() {
                a = ours.next().unwrap_or_default();
            }
            if b.is_empty() {
                b = theirs.next().unwrap_or_default();
            }
            let n = a.len().min(b.len());
            // Nothing is left to compare where a file range could not be loaded.
            if n == 0 || a[..n] != b[..n] {
                return false;
            }
            (a, b) = (&a[n..], &b[n..]);
            left -= n;
        }
        true
    }
}

impl Eq for EvBuffer {}

/// Formats to the back of the buffer, as `evbuffer_add_printf` does: [`write!`] with this trait in scope.
///
/// With [`io::Write`] in scope, too, `write!` does not know which of the two is meant; name one of them as in
/// `fmt::Write::write_fmt(&mut buffer, format_args!("…"))`, or import only one.
impl fmt::Write for EvBuffer {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.add(s.as_bytes()).map_err(|_| fmt::Error)
    }
}

impl Read for EvBuffer {
    /// Reads what is there; an empty buffer is the end.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.remove(out)?)
    }
}

impl BufRead for EvBuffer {
    /// Returns the first segment. Fails if the front is frozen, since it could not be consumed.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !self.is_empty() {
            self.check_not_frozen(End::Front)?;
            self.load_first(1)?;
        }
        Ok(self.first_in_memory())
    }

    fn consume(&mut self, n: usize) {
        // What was never shown, by a frozen front or an empty buffer, cannot be consumed.
        let _ = self.drain(n);
    }
}

impl Write for EvBuffer {
    /// Adds the whole of `data`, or fails and adds nothing.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.add(data)?;
        Ok(data.len())
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.add_vectored(data)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buf for EvBuffer {
    #[inline]
    fn remaining(&self) -> usize {
        self.len()
    }

    /// # Panics
    ///
    /// If the first segment is a file range that cannot be loaded: an empty chunk would make the default methods of
    /// this trait loop for ever. All fallible methods return [`BufferError::File`](crate::BufferError::File) instead.
    #[inline]
    fn chunk(&self) -> &[u8] {
        self.load_first(1)
            .expect("a file range at the front cannot be loaded");
        self.first_in_memory()
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        self.peek(0, out)
    }

    /// # Panics
    ///
    /// If `n` is more than there is, or the front is frozen.
    #[inline]
    fn advance(&mut self, n: usize) {
        assert!(
            n <= self.len(),
            "cannot advance by {n} bytes, there are {}",
            self.len()
        );
        self.drain(n)
            .expect("cannot advance a buffer whose front is frozen");
    }

    fn copy_to_bytes(&mut self, n: usize) -> Bytes {
        assert!(
            n <= self.len(),
            "cannot take {n} bytes, there are {}",
            self.len()
        );
        self.take_bytes(n)
            .expect("cannot take from a buffer whose front is frozen")
    }
}

// SAFETY: `chunk_mut` shows spare room of the buffer and `advance_mut` counts its first bytes, which the caller of that
// promises to have written; `remaining_mut` is the room that the limit and the address space leave.
#[allow(unsafe_code)]
unsafe impl BufMut for EvBuffer {
    #[inline]
    fn remaining_mut(&self) -> usize {
        self.room()
    }

    #[inline]
    unsafe fn advance_mut(&mut self, n: usize) {
        let spare = self.tail.spare();
        assert!(
            n <= spare,
            "cannot advance by {n} bytes, there is room for {spare}"
        );
        // SAFETY: the caller promises that the first `n` bytes of the chunk were written.
        unsafe { self.tail.assume_written(n) };
        self.commit_to_tail(n);
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        let (tail, n) = self.spare_for_one().expect("no memory for one more byte");
        UninitSlice::uninit(tail.spare_uninit(n))
    }

    #[inline]
    fn put_slice(&mut self, src: &[u8]) {
        self.add(src).expect("the buffer does not take the bytes");
    }
}

impl AsyncRead for EvBuffer {
    /// Reads what is there; an empty buffer is the end, never `Pending`.
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let n = out.remaining().min(this.len());
        if n == 0 {
            return Poll::Ready(Ok(()));
        }
        this.check_not_frozen(End::Front)?;
        this.load_first(n)?;
        for chunk in this.chunks() {
            let here = chunk.len().min(out.remaining());
            out.put_slice(&chunk[..here]);
            // What lies behind is not looked at: it may have to be loaded for that.
            if out.remaining() == 0 {
                break;
            }
        }
        this.discard(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for EvBuffer {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Poll::Ready(self.get_mut().fill_buf())
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        BufRead::consume(self.get_mut(), n);
    }
}

impl AsyncWrite for EvBuffer {
    /// Adds the whole of `data`, or fails and adds nothing; never `Pending`.
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.get_mut().write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.get_mut().write_vectored(data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
