//! A part of a file that an operation needs next, and how it gets into memory or into the page cache.

#[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
use std::fs::File;
use std::{
    io,
    sync::{Arc, OnceLock, Weak},
};

use bytes::Bytes;

use super::{
    open_file::OpenFile,
    page_cache::{self, Residency},
};
use crate::error::{BufferError, Result};

/// The bytes that are read at a time only to bring them into the page cache.
const SCRATCH: usize = 64 << 10;

/// A piece of a file that is loaded at once.
#[derive(Debug)]
pub(super) struct Piece {
    /// May reach behind the end of a range that shows a part of it.
    pub(super) len: usize,
    pub(super) bytes: OnceLock<Bytes>,
}

impl Piece {
    pub(super) fn load(&self, file: &OpenFile, at: u64) -> Result<&Bytes> {
        load_into(&self.bytes, file, at, self.len)
    }
}

/// Reads `len` bytes from position `at` on into `slot`, if it is empty.
pub(super) fn load_into<'s>(
    slot: &'s OnceLock<Bytes>,
    file: &OpenFile,
    at: u64,
    len: usize,
) -> Result<&'s Bytes> {
    if let Some(bytes) = slot.get() {
        return Ok(bytes);
    }
    let bytes = read(file, at, len).map_err(|error| BufferError::File(error.kind()))?;
    // Another thread that has read the piece meanwhile has read the same.
    Ok(slot.get_or_init(|| bytes))
}

fn read(file: &OpenFile, at: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len)?;
    bytes.resize(len, 0);
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

/// A part of a file, at least one byte, that is loaded or sent next.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    file: Arc<OpenFile>,
    at: u64,
    len: usize,
    /// Where the bytes are kept, if all ranges that show them share that place.
    piece: Option<Arc<Piece>>,
}

impl FilePart {
    pub(super) fn new(file: &Arc<OpenFile>, at: u64, len: usize) -> Self {
        let file = file.clone();
        Self {
            file,
            at,
            len,
            piece: None,
        }
    }

    pub(super) fn of_piece(file: &Arc<OpenFile>, at: u64, piece: &Arc<Piece>) -> Self {
        Self {
            piece: Some(piece.clone()),
            ..Self::new(file, at, piece.len)
        }
    }

    /// Returns the file, and the position of the first byte in it.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn start(&self) -> (&File, u64) {
        (self.file.file(), self.at)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn residency(&self) -> Residency {
        let range = self.at..self.at + self.len as u64;
        #[cfg(test)]
        if let Some(disk) = &self.file.disk {
            return disk.residency(range);
        }
        page_cache::residency(self.file.file(), range)
    }

    /// Reads the bytes, which blocks: into memory if there is a shared place for them, and at least into the page cache.
    ///
    /// An error is ignored: the next read of the bytes returns it.
    pub(crate) fn load(&self) {
        if let Some(piece) = &self.piece {
            let _ = piece.load(&self.file, self.at);
            return;
        }
        page_cache::request(self.file.file(), self.at..self.at + self.len as u64);
        let mut scratch = vec![0; SCRATCH.min(self.len)];
        let (mut at, mut left) = (self.at, self.len);
        while left > 0 {
            let n = left.min(scratch.len());
            if self.file.read_exact_at(&mut scratch[..n], at).is_err() {
                break;
            }
            (at, left) = (at + n as u64, left - n);
        }
    }

    /// Returns which bytes these are, without keeping the file open.
    pub(crate) fn place(&self) -> FilePlace {
        FilePlace {
            file: Arc::downgrade(&self.file),
            at: self.at,
            len: self.len,
        }
    }
}

/// The place of a [`FilePart`].
#[derive(Debug)]
pub(crate) struct FilePlace {
    file: Weak<OpenFile>,
    at: u64,
    len: usize,
}

impl FilePlace {
    /// Returns whether `part` begins at the same byte.
    pub(crate) fn begins(&self, part: &FilePart) -> bool {
        self.at == part.at && self.overlap(part) > 0
    }

    /// Returns how many of the first bytes of `part` lie in this place.
    pub(crate) fn overlap(&self, part: &FilePart) -> usize {
        let end = self.at + self.len as u64;
        if self.file.as_ptr() != Arc::as_ptr(&part.file) || !(self.at..end).contains(&part.at) {
            return 0;
        }
        part.len.min((end - part.at) as usize)
    }
}
