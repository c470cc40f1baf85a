//! Futures that are dropped at each of their await points.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// The most polls that a future takes here.
const POLLS_MAX: usize = 10_000;

/// Polls `future` when it is woken, `polls` times at most, and then drops it. Returns its output if it has completed.
pub async fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Calls `case` with 0, 1, 2, ... polls until it returns true: the future has completed within so many.
///
/// # Panics
///
/// Panics if the future never waits, so that `case` shows nothing.
pub async fn at_each_await_point(mut case: impl AsyncFnMut(usize) -> bool) {
    for polls in 0..POLLS_MAX {
        if case(polls).await {
            assert!(polls > 1, "the future completes in its first poll");
            return;
        }
    }
    panic!("the future does not complete within {POLLS_MAX} polls");
}
