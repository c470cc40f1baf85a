//! Steps of a poll function that moves bytes: what a step came to, when to retry, and when to yield.

use std::{
    io,
    pin::pin,
    task::{Context, Poll},
};

use tokio::task::coop::RestoreOnPending;

/// Reads and writes in one poll before the task yields.
pub(crate) const ROUNDS_PER_POLL: u32 = 16;

/// Bytes read or written in one poll before the task yields.
pub(crate) const BYTES_PER_POLL: usize = 512 << 10;

/// The outcome of one attempt to read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The number of bytes that moved.
    Bytes(usize),
    /// Another attempt is worthwhile: the call was interrupted, or the state has changed.
    Again,
    /// There is nothing to do.
    Nothing,
    /// The stream will wake the task.
    Waits,
}

impl Moved {
    /// Converts the result of a poll function of a stream. An interrupted call becomes [`Moved::Again`].
    #[inline]
    pub(crate) fn from_poll(polled: Poll<io::Result<usize>>) -> io::Result<Self> {
        match polled {
            Poll::Ready(Ok(n)) => Ok(Self::Bytes(n)),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                Ok(Self::Again)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Self::Waits),
        }
    }

    #[inline]
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Bytes(n) => n,
            _ => 0,
        }
    }

    /// Returns whether another attempt is pointless until something else happens.
    #[inline]
    pub(crate) fn is_stuck(self) -> bool {
        matches!(self, Self::Nothing | Self::Waits)
    }
}

/// The work done in one poll, and whether the task has to yield.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PollWork {
    rounds: u32,
    pub(crate) read: usize,
    pub(crate) written: usize,
}

impl PollWork {
    /// Adds one round: an attempt to read and an attempt to write.
    #[inline]
    pub(crate) fn add_round(&mut self, read: Moved, written: Moved) {
        self.rounds += 1;
        self.read += read.bytes();
        self.written += written.bytes();
    }

    /// Returns whether the poll has done enough: the caller calls [`yield_to_driver`] and returns `Pending`.
    #[inline]
    pub(crate) fn must_yield(&self) -> bool {
        self.rounds >= ROUNDS_PER_POLL || self.read.max(self.written) >= BYTES_PER_POLL
    }

    /// Returns whether any bytes moved.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.read + self.written > 0
    }
}

/// Wakes the task after the runtime has polled its I/O driver, as [`tokio::task::yield_now`] does.
///
/// A plain `wake_by_ref` puts the task in front of the driver: a few tasks with endless work then keep the others from
/// seeing their sockets for tens of milliseconds.
pub(crate) fn yield_to_driver(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

/// Converts an interrupted operation into `Pending` and a wake-up.
#[inline]
pub(crate) fn retry_interrupted<T>(
    polled: Poll<io::Result<T>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
            yield_to_driver(cx);
            Poll::Pending
        }
        polled => polled,
    }
}

/// Takes one unit of the task's cooperative budget, if `unit` is one.
#[inline]
pub(crate) fn spend(unit: Option<RestoreOnPending>) {
    if let Some(unit) = unit {
        unit.made_progress();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn a_poll_yields_after_its_rounds_or_its_bytes() {
        let mut work = PollWork::default();
        for _ in 1..ROUNDS_PER_POLL {
            work.add_round(Moved::Bytes(1), Moved::Nothing);
            assert!(!work.must_yield());
        }
        work.add_round(Moved::Again, Moved::Waits);
        assert!(work.must_yield() && work.any());
        let mut work = PollWork::default();
        work.add_round(Moved::Bytes(BYTES_PER_POLL - 1), Moved::Bytes(1));
        assert!(!work.must_yield());
        work.add_round(Moved::Nothing, Moved::Bytes(BYTES_PER_POLL - 1));
        assert!(work.must_yield());
    }

    #[tokio::test]
    async fn interrupted_is_tried_again_and_other_errors_are_not() {
        let mut calls = 0;
        let result: io::Result<()> = poll_fn(|cx| {
            calls += 1;
            let kind = match calls {
                1 | 2 => io::ErrorKind::Interrupted,
                _ => io::ErrorKind::BrokenPipe,
            };
            retry_interrupted(Poll::Ready(Err(kind.into())), cx)
        })
        .await;
        assert_eq!(
            (calls, result.unwrap_err().kind()),
            (3, io::ErrorKind::BrokenPipe)
        );
    }

    /// With `wake_by_ref` this does not end: a busy task is always ready before the runtime polls its I/O driver.
    #[cfg(feature = "net")]
    #[tokio::test]
    async fn a_task_that_yields_lets_the_driver_report_a_socket() {
        use std::sync::Arc;

        use tokio::{
            io::{AsyncReadExt, AsyncWriteExt},
            task::yield_now,
        };

        use crate::test_net::tcp_pair;

        let (mut near, far) = tcp_pair().await;
        let polls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let busy = tokio::spawn(poll_fn(move |cx| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            yield_to_driver(cx);
            Poll::<()>::Pending
        }));
        let reading = tokio::spawn(async move {
            let mut far = far;
            far.read_u8().await.unwrap()
        });
        yield_now().await;
        near.write_all(&[7]).await.unwrap();
        let before = polls.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(reading.await.unwrap(), 7);
        let during = polls.load(std::sync::atomic::Ordering::Relaxed) - before;
        busy.abort();
        assert!(during <= 8, "{during} polls of the busy task");
    }
}
