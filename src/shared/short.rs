//! The short way from a change to its callbacks, where it concerns nobody else and one inline callback at most: the
//! usual case.
//!
//! What is told is kept in registers all the way, hence the `inline(always)`. Moved about as a [`Delivery`] it is read in
//! larger pieces than it was just written in, for which a CPU waits; that makes the long way three times as slow.

use std::{sync::Arc, task::Waker};

use super::{
    Inner, SharedEvBuffer,
    callbacks::{ChangeCall, Delivery},
    state::{Rare, Reading, State},
};
use crate::{deferred::Runner, panic::catch_panic};

/// What is to be done once the lock is open.
pub(super) struct Calls {
    executor: Option<Waker>,
    inline: Option<ChangeCall>,
}

impl State {
    /// Takes in what was changed since `before`, if that goes the short way.
    #[inline(always)]
    pub(super) fn tell_callbacks_only(
        &mut self,
        before: Reading,
        inner: &Arc<Inner>,
    ) -> Option<Calls> {
        let (now, is_same) = (self.totals(), self.has_same_buffer());
        let rare = self.rare.as_deref_mut()?;
        let concerns_no_other = rare.concerns_no_other(now.len) && !rare.gauge.has_news();
        let callbacks = rare.callbacks.as_deref_mut()?;
        if !is_same || !concerns_no_other || !callbacks.has_one_inline_at_most() {
            return None;
        }
        Some(Calls {
            executor: callbacks.schedule(before.has_changed(now), rare.queue.as_ref(), inner),
            inline: callbacks.begin_alone(now),
        })
    }

    #[inline(always)]
    fn end_alone(&mut self, made: ChangeCall) -> Result<(), ChangeCall> {
        let now = self.totals();
        match self.rare.as_deref_mut() {
            Some(Rare {
                gauge,
                callbacks: Some(callbacks),
                ..
            }) => callbacks.end_alone(made, gauge, now),
            _ => Err(made),
        }
    }
}

impl Calls {
    /// Foreign code runs here, so no lock may be held.
    #[inline(always)]
    pub(super) fn carry_out(self, buffer: &SharedEvBuffer) {
        let Self { executor, inline } = self;
        if let Some(executor) = executor {
            executor.wake();
        }
        if let Some(call) = inline {
            buffer.deliver_alone(call);
        }
    }
}

impl SharedEvBuffer {
    /// Runs the only ordinary callback. Returns whether that was all there is to run.
    #[inline]
    pub(super) fn run_alone(&self, runner: &mut Runner) -> bool {
        let mut state = self.inner.state.lock();
        let now = state.totals();
        let Some(mut call) = state.callbacks_mut().take_only_deferred(now) else {
            return false;
        };
        drop(state);
        runner.call(|| call.make(self));
        let mut state = self.inner.state.lock();
        let Err(made) = state.callbacks_mut().put_back_only_deferred(call) else {
            return true;
        };
        drop(state);
        self.run_deferred(self.next_deferred(made), runner);
        true
    }

    #[inline(always)]
    fn deliver_alone(&self, mut call: ChangeCall) {
        if !catch_panic("an inline callback", || call.make(self)) {
            self.count_panic();
        }
        let ended = self.inner.state.lock().end_alone(call);
        if let Err(made) = ended {
            // It was removed, or there is more to be told.
            self.deliver(self.next_delivery(Delivery::Change(made)));
        }
    }
}
