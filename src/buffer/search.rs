//! Finding bytes and lines, over the borders of segments.

use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::{
    chain::EvBuffer,
    eol::{Eol, EolStyle, Scan},
};
use crate::error::{End, Result};

impl EvBuffer {
    /// Returns the position of the first `needle` that lies wholly within `range`.
    ///
    /// An empty needle is found at the start of the range, if that is not behind the end of the data. A range that is
    /// reversed or reaches too far is clamped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::new();
    /// buffer.add_reference("Host: a\r\n\r")?;
    /// buffer.add_reference("\nbody")?;
    /// assert_eq!(buffer.search(b"\r\n\r\n", ..), Some(7));
    /// assert_eq!(buffer.search(b"\r\n\r\n", ..10), None);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_search")]
    #[doc(alias = "evbuffer_search_range")]
    #[doc(alias = "evbuffer_find")]
    #[must_use]
    pub fn search(&self, needle: &[u8], range: impl RangeBounds<usize>) -> Option<usize> {
        let start = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&at) => at.saturating_add(1),
            Bound::Excluded(&at) => at,
            Bound::Unbounded => usize::MAX,
        };
        let end = end.min(self.len());
        if needle.is_empty() {
            return (start <= self.len()).then_some(start);
        }
        if end.saturating_sub(start) < needle.len() {
            return None;
        }
        Search::new(needle).over(self, start, end)
    }

    /// Returns the first end of line at or behind position `from`.
    ///
    /// A search that starts on the LF of a CR LF does not look back at the CR. `None` if `from` is behind the end.
    #[doc(alias = "evbuffer_search_eol")]
    #[must_use]
    #[inline]
    pub fn search_eol(&self, from: usize, style: EolStyle) -> Option<Eol> {
        let mut scan = Scan::new(from, style);
        // The next line mostly lies in the first segment: no list of them is made for it.
        let first = self.first_in_memory();
        if let Some(chunk) = first.get(from..) {
            if let Some(eol) = scan.look_through(chunk) {
                return Some(eol);
            }
        }
        if first.len() < self.len() {
            let behind = self.chunks_from(from.max(first.len()));
            return scan.look_through_all(behind);
        }
        scan.run
    }

    /// Takes the first line, without what ends it; `None` if no end of line has arrived yet.
    ///
    /// What was looked at before is not looked at again, so a line that arrives in many pieces is scanned once.
    ///
    /// # Errors
    ///
    /// [`BufferError::Frozen`](crate::BufferError::Frozen) if the front is frozen and there is a line;
    /// [`BufferError::File`](crate::BufferError::File) if a file range could not be loaded before a line was found;
    /// [`BufferError::TooLarge`](crate::BufferError::TooLarge) if there is no memory for one that lies in several segments.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{EolStyle, EvBuffer};
    /// let mut buffer = EvBuffer::from(&b"one\r\ntwo"[..]);
    /// assert_eq!(buffer.readln(EolStyle::Crlf)?.unwrap(), "one");
    /// assert_eq!(buffer.readln(EolStyle::Crlf)?, None);
    /// assert_eq!(buffer, b"two"[..]);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_readln")]
    #[doc(alias = "evbuffer_readline")]
    pub fn readln(&mut self, style: EolStyle) -> Result<Option<Bytes>> {
        let Some(eol) = self.search_eol(self.scan_start(style), style) else {
            // Where bytes cannot be had there may have been a line.
            self.load_first(self.len())?;
            self.scanned = u32::try_from(self.len()).unwrap_or(u32::MAX);
            self.scanned_for = style;
            return Ok(None);
        };
        self.check_not_frozen(End::Front)?;
        self.take_front(eol.at, eol.at + eol.len).map(Some)
    }

    /// Where a search for the next line goes on. One byte is looked at again, since it may have been half of an end of
    /// line.
    fn scan_start(&self, style: EolStyle) -> usize {
        if self.scanned_for == style {
            (self.scanned as usize).saturating_sub(1)
        } else {
            0
        }
    }
}

/// One search over many chunks.
struct Search<'n> {
    needle: &'n [u8],
    finder: memmem::Finder<'n>,
    /// The end of what was searched, in which a needle may have begun.
    carry: Vec<u8>,
}

impl<'n> Search<'n> {
    fn new(needle: &'n [u8]) -> Self {
        Self {
            needle,
            finder: memmem::Finder::new(needle),
            carry: Vec::new(),
        }
    }

    fn over(mut self, buffer: &EvBuffer, start: usize, end: usize) -> Option<usize> {
        let mut at = start;
        for chunk in buffer.chunks_from(start) {
            let chunk = &chunk[..chunk.len().min(end - at)];
            if let Some(before) = self.at_border(chunk) {
                return Some(at - before);
            }
            if let Some(i) = self.within(chunk) {
                return Some(at + i);
            }
            at += chunk.len();
            if at == end {
                return None;
            }
            self.keep_end_of(chunk);
        }
        None
    }

    /// Finds a needle that begins before `chunk`; returns by how many bytes.
    fn at_border(&mut self, chunk: &[u8]) -> Option<usize> {
        let carried = self.carry.len();
        if carried == 0 {
            return None;
        }
        self.carry
            .extend_from_slice(&chunk[..chunk.len().min(self.needle.len() - 1)]);
        let found = self.finder.find(&self.carry);
        self.carry.truncate(carried);
        found.map(|i| carried - i)
    }

    /// A plain scan for the first byte is the fastest while hardly any of them are there, and hopeless when many are.
    fn within(&self, chunk: &[u8]) -> Option<usize> {
        const FALSE_HITS_MAX: usize = 8;
        let mut at = 0;
        for _ in 0..FALSE_HITS_MAX {
            at += memchr(self.needle[0], &chunk[at..])?;
            if chunk[at..].starts_with(self.needle) {
                return Some(at);
            }
            at += 1;
        }
        self.finder.find(&chunk[at..]).map(|i| at + i)
    }

    fn keep_end_of(&mut self, chunk: &[u8]) {
        let kept = self.needle.len() - 1;
        if chunk.len() >= kept {
            self.carry.clear();
            self.carry.extend_from_slice(&chunk[chunk.len() - kept..]);
        } else {
            self.carry.extend_from_slice(chunk);
            let surplus = self.carry.len().saturating_sub(kept);
            self.carry.drain(..surplus);
        }
    }
}
