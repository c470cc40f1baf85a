//! The state of a connection: what each direction may do and how it ended. Without I/O and without a clock.
//!
//! ```text
//! ReadState                                        WriteState
//!
//! Open ──input closed──▶ Discarding                Open ──shut down──▶ Ended ──peer has all──▶ Acknowledged
//!  │                          │                     │
//!  ├──────────┬───────────────┤                     ├──error──▶ Failed
//!  ▼          ▼               ▼                     └──connection over──▶ Stopped
//! Ended     Failed         Stopped (connection over)
//! ```
//!
//! A phase only moves forward. Next to its phase each direction has a switch, which the user and the timeouts turn.

mod read;
mod switch;
#[cfg(test)]
mod tests;
mod write;

use std::{io, sync::Arc};

pub(super) use read::ReadState;
use switch::Switch;
use write::WritePhase;
pub(super) use write::WriteState;

use super::event::{CloseReason, Direction};

/// How the handles want the connection to end. A later mode overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CloseMode {
    /// Not requested.
    Live,
    /// Write the output, end the stream, wait for the end of the peer. A caller waits for it.
    Close,
    /// The same, after the last handle was dropped.
    Drop,
    /// At once.
    Abort,
}

impl CloseMode {
    /// Returns whether the connection is being closed in order.
    pub(super) fn is_closing(self) -> bool {
        matches!(self, Self::Close | Self::Drop)
    }
}

/// The state of a connection as a whole.
#[derive(Clone, Debug)]
pub(super) struct ConnectionState {
    pub(super) read: ReadState,
    pub(super) write: WriteState,
    close_mode: CloseMode,
    established: bool,
}

impl ConnectionState {
    /// Makes the state of a connection that is `established`, or is still to be made.
    pub(super) fn new(established: bool) -> Self {
        Self {
            read: ReadState::new(),
            write: WriteState::new(),
            close_mode: CloseMode::Live,
            established,
        }
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    #[cfg(feature = "net")]
    pub(super) fn establish(&mut self) {
        self.established = true;
    }

    pub(super) fn close_mode(&self) -> CloseMode {
        self.close_mode
    }

    /// Requests an end. The most urgent request counts.
    pub(super) fn request_close(&mut self, mode: CloseMode) {
        self.close_mode = self.close_mode.max(mode);
        if self.close_mode.is_closing() {
            self.read.discard();
        }
    }

    /// Returns whether the stream is to be read now, if there is room for it.
    pub(super) fn may_read(&self) -> bool {
        self.read.is_open() && (self.read.is_enabled() || self.close_mode.is_closing())
    }

    /// Returns whether the output is to be written now. Closing overrides the switch.
    pub(super) fn may_write(&self) -> bool {
        self.write.is_open() && (self.write.is_enabled() || self.close_mode.is_closing())
    }

    pub(super) fn is_enabled(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.read.is_enabled(),
            Direction::Write => self.write.is_enabled(),
        }
    }

    pub(super) fn has_timed_out(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.read.has_timed_out(),
            Direction::Write => self.write.has_timed_out(),
        }
    }

    /// Switches a direction on or off. One that has ended stays off.
    pub(super) fn set_enabled(&mut self, direction: Direction, on: bool) {
        *self.switch(direction) = Switch::of(on);
    }

    /// Switches off a direction in which nothing has moved for too long.
    pub(super) fn time_out(&mut self, direction: Direction) {
        *self.switch(direction) = Switch::TimedOut;
    }

    fn switch(&mut self, direction: Direction) -> &mut Switch {
        match direction {
            Direction::Read => &mut self.read.switch,
            Direction::Write => &mut self.write.switch,
        }
    }

    /// Returns the reason to end the connection, if both directions have come to their end.
    ///
    /// A read error ends both. While the connection is being closed, the peer has to confirm what was written.
    pub(super) fn finished(&self) -> Option<CloseReason> {
        if let Some(error) = self.read.error() {
            // The first error is the cause. After a failed write TLS reads an end without close_notify, for example.
            let first = self.write.error().unwrap_or(error);
            return Some(CloseReason::Error(Arc::clone(first)));
        }
        let closing = self.close_mode.is_closing();
        match &self.write.phase {
            WritePhase::Failed(error) if closing || !self.read.is_open() => {
                Some(CloseReason::Error(Arc::clone(error)))
            }
            WritePhase::Acknowledged if !self.read.is_open() => Some(self.orderly_reason()),
            WritePhase::Ended if !closing && !self.read.is_open() => Some(self.orderly_reason()),
            _ => None,
        }
    }

    /// Records that the peer has reset the connection, and that its last bytes are still unread.
    pub(super) fn note_reset(&mut self, error: Arc<io::Error>) {
        self.write.end(Some(Arc::clone(&error)));
        self.read.note_reset(error);
    }

    /// Returns whether the connection is being closed, or the rest of it is read.
    pub(super) fn is_ending(&self) -> bool {
        self.close_mode.is_closing() || self.read.reset().is_some()
    }

    /// Returns the reason of a connection that has waited long enough for the end of the peer, or for the rest to be read.
    pub(super) fn reason_after_wait(&self) -> CloseReason {
        match self.read.reset() {
            Some(error) => CloseReason::Error(Arc::clone(error)),
            None => self.orderly_reason(),
        }
    }

    /// Returns the reason of a connection that ended in order.
    fn orderly_reason(&self) -> CloseReason {
        match self.close_mode {
            CloseMode::Drop => CloseReason::Dropped,
            _ => CloseReason::Finished,
        }
    }

    /// Records that the connection is over. Returns the error that the input ends with: a reader must not mistake an
    /// abort for the end of the stream. An error that ended the connection becomes that of a read side that was open.
    #[must_use]
    pub(super) fn stop(&mut self, reason: &CloseReason) -> Option<Arc<io::Error>> {
        if let CloseReason::Error(error) = reason {
            self.read.end(Some(Arc::clone(error)));
        }
        self.write.stop();
        self.read.stop()
    }
}
