//! One link of a chain: owned memory, foreign memory, or a range of a file.
//!
//! This folder holds the `unsafe` code of the buffer. The layers above see slices.

mod block;
mod block_slice;
mod file;
mod file_part;
mod file_range;
mod fill;
mod open_file;
mod page_cache;
mod pool;
mod quick_drop;
pub(crate) mod sizing;
#[cfg(test)]
pub(crate) mod slow_disk;

use std::{mem, sync::Arc};

use bytes::{Buf, Bytes};

use crate::{error::Result, limits::budget::Account};

pub(crate) use block_slice::BlockSlice;
pub use file::FileSegment;
pub(crate) use file_part::{FilePart, FilePlace};
pub(crate) use file_range::FileRange;
pub(crate) use fill::filled_in_place;
#[cfg(feature = "net")]
pub(crate) use fill::recv_vectored;
pub(crate) use page_cache::Residency;
pub(crate) use quick_drop::{QuickDrop, SegmentList};
pub use sizing::COPY_THRESHOLD;

/// A segment that holds data, which never change.
#[derive(Debug)]
pub(crate) enum Segment {
    /// A slice of a block that this crate allocated.
    Block(BlockSlice),
    /// Memory of a user, released with the last `Bytes` of it.
    Foreign(Bytes),
    /// A range of a file, of which pieces may be in memory.
    File(Box<FileRange>),
}

impl Segment {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Block(block) => block.len(),
            Self::Foreign(bytes) => bytes.len(),
            Self::File(file) => file.len(),
        }
    }

    /// Returns the data, if this is not a range of a file.
    #[inline]
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        match self {
            Self::Block(block) => Some(block.as_slice()),
            Self::Foreign(bytes) => Some(bytes),
            Self::File(_) => None,
        }
    }

    /// Returns data from position `from` on, if they are in memory. Only a range of a file has more than one such chunk.
    #[inline]
    pub(crate) fn chunk(&self, from: usize) -> Option<&[u8]> {
        match self {
            Self::Block(block) => Some(&block.as_slice()[from..]),
            Self::Foreign(bytes) => Some(&bytes[from..]),
            Self::File(file) => file.chunk(from),
        }
    }

    /// Returns data from position `from` on, as [`chunk`](Self::chunk). Reads the file if they are not in memory, which
    /// blocks and may fail.
    #[inline]
    pub(crate) fn load(&self, from: usize) -> Result<&[u8]> {
        match self {
            Self::Block(block) => Ok(&block.as_slice()[from..]),
            Self::Foreign(bytes) => Ok(&bytes[from..]),
            Self::File(file) => file.load(from),
        }
    }

    /// Returns the number of chunks.
    pub(crate) fn chunks(&self) -> usize {
        match self {
            Self::Block(_) | Self::Foreign(_) => 1,
            Self::File(file) => file.chunks(),
        }
    }

    /// Returns the bytes of memory that this segment keeps: a block with its whole length, foreign memory with the part
    /// that is visible, nothing for a file.
    #[inline]
    pub(crate) fn allocated(&self) -> usize {
        match self {
            Self::Block(block) => block.allocated(),
            Self::Foreign(bytes) => bytes.len(),
            Self::File(_) => 0,
        }
    }

    /// Returns the bytes of memory that the loaded pieces of a file take.
    pub(crate) fn loaded_len(&self) -> usize {
        match self {
            Self::File(file) => file.loaded_len(),
            Self::Block(_) | Self::Foreign(_) => 0,
        }
    }

    /// Removes the first `n` bytes and returns by how many bytes [`allocated`](Self::allocated) has become smaller.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) -> usize {
        match self {
            Self::Block(block) => {
                block.advance(n);
                0
            }
            Self::Foreign(bytes) => {
                bytes.advance(n);
                n
            }
            Self::File(file) => {
                file.advance(n);
                0
            }
        }
    }

    /// Keeps the first `len` bytes, at least one.
    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Block(block) => block.truncate(len),
            Self::Foreign(bytes) => bytes.truncate(len),
            Self::File(file) => file.truncate(len),
        }
    }

    /// Returns `n` bytes from position `from` on as another segment, without a copy. `n` is not zero.
    pub(crate) fn share(&self, from: usize, n: usize) -> Self {
        match self {
            Self::Block(block) => Self::Block(block.share(from, n)),
            Self::Foreign(bytes) => Self::Foreign(bytes.slice(from..from + n)),
            Self::File(file) => Self::File(Box::new(file.share(from, n))),
        }
    }

    /// Does the same for a segment that is divided: a range of a file then loads only its own bytes.
    pub(crate) fn part(&self, from: usize, n: usize) -> Self {
        match self {
            Self::File(file) => Self::File(Box::new(file.part(from, n))),
            other => other.share(from, n),
        }
    }

    /// Makes the memory of this segment count for `account`: a block until it is freed, foreign memory until its last
    /// reference from here is gone, a file not at all.
    pub(crate) fn count_for(&mut self, account: &Arc<Account>) {
        match self {
            Self::Block(block) => block.count_for(account),
            Self::Foreign(bytes) => *bytes = counted(mem::take(bytes), account.clone()),
            Self::File(_) => {}
        }
    }

    /// Returns whether the drop of this segment runs user code, or may wake tasks.
    #[inline]
    pub(crate) fn has_owner(&self) -> bool {
        match self {
            Self::Block(block) => block.has_account(),
            Self::Foreign(_) | Self::File(_) => true,
        }
    }
}

/// Foreign memory that counts for an account.
struct Counted {
    bytes: Bytes,
    len: usize,
    account: Arc<Account>,
}

#[inline(never)]
pub(crate) fn counted(bytes: Bytes, account: Arc<Account>) -> Bytes {
    let len = bytes.len();
    account.add(len);
    Bytes::from_owner(Counted {
        bytes,
        len,
        account,
    })
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // The account may wake tasks, so the memory is released before.
        drop(mem::take(&mut self.bytes));
        self.account.subtract(self.len);
    }
}
