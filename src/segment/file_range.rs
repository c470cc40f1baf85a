//! A range of a file in a chain, which is read when its bytes are needed in memory.

use std::{
    mem,
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{
    file_part::{FilePart, Piece, load_into},
    open_file::OpenFile,
};
use crate::error::Result;

/// The most bytes that are loaded at a time.
const PIECE: u64 = 256 * 1024;

/// A range keeps loaded pieces of this many bytes, however short it is: no more than it takes itself.
const LOADED_KEPT: usize = 256;

/// A range of a file in a chain.
///
/// It is loaded in pieces, whose borders count from `at`. The first piece is shared with the ranges that show the same
/// bytes, so that it is loaded once for all of them; it goes with the last range that needs it. The other pieces are
/// loaded only by operations that look ahead, each range for itself.
#[derive(Debug)]
pub(crate) struct FileRange {
    file: Arc<OpenFile>,
    /// Position in the file from which pieces are counted.
    at: u64,
    /// Where the remaining bytes begin and end, from `at` on.
    start: u64,
    end: u64,
    first: Arc<Piece>,
    /// One slot for each piece, the first ones unused; made when an operation looks ahead.
    ahead: OnceLock<Box<[OnceLock<Bytes>]>>,
}

impl FileRange {
    pub(super) fn new(file: Arc<OpenFile>, at: u64, len: u64) -> Self {
        let first = Piece {
            len: len.min(PIECE) as usize,
            bytes: OnceLock::new(),
        };
        Self {
            file,
            at,
            start: 0,
            end: len,
            first: Arc::new(first),
            ahead: OnceLock::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.end - self.start).expect("checked when it was linked")
    }

    /// Returns the number of pieces, each of which is a chunk.
    pub(crate) fn chunks(&self) -> usize {
        (self.last_piece() - self.first_piece()) as usize + 1
    }

    fn first_piece(&self) -> u64 {
        self.start / PIECE
    }

    fn last_piece(&self) -> u64 {
        (self.end - 1) / PIECE
    }

    /// Returns the bytes of memory that the loaded pieces take.
    pub(crate) fn loaded_len(&self) -> usize {
        let ahead = self.ahead.get().into_iter().flatten();
        let loaded = ahead.chain([&self.first.bytes]).filter_map(OnceLock::get);
        loaded.map(Bytes::len).sum()
    }

    fn is_loaded(&self) -> bool {
        self.first.bytes.get().is_some() || self.ahead.get().is_some()
    }

    /// Forgets the loaded pieces. What is left of the range is read again when it is needed, and no more than that.
    pub(crate) fn unload(&mut self) {
        let file = self.file.clone();
        *self = Self::new(file, self.at + self.start, self.end - self.start);
    }

    /// Forgets the loaded pieces if they are much longer than the range.
    pub(crate) fn unload_if_sparse(&mut self) {
        if self.loaded_len() > LOADED_KEPT.max(self.len().saturating_mul(4)) {
            self.unload();
        }
    }

    /// Removes the first `n` bytes.
    pub(crate) fn advance(&mut self, n: usize) {
        assert!(n <= self.len());
        let before = self.first_piece();
        self.start += n as u64;
        if self.start == self.end {
            return;
        }
        if !self.is_loaded() {
            return self.unload();
        }
        if self.first_piece() == before {
            return;
        }
        let (first, start) = (self.first_piece(), self.first_piece() * PIECE);
        let mut bytes = OnceLock::new();
        if let Some(ahead) = self.ahead.get_mut() {
            for piece in &mut ahead[before as usize..=first as usize] {
                bytes = mem::take(piece);
            }
        }
        let len = (self.end - start).min(PIECE) as usize;
        self.first = Arc::new(Piece { len, bytes });
    }

    /// Keeps the first `len` bytes, at least one.
    pub(crate) fn truncate(&mut self, len: usize) {
        assert!(0 < len && len <= self.len());
        self.end = self.start + len as u64;
        if !self.is_loaded() {
            return self.unload();
        }
        let kept = self.last_piece() as usize + 1;
        if let Some(ahead) = self.ahead.get_mut() {
            for piece in &mut ahead[kept..] {
                *piece = OnceLock::new();
            }
        }
        self.unload_if_sparse();
    }

    /// Returns the `n` bytes from position `from` on as another range, which shares the first piece if it begins in
    /// it.
    pub(crate) fn share(&self, from: usize, n: usize) -> Self {
        assert!(n > 0 && from <= self.len() && n <= self.len() - from);
        let start = self.start + from as u64;
        let piece = start / PIECE;
        if piece != self.first_piece() {
            return Self::new(self.file.clone(), self.at + start, n as u64);
        }
        Self {
            file: self.file.clone(),
            at: self.at,
            start,
            end: start + n as u64,
            first: self.first.clone(),
            ahead: OnceLock::new(),
        }
    }

    /// Returns the `n` bytes from position `from` on as another range, which loads only its own bytes if they are not
    /// in memory.
    pub(crate) fn part(&self, from: usize, n: usize) -> Self {
        if self.first.bytes.get().is_some() {
            return self.share(from, n);
        }
        Self::new(
            self.file.clone(),
            self.at + self.start + from as u64,
            n as u64,
        )
    }

    /// Returns the bytes from position `from` to the end of their piece, if they are in memory.
    pub(crate) fn chunk(&self, from: usize) -> Option<&[u8]> {
        let (piece, range) = self.piece_at(from);
        let bytes = match piece == self.first_piece() {
            true => self.first.bytes.get(),
            false => self.ahead.get()?[piece as usize].get(),
        };
        Some(&bytes?[range])
    }

    /// Returns the bytes from position `from` to the end of their piece. Reads them if they are not in memory, which
    /// blocks.
    pub(crate) fn load(&self, from: usize) -> Result<&[u8]> {
        let (piece, range) = self.piece_at(from);
        let (file, at) = (&*self.file, self.at + piece * PIECE);
        let bytes = if piece == self.first_piece() {
            self.first.load(file, at)?
        } else {
            let ahead = self.ahead.get_or_init(|| {
                let count = self.last_piece() + 1;
                (0..count).map(|_| OnceLock::new()).collect()
            });
            load_into(&ahead[piece as usize], file, at, self.piece_len(piece))?
        };
        Ok(&bytes[range])
    }

    /// Returns the first part among the first `n` bytes that is not in memory, and its position.
    pub(crate) fn first_unloaded(&self, n: usize) -> Option<(usize, FilePart)> {
        let mut from = 0;
        while from < n.min(self.len()) {
            let Some(chunk) = self.chunk(from) else {
                return Some((from, self.piece_part(from)));
            };
            from += chunk.len();
        }
        None
    }

    /// Returns the part that is loaded with the byte at position `from`.
    fn piece_part(&self, from: usize) -> FilePart {
        let (piece, _) = self.piece_at(from);
        let at = self.at + piece * PIECE;
        match piece == self.first_piece() {
            true => FilePart::of_piece(&self.file, at, &self.first),
            false => FilePart::new(&self.file, at, self.piece_len(piece)),
        }
    }

    fn piece_len(&self, piece: u64) -> usize {
        (self.end - piece * PIECE).min(PIECE) as usize
    }

    /// Returns the first bytes up to the end of their piece, if they are in memory.
    pub(crate) fn first_bytes(&self) -> Option<Bytes> {
        let (_, range) = self.piece_at(0);
        Some(self.first.bytes.get()?.slice(range))
    }

    /// Returns the number of the piece that position `from` lies in, and the bytes of that piece from there on.
    fn piece_at(&self, from: usize) -> (u64, Range<usize>) {
        let pos = self.start + from as u64;
        debug_assert!(pos < self.end);
        let piece = pos / PIECE;
        let until = self.end.min((piece + 1) * PIECE);
        let range = (pos % PIECE) as usize..(until - piece * PIECE) as usize;
        (piece, range)
    }

    /// Returns the first bytes, at most `max`, to be sent from the page cache.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn first_part(&self, max: usize) -> FilePart {
        FilePart::new(&self.file, self.at + self.start, self.len().min(max))
    }
}
