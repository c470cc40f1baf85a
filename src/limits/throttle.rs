//! What one direction of a stream may move now: its own limit, its group's, and the timer to wait for them.

use std::{
    fmt,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{
    bucket::Bucket,
    group::{RateLimitGroup, Seat},
    rate_limit::{Rate, RateLimit},
};
use crate::timer::Timer;

/// The rate limits of one direction of a stream.
///
/// Before each operation ask [`poll_allowance`](Self::poll_allowance) how many bytes it may move, then report with
/// [`moved`](Self::moved) how many it did, also if it was none.
pub(crate) struct Throttle {
    own: Option<Bucket>,
    seat: Option<Seat>,
    held: Option<Held>,
    /// The last answer, until it is known how much was moved, and its time.
    asked: u64,
    asked_at: Instant,
    timer: Timer,
}

/// The limit that holds up a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Its own.
    Own,
    /// That of its group.
    Group,
}

impl Throttle {
    /// Returns the throttles for reading and for writing, and makes them one member of `group`.
    pub(crate) fn pair(limit: Option<RateLimit>, group: Option<&RateLimitGroup>) -> (Self, Self) {
        let (read_seat, write_seat) = group.map(Seat::pair).unzip();
        let mut read = Self::new(read_seat);
        let mut write = Self::new(write_seat);
        read.set_rate(limit.and_then(|limit| limit.read));
        write.set_rate(limit.and_then(|limit| limit.write));
        (read, write)
    }

    /// Returns the throttle of a flow that is alone: a limit of either direction applies, and both are the same.
    pub(crate) fn one_way(limit: RateLimit) -> Self {
        let mut throttle = Self::new(None);
        throttle.set_rate(limit.read.or(limit.write));
        throttle
    }

    fn new(seat: Option<Seat>) -> Self {
        Self {
            own: None,
            seat,
            held: None,
            asked: 0,
            asked_at: Instant::now(),
            timer: Timer::default(),
        }
    }

    /// Changes the own limit of a pair; `None` removes it. Poll both directions afterwards.
    pub(crate) fn set_limit(read: &mut Self, write: &mut Self, limit: Option<RateLimit>) {
        read.set_rate(limit.and_then(|limit| limit.read));
        write.set_rate(limit.and_then(|limit| limit.write));
    }

    fn set_rate(&mut self, rate: Option<Rate>) {
        let now = Instant::now();
        match (&mut self.own, rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
            (own, rate) => *own = rate.map(|rate| Bucket::new(rate, now)),
        }
        if self.held == Some(Held::Own) {
            self.held = None;
        }
    }

    /// Takes `n` bytes of allowance; a negative `n` gives them back, up to the burst. Poll the direction afterwards.
    pub(crate) fn consume(&mut self, n: i64) {
        let now = Instant::now();
        if let Some(bucket) = &mut self.own {
            bucket.available(now);
            match u64::try_from(n) {
                Ok(n) => bucket.take(n),
                Err(_) => bucket.put_back(n.unsigned_abs()),
            }
        }
        if let Some(seat) = &mut self.seat {
            seat.consume(now, n);
        }
    }

    /// Returns how many of `want` bytes may move now: at least one, if `want` is. Otherwise it wakes the task when there
    /// is something to move.
    ///
    /// On a runtime without timers nothing is held back.
    pub(crate) fn poll_allowance(&mut self, cx: &mut Context<'_>, want: u64) -> Poll<u64> {
        loop {
            let now = Instant::now();
            self.asked_at = now;
            let (held, until) = match self.allowance(cx, now, want) {
                Ok(n) => return Poll::Ready(self.allow(n)),
                Err(wait) => wait,
            };
            self.held = Some(held);
            if self.timer.poll(cx, until).is_pending() {
                return match self.timer.is_unavailable() {
                    true => Poll::Ready(self.allow(want)),
                    false => Poll::Pending,
                };
            }
        }
    }

    fn allow(&mut self, n: u64) -> u64 {
        self.held = None;
        self.asked = n;
        n
    }

    fn allowance(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        want: u64,
    ) -> Result<u64, (Held, Instant)> {
        let mut n = want;
        if let Some(bucket) = &mut self.own {
            // Less would be moved in ever smaller pieces: while one moves, only a few more tokens come in.
            let need = bucket.resume_at().min(want);
            let available = bucket.available(now);
            if available < need {
                let until = bucket.time_of(need);
                if let Some(seat) = &mut self.seat {
                    seat.leave(now);
                }
                return Err((Held::Own, until));
            }
            n = n.min(available);
        }
        match &mut self.seat {
            Some(seat) => match seat.allowance(now, cx.waker()) {
                Ok(share) => Ok(n.min(share)),
                Err(until) => Err((Held::Group, until)),
            },
            None => Ok(n),
        }
    }

    /// Reports that the last operation moved `n` bytes. Less than was allowed means that the stream has no more for now.
    pub(crate) fn moved(&mut self, n: u64) {
        if let Some(bucket) = &mut self.own {
            bucket.take(n);
        }
        if let Some(seat) = &mut self.seat {
            seat.moved(self.asked_at, self.asked, n);
        }
    }

    /// Returns the limit for which the direction waits.
    pub(crate) fn held(&self) -> Option<Held> {
        self.held
    }

    /// Reports that the direction will not move bytes soon, for other reasons: returns the group's tokens.
    pub(crate) fn release(&mut self) {
        self.held = None;
        if let Some(seat) = &mut self.seat {
            seat.leave(Instant::now());
        }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("own", &self.own)
            .field("group", &self.seat.is_some())
            .field("held", &self.held)
            .finish()
    }
}
