//! The read side of a connection.

use std::{io, sync::Arc};

use super::switch::Switch;

/// How far reading has come.
#[derive(Clone, Debug)]
pub(super) enum ReadPhase {
    /// Bytes go to the input.
    Open,
    /// Bytes are read and discarded: the input was closed.
    Discarding,
    /// The peer ended its stream in order.
    Ended,
    Failed(Arc<io::Error>),
    /// The connection was over before the stream of the peer was.
    Stopped,
}

/// What is known of the peer although its last bytes may still be unread.
#[derive(Clone, Debug)]
enum Peer {
    Open,
    /// It has ended its stream.
    Ended,
    /// It has reset the connection. What had arrived before is read first.
    Reset(Arc<io::Error>),
}

/// The read side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct ReadState {
    pub(super) phase: ReadPhase,
    pub(super) switch: Switch,
    peer: Peer,
    /// The bytes of the input wait for the connection that this one is joined with.
    blocked: bool,
}

impl ReadState {
    pub(super) fn new() -> Self {
        Self {
            phase: ReadPhase::Open,
            switch: Switch::On,
            peer: Peer::Open,
            blocked: false,
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Returns whether more may come from the stream.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, ReadPhase::Open | ReadPhase::Discarding)
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.is_open() && self.switch == Switch::On
    }

    pub(crate) fn has_timed_out(&self) -> bool {
        self.is_open() && self.switch == Switch::TimedOut
    }

    /// Returns whether what is read is discarded.
    pub(crate) fn discards(&self) -> bool {
        matches!(self.phase, ReadPhase::Discarding)
    }

    /// Returns whether the peer ended its stream in order.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, ReadPhase::Ended)
    }

    /// Returns whether the peer will send nothing more: its end or an error was seen.
    pub(crate) fn is_peer_closed(&self) -> bool {
        !matches!(self.peer, Peer::Open)
            || matches!(self.phase, ReadPhase::Ended | ReadPhase::Failed(_))
    }

    pub(crate) fn error(&self) -> Option<&Arc<io::Error>> {
        match &self.phase {
            ReadPhase::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the error with which reading ends after the last bytes of a peer that has reset the connection.
    pub(crate) fn reset(&self) -> Option<&Arc<io::Error>> {
        match &self.peer {
            Peer::Reset(error) if self.is_open() => Some(error),
            _ => None,
        }
    }

    /// Records that the input was closed: what comes from now on is discarded.
    pub(crate) fn discard(&mut self) {
        if let ReadPhase::Open = self.phase {
            self.phase = ReadPhase::Discarding;
        }
    }

    /// Records that the stream of the peer has ended, or reading failed.
    pub(crate) fn end(&mut self, error: Option<Arc<io::Error>>) {
        if self.is_open() {
            self.phase = match error {
                None => ReadPhase::Ended,
                Some(error) => ReadPhase::Failed(error),
            };
        }
    }

    /// Records that the connection is over. Returns an error unless the peer has ended its stream, or this side has
    /// closed the input.
    pub(super) fn stop(&mut self) -> Option<Arc<io::Error>> {
        match &self.phase {
            ReadPhase::Failed(error) => return Some(Arc::clone(error)),
            ReadPhase::Ended => return None,
            ReadPhase::Discarding => {
                self.phase = ReadPhase::Stopped;
                return None;
            }
            ReadPhase::Open | ReadPhase::Stopped => self.phase = ReadPhase::Stopped,
        }
        Some(Arc::new(io::ErrorKind::ConnectionAborted.into()))
    }

    /// Records that the peer has ended its stream while reading is paused. Returns whether this is new.
    #[must_use]
    pub(crate) fn note_peer_closed(&mut self) -> bool {
        let is_new = self.is_open() && !self.is_peer_closed();
        if is_new {
            self.peer = Peer::Ended;
        }
        is_new
    }

    /// Records that the peer has reset the connection while reading is paused.
    pub(super) fn note_reset(&mut self, error: Arc<io::Error>) {
        self.peer = Peer::Reset(error);
    }
}
