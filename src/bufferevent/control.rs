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

use std::{io, sync::Arc};

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
    /// Whether the connection is being closed in order.
    pub(super) fn is_closing(self) -> bool {
        matches!(self, Self::Close | Self::Drop)
    }
}

/// Whether a direction may move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    On,
    /// Switched off by the user.
    Off,
    /// Switched off by a timeout.
    TimedOut,
}

impl Switch {
    fn of(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// How far reading has come.
#[derive(Clone, Debug)]
enum ReadPhase {
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

/// The read side of a connection.
#[derive(Clone, Debug)]
pub(super) struct ReadState {
    phase: ReadPhase,
    switch: Switch,
    /// The peer has ended its stream, though its last bytes may still be unread.
    peer_closed: bool,
    /// The bytes of the input wait for the connection that this one is joined with.
    blocked: bool,
}

impl ReadState {
    fn new() -> Self {
        Self {
            phase: ReadPhase::Open,
            switch: Switch::On,
            peer_closed: false,
            blocked: false,
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Whether more may come from the stream.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, ReadPhase::Open | ReadPhase::Discarding)
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.is_open() && self.switch == Switch::On
    }

    pub(super) fn has_timed_out(&self) -> bool {
        self.is_open() && self.switch == Switch::TimedOut
    }

    /// Whether what is read is discarded.
    pub(super) fn discards(&self) -> bool {
        matches!(self.phase, ReadPhase::Discarding)
    }

    /// Whether the peer ended its stream in order.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, ReadPhase::Ended)
    }

    /// Whether the peer will send nothing more: its end or an error was seen.
    pub(super) fn is_peer_closed(&self) -> bool {
        self.peer_closed || matches!(self.phase, ReadPhase::Ended | ReadPhase::Failed(_))
    }

    pub(super) fn error(&self) -> Option<&Arc<io::Error>> {
        match &self.phase {
            ReadPhase::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The input was closed: what comes from now on is discarded.
    pub(super) fn discard(&mut self) {
        if let ReadPhase::Open = self.phase {
            self.phase = ReadPhase::Discarding;
        }
    }

    /// The stream of the peer has ended, or reading failed.
    pub(super) fn end(&mut self, error: Option<Arc<io::Error>>) {
        if self.is_open() {
            self.phase = match error {
                None => ReadPhase::Ended,
                Some(error) => ReadPhase::Failed(error),
            };
        }
    }

    /// The connection is over.
    fn stop(&mut self) {
        if self.is_open() {
            self.phase = ReadPhase::Stopped;
        }
    }

    /// The peer has ended its stream while reading is paused. Returns whether this is new.
    #[must_use]
    pub(super) fn note_peer_closed(&mut self) -> bool {
        let is_new = self.is_open() && !self.peer_closed;
        self.peer_closed |= is_new;
        is_new
    }
}

/// How far writing has come.
#[derive(Clone, Debug)]
enum WritePhase {
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
pub(super) struct WriteState {
    phase: WritePhase,
    switch: Switch,
    /// The stream accepts nothing for now.
    blocked: bool,
    /// The stream holds bytes that were written and not flushed.
    unflushed: bool,
    /// Position up to which everything was written and flushed, for a stream that has to be flushed.
    flushed: u64,
}

impl WriteState {
    fn new() -> Self {
        Self {
            phase: WritePhase::Open,
            switch: Switch::On,
            blocked: false,
            unflushed: false,
            flushed: 0,
        }
    }

    /// Whether more may be written to the stream.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, WritePhase::Open)
    }

    /// Whether the stream was shut down in order, after everything was written.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, WritePhase::Ended | WritePhase::Acknowledged)
    }

    /// Whether the stream was shut down and the peer has not confirmed everything.
    pub(super) fn awaits_acknowledgement(&self) -> bool {
        matches!(self.phase, WritePhase::Ended)
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.is_open() && self.switch == Switch::On
    }

    pub(super) fn has_timed_out(&self) -> bool {
        self.is_open() && self.switch == Switch::TimedOut
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// Whether everything up to `position`, which has been written, has also been flushed.
    pub(super) fn is_flushed_to(&self, position: u64) -> bool {
        !self.unflushed || position <= self.flushed
    }

    pub(super) fn error(&self) -> Option<&Arc<io::Error>> {
        match &self.phase {
            WritePhase::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The stream was shut down after the last byte, or writing failed.
    pub(super) fn end(&mut self, error: Option<Arc<io::Error>>) {
        if self.is_open() {
            self.phase = match error {
                None => WritePhase::Ended,
                Some(error) => WritePhase::Failed(error),
            };
            self.blocked = false;
        }
    }

    /// The kernel of the peer has everything.
    pub(super) fn acknowledge(&mut self) {
        if let WritePhase::Ended = self.phase {
            self.phase = WritePhase::Acknowledged;
        }
    }

    /// The connection is over.
    fn stop(&mut self) {
        if self.is_open() {
            self.phase = WritePhase::Stopped;
        }
        self.blocked = false;
    }

    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked && self.is_open();
    }

    /// Bytes were written to a stream that has to be flushed.
    pub(super) fn note_unflushed(&mut self) {
        self.unflushed = true;
    }

    /// The stream was replaced. What it had not flushed is up to its new owner.
    pub(super) fn discard_unflushed(&mut self) {
        self.unflushed = false;
        self.blocked = false;
    }

    /// Everything up to `position` was written and flushed.
    pub(super) fn note_flushed(&mut self, position: u64) {
        self.unflushed = false;
        self.flushed = position;
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
    /// The state of a connection that is `established`, or is still to be made.
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

    /// Whether the stream is to be read now, if there is room for it.
    pub(super) fn may_read(&self) -> bool {
        self.read.is_open() && (self.read.is_enabled() || self.close_mode.is_closing())
    }

    /// Whether the output is to be written now. Closing overrides the switch.
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

    /// The reason to end the connection, if both directions have come to their end.
    ///
    /// A read error ends both. While the connection is being closed, the peer has to confirm what was written.
    pub(super) fn finished(&self) -> Option<CloseReason> {
        if let Some(error) = self.read.error() {
            return Some(CloseReason::Error(Arc::clone(error)));
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

    /// The reason of a connection that ended in order.
    pub(super) fn orderly_reason(&self) -> CloseReason {
        match self.close_mode {
            CloseMode::Drop => CloseReason::Dropped,
            _ => CloseReason::Finished,
        }
    }

    /// The connection is over. An error that ended it becomes that of a read side that was open: a reader must not
    /// mistake it for the end of the stream.
    pub(super) fn stop(&mut self, reason: &CloseReason) {
        if let CloseReason::Error(error) = reason {
            self.read.end(Some(Arc::clone(error)));
        }
        self.read.stop();
        self.write.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> Arc<io::Error> {
        Arc::new(io::ErrorKind::ConnectionReset.into())
    }

    /// A transition that a test applies.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        ReadEnd,
        ReadFail,
        Discard,
        WriteEnd,
        WriteFail,
        Acknowledge,
        Request(CloseMode),
        Enable(Direction, bool),
        TimeOut(Direction),
    }
    use CloseMode::{Abort, Close, Drop};
    use Direction::{Read, Write};
    use Step::*;

    fn after(steps: &[Step]) -> ConnectionState {
        let mut state = ConnectionState::new(true);
        for step in steps {
            match *step {
                ReadEnd => state.read.end(None),
                ReadFail => state.read.end(Some(error())),
                Discard => state.read.discard(),
                WriteEnd => state.write.end(None),
                WriteFail => state.write.end(Some(error())),
                Acknowledge => state.write.acknowledge(),
                Request(mode) => state.request_close(mode),
                Enable(direction, on) => state.set_enabled(direction, on),
                TimeOut(direction) => state.time_out(direction),
            }
        }
        state
    }

    #[test]
    fn what_may_move_follows_from_phase_switch_and_close_mode() {
        // Steps; may read, discards, may write.
        let table: &[(&[Step], bool, bool, bool)] = &[
            (&[], true, false, true),
            (&[Enable(Read, false)], false, false, true),
            (&[Enable(Write, false)], true, false, false),
            (
                &[Enable(Read, false), Enable(Read, true)],
                true,
                false,
                true,
            ),
            (&[TimeOut(Read)], false, false, true),
            (&[TimeOut(Write)], true, false, false),
            (&[TimeOut(Write), Enable(Write, true)], true, false, true),
            (&[Discard], true, true, true),
            (&[Discard, Enable(Read, false)], false, true, true),
            (&[ReadEnd], false, false, true),
            (&[ReadEnd, Enable(Read, true)], false, false, true),
            (&[ReadFail, ReadEnd], false, false, true),
            (&[WriteEnd], true, false, false),
            (&[WriteFail, Enable(Write, true)], true, false, false),
            // Closing overrides the switches, but not the end of a direction.
            (&[Enable(Read, false), Request(Close)], true, true, true),
            (&[Enable(Write, false), Request(Drop)], true, true, true),
            (
                &[TimeOut(Read), TimeOut(Write), Request(Close)],
                true,
                true,
                true,
            ),
            (&[WriteEnd, ReadEnd, Request(Close)], false, false, false),
            (&[Enable(Write, false), Request(Abort)], true, false, false),
        ];
        for (steps, read, discards, write) in table {
            let state = after(steps);
            assert_eq!(state.may_read(), *read, "may read after {steps:?}");
            assert_eq!(state.read.discards(), *discards, "discards after {steps:?}");
            assert_eq!(state.may_write(), *write, "may write after {steps:?}");
        }
    }

    #[test]
    fn a_connection_is_finished_when_both_directions_are() {
        // Steps; the reason, by its name.
        let table: &[(&[Step], Option<&str>)] = &[
            (&[], None),
            (&[ReadEnd], None),
            (&[WriteEnd], None),
            (&[Acknowledge], None),
            (&[ReadEnd, WriteEnd], Some("Finished")),
            (&[WriteEnd, ReadEnd], Some("Finished")),
            (&[ReadFail], Some("Error")),
            (&[ReadFail, WriteEnd], Some("Error")),
            (&[WriteFail], None),
            (&[WriteFail, ReadEnd], Some("Error")),
            (&[WriteEnd, WriteFail, ReadEnd], Some("Finished")),
            (&[Request(Close), WriteEnd], None),
            (&[Request(Close), WriteEnd, ReadEnd], None),
            (&[Request(Close), WriteEnd, Acknowledge], None),
            (
                &[Request(Close), WriteEnd, ReadEnd, Acknowledge],
                Some("Finished"),
            ),
            (&[Request(Close), Acknowledge, WriteEnd, ReadEnd], None),
            (&[Request(Close), WriteFail], Some("Error")),
            (
                &[Request(Drop), WriteEnd, ReadEnd, Acknowledge],
                Some("Dropped"),
            ),
            (&[Request(Drop), WriteEnd, Acknowledge], None),
            (
                &[
                    Request(Drop),
                    Request(Close),
                    ReadEnd,
                    WriteEnd,
                    Acknowledge,
                ],
                Some("Dropped"),
            ),
        ];
        for (steps, reason) in table {
            let found = after(steps).finished().map(|reason| format!("{reason:?}"));
            match (&found, reason) {
                (None, None) => {}
                (Some(found), Some(reason)) => {
                    assert!(found.starts_with(reason), "{steps:?}: {found}")
                }
                _ => panic!("{steps:?}: {found:?} instead of {reason:?}"),
            }
        }
    }

    #[test]
    fn the_most_urgent_close_mode_counts() {
        for (requests, mode) in [
            ([Close, Drop], Drop),
            ([Drop, Close], Drop),
            ([Abort, Close], Abort),
            ([CloseMode::Live, Close], Close),
        ] {
            let state = after(&requests.map(Request));
            assert_eq!(state.close_mode(), mode, "{requests:?}");
        }
    }

    #[test]
    fn a_timeout_shows_until_the_direction_is_switched_or_has_ended() {
        for (steps, read, write) in [
            (&[][..], false, false),
            (&[TimeOut(Read)], true, false),
            (&[TimeOut(Write)], false, true),
            (&[TimeOut(Read), Enable(Read, true)], false, false),
            (&[TimeOut(Read), Enable(Read, false)], false, false),
            (&[TimeOut(Read), ReadEnd], false, false),
            (&[TimeOut(Write), WriteEnd], false, false),
        ] {
            let state = after(steps);
            assert_eq!(state.has_timed_out(Read), read, "{steps:?}");
            assert_eq!(state.has_timed_out(Write), write, "{steps:?}");
            assert!(!(read && state.is_enabled(Read)), "{steps:?}");
        }
    }

    #[test]
    fn only_an_orderly_shutdown_counts_as_ended() {
        for (steps, ended, awaits) in [
            (&[][..], false, false),
            (&[WriteEnd], true, true),
            (&[WriteEnd, Acknowledge], true, false),
            (&[WriteFail], false, false),
            (&[WriteFail, WriteEnd], false, false),
        ] {
            let state = after(steps);
            assert_eq!(state.write.has_ended(), ended, "{steps:?}");
            assert_eq!(state.write.awaits_acknowledgement(), awaits, "{steps:?}");
        }
    }

    #[test]
    fn the_end_of_a_connection_ends_open_directions_once() {
        let reset = CloseReason::Error(error());
        for (steps, reason, read_fails) in [
            (&[][..], &reset, true),
            (&[ReadEnd], &reset, false),
            (&[], &CloseReason::Aborted, false),
            (&[ReadFail], &CloseReason::Aborted, true),
        ] {
            let mut state = after(steps);
            state.stop(reason);
            assert_eq!(
                state.read.error().is_some(),
                read_fails,
                "{steps:?} {reason:?}"
            );
            assert!(!state.read.is_open() && !state.write.is_open());
            assert!(!state.may_read() && !state.may_write());
            assert!(!state.write.has_ended() && state.write.error().is_none());
        }
    }

    #[test]
    fn the_end_of_the_peer_is_noted_once() {
        let mut state = after(&[]);
        assert!(!state.read.is_peer_closed());
        assert!(state.read.note_peer_closed());
        assert!(!state.read.note_peer_closed());
        assert!(state.read.is_peer_closed() && state.may_read());
        for steps in [[ReadEnd], [ReadFail]] {
            let mut state = after(&steps);
            assert!(state.read.is_peer_closed() && !state.read.note_peer_closed());
        }
    }

    #[test]
    fn a_position_is_flushed_when_nothing_before_it_is_pending() {
        let mut write = WriteState::new();
        assert!(write.is_flushed_to(100) && !write.is_unflushed());
        write.note_unflushed();
        assert!(!write.is_flushed_to(1) && write.is_flushed_to(0));
        write.note_flushed(50);
        assert!(write.is_flushed_to(100));
        write.note_unflushed();
        assert!(write.is_flushed_to(50) && !write.is_flushed_to(51));
    }

    #[test]
    fn a_stream_is_blocked_only_while_it_is_open() {
        let mut write = WriteState::new();
        write.set_blocked(true);
        assert!(write.is_blocked());
        write.end(None);
        assert!(!write.is_blocked());
        write.set_blocked(true);
        assert!(!write.is_blocked());
    }

    #[test]
    fn reading_is_blocked_while_it_is_set() {
        let mut state = after(&[]);
        assert!(!state.read.is_blocked());
        state.read.set_blocked(true);
        assert!(state.read.is_blocked());
        state.read.set_blocked(false);
        assert!(!state.read.is_blocked());
    }

    #[test]
    fn only_an_orderly_end_of_the_peer_counts_as_ended() {
        for (steps, ended) in [
            (&[][..], false),
            (&[ReadEnd], true),
            (&[ReadFail], false),
            (&[Discard], false),
        ] {
            assert_eq!(after(steps).read.has_ended(), ended, "{steps:?}");
        }
    }

    #[test]
    #[cfg(feature = "net")]
    fn a_connection_is_established_once() {
        let mut state = ConnectionState::new(false);
        assert!(!state.is_established());
        state.establish();
        assert!(state.is_established() && ConnectionState::new(true).is_established());
    }

    #[test]
    fn both_directions_are_enabled_at_first() {
        let state = after(&[]);
        assert!(state.is_enabled(Read) && state.is_enabled(Write));
        assert!(!after(&[Enable(Write, false)]).is_enabled(Write));
    }

    #[test]
    fn a_stream_that_replaces_another_has_nothing_to_flush() {
        let mut write = WriteState::new();
        write.note_unflushed();
        write.set_blocked(true);
        assert!(write.is_unflushed());
        write.discard_unflushed();
        assert!(!write.is_unflushed() && !write.is_blocked() && write.is_flushed_to(9));
    }
}
