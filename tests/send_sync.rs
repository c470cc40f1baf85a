//! What may move to another thread, what may be used from several, and what must not.
//!
//! A change of these is a change of the interface, and otherwise only the code of a user would show it.

use std::{error::Error, io};

use tokio_evbuffer::{BufferError, Chunks, EvBuffer, Reservation, SlicesMut};

/// Compiles only if each of the types has all of the traits.
macro_rules! assert_has {
    ($($type:ty),+ $(,)? => $($trait:tt)+) => {{
        fn has<T: ?Sized + $($trait)+>() {}
        $(has::<$type>();)+
    }};
}

#[test]
fn buffers_and_what_borrows_them_move_between_threads() {
    assert_has!(EvBuffer => Send + Sync + Unpin + 'static);
    assert_has!(Chunks<'_>, Reservation<'_>, SlicesMut<'_> => Send + Sync + Unpin);
}

#[test]
fn errors_are_values_and_become_io_errors() {
    assert_has!(BufferError => Error + Send + Sync + Copy + PartialEq + Into<io::Error> + 'static);
}
