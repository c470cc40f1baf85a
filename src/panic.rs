//! Runs user code and catches its panics.

use std::{
    any::Any,
    mem,
    panic::{self, AssertUnwindSafe},
};

/// Calls `f` and returns whether it came back. A panic is reported and goes no further.
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
        "of a type that is not text"
    };
    tracing::error!(panic = message, "{what} panicked");
    // What was thrown may itself throw when it is dropped.
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again);
    }
}
