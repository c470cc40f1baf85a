//! One link of a chain: memory of its own, or bytes that it shares.
//!
//! This folder holds the `unsafe` code of the buffer. Everything above it sees slices.

mod block;
mod owned;
mod recv;
pub(crate) mod size;

use bytes::Bytes;

pub(crate) use owned::Owned;
#[cfg(feature = "net")]
#[allow(unused_imports)]
pub(crate) use recv::recv_vectored;

/// A segment that holds data. Its bytes never change once they are there.
#[derive(Debug)]
pub(crate) enum Segment {
    /// A range of a block that this crate allocated.
    Owned(Owned),
    /// Foreign or lent memory, released when the last `Bytes` of it goes.
    Shared(Bytes),
}

impl Segment {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(owned) => owned.as_slice(),
            Self::Shared(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Owned(owned) => owned.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    /// Forgets the first `n` bytes; `n` is at most the length.
    pub(crate) fn advance(&mut self, n: usize) {
        match self {
            Self::Owned(owned) => owned.advance(n),
            Self::Shared(bytes) => bytes::Buf::advance(bytes, n),
        }
    }

    /// Takes the first `n` bytes away as a segment of their own, without a copy.
    pub(crate) fn split_to(&mut self, n: usize) -> Self {
        match self {
            Self::Owned(owned) => {
                let front = owned.share(n);
                owned.advance(n);
                Self::Owned(front)
            }
            Self::Shared(bytes) => Self::Shared(bytes.split_to(n)),
        }
    }

    /// The same bytes once more, without a copy.
    pub(crate) fn share(&mut self) -> Self {
        match self {
            Self::Owned(owned) => Self::Owned(owned.share(owned.len())),
            Self::Shared(bytes) => Self::Shared(bytes.clone()),
        }
    }

    /// Bytes of memory that the holder of this segment answers for.
    pub(crate) fn charge(&self) -> usize {
        match self {
            Self::Owned(owned) => owned.charge(),
            Self::Shared(_) => 0,
        }
    }
}
