//! The slow model of a buffer: one vector, and rules that are obviously correct.

use tokio_evbuffer::{
    BufferError, EolStyle,
    buffer::{End, Eol, LineError, Result},
};

/// The expected contents and limits of a buffer.
#[derive(Debug, Default)]
pub struct Flat {
    pub bytes: Vec<u8>,
    pub front_frozen: bool,
    pub back_frozen: bool,
    pub max_len: Option<usize>,
    /// The buffer may hold file ranges, which take no memory before they are read.
    pub files: bool,
    /// The largest room that was requested since the buffer was last empty. The buffer may keep it.
    pub room_kept: usize,
}

impl Flat {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns how many bytes may still be added at the back.
    pub fn room(&self) -> usize {
        match self.max_len {
            _ if self.back_frozen => 0,
            Some(max_len) => max_len.saturating_sub(self.len()),
            None => isize::MAX as usize - self.len(),
        }
    }

    pub fn check_growth(&self, end: End, n: usize) -> Result<()> {
        if n == 0 {
            return Ok(());
        }
        let frozen = match end {
            End::Front => self.front_frozen,
            End::Back => self.back_frozen,
        };
        if frozen {
            return Err(BufferError::Frozen(end));
        }
        match self.max_len {
            Some(max_len) if self.len() + n > max_len => Err(BufferError::Full { max_len }),
            _ => Ok(()),
        }
    }

    /// Returns how many of `n` bytes may be removed.
    pub fn removable(&self, n: usize) -> Result<usize> {
        let n = n.min(self.len());
        if n > 0 && self.front_frozen {
            return Err(BufferError::Frozen(End::Front));
        }
        Ok(n)
    }

    pub fn add(&mut self, data: &[u8]) -> Result<()> {
        self.check_growth(End::Back, data.len())?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    pub fn prepend(&mut self, data: &[u8]) -> Result<()> {
        self.check_growth(End::Front, data.len())?;
        self.bytes.splice(0..0, data.iter().copied());
        Ok(())
    }

    pub fn remove(&mut self, n: usize) -> Result<Vec<u8>> {
        let n = self.removable(n)?;
        let removed = self.bytes.drain(..n).collect();
        if self.bytes.is_empty() {
            self.files = false;
        }
        if n > 0 && self.bytes.is_empty() {
            self.room_kept = 0;
        }
        Ok(removed)
    }

    pub fn remove_buffer(&mut self, dst: &mut Self, n: usize) -> Result<usize> {
        let n = n.min(self.len());
        self.removable(n)?;
        dst.check_growth(End::Back, n)?;
        if n > 0 {
            dst.files |= self.files;
        }
        dst.add(&self.remove(n)?)?;
        Ok(n)
    }

    pub fn prepend_buffer(&mut self, src: &mut Self) -> Result<usize> {
        let n = src.len();
        src.removable(n)?;
        self.check_growth(End::Front, n)?;
        if n > 0 {
            self.files |= src.files;
        }
        self.prepend(&src.remove(n)?)?;
        Ok(n)
    }

    pub fn add_buffer_reference(&mut self, src: &Self) -> Result<usize> {
        self.add(&src.bytes)?;
        self.files |= src.files;
        Ok(src.len())
    }

    pub fn copyout_from(&self, pos: usize, n: usize) -> Result<&[u8]> {
        let Some(rest) = self.bytes.get(pos..) else {
            return Err(BufferError::OutOfRange {
                at: pos,
                len: self.len(),
            });
        };
        Ok(&rest[..n.min(rest.len())])
    }

    pub fn search(&self, needle: &[u8], start: usize, end: usize) -> Option<usize> {
        if needle.is_empty() {
            return (start <= self.len()).then_some(start);
        }
        let range = self.bytes.get(start..end.min(self.len()))?;
        let found = range
            .windows(needle.len())
            .position(|window| window == needle);
        found.map(|i| start + i)
    }

    pub fn search_eol(&self, from: usize, style: EolStyle) -> Option<Eol> {
        let rest = self.bytes.get(from..)?;
        let is_crlf = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let position = |wanted: u8| rest.iter().position(|&byte| byte == wanted);
        let (at, len) = match style {
            EolStyle::Lf => (position(b'\n')?, 1),
            EolStyle::Nul => (position(0)?, 1),
            EolStyle::CrlfStrict => (rest.windows(2).position(|two| two == b"\r\n")?, 2),
            EolStyle::Crlf => match position(b'\n')? {
                lf if lf > 0 && rest[lf - 1] == b'\r' => (lf - 1, 2),
                lf => (lf, 1),
            },
            EolStyle::Any => {
                let at = rest.iter().position(is_crlf)?;
                let run = rest[at..].iter().take_while(|byte| is_crlf(byte));
                (at, run.count())
            }
        };
        Some(Eol { at: from + at, len })
    }

    pub fn readln_max(
        &mut self,
        style: EolStyle,
        max: usize,
    ) -> Result<Option<Vec<u8>>, LineError> {
        let too_long = match self.search_eol(0, style) {
            Some(eol) => eol.at > max,
            None => {
                let waits_for_lf = matches!(style, EolStyle::Crlf | EolStyle::CrlfStrict)
                    && self.len() == max + 1
                    && self.bytes[max] == b'\r';
                self.len() > max && !waits_for_lf
            }
        };
        match too_long {
            true => Err(LineError::TooLong { max }),
            false => Ok(self.readln(style)?),
        }
    }

    pub fn read_lines(&mut self, style: EolStyle) -> (Vec<Vec<u8>>, Result<usize>) {
        let mut lines = Vec::new();
        loop {
            match self.readln(style) {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => return (lines.clone(), Ok(lines.len())),
                Err(error) => return (lines, Err(error)),
            }
        }
    }

    pub fn write_at(&mut self, pos: usize, data: &[u8]) -> Result<()> {
        let (at, len) = (pos + data.len(), self.len());
        if at > len {
            return Err(BufferError::OutOfRange { at, len });
        }
        self.bytes[pos..at].copy_from_slice(data);
        Ok(())
    }

    /// Returns the bytes from position `at` on, if they may be cut off.
    pub fn split_off(&mut self, at: usize) -> Result<Vec<u8>> {
        let len = self.len();
        if at > len {
            return Err(BufferError::OutOfRange { at, len });
        }
        if at < len && self.back_frozen {
            return Err(BufferError::Frozen(End::Back));
        }
        let back = self.bytes.split_off(at);
        if self.bytes.is_empty() && !back.is_empty() {
            (self.files, self.room_kept) = (false, 0);
        }
        Ok(back)
    }

    pub fn rsearch(&self, needle: &[u8], start: usize, end: usize) -> Option<usize> {
        let end = end.min(self.len());
        let range = self.bytes.get(start..end)?;
        if needle.is_empty() {
            return Some(end);
        }
        let found = range
            .windows(needle.len())
            .rposition(|window| window == needle);
        found.map(|i| start + i)
    }

    pub fn readln(&mut self, style: EolStyle) -> Result<Option<Vec<u8>>> {
        let Some(eol) = self.search_eol(0, style) else {
            return Ok(None);
        };
        let mut line = self.remove(eol.at + eol.len)?;
        line.truncate(eol.at);
        Ok(Some(line))
    }
}
