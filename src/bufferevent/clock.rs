//! The timer of a connection: the one file here that asks for the time.

use std::task::{Context, Poll, ready};

use tokio::{task::coop, time::Instant};

use super::timeouts::{Deadlines, Due, Limits, Standing};
use crate::{timer::Timer, transport::poll::yield_to_driver};

/// The deadlines of a connection and the one timer for them, made when the first of them counts.
#[derive(Debug, Default)]
pub(super) struct Clock {
    deadlines: Deadlines,
    timer: Timer,
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
                    yield_to_driver(cx);
                    return Poll::Pending;
                }
                self.deadlines.told(due);
                return Poll::Ready(due);
            }
            (at.read, at.written) = (false, false);
            ready!(self.timer.poll(cx, when));
        }
    }
}
