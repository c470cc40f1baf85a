//! What may move to another thread, what may be used from several, and what must not.
//!
//! A change of these is a change of the interface, and otherwise only the code of a user would show it.

use std::{error::Error, io};

use tokio_evbuffer::{
    BufferError, Chunks, DeferredQueue, Drained, EvBuffer, FileSegment, NoRuntime, QueueClosed,
    Relay, RelayCounters, RelayError, RelaySummary, Reservation, SlicesMut,
};

/// Compiles only if each of the types has all of the traits.
macro_rules! assert_has {
    ($($type:ty),+ $(,)? => $($trait:tt)+) => {{
        fn has<T: ?Sized + $($trait)+>() {}
        $(has::<$type>();)+
    }};
}

#[test]
fn buffers_and_what_borrows_them_move_between_threads() {
    assert_has!(EvBuffer, FileSegment => Send + Sync + Unpin + 'static);
    assert_has!(Chunks<'_>, Reservation<'_>, SlicesMut<'_> => Send + Sync + Unpin);
}

#[test]
fn queues_are_used_from_any_thread() {
    assert_has!(DeferredQueue => Clone + Send + Sync + Unpin + 'static);
    assert_has!(Drained => Future<Output = ()> + Send + Sync + 'static);
}

#[test]
fn a_relay_moves_where_its_streams_do() {
    fn check<T: Send>(_: T) {}
    let (a, b) = (tokio::io::duplex(1).0, tokio::io::duplex(1).0);
    check(Relay::new(a, b).run());
    assert_has!(RelayCounters => Send + Sync + 'static);
    assert_has!(RelaySummary => Clone + Send + Sync + 'static);
}

#[test]
fn errors_are_values_and_become_io_errors() {
    assert_has!(BufferError => Error + Send + Sync + Copy + PartialEq + Into<io::Error> + 'static);
    assert_has!(NoRuntime, QueueClosed => Error + Send + Sync + Copy + PartialEq + Into<io::Error> + 'static);
    assert_has!(RelayError => Error + Send + Sync + Into<io::Error> + 'static);
}
