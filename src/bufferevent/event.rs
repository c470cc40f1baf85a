//! What a `BufferEvent` tells: events, why it pauses, how it ended, what it has moved.

use std::{fmt, io, sync::Arc};

/// One of the two ways that bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "EV_READ")]
#[doc(alias = "EV_WRITE")]
pub enum Direction {
    /// From the stream into the input buffer.
    Read,
    /// From the output buffer into the stream.
    Write,
}

/// One of the two buffers of a [`BufferEvent`](crate::BufferEvent).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// What was read from the stream and not yet taken.
    Input,
    /// What was added and not yet written to the stream.
    Output,
}

/// Something that happened to a [`BufferEvent`](crate::BufferEvent), told once.
///
/// Events come in order, each by itself. An end of stream, an error or a read or write timeout switches off its
/// direction; the other one lives on.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[doc(alias = "BEV_EVENT_CONNECTED")]
#[doc(alias = "BEV_EVENT_EOF")]
#[doc(alias = "BEV_EVENT_ERROR")]
#[doc(alias = "BEV_EVENT_TIMEOUT")]
pub enum Event {
    /// The connection that [`Builder::connect`](crate::bufferevent::Builder::connect) makes is there.
    Connected,
    /// The peer has ended its stream. What is in the input is all that there will be.
    Eof,
    /// Nothing could be read for as long as the read timeout. Reading is off until it is enabled again.
    ReadTimeout,
    /// Output waited, and nothing could be written for as long as the write timeout. Writing is off until it is
    /// enabled again.
    WriteTimeout,
    /// No byte moved either way for as long as the idle timeout. Told again only after one has moved.
    IdleTimeout,
    /// Output stood above its high mark for too long. Told again only after it has fallen to the low one.
    Stalled,
    /// There is no connection: none of the addresses answered, or the time for it was over.
    ConnectError(Arc<io::Error>),
    /// Reading failed, and has ended.
    ReadError(Arc<io::Error>),
    /// Writing failed, and has ended. What is left in the output stays unsent.
    WriteError(Arc<io::Error>),
    /// The last event: the stream is gone.
    Closed,
}

/// Why a direction does not move bytes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PauseReason {
    /// It was [disabled](crate::BufferEvent::disable), by the user or by a timeout.
    User,
    /// The buffer has reached its high mark, and not fallen to its low one since.
    HighWatermark,
    /// The allowance of its own rate limit is used up.
    RateLimit,
    /// The allowance of its group is used up.
    GroupRateLimit,
    /// The memory budget is used up.
    Budget,
    /// The other side takes no more for now.
    Peer,
    /// A filter waits for more.
    Filter,
}

/// All reasons, in the order of their bits.
const REASONS: [PauseReason; 7] = [
    PauseReason::User,
    PauseReason::HighWatermark,
    PauseReason::RateLimit,
    PauseReason::GroupRateLimit,
    PauseReason::Budget,
    PauseReason::Peer,
    PauseReason::Filter,
];

/// The reasons for which a direction is paused: a set. It moves bytes only while the set is empty.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::{BufferEvent, bufferevent::{Direction, PauseReason}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (bev, _peer) = BufferEvent::pair();
/// assert!(bev.paused(Direction::Read).is_empty());
///
/// bev.disable(Direction::Read);
/// assert!(bev.paused(Direction::Read).contains(PauseReason::User));
/// # }
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PauseReasons(u8);

impl PauseReasons {
    /// Returns whether `reason` is one of them.
    #[must_use]
    pub fn contains(&self, reason: PauseReason) -> bool {
        self.0 & Self::bit(reason) != 0
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Returns them one after another.
    pub fn iter(&self) -> impl Iterator<Item = PauseReason> {
        let set = *self;
        REASONS
            .into_iter()
            .filter(move |&reason| set.contains(reason))
    }

    /// The set with `reason` in it if that `holds`.
    pub(super) fn with(self, reason: PauseReason, holds: bool) -> Self {
        match holds {
            true => Self(self.0 | Self::bit(reason)),
            false => self,
        }
    }

    const fn bit(reason: PauseReason) -> u8 {
        1 << reason as u8
    }
}

impl fmt::Debug for PauseReasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What has become of a connection that is over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Bytes read from the stream.
    pub bytes_in: u64,
    /// Bytes written to the stream.
    pub bytes_out: u64,
    /// Bytes that were added to the output and never written.
    pub unsent: u64,
    /// Why it ended.
    pub reason: CloseReason,
}

/// Why a connection ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both directions ended in order.
    Finished,
    /// [`abort`](crate::BufferEvent::abort) was called.
    Aborted,
    /// The last handle was dropped, and what was queued has been written.
    Dropped,
    /// What was left to be done stood still for as long as `linger`: the peer took nothing more, or did not close.
    LingerExpired,
    /// [`into_inner`](crate::BufferEvent::into_inner) took the stream away.
    Detached,
    /// Connecting, reading or writing failed.
    Error(Arc<io::Error>),
    /// The runtime was shut down.
    RuntimeShutdown,
}

/// Bytes, and system calls that moved any, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Bytes read from the stream.
    pub bytes_in: u64,
    /// Bytes written to the stream.
    pub bytes_out: u64,
    /// Reads that brought bytes.
    pub reads: u64,
    /// Writes that took bytes.
    pub writes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_in_the_set_by_itself() {
        for reason in REASONS {
            let set = PauseReasons::default().with(reason, true);
            assert_eq!(set.iter().collect::<Vec<_>>(), [reason]);
            assert!(set.contains(reason) && !set.is_empty());
            assert_eq!(
                PauseReasons::default().with(reason, false),
                PauseReasons::default()
            );
        }
        assert_eq!(format!("{:?}", PauseReasons::default()), "{}");
    }
}
