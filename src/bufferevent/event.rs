//! What a `BufferEvent` reports: events, the reasons of a pause, the summary of its end, counters.

use std::{collections::VecDeque, fmt, io, sync::Arc};

/// A direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "EV_READ")]
#[doc(alias = "EV_WRITE")]
#[expect(clippy::exhaustive_enums, reason = "there are two directions")]
pub enum Direction {
    /// From the stream into the input buffer.
    Read,
    /// From the output buffer into the stream.
    Write,
}

/// One of the two buffers of a [`BufferEvent`](crate::BufferEvent).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two buffers")]
pub enum Side {
    /// Bytes that were read from the stream and not yet removed.
    Input,
    /// Bytes that were added and not yet written to the stream.
    Output,
}

/// Something that happened to a [`BufferEvent`](crate::BufferEvent), reported once.
///
/// Events come in order. An end of stream or a timeout switches off its direction, and the other one continues. A read
/// error ends the connection. Two events are equal if they are of one kind and their errors have the same kind and
/// the same code of the operating system.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[doc(alias = "BEV_EVENT_CONNECTED")]
#[doc(alias = "BEV_EVENT_EOF")]
#[doc(alias = "BEV_EVENT_ERROR")]
#[doc(alias = "BEV_EVENT_TIMEOUT")]
#[doc(alias = "bufferevent_get_openssl_error")]
pub enum Event {
    /// The connection that `Builder::connect` makes is established.
    Connected,
    /// The peer has ended its stream. The input holds all bytes that remain.
    Eof,
    /// The peer has ended its stream, while reading is paused: the last bytes are still unread. [`Eof`](Self::Eof) follows
    /// when they are read.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{BufferEvent, Event, bufferevent::Direction};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (near, far) = BufferEvent::pair();
    /// near.disable(Direction::Read);
    /// far.output().add("last words")?;
    /// far.shutdown().await?;
    /// assert_eq!(near.next_event().await, Some(Event::PeerClosed));
    ///
    /// near.enable(Direction::Read);
    /// assert_eq!(near.next_event().await, Some(Event::Eof));
    /// assert_eq!(near.input().take_bytes(10)?, "last words");
    /// # Ok(())
    /// # }
    /// ```
    PeerClosed,
    /// Nothing could be read for as long as the read timeout. Reading is off until it is enabled again.
    ReadTimeout,
    /// Output was pending, and nothing could be written for as long as the write timeout. Writing is off until it is
    /// enabled again.
    WriteTimeout,
    /// No byte moved in either direction for as long as the idle timeout. Reported again only after one has moved.
    IdleTimeout,
    /// A buffer stayed above its high watermark for as long as the stall timeout. Reported again for the same
    /// buffer only after it has fallen to the low watermark.
    Stalled,
    /// Connecting failed: no address answered, or the connect timeout expired.
    ConnectError(Arc<io::Error>),
    /// Reading failed. The connection ends with this error. If the peer has reset it while reading is paused, the input first
    /// gets [what had arrived before](crate::BufferEvent::peer_closed).
    ReadError(Arc<io::Error>),
    /// Writing failed, and has ended. The rest of the output stays unsent.
    WriteError(Arc<io::Error>),
    /// The last event: the stream was dropped.
    Closed,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ConnectError(a), Self::ConnectError(b))
            | (Self::ReadError(a), Self::ReadError(b))
            | (Self::WriteError(a), Self::WriteError(b)) => is_same_error(a, b),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Eq for Event {}

fn is_same_error(a: &io::Error, b: &io::Error) -> bool {
    a.kind() == b.kind() && a.raw_os_error() == b.raw_os_error()
}

/// Undelivered events are kept up to this number for each consumer. Then the oldest is discarded.
const EVENTS_MAX: usize = 64;

/// The events of a connection that its two consumers have not seen.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    for_next_event: VecDeque<Event>,
    for_callback: VecDeque<Event>,
}

impl EventQueue {
    /// Adds an event for each consumer. Returns what was discarded, whose error may run user code when it is dropped.
    #[must_use]
    pub(super) fn push(&mut self, event: Event) -> [Option<Event>; 2] {
        [&mut self.for_next_event, &mut self.for_callback].map(|queue| {
            let discarded = match queue.len() {
                EVENTS_MAX => queue.pop_front(),
                _ => None,
            };
            queue.push_back(event.clone());
            discarded
        })
    }

    /// Removes the oldest event that no call of `next_event` has returned.
    pub(super) fn pop_for_next_event(&mut self) -> Option<Event> {
        self.for_next_event.pop_front()
    }

    /// Removes the oldest event that the event callback has not seen.
    pub(super) fn pop_for_callback(&mut self) -> Option<Event> {
        self.for_callback.pop_front()
    }

    /// Returns the number of events that the event callback has not seen.
    pub(super) fn len_for_callback(&self) -> usize {
        self.for_callback.len()
    }

    /// Returns whether the callback sees [`Event::Connected`] next.
    pub(super) fn is_connected_next(&self) -> bool {
        self.for_callback.front() == Some(&Event::Connected)
    }
}

/// Why a direction does not move bytes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PauseReason {
    /// It was [disabled](crate::BufferEvent::disable), by the user or by a timeout.
    User,
    /// The buffer has reached its high watermark, and has not fallen to the low one since.
    HighWatermark,
    /// The stream accepts no more for now, or has not passed on what it accepted: while it is flushed or shut down, and
    /// while a [filter](crate::BufferEvent::filter) waits for room in the connection below.
    Peer,
    /// The allowance of its [rate limit](crate::BufferEvent::set_rate_limit) is used up.
    RateLimit,
    /// The allowance of its [group](crate::limits::RateLimitGroup) is used up, or it is not its turn.
    GroupRateLimit,
    /// The members of its [memory budget](crate::limits::MemoryBudget) hold more than that allows.
    Budget,
}

/// All reasons, in the order of their bits.
const REASONS: [PauseReason; 6] = [
    PauseReason::User,
    PauseReason::HighWatermark,
    PauseReason::Peer,
    PauseReason::RateLimit,
    PauseReason::GroupRateLimit,
    PauseReason::Budget,
];

/// The set of reasons for which a direction is paused. An empty set means that bytes move, or would if there were any.
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
    /// Returns whether `reason` is in the set.
    #[must_use]
    pub fn contains(&self, reason: PauseReason) -> bool {
        self.0 & Self::bit(reason) != 0
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Returns the reasons in the set.
    pub fn iter(&self) -> impl Iterator<Item = PauseReason> {
        let set = *self;
        REASONS
            .into_iter()
            .filter(move |&reason| set.contains(reason))
    }

    /// Adds `reason` if `holds`.
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

/// The counts and the end of a connection that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Bytes read from the stream.
    pub bytes_in: u64,
    /// Bytes written to the stream.
    pub bytes_out: u64,
    /// Bytes that were added to the output and never written.
    pub unsent: u64,
    /// Why the connection ended.
    pub reason: CloseReason,
}

/// Why a connection ended.
///
/// Two reasons are equal if they are of one kind and their errors have the same kind and the same code of the operating
/// system.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both directions ended in order, or [`close`](crate::BufferEvent::close) delivered everything.
    Finished,
    /// [`abort`](crate::BufferEvent::abort) was called.
    Aborted,
    /// The last handle was dropped, and the output was delivered.
    Dropped,
    /// Closing made no progress for as long as `linger`: the peer accepted nothing more.
    LingerExpired,
    /// [`into_inner`](crate::BufferEvent::into_inner) returned the stream.
    Detached,
    /// Connecting, reading or writing failed.
    Error(Arc<io::Error>),
    /// The runtime was shut down.
    RuntimeShutdown,
}

impl PartialEq for CloseReason {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Error(a), Self::Error(b)) => is_same_error(a, b),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Eq for CloseReason {}

/// The bytes moved so far, and the system calls that moved them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Bytes read from the stream.
    pub bytes_in: u64,
    /// Bytes written to the stream.
    pub bytes_out: u64,
    /// Reads that returned bytes.
    pub reads: u64,
    /// Writes that accepted bytes.
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

    #[test]
    fn events_and_reasons_are_equal_by_kind_and_error() {
        let error = |kind: io::ErrorKind| Arc::new(io::Error::from(kind));
        let reset = || error(io::ErrorKind::ConnectionReset);
        assert_eq!(Event::ReadError(reset()), Event::ReadError(reset()));
        assert_ne!(Event::ReadError(reset()), Event::WriteError(reset()));
        assert_ne!(
            Event::ReadError(reset()),
            Event::ReadError(error(io::ErrorKind::TimedOut))
        );
        assert_ne!(Event::Eof, Event::PeerClosed);
        assert_eq!(CloseReason::Error(reset()), CloseReason::Error(reset()));
        assert_ne!(CloseReason::Finished, CloseReason::Aborted);
    }

    #[test]
    fn each_consumer_gets_each_event_and_the_oldest_are_discarded() {
        let mut queue = EventQueue::default();
        assert_eq!(queue.push(Event::Connected), [None, None]);
        assert!(queue.is_connected_next());
        for at in 1..=EVENTS_MAX {
            let discarded = (at == EVENTS_MAX).then_some(Event::Connected);
            let pushed = queue.push(Event::IdleTimeout);
            assert_eq!(pushed, [discarded.clone(), discarded]);
        }
        assert!(queue.push(Event::Closed).iter().all(Option::is_some));
        assert!(!queue.is_connected_next());
        assert_eq!(queue.len_for_callback(), EVENTS_MAX);
        let seen: Vec<_> = std::iter::from_fn(|| queue.pop_for_next_event()).collect();
        assert_eq!(
            (seen.len(), seen.last()),
            (EVENTS_MAX, Some(&Event::Closed))
        );
        assert_eq!(queue.pop_for_callback(), Some(Event::IdleTimeout));
    }
}
