//! One link of a chain: memory of its own, bytes that it shares, or a range of a file.
//!
//! This folder holds the `unsafe` code of the buffer. Everything above it sees slices.

mod block;
mod block_slice;
mod deque;
mod file;
mod fill;
mod pool;
pub(crate) mod sizing;

use bytes::Bytes;

use crate::error::Result;

pub(crate) use block_slice::BlockSlice;
pub(crate) use deque::Ring;
pub(crate) use file::FilePiece;
pub use file::FileSegment;
#[cfg(feature = "net")]
#[allow(unused_imports)]
pub(crate) use fill::recv_vectored;
pub use sizing::COPY_THRESHOLD;

/// A segment that holds data. Its bytes never change once they are there.
#[derive(Debug)]
pub(crate) enum Segment {
    /// A range of a block that this crate allocated.
    Block(BlockSlice),
    /// Foreign or lent memory, released when the last `Bytes` of it goes.
    Shared(Bytes),
    /// A range of a file, in memory or not.
    File(FilePiece),
}

impl Segment {
    /// The data, if it is in memory.
    #[inline]
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        match self {
            Self::Block(owned) => Some(owned.as_slice()),
            Self::Shared(bytes) => Some(bytes),
            Self::File(file) => file.loaded(),
        }
    }

    /// The data. A file is read for it, which blocks and may fail.
    #[inline]
    pub(crate) fn load(&self) -> Result<&[u8]> {
        match self {
            Self::Block(owned) => Ok(owned.as_slice()),
            Self::Shared(bytes) => Ok(bytes),
            Self::File(file) => file.load(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Block(owned) => owned.len(),
            Self::Shared(bytes) => bytes.len(),
            Self::File(file) => file.len(),
        }
    }

    /// Forgets the first `n` bytes; `n` is at most the length.
    pub(crate) fn advance(&mut self, n: usize) {
        match self {
            Self::Block(owned) => owned.advance(n),
            Self::Shared(bytes) => bytes::Buf::advance(bytes, n),
            Self::File(file) => file.advance(n),
        }
    }

    /// Takes the first `n` bytes away as a segment of their own, without a copy.
    pub(crate) fn split_to(&mut self, n: usize) -> Self {
        match self {
            Self::Block(owned) => {
                let front = owned.share(n);
                owned.advance(n);
                Self::Block(front)
            }
            Self::Shared(bytes) => Self::Shared(bytes.split_to(n)),
            Self::File(file) => Self::File(file.split_to(n)),
        }
    }

    /// The same bytes once more, without a copy.
    pub(crate) fn share(&mut self) -> Self {
        match self {
            Self::Block(owned) => Self::Block(owned.share(owned.len())),
            Self::Shared(bytes) => Self::Shared(bytes.clone()),
            Self::File(file) => Self::File(file.clone()),
        }
    }

    /// Bytes of memory that the holder of this segment answers for.
    pub(crate) fn allocated(&self) -> usize {
        match self {
            Self::Block(owned) => owned.allocated(),
            Self::Shared(_) | Self::File(_) => 0,
        }
    }

    /// Bytes of foreign or lent memory that this segment shows.
    pub(crate) fn foreign_len(&self) -> usize {
        match self {
            Self::Block(owned) if owned.allocated() > 0 => 0,
            Self::File(file) => file.loaded().map_or(0, <[u8]>::len),
            Self::Block(_) | Self::Shared(_) => self.len(),
        }
    }
}
