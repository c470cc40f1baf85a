//! Ends of lines, found over the borders of segments.

use memchr::{memchr, memchr_iter, memchr2};

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

/// One search for an end of line over many chunks.
pub(super) struct Scan {
    style: EolStyle,
    /// Position of the next chunk.
    at: usize,
    /// The byte before it.
    last: u8,
    /// A run of [`EolStyle::Any`] that has reached the end of the last chunk and may go on.
    pub(super) run: Option<Eol>,
}

impl Scan {
    #[inline]
    pub(super) fn new(from: usize, style: EolStyle) -> Self {
        Self {
            style,
            at: from,
            last: 0,
            run: None,
        }
    }

    pub(super) fn look_through_all<'a>(
        mut self,
        chunks: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Eol> {
        for chunk in chunks {
            if let Some(eol) = self.look_through(chunk) {
                return Some(eol);
            }
        }
        self.run
    }

    /// Returns the first end of line that ends in `chunk`, as far as that can be told from there.
    #[inline]
    pub(super) fn look_through(&mut self, chunk: &[u8]) -> Option<Eol> {
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
