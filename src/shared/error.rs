//! How waiting on a buffer ends without what was waited for.

use std::{error::Error, fmt, io};

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
