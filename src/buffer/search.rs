//! Finding bytes over the borders of segments.

use std::ops::{Bound, RangeBounds};

use memchr::{memchr, memchr2, memchr3, memmem};

use super::{chain::EvBuffer, steps};

impl EvBuffer {
    /// Returns the position of the first `needle` that lies completely in `range`.
    ///
    /// An empty needle is found at the start of the range, if that is not behind the end of the data. A range that is
    /// reversed is empty; one that exceeds the data ends with them.
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
        let (start, end) = self.bounds(range);
        if needle.is_empty() {
            return (start <= self.len()).then_some(start);
        }
        if end.saturating_sub(start) < needle.len() {
            return None;
        }
        Search::new(needle).over(self, start, end)
    }

    /// Returns the position of the last `needle` that lies completely in `range`.
    ///
    /// An empty needle is found at the end of the range. Ranges are treated as by [`search`](Self::search).
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::from("a/b/");
    /// buffer.add_reference("c")?;
    /// assert_eq!(buffer.rsearch(b"/", ..), Some(3));
    /// assert_eq!(buffer.rsearch(b"/", ..3), Some(1));
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[must_use]
    pub fn rsearch(&self, needle: &[u8], range: impl RangeBounds<usize>) -> Option<usize> {
        let (start, end) = self.bounds(range);
        if needle.is_empty() {
            return (start <= end).then_some(end);
        }
        if end.saturating_sub(start) < needle.len() {
            return None;
        }
        let mut chunks = Vec::new();
        let mut at = start;
        for chunk in self.chunks_from(start) {
            steps::count(1);
            let chunk = &chunk[..chunk.len().min(end - at)];
            chunks.push((at, chunk));
            at += chunk.len();
            if at == end {
                break;
            }
        }
        let finder = memmem::FinderRev::new(needle);
        // The first bytes of what was searched, in which a needle may end.
        let mut carry = Vec::new();
        for (at, chunk) in chunks.into_iter().rev() {
            let near = &chunk[chunk.len().saturating_sub(needle.len() - 1)..];
            if !carry.is_empty() {
                let border = [near, &carry].concat();
                if let Some(i) = finder.rfind(&border).filter(|&i| i < near.len()) {
                    return Some(at + chunk.len() - near.len() + i);
                }
            }
            if let Some(i) = finder.rfind(chunk) {
                return Some(at + i);
            }
            let kept = [chunk, &carry].concat();
            carry = kept[..kept.len().min(needle.len() - 1)].to_vec();
        }
        None
    }

    /// Returns the position of the first byte at or behind position `from` that is one of `bytes`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let buffer = EvBuffer::from("key: value;");
    /// assert_eq!(buffer.search_any(b":;", 0), Some(3));
    /// assert_eq!(buffer.search_any(b":;", 4), Some(10));
    /// assert_eq!(buffer.search_any(b"", 0), None);
    /// ```
    #[must_use]
    pub fn search_any(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let mut is_wanted = [false; 256];
        for &byte in bytes {
            is_wanted[usize::from(byte)] = true;
        }
        let find = |chunk: &[u8]| match *bytes {
            [] => None,
            [a] => memchr(a, chunk),
            [a, b] => memchr2(a, b, chunk),
            [a, b, c] => memchr3(a, b, c, chunk),
            _ => chunk.iter().position(|&byte| is_wanted[usize::from(byte)]),
        };
        let mut at = from;
        for chunk in self.chunks_from(from) {
            steps::count(1);
            if let Some(i) = find(chunk) {
                return Some(at + i);
            }
            at += chunk.len();
        }
        None
    }

    /// Returns the start of `range`, and its end, which is at most the length.
    fn bounds(&self, range: impl RangeBounds<usize>) -> (usize, usize) {
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
        (start, end.min(self.len()))
    }
}

/// A search for a needle over many chunks.
struct Search<'n> {
    needle: &'n [u8],
    finder: memmem::Finder<'n>,
    /// The last bytes that were searched, in which a needle may begin; none if it cannot.
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
            steps::count(1);
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

    /// Finds a needle within `chunk`. A plain scan for the first byte is the fastest while it is rare, and slow when it
    /// is common.
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

    /// Keeps the last bytes of what was searched from the first one on that may begin a needle.
    fn keep_end_of(&mut self, chunk: &[u8]) {
        let kept = self.needle.len() - 1;
        let end = &chunk[chunk.len().saturating_sub(kept)..];
        if end.len() == kept {
            self.carry.clear();
        } else if !self.carry.is_empty() {
            self.carry.extend_from_slice(end);
            let surplus = self.carry.len().saturating_sub(kept);
            self.carry.drain(..surplus);
            return;
        }
        if let Some(first) = end.iter().position(|byte| *byte == self.needle[0]) {
            self.carry.extend_from_slice(&end[first..]);
        }
    }
}
