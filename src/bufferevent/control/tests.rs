//! Each transition of the state of a connection, in tables.

use std::io;

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
    // The steps to take; then: may read, discards, may write.
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
    // The steps to take; then the expected reason.
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
    // The steps, the reason, whether reading has failed then, and the error of the input.
    for (steps, reason, read_fails, input_error) in [
        (&[][..], &reset, true, Some(io::ErrorKind::ConnectionReset)),
        (&[ReadEnd], &reset, false, None),
        (
            &[],
            &CloseReason::Aborted,
            false,
            Some(io::ErrorKind::ConnectionAborted),
        ),
        (
            &[ReadFail],
            &CloseReason::Aborted,
            true,
            Some(io::ErrorKind::ConnectionReset),
        ),
        (&[ReadEnd], &CloseReason::Aborted, false, None),
        (&[Discard], &CloseReason::Aborted, false, None),
    ] {
        let mut state = after(steps);
        let seen = state.stop(reason).map(|error| error.kind());
        assert_eq!(seen, input_error, "{steps:?} {reason:?}");
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
fn a_reset_ends_writing_at_once_and_reading_after_the_rest() {
    let mut state = after(&[]);
    state.note_reset(error());
    assert!(state.read.is_peer_closed() && state.may_read() && !state.may_write());
    assert!(state.read.reset().is_some() && state.read.error().is_none());
    assert!(state.is_ending() && state.finished().is_none());
    assert_eq!(state.reason_after_wait(), CloseReason::Error(error()));
    state.read.end(Some(error()));
    assert!(state.read.reset().is_none() && state.read.error().is_some());
    assert_eq!(state.finished(), Some(CloseReason::Error(error())));
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
