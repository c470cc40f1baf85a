//! A timer that is created when it is first needed and moved only when it fires too early.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for a deadline that moves often and expires rarely.
///
/// A later deadline does not touch the timer of the runtime: that fires at the earlier time, and is then moved. The
/// timer of the runtime is allocated by the first poll.
///
/// On a runtime without timers, and outside of a runtime, the timer never fires. The caller works without its time
/// limits then, instead of panicking.
#[derive(Debug, Default)]
pub(crate) struct Timer(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Unset,
    Set(Pin<Box<Sleep>>),
    /// The runtime has no timers.
    Unavailable,
}

impl Timer {
    /// Waits until `deadline`.
    ///
    /// `Ready` may be for the earlier deadline of a previous call: the caller compares the clock with its deadline, and
    /// polls again if that is still to come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.poll_or_move(cx, deadline, false)
    }

    /// Waits until `deadline`, and moves the timer of the runtime at once.
    ///
    /// For a timer that would otherwise fire many times a second before its time. Tokio moves it to a later time without a
    /// lock, while a timer that has fired wakes the driver when it is set again.
    pub(crate) fn poll_moved(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.poll_or_move(cx, deadline, true)
    }

    fn poll_or_move(&mut self, cx: &mut Context<'_>, deadline: Instant, moves: bool) -> Poll<()> {
        // Tokio panics where there is no time driver, and offers no way to ask. Such a panic happens before anything
        // has changed.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if let State::Unset = self.0 {
                self.0 = State::Set(Box::pin(sleep_until(deadline)));
            }
            let State::Set(sleep) = &mut self.0 else {
                return Poll::Pending;
            };
            let moves = moves && sleep.deadline() < deadline;
            if moves || sleep.deadline() > deadline || sleep.is_elapsed() {
                sleep.as_mut().reset(deadline);
            }
            sleep.as_mut().poll(cx)
        }));
        polled.unwrap_or_else(|_| {
            tracing::warn!("time limits have no effect: the runtime has no timers");
            self.0 = State::Unavailable;
            Poll::Pending
        })
    }

    /// Returns whether the timer never fires, since the runtime has no timers. Known after the first poll.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self.0, State::Unavailable)
    }
}

/// The times between checks of something that no event reports, such as the acknowledgements of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    /// Returns the time until the next check.
    pub(crate) fn next_delay(&mut self) -> Duration {
        self.0 = (self.0 * 2).clamp(Self::FIRST, Self::LONGEST);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker, time::Duration};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_deadline_and_again_after_it_was_moved() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        poll_fn(|cx| timer.poll(cx, start + SECOND)).await;
        assert_eq!(start.elapsed(), SECOND);
        poll_fn(|cx| timer.poll(cx, start + 3 * SECOND)).await;
        assert_eq!(start.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_deadline_counts() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(timer.poll(&mut cx, start + 9 * SECOND).is_pending());
        assert!(timer.poll(&mut cx, start + 2 * SECOND).is_pending());
        poll_fn(|cx| timer.poll(cx, start + 2 * SECOND)).await;
        assert_eq!(start.elapsed(), 2 * SECOND);
        assert!(timer.poll(&mut cx, start + 9 * SECOND).is_pending());
        poll_fn(|cx| timer.poll(cx, start + 60 * SECOND)).await;
        assert_eq!(start.elapsed(), 60 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_timer_fires_at_its_last_deadline_only() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let mut cx = Context::from_waker(Waker::noop());
        for seconds in [2, 1, 5, 3] {
            let deadline = start + seconds * SECOND;
            assert!(timer.poll_moved(&mut cx, deadline).is_pending());
        }
        tokio::time::sleep_until(start + 3 * SECOND).await;
        poll_fn(|cx| timer.poll_moved(cx, start + 4 * SECOND)).await;
        assert_eq!(start.elapsed(), 4 * SECOND);
    }

    #[test]
    fn never_fires_and_never_panics_without_timers() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut outside = Timer::default();
        assert!(outside.poll(&mut cx, Instant::now()).is_pending());

        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let mut timer = Timer::default();
        for _ in 0..2 {
            assert!(timer.poll(&mut cx, Instant::now()).is_pending());
        }
        assert!(timer.is_unavailable());
    }

    #[test]
    fn a_timer_of_a_runtime_that_is_gone_does_not_panic() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut timer = Timer::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let deadline = Instant::now() + SECOND;
        {
            let _entered = runtime.enter();
            assert!(timer.poll(&mut cx, deadline).is_pending());
        }
        drop(runtime);
        assert!(timer.poll(&mut cx, deadline).is_pending());
    }

    #[test]
    fn an_unused_timer_is_small() {
        assert!(size_of::<Timer>() <= 2 * size_of::<usize>());
    }
}
