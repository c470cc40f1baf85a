//! A relay between faulty streams: every byte arrives once and in order, or the error counts what did not arrive.
//!
//! The futures are polled only when woken, so that a lost wake-up fails the test. Every test also runs with its ends
//! swapped.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncWrite, AsyncWriteExt, duplex, empty, join, sink};
use tokio_evbuffer::{
    EvBuffer, Relay, copy_bidirectional, relay,
    relay::{HalfClose, OnError, Peer, RelayCounters, RelayEnd, RelayError, RelaySummary, Step},
};

use crate::support::{
    data::random_bytes,
    faulty_stream::{Ending, Exchanging, Faults, FaultyStream, Observed},
    sim::Sim,
};

type Outcome = Result<RelaySummary, RelayError>;

/// The streams of both sides of a relay.
struct Case {
    seed: u64,
    left: (Vec<u8>, Faults),
    right: (Vec<u8>, Faults),
}

/// The result of a run, for left and right, independent of which of them was `a`.
struct RunResult {
    outcome: Outcome,
    left: Observed,
    right: Observed,
    swapped: bool,
}

impl RunResult {
    fn left_to_right(&self, summary: &RelaySummary) -> u64 {
        if self.swapped {
            summary.b_to_a
        } else {
            summary.a_to_b
        }
    }

    fn right_to_left(&self, summary: &RelaySummary) -> u64 {
        if self.swapped {
            summary.a_to_b
        } else {
            summary.b_to_a
        }
    }

    fn failure(&self) -> (&RelayError, bool) {
        let error = self
            .outcome
            .as_ref()
            .expect_err("the relay should have failed");
        assert_eq!(error.summary.reason, RelayEnd::Error);
        (error, (error.peer == Peer::A) != self.swapped)
    }
}

/// Runs a relay with left as `a`, then with left as `b`.
fn both_ways(
    case: &Case,
    set: impl Fn(Relay<FaultyStream, FaultyStream>) -> Relay<FaultyStream, FaultyStream>,
    check: impl Fn(RunResult),
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _entered = runtime.enter();
    for swapped in [false, true] {
        let sim = Sim::new(case.seed);
        let left = FaultyStream::new(&sim, 0, &case.left.0, case.left.1);
        let right = FaultyStream::new(&sim, 1, &case.right.0, case.right.1);
        let (see_left, see_right) = (left.seen(), right.seen());
        let (a, b) = if swapped {
            (right, left)
        } else {
            (left, right)
        };
        let outcome = sim.run(set(Relay::new(a, b)).run());
        check(RunResult {
            outcome,
            left: see_left(),
            right: see_right(),
            swapped,
        });
    }
}

#[test]
fn every_byte_arrives_once_and_in_order_over_faulty_streams() {
    for seed in 0..50 {
        let chance = Sim::new(seed);
        let faults = || Faults {
            piece: [1, 3, 100, 5000, usize::MAX][chance.random(5)],
            pending: [0, 1, 2, 5][chance.random(4)],
            interrupted: [0, 3, 10][chance.random(3)],
            vectored: chance.random(2) == 0,
            ..Faults::default()
        };
        let (left, right) = (faults(), faults());
        let long = 1 + chance.random(40_000);
        let high = [1, 7, 600, 20_000, 256 << 10][chance.random(5)];
        let long = if high < 600 { long % 500 } else { long };
        let case = Case {
            seed,
            left: (random_bytes(long, 1), left),
            right: (random_bytes(long / 3, 2), right),
        };
        both_ways(
            &case,
            |relay| relay.buffer(high),
            |result| {
                let summary = result.outcome.as_ref().unwrap();
                assert_eq!(summary.reason, RelayEnd::Eof, "seed {seed}");
                assert_eq!(result.left_to_right(summary), long as u64);
                assert_eq!(result.right_to_left(summary), (long / 3) as u64);
                for (seen, sent) in [(&result.right, &case.left.0), (&result.left, &case.right.0)] {
                    assert!(seen.written == *sent, "seed {seed}: other bytes arrived");
                    assert!(
                        seen.shut_down && seen.flushed == sent.len(),
                        "seed {seed}: flushed, then ended"
                    );
                }
            },
        );
    }
}

#[test]
fn the_end_of_one_direction_does_not_end_the_other() {
    let reply_after_request = Faults {
        answers_after: 300,
        pending: 2,
        ..Faults::default()
    };
    let case = Case {
        seed: 1,
        left: (random_bytes(300, 1), Faults::default()),
        right: (random_bytes(70_000, 2), reply_after_request),
    };
    both_ways(
        &case,
        |relay| relay,
        |result| {
            assert_eq!(result.outcome.as_ref().unwrap().reason, RelayEnd::Eof);
            assert!(result.left.written == case.right.0);
        },
    );
}

#[test]
fn with_close_the_first_end_ends_both_directions_after_held_bytes_are_written() {
    let silent = Faults {
        answers_after: usize::MAX,
        ..Faults::default()
    };
    let slow = Faults {
        piece: 10,
        pending: 1,
        ..silent
    };
    let case = Case {
        seed: 2,
        left: (random_bytes(500, 1), Faults::default()),
        right: (random_bytes(9, 2), slow),
    };
    both_ways(
        &case,
        |relay| relay.half_close(HalfClose::Close),
        |result| {
            assert_eq!(result.outcome.as_ref().unwrap().reason, RelayEnd::FirstEof);
            assert!(result.right.written == case.left.0);
            assert!(result.left.shut_down && result.right.shut_down);
            assert_eq!(result.right.read, 0);
        },
    );
}

#[test]
fn a_read_error_at_any_byte_is_returned_after_all_bytes_read_are_delivered() {
    for k in 0..40 {
        let broken = Faults {
            piece: 7,
            pending: 3,
            ending: Ending::Error(io::ErrorKind::ConnectionAborted),
            ..Faults::default()
        };
        let busy = Faults {
            piece: 5,
            pending: 2,
            answers_after: usize::MAX,
            ..Faults::default()
        };
        let case = Case {
            seed: k,
            left: (random_bytes(k as usize, 1), broken),
            right: (random_bytes(20, 2), busy),
        };
        for how in [None, Some(OnError::Reset), Some(OnError::Fin)] {
            let set = |relay: Relay<_, _>| match how {
                Some(how) => relay.on_error(how),
                None => relay,
            };
            both_ways(&case, set, |result| {
                let (error, at_left) = result.failure();
                assert_eq!((at_left, error.step), (true, Step::Read));
                assert_eq!(error.error.kind(), io::ErrorKind::ConnectionAborted);
                assert_eq!(result.left_to_right(&error.summary), k);
                assert!(result.right.written == case.left.0 && result.right.flushed == k as usize);
                // Only a TCP socket can be reset; other streams are dropped without shutdown.
                assert_eq!(result.right.shut_down, how == Some(OnError::Fin));
                assert!(!result.left.shut_down);
            });
        }
    }
}

/// A TLS stream ends so if the peer closes the connection without `close_notify`, or an attacker cuts it off.
#[test]
fn a_truncated_stream_has_failed_unless_truncation_is_allowed() {
    use io::ErrorKind::{ConnectionAborted, UnexpectedEof};

    for (kind, allowed) in [
        (UnexpectedEof, false),
        (UnexpectedEof, true),
        (ConnectionAborted, true),
    ] {
        let cut_off = Faults {
            ending: Ending::Error(kind),
            ..Faults::default()
        };
        let case = Case {
            seed: 13,
            left: (random_bytes(50, 1), cut_off),
            right: (random_bytes(20, 2), Faults::default()),
        };
        let set = |relay: Relay<_, _>| relay.allow_truncation(allowed);
        both_ways(&case, set, |result| {
            if kind == UnexpectedEof && allowed {
                assert_eq!(result.outcome.as_ref().unwrap().reason, RelayEnd::Eof);
                assert!(result.right.shut_down);
            } else {
                let (error, at_left) = result.failure();
                assert_eq!((at_left, error.step), (true, Step::Read));
                assert_eq!(error.error.kind(), kind);
                assert!(!result.right.shut_down, "an orderly end");
            }
            assert!(result.right.written == case.left.0);
        });
    }
}

#[test]
fn a_write_error_or_zero_write_at_any_byte_is_returned_with_the_counts() {
    for k in 0..40 {
        for (failure, kind) in [
            (Err(io::ErrorKind::BrokenPipe), io::ErrorKind::BrokenPipe),
            (Ok(()), io::ErrorKind::WriteZero),
        ] {
            let broken = Faults {
                write_fails: Some((k, failure)),
                answers_after: usize::MAX,
                piece: 4,
                ..Faults::default()
            };
            let case = Case {
                seed: k as u64,
                left: (random_bytes(50, 1), Faults::default()),
                right: (vec![], broken),
            };
            both_ways(
                &case,
                |relay| relay,
                |result| {
                    let (error, at_left) = result.failure();
                    assert_eq!(
                        (at_left, error.step, error.error.kind()),
                        (false, Step::Write, kind)
                    );
                    assert_eq!(result.left_to_right(&error.summary), k as u64);
                    assert_eq!(result.right.written, case.left.0[..k]);
                },
            );
        }
    }
}

#[test]
fn bytes_read_from_a_side_whose_writes_fail_reach_the_healthy_side() {
    // Right sends all bytes at once, and left accepts one at a time; meanwhile writing to right fails.
    let broken = Faults {
        write_fails: Some((0, Err(io::ErrorKind::BrokenPipe))),
        ..Faults::default()
    };
    let slow = Faults {
        piece: 1,
        pending: 1,
        ..Faults::default()
    };
    let case = Case {
        seed: 3,
        left: (random_bytes(10, 1), slow),
        right: (random_bytes(2000, 2), broken),
    };
    both_ways(
        &case,
        |relay| relay,
        |result| {
            let (error, at_left) = result.failure();
            assert_eq!((at_left, error.step), (false, Step::Write));
            assert!(
                result.left.written == case.right.0,
                "{} of 2000 bytes",
                result.left.written.len()
            );
            assert!(result.left.shut_down);
        },
    );
}

/// After an error, the rest of the side that has failed is read up to the limit, for which bytes that were dropped count as
/// well. Then there is no more to wait for.
#[test]
fn a_relay_that_may_read_no_more_after_an_error_ends_at_once() {
    let broken = Faults {
        write_fails: Some((0, Err(io::ErrorKind::BrokenPipe))),
        piece: 10,
        ..Faults::default()
    };
    let case = Case {
        seed: 14,
        left: (random_bytes(500, 1), Faults::default()),
        right: (random_bytes(2000, 2), broken),
    };
    both_ways(
        &case,
        |relay| relay.max_bytes(1900),
        |result| {
            let (error, at_left) = result.failure();
            assert_eq!((at_left, error.step), (false, Step::Write));
            assert_eq!(result.left.read + result.right.read, 1900);
            assert_eq!(result.left.written.len(), result.right.read);
            assert!(case.right.0.starts_with(&result.left.written));
            assert!(!result.left.shut_down, "an orderly end");
        },
    );
}

#[test]
fn errors_of_flush_and_shutdown_name_their_step() {
    let fails = Some(io::ErrorKind::TimedOut);
    for (faults, step) in [
        (
            Faults {
                flush_fails: fails,
                ..Faults::default()
            },
            Step::Flush,
        ),
        (
            Faults {
                shutdown_fails: fails,
                ..Faults::default()
            },
            Step::Shutdown,
        ),
    ] {
        let case = Case {
            seed: 4,
            left: (random_bytes(50, 1), Faults::default()),
            right: (vec![], faults),
        };
        both_ways(
            &case,
            |relay| relay,
            |result| {
                let (error, at_left) = result.failure();
                assert_eq!(
                    (at_left, error.step, error.error.kind()),
                    (false, step, io::ErrorKind::TimedOut)
                );
                assert_eq!(result.left_to_right(&error.summary), 50);
            },
        );
    }
}

#[test]
fn if_both_sides_fail_the_first_error_is_returned() {
    let broken = Faults {
        ending: Ending::Error(io::ErrorKind::ConnectionAborted),
        ..Faults::default()
    };
    let broken_too = Faults {
        write_fails: Some((3, Err(io::ErrorKind::BrokenPipe))),
        answers_after: usize::MAX,
        pending: 1,
        ..Faults::default()
    };
    let case = Case {
        seed: 5,
        left: (random_bytes(10, 1), broken),
        right: (vec![], broken_too),
    };
    both_ways(
        &case,
        |relay| relay,
        |result| {
            let (error, at_left) = result.failure();
            assert_eq!((at_left, error.step), (true, Step::Read));
            assert_eq!(result.left_to_right(&error.summary), 3);
        },
    );
}

#[test]
fn initial_bytes_go_first_and_may_exceed_the_buffer() {
    let left_before = random_bytes(5000, 3);
    let case = Case {
        seed: 6,
        left: (
            random_bytes(900, 1),
            Faults {
                piece: 50,
                pending: 3,
                ..Faults::default()
            },
        ),
        right: (
            random_bytes(10, 2),
            Faults {
                piece: 700,
                pending: 3,
                ..Faults::default()
            },
        ),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    for swapped in [false, true] {
        let sim = Sim::new(case.seed);
        let left = FaultyStream::new(&sim, 0, &case.left.0, case.left.1);
        let right = FaultyStream::new(&sim, 1, &case.right.0, case.right.1);
        let (see_left, see_right) = (left.seen(), right.seen());
        let read = EvBuffer::from(&left_before[..]);
        let none = EvBuffer::new();
        let relay = if swapped {
            Relay::new(right, left).initial(none, read)
        } else {
            Relay::new(left, right).initial(read, none)
        };
        let summary = sim.run(relay.buffer(100).run()).unwrap();
        assert_eq!(summary.a_to_b + summary.b_to_a, 5910);
        assert!(see_right().written == [&left_before[..], &case.left.0].concat());
        assert!(see_left().written == case.right.0);
    }
}

#[test]
fn progress_only_grows_and_ends_with_the_final_counts() {
    let slow = Faults {
        piece: 100,
        pending: 2,
        ..Faults::default()
    };
    let case = Case {
        seed: 7,
        left: (random_bytes(5000, 1), slow),
        right: (random_bytes(3000, 2), slow),
    };
    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let set = |relay: Relay<_, _>| {
        let calls = calls.clone();
        calls.lock().unwrap().clear();
        relay.on_progress(move |progress| {
            calls
                .lock()
                .unwrap()
                .push((progress.a_to_b, progress.b_to_a))
        })
    };
    both_ways(&case, set, |result| {
        let summary = result.outcome.as_ref().unwrap();
        let calls = calls.lock().unwrap();
        assert!(calls.len() > 1 && calls.is_sorted_by(|x, y| x.0 <= y.0 && x.1 <= y.1 && x != y));
        assert_eq!(*calls.last().unwrap(), (summary.a_to_b, summary.b_to_a));
    });
}

/// A dropped future loses the bytes that it holds; the delivered bytes are known at any point.
#[test]
fn counters_are_exact_if_the_future_is_dropped_at_any_point() {
    let slow = Faults {
        piece: 3,
        pending: 1,
        ..Faults::default()
    };
    for polls in 0..30 {
        let sim = Sim::new(8);
        let left = FaultyStream::new(&sim, 0, &random_bytes(60, 1), slow);
        let right = FaultyStream::new(&sim, 1, &random_bytes(60, 2), slow);
        let (see_left, see_right) = (left.seen(), right.seen());
        let counters = Arc::new(RelayCounters::default());
        let mut task = tokio_test::task::spawn(
            Relay::new(left, right)
                .counters(counters.clone())
                .half_close(HalfClose::Propagate)
                .run(),
        );
        for _ in 0..polls {
            if task.poll().is_ready() {
                break;
            }
            while !task.is_woken() {
                assert!(sim.step());
            }
        }
        drop(task);
        let delivered = (
            see_right().written.len() as u64,
            see_left().written.len() as u64,
        );
        assert_eq!(
            (counters.a_to_b(), counters.b_to_a()),
            delivered,
            "after {polls} polls"
        );
    }
}

/// The results equal those of Tokio's function, also for errors, and no clock is needed.
#[test]
fn copy_bidirectional_returns_what_tokio_returns() {
    let broken_read = Faults {
        ending: Ending::Error(io::ErrorKind::ConnectionAborted),
        ..Faults::default()
    };
    let broken_write = |after| Faults {
        write_fails: Some((after, Err(io::ErrorKind::BrokenPipe))),
        ..Faults::default()
    };
    let zero = Faults {
        write_fails: Some((2, Ok(()))),
        ..Faults::default()
    };
    let odd = Faults {
        piece: 7,
        pending: 2,

        ..Faults::default()
    };
    let plain = Faults {
        vectored: false,
        ..odd
    };
    for (left, right) in [
        (odd, plain),
        (plain, odd),
        (broken_read, odd),
        (odd, broken_read),
        (broken_write(0), plain),
        (Faults::default(), broken_write(3)),
        (Faults::default(), zero),
        (
            Faults {
                flush_fails: Some(io::ErrorKind::TimedOut),
                ..odd
            },
            Faults::default(),
        ),
        (
            Faults {
                shutdown_fails: Some(io::ErrorKind::NotConnected),
                ..odd
            },
            Faults::default(),
        ),
    ] {
        let run = |ours: bool| {
            let sim = Sim::new(9);
            let mut a = FaultyStream::new(&sim, 0, &random_bytes(999, 1), left);
            let mut b = FaultyStream::new(&sim, 1, &random_bytes(20_000, 2), right);
            let (see_a, see_b) = (a.seen(), b.seen());
            let result = if ours {
                sim.run(copy_bidirectional(&mut a, &mut b))
            } else {
                sim.run(tokio::io::copy_bidirectional(&mut a, &mut b))
            };
            let ended = result.is_ok().then(|| (see_a(), see_b()));
            let ended = ended.map(|(a, b)| (a.written, a.shut_down, b.written, b.shut_down));
            (result.map_err(|error| error.kind()), ended)
        };
        let (ours, theirs) = (run(true), run(false));
        assert_eq!(ours.0, theirs.0, "{left:?} {right:?}");
        assert!(
            ours.1 == theirs.1,
            "other bytes arrived: {left:?} {right:?}"
        );
    }
}

/// The streams may be unsized, borrowed and need not be `Send`.
#[test]
fn copy_bidirectional_takes_trait_objects() {
    trait Both: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
    impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Both for T {}
    let sim = Sim::new(10);
    let mut a: Box<dyn Both> = Box::new(FaultyStream::new(&sim, 0, b"abc", Faults::default()));
    let mut b = FaultyStream::new(&sim, 1, b"", Faults::default());
    let seen = b.seen();
    assert_eq!(
        sim.run(copy_bidirectional(&mut *a, &mut b)).unwrap(),
        (3, 0)
    );
    assert_eq!(seen().written, b"abc");
}

/// A stream may report more written bytes than it was offered; the surplus is not counted.
#[test]
fn a_stream_that_reports_more_bytes_than_offered_is_not_trusted() {
    struct Boastful;

    impl AsyncWrite for Boastful {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(data.len() + 100))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    let sim = Sim::new(11);
    for len in [5, 100_000] {
        let a = FaultyStream::new(&sim, 0, &random_bytes(len, 1), Faults::default());
        let counts = sim.run(copy_bidirectional(&mut { a }, &mut join(empty(), Boastful)));
        assert_eq!(counts.unwrap(), (len as u64, 0));
    }
}

/// A read that puts another buffer in the place of the one it was given is an error, and its bytes go nowhere.
#[test]
fn a_stream_that_exchanges_the_buffer_is_an_error_and_counts_nothing() {
    let sim = Sim::new(12);
    let b = FaultyStream::new(&sim, 0, b"", Faults::default());
    let outcome = sim.run(Relay::new(join(Exchanging, sink()), b).run());
    let error = outcome.unwrap_err();
    assert_eq!((error.peer, error.step), (Peer::A, Step::Read));
    assert_eq!(error.error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(error.summary.a_to_b, 0);
}

/// What was read for a side that fails is lost, and the summary says so.
#[tokio::test]
async fn bytes_for_a_side_that_fails_count_as_held() {
    for swapped in [false, true] {
        let ((mut client, a), (server, b)) = (duplex(64), duplex(64));
        client.write_all(b"undelivered").await.unwrap();
        drop(server);
        let failed = match swapped {
            false => relay(a, b).await.unwrap_err(),
            true => relay(b, a).await.unwrap_err(),
        };
        assert_eq!(failed.step, Step::Write);
        let summary = failed.summary;
        let (delivered, held) = match swapped {
            false => (summary.a_to_b, summary.held_a),
            true => (summary.b_to_a, summary.held_b),
        };
        assert_eq!((delivered, held), (0, 11));
    }
}
