//! What can go wrong with a buffer, and the way into [`io::Error`].

use std::{error::Error, fmt, io};

/// One end of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Where bytes are taken and prepended.
    Front,
    /// Where bytes are added.
    Back,
}

/// The result of an operation on an [`EvBuffer`](crate::EvBuffer).
pub type Result<T, E = BufferError> = std::result::Result<T, E>;

/// Why an operation on a buffer was refused. The buffer is then as it was before.
///
/// Converts into [`io::Error`], which keeps it as its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferError {
    /// That end of the buffer is frozen. [`io::ErrorKind::PermissionDenied`].
    Frozen(End),
    /// The bytes do not fit below the cap on the length. [`io::ErrorKind::StorageFull`].
    Full {
        /// The cap, in bytes.
        max_len: usize,
    },
    /// The position lies behind the last byte. [`io::ErrorKind::InvalidInput`].
    OutOfRange {
        /// The position asked for.
        at: usize,
        /// The length of the buffer.
        len: usize,
    },
    /// The size cannot be represented or had. [`io::ErrorKind::OutOfMemory`].
    TooLarge,
    /// The shared buffer that this is part of was closed. [`io::ErrorKind::BrokenPipe`].
    Closed,
    /// A file segment could not be loaded. The range stays where it is.
    File(io::ErrorKind),
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frozen(End::Front) => f.write_str("the front of the buffer is frozen"),
            Self::Frozen(End::Back) => f.write_str("the back of the buffer is frozen"),
            Self::Full { max_len } => write!(f, "the buffer may hold at most {max_len} bytes"),
            Self::OutOfRange { at, len } => {
                write!(
                    f,
                    "position {at} lies behind the end of a buffer of {len} bytes"
                )
            }
            Self::TooLarge => f.write_str("the size is too large"),
            Self::Closed => f.write_str("the buffer is closed"),
            Self::File(kind) => write!(f, "a file segment could not be loaded: {kind}"),
        }
    }
}

impl Error for BufferError {}

impl From<BufferError> for io::Error {
    fn from(error: BufferError) -> Self {
        let kind = match error {
            BufferError::Frozen(_) => io::ErrorKind::PermissionDenied,
            BufferError::Full { .. } => io::ErrorKind::StorageFull,
            BufferError::OutOfRange { .. } => io::ErrorKind::InvalidInput,
            BufferError::TooLarge => io::ErrorKind::OutOfMemory,
            BufferError::Closed => io::ErrorKind::BrokenPipe,
            BufferError::File(kind) => kind,
        };
        io::Error::new(kind, error)
    }
}

/// The buffer was closed. [`io::ErrorKind::BrokenPipe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer is closed")
    }
}

impl Error for Closed {}

impl From<Closed> for io::Error {
    fn from(error: Closed) -> Self {
        io::Error::new(io::ErrorKind::BrokenPipe, error)
    }
}

/// Why [`readable`](crate::SharedEvBuffer::readable) gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The buffer was closed with fewer bytes. [`io::ErrorKind::BrokenPipe`].
    Closed,
    /// More than the high mark or the hard cap lets the buffer ever hold. [`io::ErrorKind::InvalidInput`].
    NeverFits {
        /// The most it may hold, in bytes.
        limit: usize,
    },
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => Closed.fmt(f),
            Self::NeverFits { limit } => {
                write!(f, "the buffer never holds more than {limit} bytes")
            }
        }
    }
}

impl Error for WaitError {}

impl From<Closed> for WaitError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<WaitError> for io::Error {
    fn from(error: WaitError) -> Self {
        let kind = match error {
            WaitError::Closed => io::ErrorKind::BrokenPipe,
            WaitError::NeverFits { .. } => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}
