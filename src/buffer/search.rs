//! Finding bytes and lines, over the borders of segments.

use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use memchr::{memchr, memchr_iter, memchr2, memmem};

use super::{End, EvBuffer};
use crate::error::Result;

/// What ends a line.
#[doc(alias = "evbuffer_eol_style")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EolStyle {
    /// A run of CR and LF of any length and order, swallowed whole. Blank lines vanish, and a run ends at what has
    /// arrived: CR now and LF later are two ends of line.
    #[doc(alias = "EVBUFFER_EOL_ANY")]
    Any,
    /// An LF, with one CR before it if there is one. A lone CR is data.
    #[doc(alias = "EVBUFFER_EOL_CRLF")]
    Crlf,
    /// A CR followed by an LF, and nothing else.
    #[doc(alias = "EVBUFFER_EOL_CRLF_STRICT")]
    CrlfStrict,
    /// An LF.
    #[doc(alias = "EVBUFFER_EOL_LF")]
    Lf,
    /// A NUL.
    #[doc(alias = "EVBUFFER_EOL_NUL")]
    Nul,
}

/// Where a line ends: `len` bytes of terminator from `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Eol {
    /// Position of the first byte of the terminator.
    pub at: usize,
    /// Length of the terminator in bytes.
    pub len: usize,
}

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

/// One search for an end of line over many chunks.
struct Scan {
    style: EolStyle,
    /// Position of the next chunk.
    at: usize,
    /// The byte before it.
    last: u8,
    /// A run of [`EolStyle::Any`] that has reached the end of the last chunk and may go on.
    run: Option<Eol>,
}

impl Scan {
    #[inline]
    fn new(from: usize, style: EolStyle) -> Self {
        Self {
            style,
            at: from,
            last: 0,
            run: None,
        }
    }

    fn look_through_all<'a>(mut self, chunks: impl Iterator<Item = &'a [u8]>) -> Option<Eol> {
        for chunk in chunks {
            if let Some(eol) = self.look_through(chunk) {
                return Some(eol);
            }
        }
        self.run
    }

    /// Returns the first end of line that ends in `chunk`, as far as that can be told from there.
    #[inline]
    fn look_through(&mut self, chunk: &[u8]) -> Option<Eol> {
        let found = match self.style {
            EolStyle::Lf => memchr(b'\n', chunk).map(|lf| self.eol(lf, 1)),
            EolStyle::Crlf => memchr(b'\n', chunk).map(|lf| match self.before(chunk, lf) {
                b'\r' => self.crlf(lf),
                _ => self.eol(lf, 1),
            }),
            EolStyle::CrlfStrict => memchr_iter(b'\n', chunk)
                .find(|&lf| self.before(chunk, lf) == b'\r')
                .map(|lf| self.crlf(lf)),
            EolStyle::Nul => memchr(0, chunk).map(|nul| self.eol(nul, 1)),
            EolStyle::Any => self.run_in(chunk),
        };
        self.at += chunk.len();
        self.last = chunk.last().copied().unwrap_or(self.last);
        found
    }

    #[inline]
    fn eol(&self, at: usize, len: usize) -> Eol {
        Eol {
            at: self.at + at,
            len,
        }
    }

    /// The end of line of which the second byte is at `lf`.
    #[inline]
    fn crlf(&self, lf: usize) -> Eol {
        Eol {
            at: self.at + lf - 1,
            len: 2,
        }
    }

    #[inline]
    fn before(&self, chunk: &[u8], at: usize) -> u8 {
        match at {
            0 => self.last,
            at => chunk[at - 1],
        }
    }

    /// Follows a run of CR and LF until something else ends it.
    fn run_in(&mut self, chunk: &[u8]) -> Option<Eol> {
        let (start, mut eol) = match self.run {
            Some(eol) => (0, eol),
            None => {
                let start = memchr2(b'\r', b'\n', chunk)?;
                (start, self.eol(start, 0))
            }
        };
        let rest = &chunk[start..];
        let goes_on = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let len = rest.iter().take_while(goes_on).count();
        eol.len += len;
        if len < rest.len() {
            return Some(eol);
        }
        self.run = Some(eol);
        None
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
