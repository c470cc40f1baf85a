//! Ends a relay that stands still: the one file here that asks for the time.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use tokio::{task::coop, time::Instant};

use super::{RelayEnd, config::Deadlines, pump::Turn};
use crate::{timer::Timer, transport::poll::yield_to_driver};

/// The deadlines of a relay and the one timer for them, made when the first of them counts.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) deadlines: Deadlines,
    timer: Timer,
    /// Something has moved since the deadlines were looked at.
    moved: bool,
}

impl Clock {
    pub(super) fn new(deadlines: Deadlines) -> Self {
        Self {
            deadlines,
            timer: Timer::default(),
            moved: false,
        }
    }

    /// Waits for the deadline of a relay that has just had its `turn`.
    ///
    /// The timer is not moved when bytes move, only when it has fired too early.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, turn: Turn) -> Poll<RelayEnd> {
        self.moved |= turn.moved;
        // While there is more to do the relay does not wait.
        if !self.deadlines.any() || turn.more {
            return Poll::Pending;
        }
        if !coop::has_budget_remaining() {
            // Perhaps nobody could look, and the timer would not be looked at either: streams that know of no budget do
            // not wake us for that.
            yield_to_driver(cx);
            return Poll::Pending;
        }
        self.wait(cx)
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        loop {
            let now = Instant::now();
            let moved = mem::take(&mut self.moved);
            let Some((at, end)) = self.deadlines.waiting(now, moved) else {
                return Poll::Pending;
            };
            if at <= now {
                return Poll::Ready(end);
            }
            ready!(self.timer.poll(cx, at));
        }
    }
}
