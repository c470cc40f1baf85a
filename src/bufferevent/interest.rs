//! What tasks wait for that wait for a connection itself, rather than for one of its buffers.

use crate::shared::Mark;

/// What a task waits for. Every waiting task is also woken by the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Everything up to the mark was written and flushed.
    Flushed(Mark),
    /// The stream was shut down.
    Shutdown,
    /// There is an event.
    Event,
    /// The connection is established.
    Connected,
    /// The peer has ended its stream.
    PeerClosed,
    /// The end of the connection, or that the task hands over its stream.
    Closed,
}

impl Interest {
    pub(super) fn is_flush(self) -> bool {
        matches!(self, Self::Flushed(_))
    }

    pub(super) fn is_about_writing(self) -> bool {
        matches!(self, Self::Flushed(_) | Self::Shutdown)
    }
}
