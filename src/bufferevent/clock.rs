//! The timer of a connection: the one file here that asks for the time.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use super::timeouts::{Deadlines, Due, Limits, Standing};

/// The deadlines of a connection and the one timer for them, made when the first of them counts.
#[derive(Debug, Default)]
pub(super) struct Clock {
    deadlines: Deadlines,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Waits for what is due next, things standing as in `at`.
    ///
    /// The timer is not moved when bytes move, only when it has fired too early.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        mut at: Standing,
    ) -> Poll<Due> {
        loop {
            let now = Instant::now();
            self.deadlines.look(now, at);
            let Some((when, due)) = self.deadlines.next(limits) else {
                return Poll::Pending;
            };
            if when <= now {
                // Where nobody could look for want of budget, it is not that nothing has come.
                if !coop::has_budget_remaining() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.deadlines.told(due);
                return Poll::Ready(due);
            }
            (at.read, at.written) = (false, false);
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(sleep_until(when)));
            if sleep.deadline() > when || sleep.is_elapsed() {
                sleep.as_mut().reset(when);
            }
            ready!(sleep.as_mut().poll(cx));
        }
    }
}
