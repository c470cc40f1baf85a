//! Foreign code that panics takes nobody with it.

use std::{
    any::Any,
    mem,
    panic::{self, AssertUnwindSafe},
};

/// Calls `f` and returns whether it came back. A panic is reported and goes no further.
#[inline]
pub(crate) fn contain(what: &'static str, f: impl FnOnce()) -> bool {
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

/// Calls foreign code on behalf of the executor, and counts its panics.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    panicked: u64,
}

impl Runner {
    /// Calls `f`; a panic in it is reported and counted.
    pub(crate) fn call(&mut self, f: impl FnOnce()) {
        if !contain("a deferred callback", f) {
            self.panicked += 1;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.panicked += other.panicked;
    }

    pub(super) fn panicked(&self) -> u64 {
        self.panicked
    }
}
