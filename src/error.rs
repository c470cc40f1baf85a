//! The errors of buffers and waits, and their conversions into [`io::Error`].

use std::{error::Error, fmt, io, sync::Arc};

/// One end of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)] // A queue has two ends.
pub enum End {
    /// The end where bytes are removed and prepended.
    Front,
    /// The end where bytes are added.
    Back,
}

/// The result of an operation on an [`EvBuffer`](crate::EvBuffer).
pub type Result<T, E = BufferError> = std::result::Result<T, E>;

/// The reason why a buffer refused an operation. The buffer is unchanged.
///
/// Converts into an [`io::Error`] that holds it ([`get_ref`](io::Error::get_ref)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferError {
    /// That end of the buffer is frozen. [`io::ErrorKind::PermissionDenied`].
    Frozen(End),
    /// The bytes would exceed the maximum length. [`io::ErrorKind::StorageFull`].
    Full {
        /// The maximum length, in bytes.
        max_len: usize,
    },
    /// The position is greater than the length. [`io::ErrorKind::InvalidInput`].
    OutOfRange {
        /// The requested position.
        at: usize,
        /// The length of the buffer.
        len: usize,
    },
    /// The size overflows, or memory of that size is not available. [`io::ErrorKind::OutOfMemory`].
    TooLarge,
    /// The shared buffer was closed. [`io::ErrorKind::BrokenPipe`].
    Closed,
    /// A file segment could not be loaded; it stays in the buffer. [`io::Error`] has the same kind.
    File(io::ErrorKind),
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frozen(End::Front) => f.write_str("the front of the buffer is frozen"),
            Self::Frozen(End::Back) => f.write_str("the back of the buffer is frozen"),
            Self::Full { max_len } => write!(f, "the buffer holds at most {max_len} bytes"),
            Self::OutOfRange { at, len } => {
                write!(f, "position {at} is outside of a buffer of {len} bytes")
            }
            Self::TooLarge => f.write_str("the size is too large, or there is not enough memory"),
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

impl From<Closed> for BufferError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<WaitError> for BufferError {
    /// [`NeverFits`](WaitError::NeverFits) and [`AboveHigh`](WaitError::AboveHigh) become [`Full`](BufferError::Full), a frozen
    /// end stays one, and the end of the stream becomes [`Closed`](BufferError::Closed), also if it was an error.
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Closed | WaitError::Stream(_) => Self::Closed,
            WaitError::NeverFits { limit: max_len } | WaitError::AboveHigh { high: max_len } => {
                Self::Full { max_len }
            }
            WaitError::Frozen(end) => Self::Frozen(end),
        }
    }
}

/// The buffer was closed. [`io::ErrorKind::BrokenPipe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // The name says everything.
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

/// The reason why a wait such as [`readable`](crate::SharedEvBuffer::readable) ended without its condition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WaitError {
    /// The buffer was closed with fewer bytes. [`io::ErrorKind::BrokenPipe`].
    Closed,
    /// The maximum length never allows that many bytes. [`io::ErrorKind::InvalidInput`].
    NeverFits {
        /// The most bytes that the buffer holds.
        limit: usize,
    },
    /// A [`Writer`](crate::shared::Writer) or a connection fills the buffer up to its high watermark only, and that
    /// is not enough. [`io::ErrorKind::InvalidInput`].
    AboveHigh {
        /// The high watermark, in bytes.
        high: usize,
    },
    /// The end of the buffer that would have to change is frozen. [`io::ErrorKind::PermissionDenied`].
    Frozen(End),
    /// The stream behind the buffer failed, or the buffer was closed with this error. [`io::Error`] has the same kind.
    Stream(Arc<io::Error>),
}

impl PartialEq for WaitError {
    /// Two errors of a stream are equal if their kinds are.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Closed, Self::Closed) => true,
            (Self::NeverFits { limit: a }, Self::NeverFits { limit: b }) => a == b,
            (Self::AboveHigh { high: a }, Self::AboveHigh { high: b }) => a == b,
            (Self::Frozen(a), Self::Frozen(b)) => a == b,
            (Self::Stream(a), Self::Stream(b)) => a.kind() == b.kind(),
            _ => false,
        }
    }
}

impl Eq for WaitError {}

impl PartialEq<Closed> for WaitError {
    fn eq(&self, _: &Closed) -> bool {
        *self == Self::Closed
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => Closed.fmt(f),
            Self::NeverFits { limit } => {
                write!(f, "the buffer never holds more than {limit} bytes")
            }
            Self::AboveHigh { high } => write!(
                f,
                "the buffer is filled only up to its high watermark of {high} bytes"
            ),
            Self::Frozen(end) => BufferError::Frozen(*end).fmt(f),
            Self::Stream(_) => f.write_str("the stream failed"),
        }
    }
}

impl Error for WaitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Stream(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Closed> for WaitError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<WaitError> for io::Error {
    /// The error of a stream keeps its number, so that `raw_os_error` returns it.
    fn from(error: WaitError) -> Self {
        let kind = match &error {
            WaitError::Closed => io::ErrorKind::BrokenPipe,
            WaitError::NeverFits { .. } | WaitError::AboveHigh { .. } => {
                io::ErrorKind::InvalidInput
            }
            WaitError::Frozen(_) => io::ErrorKind::PermissionDenied,
            WaitError::Stream(cause) => match cause.raw_os_error() {
                Some(code) => return io::Error::from_raw_os_error(code),
                None => cause.kind(),
            },
        };
        io::Error::new(kind, error)
    }
}

/// Returns an error like `error`, which several callers share: of the same kind, with the same `raw_os_error`.
pub(crate) fn clone_io_error(error: &Arc<io::Error>) -> io::Error {
    WaitError::Stream(Arc::clone(error)).into()
}

/// The reason why no line, and nothing up to a needle, could be taken. The buffer is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineError {
    /// The line has more than `max` bytes, or had that many without an end. [`io::ErrorKind::InvalidData`].
    TooLong {
        /// The most bytes of a line, without its terminator.
        max: usize,
    },
    /// The wait for the line ended with an error.
    Closed(WaitError),
    /// The buffer refused to remove the line.
    Buffer(BufferError),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max } => write!(f, "the line has more than {max} bytes"),
            Self::Closed(error) => error.fmt(f),
            Self::Buffer(error) => error.fmt(f),
        }
    }
}

impl Error for LineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooLong { .. } => None,
            // Their text is the text of this error.
            Self::Closed(error) => error.source(),
            Self::Buffer(error) => error.source(),
        }
    }
}

impl From<BufferError> for LineError {
    fn from(error: BufferError) -> Self {
        match error {
            BufferError::Closed => Self::Closed(WaitError::Closed),
            error => Self::Buffer(error),
        }
    }
}

impl From<Closed> for LineError {
    fn from(_: Closed) -> Self {
        Self::Closed(WaitError::Closed)
    }
}

impl From<WaitError> for LineError {
    fn from(error: WaitError) -> Self {
        Self::Closed(error)
    }
}

impl From<LineError> for io::Error {
    fn from(error: LineError) -> Self {
        match error {
            LineError::TooLong { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
            LineError::Closed(error) => error.into(),
            LineError::Buffer(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_stream_keeps_its_number_its_kind_and_its_source() {
        let failed = WaitError::Stream(Arc::new(io::Error::from_raw_os_error(104)));
        let of_line = io::Error::from(LineError::Closed(failed.clone()));
        assert_eq!(of_line.raw_os_error(), Some(104));
        assert_eq!(io::Error::from(failed).raw_os_error(), Some(104));

        let cause = Arc::new(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
        let error = io::Error::from(WaitError::Stream(cause.clone()));
        assert_eq!(error.kind(), cause.kind());
        let wait = error.get_ref().and_then(|e| e.downcast_ref::<WaitError>());
        assert!(matches!(wait, Some(WaitError::Stream(kept)) if Arc::ptr_eq(kept, &cause)));
    }

    #[test]
    fn a_line_error_converts_with_the_kind_of_its_cause() {
        let kind = |error: LineError| io::Error::from(error).kind();
        assert_eq!(
            kind(LineError::TooLong { max: 3 }),
            io::ErrorKind::InvalidData
        );
        assert_eq!(kind(Closed.into()), io::ErrorKind::BrokenPipe);
        assert_eq!(kind(BufferError::Closed.into()), io::ErrorKind::BrokenPipe);
        assert_eq!(
            kind(BufferError::Frozen(End::Front).into()),
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(
            kind(WaitError::NeverFits { limit: 1 }.into()),
            io::ErrorKind::InvalidInput
        );
    }
}
