//! Finding and taking lines.

use bytes::Bytes;
use memchr::memchr;

use super::{
    chain::EvBuffer,
    eol::{Eol, EolStyle, Scan},
};
use crate::error::{End, LineError, Result};

impl EvBuffer {
    /// Returns the first end of line at or behind position `from`.
    ///
    /// A search that starts at the LF of a CR LF does not look back at the CR. `None` if `from` is behind the end.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{EolStyle, EvBuffer};
    /// let buffer = EvBuffer::from("one\r\ntwo\n");
    /// let first = buffer.search_eol(0, EolStyle::Crlf).unwrap();
    /// assert_eq!((first.at, first.len), (3, 2));
    /// let second = buffer.search_eol(5, EolStyle::Crlf).unwrap();
    /// assert_eq!((second.at, second.len), (8, 1));
    /// ```
    #[doc(alias = "evbuffer_search_eol")]
    #[must_use]
    #[inline]
    pub fn search_eol(&self, from: usize, style: EolStyle) -> Option<Eol> {
        self.search_eol_until(from, style, usize::MAX)
    }

    /// Does the same, but searches no chunk that begins after position `until`.
    #[inline]
    fn search_eol_until(&self, from: usize, style: EolStyle, until: usize) -> Option<Eol> {
        let first = self.first_in_memory();
        let mut from = from;
        // Most lines lie in the first segment. A terminator of one byte is then found by one call.
        if let (Some(byte), Some(chunk)) = (style.single_byte(), first.get(from..)) {
            match memchr(byte, chunk) {
                Some(n) => {
                    return Some(Eol {
                        at: from + n,
                        len: 1,
                    });
                }
                None => from = first.len(),
            }
        }
        match from < self.len() {
            true => self.scan_for_eol(from, style, until),
            false => None,
        }
    }

    #[inline(never)]
    fn scan_for_eol(&self, from: usize, style: EolStyle, until: usize) -> Option<Eol> {
        let mut scan = Scan::new(from, style);
        // The first segment is searched without an iterator over the others.
        let first = self.first_in_memory();
        if let Some(chunk) = first.get(from..) {
            if let Some(eol) = scan.look_through(chunk) {
                return Some(eol);
            }
        }
        if first.len() < self.len() {
            let behind = self.chunks_from(from.max(first.len()));
            return scan.look_through_all(behind, until);
        }
        scan.run
    }

    /// Takes the first line, without its terminator; `None` if no end of line has arrived yet.
    ///
    /// Bytes that were searched before are not searched again, so a line that arrives in many pieces is searched once. A
    /// short line is copied, a long one shares the segment in which it lies.
    ///
    /// The length of a line is not bounded here: see [`readln_max`](Self::readln_max).
    ///
    /// # Errors
    ///
    /// [`BufferError::Frozen`](crate::BufferError::Frozen) if the front is frozen and there is a line;
    /// [`BufferError::File`](crate::BufferError::File) if a range of a file could not be loaded before a line was found;
    /// [`BufferError::TooLarge`](crate::BufferError::TooLarge) if there is no memory for a line that lies in several
    /// segments.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{EolStyle, EvBuffer};
    /// let mut buffer = EvBuffer::from("one\r\ntwo");
    /// assert_eq!(buffer.readln(EolStyle::Crlf)?.unwrap(), "one");
    /// assert_eq!(buffer.readln(EolStyle::Crlf)?, None);
    /// assert_eq!(buffer, "two");
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_readln")]
    #[doc(alias = "evbuffer_readline")]
    #[inline]
    pub fn readln(&mut self, style: EolStyle) -> Result<Option<Bytes>> {
        match self.search_eol(self.scan_start(style), style) {
            Some(eol) => self.take_line(eol).map(Some),
            None => self.wait_for_line(style, self.len()).map(|()| None),
        }
    }

    /// Prepares for the rest of a line: there is no end of a line in the first `searched` bytes.
    ///
    /// Fails if they cannot be loaded, since they may hold one then.
    #[inline(never)]
    fn wait_for_line(&mut self, style: EolStyle, searched: usize) -> Result<()> {
        self.load_first(searched)?;
        self.remember_scan(style, searched);
        self.release_block_of_short_rest();
        Ok(())
    }

    /// Takes the first line, as [`readln`](Self::readln) does, if it has at most `max` bytes without its terminator.
    ///
    /// # Errors
    ///
    /// [`LineError::TooLong`] if the line is longer, or the buffer holds more than `max` bytes without an end of line.
    /// Nothing is removed then, so the same error follows until you remove bytes. As [`readln`](Self::readln) otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{EolStyle, EvBuffer, buffer::LineError};
    /// let mut buffer = EvBuffer::from("short\nmuch longer");
    /// assert_eq!(buffer.readln_max(EolStyle::Lf, 5)?.unwrap(), "short");
    /// assert_eq!(buffer.readln_max(EolStyle::Lf, 5), Err(LineError::TooLong { max: 5 }));
    /// # Ok::<(), LineError>(())
    /// ```
    #[inline]
    pub fn readln_max(&mut self, style: EolStyle, max: usize) -> Result<Option<Bytes>, LineError> {
        match self.search_eol_until(self.scan_start(style), style, max.saturating_add(1)) {
            Some(eol) if eol.at > max => Err(LineError::TooLong { max }),
            Some(eol) => Ok(self.take_line(eol).map(Some)?),
            None => {
                let searched = self.len().min(max.saturating_add(2));
                self.wait_for_line(style, searched)?;
                match self.len() > max && !self.has_half_eol(style, max) {
                    true => Err(LineError::TooLong { max }),
                    false => Ok(None),
                }
            }
        }
    }

    /// Whether only the first byte of a terminator follows the first `at` bytes.
    fn has_half_eol(&self, style: EolStyle, at: usize) -> bool {
        matches!(style, EolStyle::Crlf | EolStyle::CrlfStrict)
            && at.checked_add(1) == Some(self.len())
            && self.get(at) == Some(b'\r')
    }

    /// Passes each whole line to `f`, without its terminator, and removes it. Returns the number of lines.
    ///
    /// This is the cheapest way to take many lines: a line in one segment is neither copied nor counted by reference. If `f`
    /// panics, the line that it was given and those before it are removed.
    ///
    /// # Errors
    ///
    /// As [`readln`](Self::readln). Lines that were passed to `f` before are removed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{EolStyle, EvBuffer};
    /// let mut buffer = EvBuffer::from("one\ntwo\nthr");
    /// let mut lengths = Vec::new();
    /// assert_eq!(buffer.read_lines(EolStyle::Lf, |line| lengths.push(line.len()))?, 2);
    /// assert_eq!(lengths, [3, 3]);
    /// assert_eq!(buffer, "thr");
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    pub fn read_lines(&mut self, style: EolStyle, mut f: impl FnMut(&[u8])) -> Result<usize> {
        let mut lines = 0;
        loop {
            let is_frozen = self.is_frozen(End::Front);
            let mut passed = Passed { buffer: self, n: 0 };
            let mut from = passed.buffer.scan_start(style);
            let first = passed.buffer.first_in_memory();
            while let Some(rest) = first.get(passed.n + from..) {
                let eol = Scan::new(from, style).look_through(rest);
                let Some(eol) = eol.filter(|_| !is_frozen) else {
                    break;
                };
                let line = &first[passed.n..passed.n + eol.at];
                passed.n += eol.at + eol.len;
                from = 0;
                lines += 1;
                f(line);
            }
            drop(passed);
            // The next line, if there is one, lies in several segments.
            match self.readln(style)? {
                Some(line) => {
                    lines += 1;
                    f(&line);
                }
                None => return Ok(lines),
            }
        }
    }

    #[inline]
    fn take_line(&mut self, eol: Eol) -> Result<Bytes> {
        self.check_not_frozen(End::Front)?;
        self.take_front(eol.at, eol.at + eol.len)
    }

    /// Returns where a search for the next line starts. One byte is searched again, since it may be the first half of a
    /// terminator.
    #[inline]
    fn scan_start(&self, style: EolStyle) -> usize {
        if self.scanned_for == style {
            (self.scanned as usize).saturating_sub(1)
        } else {
            0
        }
    }

    /// Records that the first `searched` bytes hold no end of line.
    fn remember_scan(&mut self, style: EolStyle, searched: usize) {
        self.scanned = u32::try_from(searched).unwrap_or(u32::MAX);
        self.scanned_for = style;
    }
}

/// Removes the lines that were passed to user code, also if that panicked.
struct Passed<'a> {
    buffer: &'a mut EvBuffer,
    n: usize,
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if self.n > 0 {
            self.buffer.discard(self.n);
        }
    }
}
