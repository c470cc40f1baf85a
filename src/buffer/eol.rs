//! Ends of lines, found over the borders of segments.

use memchr::{memchr, memchr_iter, memchr2};

use super::steps;

/// The kinds of terminators of a line.
#[doc(alias = "evbuffer_eol_style")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)] // The five styles of libevent.
pub enum EolStyle {
    /// A run of CR and LF of any length and order, all of which is one terminator. Blank lines vanish. A run ends at the end
    /// of the data: CR now and LF later are two terminators.
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

impl EolStyle {
    /// Returns the terminator, if it is always one byte.
    #[inline]
    pub(super) fn single_byte(self) -> Option<u8> {
        match self {
            Self::Lf => Some(b'\n'),
            Self::Nul => Some(0),
            Self::Any | Self::Crlf | Self::CrlfStrict => None,
        }
    }
}

/// The end of a line: `len` bytes of terminator from position `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)] // A position and a length.
pub struct Eol {
    /// The position of the first byte of the terminator.
    pub at: usize,
    /// The length of the terminator in bytes.
    pub len: usize,
}

/// A search for an end of line over many chunks.
pub(super) struct Scan {
    style: EolStyle,
    /// The position of the next chunk.
    pub(super) at: usize,
    /// The byte before it.
    last: u8,
    /// A run of [`EolStyle::Any`] that reaches the end of the last chunk and may continue in the next one.
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

    /// Searches chunks that begin at position `until` or before.
    pub(super) fn look_through_all<'a>(
        mut self,
        chunks: impl Iterator<Item = &'a [u8]>,
        until: usize,
    ) -> Option<Eol> {
        for chunk in chunks {
            steps::count(1);
            if let Some(eol) = self.look_through(chunk) {
                return Some(eol);
            }
            if self.at > until && self.run.is_none() {
                return None;
            }
        }
        self.run
    }

    /// Returns the first end of line in `chunk`. A run that reaches the end of the chunk is kept for the next one.
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
        if found.is_none() {
            self.at += chunk.len();
            self.last = chunk.last().copied().unwrap_or(self.last);
        }
        found
    }

    #[inline]
    fn eol(&self, at: usize, len: usize) -> Eol {
        Eol {
            at: self.at + at,
            len,
        }
    }

    /// Returns the end of line whose second byte is at `lf`.
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

    /// Follows a run of CR and LF until another byte ends it.
    fn run_in(&mut self, chunk: &[u8]) -> Option<Eol> {
        let (start, mut eol) = match self.run {
            Some(eol) => (0, eol),
            None => {
                let start = memchr2(b'\r', b'\n', chunk)?;
                (start, self.eol(start, 0))
            }
        };
        let rest = &chunk[start..];
        let is_in_run = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let len = rest.iter().take_while(is_in_run).count();
        eol.len += len;
        if len < rest.len() {
            return Some(eol);
        }
        self.run = Some(eol);
        None
    }
}
