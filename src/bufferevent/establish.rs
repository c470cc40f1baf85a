//! Waits for the stream of a connection that has no task: while it connects, and while it is upgraded.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{control::CloseMode, event::CloseReason, inner::Inner};
use crate::timer::Timer;

/// Waits for a stream, unless the handles end the connection before.
pub(super) async fn establish<S>(
    connecting: impl Future<Output = io::Result<S>>,
    timeout: Option<Duration>,
    inner: &Inner,
) -> Result<S, CloseReason> {
    let mut connecting = pin!(connecting);
    let start = Instant::now();
    let expires = timeout.and_then(|timeout| start.checked_add(timeout));
    let (mut timer, mut linger, mut lingers_until) = (Timer::default(), Timer::default(), None);
    poll_fn(|cx| {
        inner.task.register_once(cx.waker());
        let control = inner.control.lock();
        let (mode, linger_time) = (control.state.close_mode(), control.settings().limits.linger);
        drop(control);
        if let Some(reason) = given_up(mode, inner) {
            return Poll::Ready(Err(reason));
        }
        if let Poll::Ready(outcome) = connecting.as_mut().poll(cx) {
            return Poll::Ready(outcome.map_err(|error| CloseReason::Error(Arc::new(error))));
        }
        if expires.is_some_and(|expires| is_due(&mut timer, cx, expires)) {
            let error = io::Error::from(io::ErrorKind::TimedOut);
            return Poll::Ready(Err(CloseReason::Error(Arc::new(error))));
        }
        if mode.is_closing() {
            let until =
                *lingers_until.get_or_insert_with(|| Instant::now().checked_add(linger_time));
            if until.is_some_and(|until| is_due(&mut linger, cx, until)) {
                return Poll::Ready(Err(CloseReason::LingerExpired));
            }
        }
        Poll::Pending
    })
    .await
}

/// Returns whether `deadline` has passed. If not, the timer wakes the task then.
pub(super) fn is_due(timer: &mut Timer, cx: &mut Context<'_>, deadline: Instant) -> bool {
    loop {
        match timer.poll(cx, deadline) {
            Poll::Pending => return false,
            Poll::Ready(()) if Instant::now() >= deadline => return true,
            Poll::Ready(()) => {}
        }
    }
}

/// Returns why the connection is not needed any more.
fn given_up(mode: CloseMode, inner: &Inner) -> Option<CloseReason> {
    match mode {
        CloseMode::Abort => Some(CloseReason::Aborted),
        CloseMode::Close if inner.output.is_empty() => Some(CloseReason::Finished),
        CloseMode::Drop if inner.output.is_empty() => Some(CloseReason::Dropped),
        _ => None,
    }
}
