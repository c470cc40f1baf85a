//! Faulty streams and hostile peers: no hang, no lost byte, one clear event.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};
use tokio_evbuffer::{
    BufferError, BufferEvent, EvBuffer, Event, SharedEvBuffer, Watermarks,
    bufferevent::CloseReason, shared::WaitError,
};

use crate::support::{
    data::pattern,
    faulty_stream::{Ending, Faults, FaultyStream},
    sim::Sim,
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs `future` together with the task of a BufferEvent; both are polled only when woken. The events of the fake
/// streams occur while both sleep.
async fn with_sim<F: Future>(sim: &Sim, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    // On a paused clock this sleep ends only when all tasks sleep.
    loop {
        match timeout(SECOND, future.as_mut()).await {
            Ok(output) => return output,
            Err(_) => assert!(
                sim.step(),
                "it sleeps and no event is left: a wake-up was lost"
            ),
        }
    }
}

fn rude(piece: usize) -> Faults {
    Faults {
        piece,
        pending: 3,
        interrupted: 5,
        ..Faults::default()
    }
}

#[tokio::test(start_paused = true)]
async fn every_byte_arrives_in_order_over_a_faulty_stream() {
    for seed in 0..24 {
        let sim = Sim::new(seed);
        let piece = [1, 7, 100, usize::MAX][seed as usize % 4];
        let input = pattern(600);
        let output = pattern(700);
        let fake = FaultyStream::new(
            &sim,
            0,
            &input,
            Faults {
                vectored: seed % 3 > 0,
                ..rude(piece)
            },
        );
        let seen = fake.seen();
        let bev = BufferEvent::builder()
            .read_watermarks(Watermarks::with_high(64).unwrap())
            .write_watermarks(Watermarks::with_high(50).unwrap())
            .max_single_write(33)
            .linger(Duration::MAX)
            .spawn(fake);
        let (mut read, mut write) = bev.split();
        let mut got = Vec::new();
        with_sim(&sim, async {
            let reading = read.read_to_end(&mut got);
            let writing = async {
                write.write_all(&output).await.unwrap();
                write.flush().await.unwrap();
                assert_eq!(seen().flushed, output.len());
                write.shutdown().await.unwrap();
            };
            let (n, ()) = tokio::join!(reading, writing);
            n.unwrap();
            let summary = write.buffer_event().closed().await;
            assert!(matches!(summary.reason, CloseReason::Finished));
            assert_eq!((summary.bytes_in, summary.bytes_out), (600, 700));
        })
        .await;
        assert!(got == input, "seed {seed}");
        assert!(seen().written == output && seen().shut_down, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_error_at_any_byte_follows_the_bytes_before_it() {
    for k in 0..12 {
        let sim = Sim::new(k as u64);
        let input = pattern(k);
        let faults = Faults {
            ending: Ending::Error(io::ErrorKind::ConnectionReset),
            ..rude(5)
        };
        let fake = FaultyStream::new(&sim, 0, &input, faults);
        let seen = fake.seen();
        let mut bev = BufferEvent::new(fake);
        with_sim(&sim, async {
            match bev.next_event().await {
                Some(Event::ReadError(error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                }
                other => panic!("{other:?}"),
            }
            // It ends both directions.
            assert_eq!(bev.next_event().await, Some(Event::Closed));
            let error = bev.flush().await.err();
            assert!(error.is_none_or(|error| error.kind() == io::ErrorKind::ConnectionReset));
            assert!(bev.output().add(b"late").is_err() && !seen().shut_down);
            let mut got = Vec::new();
            let error = bev.read_to_end(&mut got).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(got == input);
            assert_eq!(
                bev.input().readable(1).await,
                Err(WaitError::Stream(std::sync::Arc::new(
                    io::ErrorKind::ConnectionReset.into()
                )))
            );
            let error = bev.close().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn defect_d34_adding_after_a_write_error_is_an_error() {
    let kinds = [
        (Err(io::ErrorKind::BrokenPipe), io::ErrorKind::BrokenPipe),
        (Ok(()), io::ErrorKind::WriteZero),
    ];
    for (failure, kind) in kinds {
        for k in 0..10 {
            let sim = Sim::new(k as u64);
            let faults = Faults {
                write_fails: Some((k, failure)),
                answers_after: usize::MAX,
                ..rude(3)
            };
            let bev = BufferEvent::new(FaultyStream::new(&sim, 0, b"never", faults));
            bev.output().add(&pattern(10)).unwrap();
            with_sim(&sim, async {
                assert_eq!(bev.flush().await.unwrap_err().kind(), kind);
                match bev.next_event().await {
                    Some(Event::WriteError(error)) => assert_eq!(error.kind(), kind),
                    other => panic!("{other:?}"),
                }
                assert_eq!(bev.output().add(b"more"), Err(BufferError::Closed));
                assert_eq!(bev.flush().await.unwrap_err().kind(), kind);
                assert_eq!(bev.shutdown().await.unwrap_err().kind(), kind);
                assert_eq!(bev.output().len(), 10 - k);
                bev.abort();
                let summary = bev.closed().await;
                assert_eq!(
                    (summary.bytes_out, summary.unsent),
                    (k as u64, 10 - k as u64)
                );
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn defect_d28_each_direction_reports_its_own_error() {
    let sim = Sim::new(1);
    let faults = Faults {
        ending: Ending::Error(io::ErrorKind::ConnectionReset),
        write_fails: Some((0, Err(io::ErrorKind::BrokenPipe))),
        ..Faults::default()
    };
    let bev = BufferEvent::new(FaultyStream::new(&sim, 0, b"", faults));
    bev.output().add(b"x").unwrap();
    with_sim(&sim, async {
        let (mut read, mut written) = (0, 0);
        loop {
            match bev.next_event().await {
                Some(Event::ReadError(error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    read += 1;
                }
                Some(Event::WriteError(error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                    written += 1;
                }
                Some(Event::Closed) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((read, written), (1, 1));
        assert!(bev.next_event().await.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_flush_and_shutdown_are_write_errors() {
    for shutdown in [false, true] {
        let sim = Sim::new(2);
        let kind = io::ErrorKind::ConnectionAborted;
        let faults = Faults {
            flush_fails: (!shutdown).then_some(kind),
            shutdown_fails: shutdown.then_some(kind),
            answers_after: usize::MAX,
            ..Faults::default()
        };
        let bev = BufferEvent::new(FaultyStream::new(&sim, 0, b"", faults));
        bev.output().add(b"x").unwrap();
        with_sim(&sim, async {
            assert_eq!(bev.shutdown().await.unwrap_err().kind(), kind);
            assert!(matches!(bev.next_event().await, Some(Event::WriteError(_))));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_frame_above_the_high_watermark_is_an_error_at_once() {
    let sim = Sim::new(3);
    let fake = FaultyStream::new(&sim, 0, &pattern(1000), Faults::default());
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::with_high(64).unwrap())
        .spawn(fake);
    let error = with_sim(&sim, bev.input().readable(65)).await;
    assert_eq!(error, Err(WaitError::AboveHigh { high: 64 }));
    with_sim(&sim, bev.input().readable(64)).await.unwrap();
    assert_eq!(bev.metrics().bytes_in, 64, "not a byte more is read");
}

/// A stream that is always ready must not block the other tasks of its thread.
#[tokio::test(flavor = "current_thread")]
async fn a_stream_that_is_always_ready_does_not_starve_other_tasks() {
    let endless = tokio::io::join(tokio::io::repeat(7), tokio::io::sink());
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::NONE)
        .spawn(endless);
    for _ in 0..100 {
        tokio::task::yield_now().await;
        bev.input().drain(usize::MAX).unwrap();
    }
    bev.abort();
    assert!(matches!(bev.closed().await.reason, CloseReason::Aborted));
}

/// A write may replace the output while its bytes are being written.
#[tokio::test]
async fn output_may_be_replaced_while_it_is_written() {
    struct Replaces(Arc<OnceLock<SharedEvBuffer>>);
    impl AsyncWrite for Replaces {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            let output = self.0.get().expect("set before anything is written");
            drop(output.lock().replace(EvBuffer::new()));
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let output = Arc::new(OnceLock::new());
    let stream = tokio::io::join(tokio::io::empty(), Replaces(Arc::clone(&output)));
    let bev = BufferEvent::new(stream);
    output.set(bev.output().clone()).unwrap();
    for _ in 0..2 {
        bev.output().add(&pattern(700)).unwrap();
        bev.flush().await.unwrap();
    }
    assert_eq!(bev.metrics().bytes_out, 1400);
}

#[tokio::test]
async fn a_stream_that_panics_ends_only_its_own_bufferevent() {
    struct Panics;
    impl tokio::io::AsyncRead for Panics {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            panic!("panic of the test")
        }
    }
    let bev = BufferEvent::new(tokio::io::join(Panics, tokio::io::sink()));
    let summary = bev.closed().await;
    assert!(
        matches!(summary.reason, CloseReason::Error(_)),
        "{summary:?}"
    );
    assert!(bev.input().readable(1).await.is_err());
}

#[tokio::test]
async fn a_panic_of_the_stream_is_an_error_for_readers() {
    struct Half(bool);
    impl AsyncRead for Half {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            assert!(!self.0, "panic of the test");
            self.0 = true;
            out.put_slice(b"half");
            Poll::Ready(Ok(()))
        }
    }
    let mut bev = BufferEvent::new(tokio::io::join(Half(false), tokio::io::sink()));
    let mut got = Vec::new();
    assert!(bev.read_to_end(&mut got).await.is_err());
    assert_eq!(got, b"half");
}

/// A stream that can always be read.
struct Flood<W> {
    to: W,
    ended: Arc<AtomicBool>,
}

impl<W: Unpin> AsyncRead for Flood<W> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        out.initialize_unfilled();
        out.set_filled(out.capacity());
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Flood<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.to).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended.store(true, Relaxed);
        Pin::new(&mut self.to).poll_shutdown(cx)
    }
}

async fn turns(n: usize) {
    for _ in 0..n {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_endless_peer_does_not_delay_close() {
    let (to, mut peer) = tokio::io::duplex(64);
    let ended = Arc::new(AtomicBool::new(false));
    let bev = BufferEvent::new(Flood {
        to,
        ended: Arc::clone(&ended),
    });
    bev.output().add(b"last words").unwrap();
    drop(bev);
    turns(100).await;
    assert!(ended.load(Relaxed), "the end was not sent");
    let mut got = Vec::new();
    assert!(
        tokio_test::task::spawn(peer.read_to_end(&mut got))
            .poll()
            .is_ready(),
        "the stream is still there"
    );
    assert_eq!(got, b"last words");
}

#[tokio::test(start_paused = true)]
async fn an_endless_peer_does_not_delay_timeouts() {
    let (to, _peer) = tokio::io::duplex(4);
    let ended = Arc::default();
    let bev = BufferEvent::builder()
        .linger(5 * SECOND)
        .spawn(Flood { to, ended });
    bev.output().add(b"too much").unwrap();
    let closing = tokio::spawn(bev.close());
    turns(100).await;
    tokio::time::advance(6 * SECOND).await;
    turns(100).await;
    assert!(closing.is_finished());
    let summary = closing.await.unwrap().unwrap();
    assert!(matches!(summary.reason, CloseReason::LingerExpired));
    assert_eq!((summary.bytes_out, summary.unsent), (4, 4));
}
