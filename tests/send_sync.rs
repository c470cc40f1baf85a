//! Which types are `Send` and `Sync`, and which must not be.
//!
//! A change here is a breaking change that no other test would notice.

#[path = "support/watchdog.rs"]
mod watchdog;

use std::{error::Error, io};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_evbuffer::{
    BufferError, BufferEvent, DeferredQueue, EvBuffer, Event, Relay, SharedEvBuffer, Watermarks,
    buffer::{Chunks, FileSegment, Reservation, SlicesMut},
    bufferevent::{
        Builder, CloseReason, Direction, IntoInnerError, PauseReasons, ReadHalf, Side, Summary,
        WriteHalf,
    },
    deferred::{Drained, NoRuntime, QueueClosed},
    relay::{RelayCounters, RelayError, RelaySummary},
    shared::{
        BufferGuard, CallbackHandle, Change, Changed, Changes, Closed, Crossing, InvalidWatermarks,
        Mark, Reader, WaitError, Writer,
    },
};

/// Compiles only if each of the types implements all of the traits.
macro_rules! assert_has {
    ($($type:ty),+ $(,)? => $($trait:tt)+) => {{
        fn has<T: ?Sized + $($trait)+>() {}
        $(has::<$type>();)+
    }};
}

/// Does not compile if the type implements the trait, since two impls would apply.
macro_rules! assert_has_not {
    ($type:ty => $trait:path) => {{
        trait Ambiguous<A> {
            fn check() {}
        }
        struct IfItHas;
        impl<T: ?Sized> Ambiguous<()> for T {}
        impl<T: ?Sized + $trait> Ambiguous<IfItHas> for T {}
        <$type as Ambiguous<_>>::check();
    }};
}

#[test]
fn buffers_and_their_borrows_move_between_threads() {
    assert_has!(EvBuffer, FileSegment => Send + Sync + Unpin + 'static);
    assert_has!(Chunks<'_>, Reservation<'_>, SlicesMut<'_> => Send + Sync + Unpin);
}

#[test]
fn queues_are_used_from_any_thread() {
    assert_has!(DeferredQueue => Clone + Send + Sync + Unpin + 'static);
    assert_has!(Drained => Future<Output = ()> + Send + Sync + 'static);
}

#[test]
fn shared_buffers_are_used_from_any_thread() {
    assert_has!(SharedEvBuffer => Clone + Send + Sync + Unpin + 'static);
    assert_has!(CallbackHandle => Send + Sync + 'static);
    assert_has!(Reader, Writer, Changes => Send + Unpin + 'static);
    assert_has!(Changed<'_> => Send);
    assert_has!(Change, Crossing, Mark, Watermarks => Copy + Send + Sync + 'static);
}

/// A guard held over an await could block every other task of its thread.
#[test]
fn a_guard_stays_on_its_thread() {
    assert_has_not!(BufferGuard<'_> => Send);
}

#[test]
fn bufferevents_are_used_from_any_thread() {
    assert_has!(BufferEvent => Clone + Send + Sync + Unpin + 'static);
    assert_has!(BufferEvent, ReadHalf => AsyncRead + AsyncBufRead);
    assert_has!(BufferEvent, WriteHalf => AsyncWrite);
    assert_has!(ReadHalf, WriteHalf => Send + Unpin + 'static);
    assert_has!(Builder => Send + 'static);
    assert_has!(Event, Summary, CloseReason => Clone + Send + Sync + 'static);
    assert_has!(Direction, Side, PauseReasons => Copy + Send + Sync + 'static);
}

#[test]
fn futures_of_a_bufferevent_move_between_threads() {
    fn check<T: Send>(_: T) {}
    fn all(events: [BufferEvent; 3], stream: TcpStream) {
        let [a, b, c] = events;
        check(c.flush());
        check(c.shutdown());
        check(c.next_event());
        check(c.closed());
        check(a.close());
        check(b.into_inner::<TcpStream>());
        check(BufferEvent::new(stream));
    }
    // It is enough that this compiles.
    let _ = all;
}

#[test]
fn a_relay_is_send_if_its_streams_are() {
    fn check<T: Send>(_: T) {}
    let (a, b) = (tokio::io::duplex(1).0, tokio::io::duplex(1).0);
    check(Relay::new(a, b).run());
    assert_has!(RelayCounters => Send + Sync + 'static);
    assert_has!(RelaySummary => Clone + Send + Sync + 'static);
}

#[test]
fn errors_are_values_and_convert_to_io_errors() {
    assert_has!(BufferError => Error + Send + Sync + Copy + PartialEq + Into<io::Error> + 'static);
    assert_has!(WaitError => Error + Send + Sync + Clone + PartialEq + Into<io::Error> + 'static);
    assert_has!(Closed, InvalidWatermarks, NoRuntime, QueueClosed => Error + Send + Sync + Copy + PartialEq + Into<io::Error> + 'static);
    assert_has!(RelayError, IntoInnerError => Error + Send + Sync + Into<io::Error> + 'static);
}
