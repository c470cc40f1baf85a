//! When a relay ends by policy: half-close, linger and idle timeout, on a paused clock.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf,
        duplex, join, split,
    },
    time::{Instant, sleep},
};
use tokio_evbuffer::{
    Relay, copy_bidirectional, relay,
    relay::{HalfClose, RelayEnd, RelaySummary},
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs `test` with a relay between `left` and `right`, and again with its ends swapped.
///
/// `test` gets the far ends of both, and the relay's summary is checked by `check` with the seconds it took.
async fn both_ways<T, F>(
    set: impl Fn(Relay<DuplexStream, DuplexStream>) -> Relay<DuplexStream, DuplexStream>,
    test: T,
    check: impl Fn(RelaySummary, f64),
) where
    T: Fn(DuplexStream, DuplexStream) -> F,
    F: Future<Output = ()>,
{
    for swapped in [false, true] {
        let (left, near_left) = duplex(1000);
        let (right, near_right) = duplex(1000);
        let relay = match swapped {
            false => Relay::new(near_left, near_right),
            true => Relay::new(near_right, near_left),
        };
        let start = Instant::now();
        let run = set(relay).run();
        let finish = async {
            let summary = run.await.unwrap();
            check(summary, start.elapsed().as_secs_f64());
        };
        tokio::join!(finish, test(left, right));
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_relay_may_be_silent_permanently() {
    let year = 365 * 24 * 3600 * SECOND;
    let test = async |mut left: DuplexStream, mut right: DuplexStream| {
        sleep(year).await;
        left.write_all(b"still there").await.unwrap();
        right.read_exact(&mut [0; 11]).await.unwrap();
        drop((left, right));
    };
    both_ways(
        |relay| relay,
        test,
        |summary, _| assert_eq!(summary.reason, RelayEnd::Eof),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_half_closed_relay_ends_after_30_s() {
    let test = async |mut left: DuplexStream, mut right: DuplexStream| {
        sleep(100 * SECOND).await;
        left.shutdown().await.unwrap();
        let mut rest = Vec::new();
        right.read_to_end(&mut rest).await.unwrap();
        sleep(1000 * SECOND).await;
    };
    both_ways(
        |relay| relay,
        test,
        |summary, took| {
            assert_eq!(summary.reason, RelayEnd::LingerExpired);
            assert!((130.0..130.1).contains(&took), "{took} s");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_byte_restarts_the_linger_time() {
    let test = async |mut left: DuplexStream, mut right: DuplexStream| {
        left.shutdown().await.unwrap();
        for _ in 0..20 {
            sleep(4 * SECOND).await;
            right.write_all(b"x").await.unwrap();
        }
        sleep(1000 * SECOND).await;
        let mut received = Vec::new();
        left.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 20);
    };
    let set = |relay: Relay<_, _>| relay.half_close(HalfClose::Linger(5 * SECOND));
    both_ways(set, test, |summary, took| {
        assert_eq!(summary.reason, RelayEnd::LingerExpired);
        assert_eq!(summary.a_to_b + summary.b_to_a, 20);
        assert!((85.0..85.1).contains(&took), "{took} s");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_neither_idle_nor_lingering() {
    let test = async |mut left: DuplexStream, mut right: DuplexStream| {
        let sent = vec![7; 300_000];
        let send = async {
            left.write_all(&sent).await.unwrap();
            left.shutdown().await.unwrap();
        };
        let read = async {
            let (mut total, mut piece) = (0, vec![0; 2000]);
            loop {
                sleep(SECOND).await;
                match right.read(&mut piece).await.unwrap() {
                    0 => break total,
                    n => total += n,
                }
            }
        };
        let ((), total) = tokio::join!(send, read);
        assert_eq!(total, sent.len());
    };
    let set = |relay: Relay<_, _>| {
        relay
            .idle_timeout(3 * SECOND)
            .half_close(HalfClose::Linger(3 * SECOND))
            .buffer(10_000)
    };
    both_ways(set, test, |summary, _| {
        assert_eq!(summary.reason, RelayEnd::Eof)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_ends_as_idle() {
    let test = async |mut left: DuplexStream, mut right: DuplexStream| {
        for _ in 0..5 {
            sleep(9 * SECOND).await;
            left.write_all(b"x").await.unwrap();
        }
        right.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(
            right.read(&mut [0]).await.unwrap(),
            0,
            "dropped with the relay"
        );
    };
    let set = |relay: Relay<_, _>| relay.idle_timeout(10 * SECOND);
    both_ways(set, test, |summary, took| {
        assert_eq!(summary.reason, RelayEnd::Idle);
        assert_eq!(summary.a_to_b + summary.b_to_a, 5);
        assert!((55.0..55.1).contains(&took), "{took} s");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_reader_makes_the_relay_idle() {
    let test = async |mut left: DuplexStream, right: DuplexStream| {
        // More than all buffers on the path can hold.
        assert!(left.write_all(&[0; 1 << 20]).await.is_err());
        drop(right);
    };
    let set = |relay: Relay<_, _>| relay.idle_timeout(10 * SECOND);
    both_ways(set, test, |summary, _| {
        assert_eq!(summary.reason, RelayEnd::Idle)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_zero_ends_the_relay_at_its_first_wait() {
    let test = async |mut left: DuplexStream, mut right: DuplexStream| {
        left.write_all(b"x").await.ok();
        let _ = right.read(&mut [0]).await;
    };
    let set = |relay: Relay<_, _>| relay.idle_timeout(Duration::ZERO);
    both_ways(set, test, |summary, took| {
        assert_eq!((summary.reason, took), (RelayEnd::Idle, 0.0))
    })
    .await;

    let test = async |mut left: DuplexStream, mut right: DuplexStream| {
        left.write_all(b"last words").await.unwrap();
        left.shutdown().await.unwrap();
        let mut received = Vec::new();
        right.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last words");
    };
    let set = |relay: Relay<_, _>| relay.half_close(HalfClose::Linger(Duration::ZERO));
    both_ways(set, test, |summary, took| {
        assert_eq!((summary.reason, took), (RelayEnd::LingerExpired, 0.0))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn duration_max_is_no_limit_and_does_not_overflow() {
    let test = async |mut left: DuplexStream, right: DuplexStream| {
        left.shutdown().await.unwrap();
        sleep(1_000_000 * SECOND).await;
        drop(right);
    };
    let set = |relay: Relay<_, _>| {
        relay
            .idle_timeout(Duration::MAX)
            .half_close(HalfClose::Linger(Duration::MAX))
    };
    both_ways(set, test, |summary, _| {
        assert_eq!(summary.reason, RelayEnd::Eof)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn with_propagate_a_half_closed_relay_waits_permanently() {
    let test = async |mut left: DuplexStream, mut right: DuplexStream| {
        left.shutdown().await.unwrap();
        sleep(1_000_000 * SECOND).await;
        right.write_all(b"at last").await.unwrap();
        drop(right);
        let mut received = String::new();
        left.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "at last");
    };
    let set = |relay: Relay<_, _>| relay.half_close(HalfClose::Propagate);
    both_ways(set, test, |summary, _| {
        assert_eq!(summary.reason, RelayEnd::Eof)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_closing_relay_does_not_wait_permanently_for_a_stopped_reader() {
    let test = async |mut left: DuplexStream, right: DuplexStream| {
        left.write_all(&[0; 200_000]).await.unwrap();
        left.shutdown().await.unwrap();
        sleep(1000 * SECOND).await;
        drop(right);
    };
    let set = |relay: Relay<_, _>| relay.half_close(HalfClose::Close).stall_buffer(1 << 20);
    both_ways(set, test, |summary, took| {
        assert_eq!(summary.reason, RelayEnd::LingerExpired);
        assert!((30.0..30.1).contains(&took), "{took} s");
    })
    .await;
}

/// Like Tokio's function, it needs no clock and leaves a half-closed connection open.
#[test]
fn copy_bidirectional_needs_no_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut left, mut a) = duplex(16);
        let (mut right, mut b) = duplex(16);
        let test = async {
            left.write_all(b"question").await.unwrap();
            left.shutdown().await.unwrap();
            let mut question = String::new();
            right.read_to_string(&mut question).await.unwrap();
            tokio::task::yield_now().await;
            right.write_all(b"answer").await.unwrap();
            drop(right);
        };
        let (counts, ()) = tokio::join!(copy_bidirectional(&mut a, &mut b), test);
        assert_eq!(counts.unwrap(), (8, 6));
    });
}

/// A relay that does not half-close and has no idle timeout creates no timer.
#[test]
fn an_open_relay_needs_no_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut left, a) = duplex(16);
        let (mut right, b) = duplex(16);
        let relaying = tokio::spawn(relay(a, b));
        left.write_all(b"question").await.unwrap();
        right.read_exact(&mut [0; 8]).await.unwrap();
        relaying.abort();
        assert!(relaying.await.unwrap_err().is_cancelled());
    });
}

/// Returns one byte at a time, so that a few dozen use up the coop budget.
struct OneByteAtATime(ReadHalf<DuplexStream>);

impl AsyncRead for OneByteAtATime {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut one))?;
        out.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

/// Bytes moved in a poll that yields to other tasks restart the idle time.
#[tokio::test(start_paused = true)]
async fn bytes_moved_in_a_poll_that_yields_restart_the_idle_time() {
    for n in 1..=40 {
        let (mut left, near_left) = duplex(1000);
        let (right, near_right) = duplex(1000);
        let start = Instant::now();
        let (read, write) = split(near_left);
        let near_left = join(OneByteAtATime(read), write);
        let relay = Relay::new(near_left, near_right).idle_timeout(5 * SECOND);
        let send = async {
            sleep(3 * SECOND).await;
            left.write_all(&vec![1; n]).await.unwrap();
        };
        let (summary, ()) = tokio::join!(relay.run(), send);
        let summary = summary.unwrap();
        assert_eq!(summary.reason, RelayEnd::Idle);
        assert_eq!((summary.a_to_b, start.elapsed().as_secs()), (n as u64, 8));
        drop(right);
    }
}

/// A stream without coop budget: reads one byte once, and accepts all writes.
struct NoBudget(bool);

impl AsyncRead for NoBudget {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::take(&mut self.0) {
            return Poll::Pending;
        }
        out.put_slice(b"x");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NoBudget {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Other code may use up any part of the task's budget in the poll that moves the last bytes.
#[tokio::test(start_paused = true)]
async fn timeouts_expire_also_if_the_coop_budget_is_used_up() {
    for used in 100..130 {
        let mut running = Box::pin(
            Relay::new(NoBudget(true), NoBudget(true))
                .idle_timeout(SECOND)
                .run(),
        );
        let mut first = true;
        let relaying = tokio::spawn(std::future::poll_fn(move |cx| {
            for _ in 0..if std::mem::take(&mut first) { used } else { 0 } {
                let _ = tokio::task::coop::poll_proceed(cx).map(|budget| budget.made_progress());
            }
            running.as_mut().poll(cx)
        }));
        let end = tokio::time::timeout(100 * SECOND, relaying).await;
        let summary = end
            .expect("no progress: a wake-up was lost")
            .unwrap()
            .unwrap();
        assert_eq!(summary.reason, RelayEnd::Idle, "{used}");
    }
}

/// A stream that fails to write, then reads an answer, and then fails to read. Unlike that of `tokio_test`, it wakes no task
/// by itself.
struct Failing {
    has_failed: bool,
    has_answered: bool,
}

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match (self.has_failed, self.has_answered) {
            (false, _) => Poll::Pending,
            (true, false) => {
                self.has_answered = true;
                room.put_slice(b"answer");
                Poll::Ready(Ok(()))
            }
            (true, true) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for Failing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.has_failed = true;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_side_that_fails_to_write_and_then_to_read_ends_the_relay_at_once() {
    for swapped in [false, true] {
        let (mut client, near) = duplex(3);
        let failing = Failing {
            has_failed: false,
            has_answered: false,
        };
        client.write_all(b"req").await.unwrap();
        let start = Instant::now();
        let relaying = tokio::spawn(async move {
            match swapped {
                false => relay(near, failing).await,
                true => relay(failing, near).await,
            }
        });
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        let ended = relaying.await.unwrap();
        assert_eq!(ended.unwrap_err().error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
