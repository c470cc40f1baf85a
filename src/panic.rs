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
    let message = text(&*payload).unwrap_or("the payload is not text");
    tracing::error!(panic = message, "{what} panicked");
    // Dropping the payload may panic, too, with a payload of which the same is true. Dropping text never panics.
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        if text(&*again).is_none() {
            mem::forget(again);
        }
    }
}

fn text(payload: &(dyn Any + Send)) -> Option<&str> {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        Some(text)
    } else {
        payload.downcast_ref::<String>().map(String::as_str)
    }
}
