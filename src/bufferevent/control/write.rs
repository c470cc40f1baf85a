//! The write side of a connection.

use std::{io, sync::Arc};

use super::switch::Switch;

/// How far writing has come.
#[derive(Clone, Debug)]
pub(super) enum WritePhase {
    Open,
    /// The stream was shut down after the last byte.
    Ended,
    /// The kernel of the peer has confirmed everything.
    Acknowledged,
    Failed(Arc<io::Error>),
    /// The connection was over before the output was written.
    Stopped,
}

/// The write side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct WriteState {
    pub(super) phase: WritePhase,
    pub(super) switch: Switch,
    /// The stream accepts nothing for now.
    blocked: bool,
    /// The stream holds bytes that were written and not flushed.
    unflushed: bool,
    /// Position up to which everything was written and flushed, for a stream that has to be flushed.
    flushed: u64,
}

impl WriteState {
    pub(super) fn new() -> Self {
        Self {
            phase: WritePhase::Open,
            switch: Switch::On,
            blocked: false,
            unflushed: false,
            flushed: 0,
        }
    }

    /// Returns whether more may be written to the stream.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, WritePhase::Open)
    }

    /// Returns whether the stream was shut down in order, after everything was written.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, WritePhase::Ended | WritePhase::Acknowledged)
    }

    /// Returns whether the stream was shut down and the peer has not confirmed everything.
    pub(crate) fn awaits_acknowledgement(&self) -> bool {
        matches!(self.phase, WritePhase::Ended)
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.is_open() && self.switch == Switch::On
    }

    pub(crate) fn has_timed_out(&self) -> bool {
        self.is_open() && self.switch == Switch::TimedOut
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// Returns whether everything up to `position`, which has been written, has also been flushed.
    pub(crate) fn is_flushed_to(&self, position: u64) -> bool {
        !self.unflushed || position <= self.flushed
    }

    pub(crate) fn error(&self) -> Option<&Arc<io::Error>> {
        match &self.phase {
            WritePhase::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Records that the stream was shut down after the last byte, or writing failed.
    pub(crate) fn end(&mut self, error: Option<Arc<io::Error>>) {
        if self.is_open() {
            self.phase = match error {
                None => WritePhase::Ended,
                Some(error) => WritePhase::Failed(error),
            };
            self.blocked = false;
        }
    }

    /// Records that the kernel of the peer has everything.
    pub(crate) fn acknowledge(&mut self) {
        if let WritePhase::Ended = self.phase {
            self.phase = WritePhase::Acknowledged;
        }
    }

    /// Records that the connection is over.
    pub(super) fn stop(&mut self) {
        if self.is_open() {
            self.phase = WritePhase::Stopped;
        }
        self.blocked = false;
    }

    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked && self.is_open();
    }

    /// Records that bytes were written to a stream that has to be flushed.
    pub(crate) fn note_unflushed(&mut self) {
        self.unflushed = true;
    }

    /// Records that the stream was replaced. What it had not flushed is up to its new owner.
    pub(crate) fn discard_unflushed(&mut self) {
        self.unflushed = false;
        self.blocked = false;
    }

    /// Records that everything up to `position` was written and flushed.
    pub(crate) fn note_flushed(&mut self, position: u64) {
        self.unflushed = false;
        self.flushed = position;
    }
}
