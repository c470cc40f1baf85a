//! Runs user code and catches its panics.

use std::{
    any::Any,
    mem,
    panic::{self, AssertUnwindSafe},
};

/// Calls `f` and returns whether it returned. A panic is caught and reported as a tracing event.
#[inline]
pub(crate) fn catch_panic(what: &'static str, f: impl FnOnce()) -> bool {
    match panic::catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => true,
        Err(payload) => {
            report(what, payload);
            false
        }
    }
}

#[cold]
fn report(what: &'static str, payload: Box<dyn Any + Send>) {
    let message = if let Some(message) = payload.downcast_ref::<&'static str>() {
        message
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.as_str()
    } else {
        "the payload is not text"
    };
    tracing::error!(panic = message, "{what} panicked");
    // Dropping the payload may panic, too.
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again);
    }
}
