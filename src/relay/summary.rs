//! What a relay has done and why it has ended: plain values.

use std::{error::Error, fmt, io};

use crate::buffer::chain::EvBuffer;

/// The bytes written so far, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes from a that were written to b.
    pub a_to_b: u64,
    /// Bytes from b that were written to a.
    pub b_to_a: u64,
}

/// The bytes that a relay has delivered, and why it has ended.
///
/// Bytes count as delivered when they were written. When the relay has to reset a TCP socket that has not acknowledged
/// everything, because that made no progress for too long, the bytes that the reset discards are not counted as
/// delivered, but as held. Bytes for a side that has failed are held, too. What is read only to be discarded, after a
/// direction has ended before its source, does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelaySummary {
    /// Bytes from a that were delivered to b.
    pub a_to_b: u64,
    /// Bytes from b that were delivered to a.
    pub b_to_a: u64,
    /// Bytes that were read from a and not delivered to b.
    pub held_a: u64,
    /// Bytes that were read from b and not delivered to a.
    pub held_b: u64,
    /// Why the relay has ended.
    pub reason: RelayEnd,
}

/// Why a relay has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RelayEnd {
    /// Both sides have ended their streams, and everything was delivered.
    Eof,
    /// One side has ended its stream, and [`HalfClose::Close`](crate::relay::HalfClose::Close) ends the relay then.
    FirstEof,
    /// After the first end of stream no byte has moved for as long as
    /// [`HalfClose::Linger`](crate::relay::HalfClose::Linger) allows.
    LingerExpired,
    /// No byte has moved for as long as the idle timeout allows.
    Idle,
    /// The relay has run for as long as [`max_lifetime`](crate::Relay::max_lifetime) allows.
    Lifetime,
    /// The relay has read as many bytes as [`max_bytes`](crate::Relay::max_bytes) allows.
    MaxBytes,
    /// [`Holder::abort`](crate::limits::Holder::abort) of the budget was called.
    Aborted,
    /// The future given to [`run_until`](crate::Relay::run_until) was ready. Only inside [`RelayParts`].
    Stopped,
    /// An operation has failed. Only inside a [`RelayError`].
    Error,
}

/// How [`run_until`](crate::Relay::run_until) has ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayOutcome<A, B> {
    /// The relay has ended before it was stopped. The streams that it owned are closed.
    Ended(RelaySummary),
    /// The relay was stopped.
    Stopped(RelayParts<A, B>),
}

/// The parts of a relay that was stopped: both streams, and the bytes that were in transit.
///
/// Write `to_a` to `a` and `to_b` to `b` before anything else. A new relay of the streams does so with
/// [`Relay::initial(to_b, to_a)`](crate::Relay::initial).
#[derive(Debug)]
#[non_exhaustive]
pub struct RelayParts<A, B> {
    /// The first stream.
    pub a: A,
    /// The second stream.
    pub b: B,
    /// Bytes that were read from `b` and not yet written to `a`.
    pub to_a: EvBuffer,
    /// Bytes that were read from `a` and not yet written to `b`.
    pub to_b: EvBuffer,
    /// What was delivered until then.
    pub summary: RelaySummary,
}

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Reading from the stream.
    Read,
    /// Writing to the stream.
    Write,
    /// Flushing what was written to the stream.
    Flush,
    /// Shutting the stream down.
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
#[allow(clippy::exhaustive_enums)] // A relay has two sides.
pub enum Peer {
    /// The first argument.
    A,
    /// The second argument.
    B,
}

impl Peer {
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// The error of a relay that has ended because an operation failed.
///
/// Converts into an [`io::Error`] of the same kind as its cause, which holds it ([`get_ref`](io::Error::get_ref)).
#[derive(Debug)]
#[non_exhaustive]
pub struct RelayError {
    /// What was delivered; its reason is [`RelayEnd::Error`].
    pub summary: RelaySummary,
    /// The stream whose operation failed first.
    pub peer: Peer,
    /// The operation that failed.
    pub step: Step,
    /// The error of that operation.
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
    fn an_error_names_its_place_and_keeps_its_cause() {
        let error = RelayError {
            summary: RelaySummary {
                a_to_b: 7,
                b_to_a: 0,
                held_a: 0,
                held_b: 0,
                reason: RelayEnd::Error,
            },
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
