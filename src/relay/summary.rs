//! What a relay has done and why it ended: plain values.

use std::{error::Error, fmt, io};

/// Bytes delivered so far, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes from a that b has taken.
    pub a_to_b: u64,
    /// Bytes from b that a has taken.
    pub b_to_a: u64,
}

/// Bytes that were written to the other side, and why the relay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelaySummary {
    /// Bytes from a that b has taken.
    pub a_to_b: u64,
    /// Bytes from b that a has taken.
    pub b_to_a: u64,
    /// Why it ended.
    pub reason: RelayEnd,
}

impl RelaySummary {
    pub(super) fn new(done: Progress, reason: RelayEnd) -> Self {
        Self {
            a_to_b: done.a_to_b,
            b_to_a: done.b_to_a,
            reason,
        }
    }
}

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RelayEnd {
    /// Both sides reached end of stream, and all they sent was delivered.
    Eof,
    /// One side did, which was to be enough by [`HalfClose::Close`](crate::relay::HalfClose::Close).
    FirstEof,
    /// After the first end of stream nothing moved for as long as
    /// [`HalfClose::Linger`](crate::relay::HalfClose::Linger) allows.
    LingerExpired,
    /// Nothing moved for as long as the idle timeout allows.
    Idle,
    /// An operation failed. Only inside a [`RelayError`].
    Error,
}

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Reading what the peer sends.
    Read,
    /// Writing to the peer.
    Write,
    /// Flushing what was written to the peer.
    Flush,
    /// Telling the peer that no more will come.
    Shutdown,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "reading from",
            Self::Write => "writing to",
            Self::Flush => "flushing",
            Self::Shutdown => "shutting down",
        })
    }
}

/// One of the two streams of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The first argument.
    A,
    /// The second argument.
    B,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// A relay that ended because an operation failed: which, on which stream, and what was delivered.
///
/// Converts into an [`io::Error`] of the kind of its cause, which keeps it as its source.
#[derive(Debug)]
#[non_exhaustive]
pub struct RelayError {
    /// What was delivered; its reason is [`RelayEnd::Error`].
    pub summary: RelaySummary,
    /// The stream whose operation failed first.
    pub peer: Peer,
    /// That operation.
    pub step: Step,
    /// Its error.
    pub error: io::Error,
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            summary: RelaySummary { a_to_b, b_to_a, .. },
            peer,
            step,
            ..
        } = self;
        write!(
            f,
            "relay failed {step} {peer} after {a_to_b} bytes from a to b and {b_to_a} from b to a"
        )
    }
}

impl Error for RelayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl From<RelayError> for io::Error {
    fn from(error: RelayError) -> Self {
        io::Error::new(error.error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_it_happened_and_keeps_its_cause() {
        let error = RelayError {
            summary: RelaySummary::new(
                Progress {
                    a_to_b: 7,
                    b_to_a: 0,
                },
                RelayEnd::Error,
            ),
            peer: Peer::B,
            step: Step::Write,
            error: io::ErrorKind::BrokenPipe.into(),
        };
        assert_eq!(
            error.to_string(),
            "relay failed writing to b after 7 bytes from a to b and 0 from b to a"
        );
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let inner = error.get_ref().unwrap().downcast_ref::<RelayError>();
        assert_eq!(inner.unwrap().summary.a_to_b, 7);
    }
}
