//! Reading without removing: copies, slices and comparisons.

use std::io::IoSlice;

use super::chain::EvBuffer;
use crate::error::{BufferError, Result};

impl EvBuffer {
    /// Copies bytes from the front into `out`, as many as there are or as fit, and returns their number.
    ///
    /// # Errors
    ///
    /// [`BufferError::File`] if a range of a file among them cannot be loaded.
    #[doc(alias = "evbuffer_copyout")]
    #[inline]
    pub fn copyout(&self, out: &mut [u8]) -> Result<usize> {
        let n = out.len().min(self.len());
        self.load_first(n)?;
        self.copy_front(&mut out[..n]);
        Ok(n)
    }

    /// Copies bytes from position `pos` on into `out`, as many as there are or as fit, and returns their number.
    ///
    /// # Errors
    ///
    /// [`BufferError::OutOfRange`] if `pos` is greater than the length; as [`copyout`](Self::copyout) otherwise.
    #[doc(alias = "evbuffer_copyout_from")]
    pub fn copyout_from(&self, pos: usize, out: &mut [u8]) -> Result<usize> {
        self.check_position(pos)?;
        let n = out.len().min(self.len() - pos);
        self.load_range(pos, n)?;
        copy_chunks(self.chunks_from(pos), &mut out[..n]);
        Ok(n)
    }

    /// Copies all bytes into a vector. If a range of a file cannot be loaded, the vector ends before it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let buffer = EvBuffer::from("text");
    /// assert_eq!(buffer.to_vec(), b"text");
    /// assert_eq!(buffer.len(), 4);
    /// ```
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        // A range of a file has a length before it takes memory, so the length may be much more than what is in memory.
        let mut bytes = Vec::with_capacity(self.len().min(self.capacity()));
        self.chunks()
            .for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }

    /// Returns the byte at position `at`; `None` if the buffer is shorter, or the byte lies in a range of a file that
    /// cannot be loaded.
    ///
    /// Takes a step for each segment before the position or behind it, whichever is less.
    #[must_use]
    #[inline]
    pub fn get(&self, at: usize) -> Option<u8> {
        match self.first_in_memory().get(at) {
            Some(&byte) => Some(byte),
            None if at >= self.len() => None,
            None => self.chunks_from(at).next()?.first().copied(),
        }
    }

    /// Lists the data from position `pos` on in `out`, one slice for each segment, and returns how many slices were
    /// filled.
    ///
    /// If `out` was too short, [`chunks_from`](Self::chunks_from) returns the rest.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::io::IoSlice;
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::from("one");
    /// buffer.add_reference("two")?;
    /// let mut slices = [IoSlice::new(&[]); 4];
    /// assert_eq!(buffer.peek(1, &mut slices), 2);
    /// assert_eq!((&*slices[0], &*slices[1]), (&b"ne"[..], &b"two"[..]));
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_peek")]
    pub fn peek<'a>(&'a self, pos: usize, out: &mut [IoSlice<'a>]) -> usize {
        self.chunks_from(pos).list(out)
    }

    /// Returns whether the buffer begins with `prefix`.
    #[must_use]
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        match self.first_in_memory().get(..prefix.len()) {
            Some(first) => first == prefix,
            None => self.has_at(0, prefix),
        }
    }

    /// Returns whether the buffer ends with `suffix`.
    #[must_use]
    pub fn ends_with(&self, suffix: &[u8]) -> bool {
        let at = self.len().checked_sub(suffix.len());
        at.is_some_and(|at| self.has_at(at, suffix))
    }

    /// Returns whether the buffer holds `bytes` at position `at`.
    pub(super) fn has_at(&self, at: usize, bytes: &[u8]) -> bool {
        let mut left = bytes;
        if self.len() < left.len() || self.len() - left.len() < at {
            return false;
        }
        let mut chunks = self.chunks_from(at);
        while !left.is_empty() {
            let Some(chunk) = chunks.next() else {
                return false;
            };
            let (here, rest) = left.split_at(chunk.len().min(left.len()));
            if chunk[..here.len()] != *here {
                return false;
            }
            left = rest;
        }
        true
    }

    pub(super) fn check_position(&self, pos: usize) -> Result<()> {
        let len = self.len();
        if pos > len {
            return Err(BufferError::OutOfRange { at: pos, len });
        }
        Ok(())
    }

    /// Copies the first bytes, which are in memory, into all of `out`.
    #[inline]
    pub(super) fn copy_front(&self, out: &mut [u8]) {
        match self.first_in_memory().get(..out.len()) {
            Some(front) => out.copy_from_slice(front),
            None => copy_chunks(self.chunks(), out),
        }
    }
}

#[inline(never)]
fn copy_chunks<'a>(mut chunks: impl Iterator<Item = &'a [u8]>, mut out: &mut [u8]) {
    while !out.is_empty() {
        let Some(chunk) = chunks.next() else {
            return;
        };
        let n = chunk.len().min(out.len());
        out[..n].copy_from_slice(&chunk[..n]);
        out = &mut out[n..];
    }
}
