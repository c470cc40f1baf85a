//! Reading a buffer without consuming it.

use std::{
    fmt,
    io::{self, BufRead, IoSlice, Read, Seek, SeekFrom},
};

use bytes::Buf;

use super::{chain::EvBuffer, chunks::Chunks};

/// A position in an [`EvBuffer`] from which bytes are read; they stay in the buffer. Made by [`EvBuffer::cursor`].
///
/// Implements [`Buf`], [`Read`], [`BufRead`] and [`Seek`]. A position behind the end is allowed; no byte is read there.
///
/// # Examples
///
/// ```
/// use bytes::Buf;
/// use tokio_evbuffer::EvBuffer;
///
/// // Parses a frame that may be incomplete: nothing is removed before it is whole.
/// fn frame(buffer: &mut EvBuffer) -> Option<bytes::Bytes> {
///     let mut cursor = buffer.cursor();
///     let len = usize::from(cursor.try_get_u16().ok()?);
///     if cursor.remaining() < len {
///         return None;
///     }
///     buffer.drain(2).ok()?;
///     buffer.take_bytes(len).ok()
/// }
///
/// let mut buffer = EvBuffer::from(b"\0\x03ab");
/// assert_eq!(frame(&mut buffer), None);
/// buffer.add("c")?;
/// assert_eq!(frame(&mut buffer).unwrap(), "abc");
/// # Ok::<(), tokio_evbuffer::BufferError>(())
/// ```
#[derive(Clone)]
pub struct Cursor<'a> {
    buffer: &'a EvBuffer,
    pos: usize,
    /// The rest of the chunk at `pos`. Empty at the end, or if it was not looked up yet.
    chunk: &'a [u8],
    /// The chunks behind it.
    chunks: Chunks<'a>,
}

impl EvBuffer {
    /// Returns a cursor at the start of the buffer, which reads without consuming.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::io::Read;
    /// # use tokio_evbuffer::EvBuffer;
    /// let buffer = EvBuffer::from("12 bytes...");
    /// let mut number = [0; 2];
    /// buffer.cursor().read_exact(&mut number)?;
    /// assert_eq!(&number, b"12");
    /// assert_eq!(buffer.len(), 11);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor {
            buffer: self,
            pos: 0,
            chunk: &[],
            chunks: self.chunks(),
        }
    }
}

impl<'a> Cursor<'a> {
    /// Returns the position, counted from the start of the buffer.
    #[must_use]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Moves the cursor to position `pos`, which may be behind the end.
    pub fn set_position(&mut self, pos: usize) {
        self.chunks = self.buffer.chunks_from(pos);
        (self.pos, self.chunk) = (pos, &[]);
    }

    /// Returns the rest of the chunk at the position; it is empty at the end.
    fn look(&mut self) -> io::Result<&'a [u8]> {
        if self.chunk.is_empty() {
            if let Some(chunk) = self.chunks.try_next() {
                self.chunk = chunk?;
            }
        }
        Ok(self.chunk)
    }

    /// Moves the position by `n` bytes, which the buffer holds. Loads no range of a file that it passes.
    fn skip(&mut self, n: usize) {
        if n <= self.chunk.len() {
            self.chunk = &self.chunk[n..];
            self.pos += n;
        } else {
            self.set_position(self.pos + n);
        }
    }
}

impl Buf for Cursor<'_> {
    fn remaining(&self) -> usize {
        self.buffer.len().saturating_sub(self.pos)
    }

    /// # Panics
    ///
    /// If a range of a file at the position cannot be loaded. [`Read`] returns an error instead.
    fn chunk(&self) -> &[u8] {
        match self.chunk {
            [] => self
                .clone()
                .look()
                .expect("a range of a file cannot be loaded"),
            chunk => chunk,
        }
    }

    fn chunks_vectored<'b>(&'b self, out: &mut [IoSlice<'b>]) -> usize {
        self.buffer.peek(self.pos, out)
    }

    /// # Panics
    ///
    /// If fewer than `n` bytes remain.
    fn advance(&mut self, n: usize) {
        let remaining = self.remaining();
        assert!(
            n <= remaining,
            "cannot advance by {n} bytes, {remaining} remain"
        );
        if self.chunk.is_empty() && n > 0 {
            // Takes the chunk now: otherwise each `chunk` would search for it again. The next read reports an error.
            let _ = self.look();
        }
        self.skip(n);
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < out.len() {
            let chunk = match self.look() {
                Ok(chunk) => chunk,
                // The bytes before are read; the error comes with the next call.
                Err(_) if read > 0 => break,
                Err(error) => return Err(error),
            };
            let n = chunk.len().min(out.len() - read);
            if n == 0 {
                break;
            }
            out[read..read + n].copy_from_slice(&chunk[..n]);
            self.skip(n);
            read += n;
        }
        Ok(read)
    }
}

impl BufRead for Cursor<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.look()
    }

    fn consume(&mut self, n: usize) {
        self.skip(n.min(self.chunk.len()));
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(pos) => (pos, 0),
            SeekFrom::End(offset) => (self.buffer.len() as u64, offset),
            SeekFrom::Current(offset) => (self.pos as u64, offset),
        };
        let pos = base.checked_add_signed(offset);
        let Some(pos) = pos.and_then(|pos| usize::try_from(pos).ok()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a position before the start, or too large",
            ));
        };
        self.set_position(pos);
        Ok(pos as u64)
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("position", &self.pos)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
