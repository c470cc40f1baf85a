//! The traits of the standard library, `bytes` and Tokio.

use std::{
    fmt,
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::UninitSlice};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::{chain::EvBuffer, chunks::Chunks};
use crate::error::End;

/// Implements `From` for types whose bytes are copied.
macro_rules! from_copied {
    ($([$($param:tt)*] $from:ty),* $(,)?) => {$(
        impl<$($param)*> From<$from> for EvBuffer {
            /// Copies the bytes.
            fn from(data: $from) -> Self {
                let mut buffer = Self::new();
                buffer.add(data).expect("there is memory for the bytes");
                buffer
            }
        }
    )*};
}

from_copied!([] &[u8], [] &str, [const N: usize] [u8; N], [const N: usize] &[u8; N]);

/// Implements `From` for types whose memory is linked.
macro_rules! from_linked {
    ($($from:ty),* $(,)?) => {$(
        impl From<$from> for EvBuffer {
            /// Links the bytes, without a copy.
            fn from(data: $from) -> Self {
                let mut buffer = Self::new();
                buffer.extend([Bytes::from(data)]);
                buffer
            }
        }
    )*};
}

from_linked!(Bytes, BytesMut, Vec<u8>, Box<[u8]>, String);

impl From<EvBuffer> for Vec<u8> {
    /// Copies the bytes, as [`to_vec`](EvBuffer::to_vec) does.
    fn from(buffer: EvBuffer) -> Self {
        buffer.to_vec()
    }
}

impl From<EvBuffer> for Bytes {
    /// Shares the memory of a single segment; copies several into one. Bytes behind a range of a file that cannot be loaded
    /// are missing.
    fn from(mut buffer: EvBuffer) -> Self {
        let n = buffer.len();
        match buffer.take_bytes(n) {
            Ok(bytes) => bytes,
            Err(_) => buffer.to_vec().into(),
        }
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
    /// Links each item, as [`add_reference`](EvBuffer::add_reference) does.
    ///
    /// # Panics
    ///
    /// If the back is frozen or the maximum length would be exceeded. [`add_reference`](EvBuffer::add_reference) returns an
    /// error instead.
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, items: I) {
        for item in items {
            self.add_reference(item)
                .expect("the buffer accepts the bytes");
        }
    }
}

impl<'a> IntoIterator for &'a EvBuffer {
    type Item = &'a [u8];
    type IntoIter = Chunks<'a>;

    /// Returns the data as slices, as [`chunks`](EvBuffer::chunks) does.
    fn into_iter(self) -> Chunks<'a> {
        self.chunks()
    }
}

/// Implements `==` with types that are bytes in one piece.
macro_rules! eq_bytes {
    ($([$($param:tt)*] $other:ty),* $(,)?) => {$(
        impl<$($param)*> PartialEq<$other> for EvBuffer {
            fn eq(&self, other: &$other) -> bool {
                let other: &[u8] = other.as_ref();
                self.len() == other.len() && self.starts_with(other)
            }
        }
    )*};
}

eq_bytes!(
    [] [u8],
    [] &[u8],
    [] str,
    [] &str,
    [] String,
    [] Vec<u8>,
    [] Bytes,
    [] BytesMut,
    [const N: usize] [u8; N],
    [const N: usize] &[u8; N],
);

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
/// A text is added completely or not at all. If [`io::Write`] is in scope, too, `write!` does not know which trait is meant:
/// name one of them as in `fmt::Write::write_fmt(&mut buffer, format_args!("..."))`, or import only one.
impl fmt::Write for EvBuffer {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.add(s).map_err(|_| fmt::Error)
    }

    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> fmt::Result {
        self.add_formatted(args).map_err(|_| fmt::Error)
    }
}

impl Read for EvBuffer {
    /// Reads the bytes that are there; an empty buffer is the end.
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
        // `fill_buf` returned no bytes if the front is frozen or the buffer is empty.
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

    /// Adds the whole text, or fails and adds nothing.
    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
        Ok(self.add_formatted(args)?)
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
    /// If the first segment is a range of a file that cannot be loaded: with an empty chunk the default methods of this trait
    /// would never end. Fallible methods return [`BufferError::File`](crate::BufferError::File) instead.
    #[inline]
    fn chunk(&self) -> &[u8] {
        self.load_first(1)
            .expect("the range of a file at the front cannot be loaded");
        self.first_in_memory()
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        self.peek(0, out)
    }

    /// # Panics
    ///
    /// If there are fewer than `n` bytes, or the front is frozen.
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

// SAFETY: `chunk_mut` returns spare of the buffer, and `advance_mut` makes its first bytes data, which its caller promises to
// have written; `remaining_mut` is the room that the maximum length and the address space leave.
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
        self.add(src).expect("the buffer accepts the bytes");
    }
}

impl AsyncRead for EvBuffer {
    /// Reads the bytes that are there; an empty buffer is the end. Never `Pending`: a range of a file is read at once.
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
        let mut chunks = this.chunks();
        // Later chunks are not checked, since that could load them from a file.
        let mut left = n;
        while left > 0 {
            let chunk = chunks.next().expect("so many bytes are in memory");
            let chunk = &chunk[..chunk.len().min(left)];
            out.put_slice(chunk);
            left -= chunk.len();
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
    /// Adds the whole of `data`, or fails and adds nothing. Never `Pending`.
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
