//! Time limits of a `BufferEvent` while it is being closed, with a stream that has its own buffer, and without timers.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, duplex},
    time::{sleep, timeout},
};
use tokio_evbuffer::{BufferEvent, Event};

use crate::support::tasks::{block_on_in_time, yield_many};

const SECOND: Duration = Duration::from_secs(1);

/// While closing, reading continues and discards.
#[test]
fn a_read_timeout_of_zero_does_not_loop_while_closing() {
    block_on_in_time(|| async {
        let (near, _far) = duplex(64);
        let bev = BufferEvent::builder()
            .read_timeout(Duration::ZERO)
            .linger(20 * SECOND)
            .spawn(near);
        let closing = tokio::spawn(bev.close());
        // Another task of the same runtime gets its turns.
        yield_many().await;
        closing.abort();
    });
}

/// No linger counts when only the input is closed.
#[test]
fn a_read_timeout_of_zero_does_not_loop_after_the_input_was_closed() {
    block_on_in_time(|| async {
        let (near, mut far) = duplex(64);
        let bev = BufferEvent::new(near);
        tokio::task::yield_now().await;
        bev.input().close();
        far.write_all(b"discarded").await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        bev.set_timeouts(Some(Duration::ZERO), None);
        yield_many().await;
    });
}

#[test]
fn a_write_timeout_of_zero_does_not_loop_while_closing() {
    block_on_in_time(|| async {
        let (near, _far) = duplex(4);
        let bev = BufferEvent::builder()
            .write_timeout(Duration::ZERO)
            .linger(20 * SECOND)
            .spawn(near);
        bev.output().add(b"more than fits").unwrap();
        let closing = tokio::spawn(bev.close());
        yield_many().await;
        closing.abort();
    });
}

/// A timeout is reported once, and switches off its direction.
#[tokio::test(start_paused = true)]
async fn a_timeout_is_reported_once_also_while_closing() {
    let reported = Arc::new(AtomicUsize::new(0));
    let counting = reported.clone();
    let (near, _far) = duplex(4);
    let bev = BufferEvent::builder()
        .read_timeout(SECOND)
        .write_timeout(SECOND)
        .linger(30 * SECOND)
        .on_event(move |_, event| {
            if matches!(event, Event::ReadTimeout | Event::WriteTimeout) {
                counting.fetch_add(1, Relaxed);
            }
        })
        .spawn(near);
    bev.output().add(b"more than fits").unwrap();
    let keep = bev.clone();
    let _summary = bev.close().await.unwrap();
    sleep(SECOND).await;
    drop(keep);
    assert!(
        reported.load(Relaxed) <= 2,
        "{} timeouts were reported",
        reported.load(Relaxed)
    );
}

/// A stream that accepts everything into its own buffer, as TLS does with 64 KiB, and never sends it.
struct Stuck {
    shutdown_only: bool,
}

impl AsyncRead for Stuck {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.shutdown_only {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn the_write_timeout_covers_a_flush_that_does_not_end() {
    let bev = BufferEvent::builder().write_timeout(SECOND).spawn(Stuck {
        shutdown_only: false,
    });
    bev.output()
        .add(b"a short answer over TLS to a client that does not read")
        .unwrap();
    let flushed = timeout(1000 * SECOND, bev.flush()).await;
    assert_eq!(
        flushed.expect("flush is still waiting").unwrap_err().kind(),
        io::ErrorKind::TimedOut
    );
}

#[tokio::test(start_paused = true)]
async fn the_write_timeout_covers_a_shutdown_that_does_not_end() {
    let bev = BufferEvent::builder().write_timeout(SECOND).spawn(Stuck {
        shutdown_only: true,
    });
    let ended = timeout(1000 * SECOND, bev.shutdown()).await;
    assert_eq!(
        ended
            .expect("shutdown is still waiting")
            .unwrap_err()
            .kind(),
        io::ErrorKind::TimedOut
    );
}

/// Reading is off, and a pending flush counts.
#[tokio::test(start_paused = true)]
async fn the_idle_timeout_covers_a_flush_that_does_not_end() {
    let bev = BufferEvent::builder().idle_timeout(SECOND).spawn(Stuck {
        shutdown_only: false,
    });
    bev.disable(tokio_evbuffer::bufferevent::Direction::Read);
    bev.output().add(b"a short answer").unwrap();
    let event = timeout(1000 * SECOND, bev.next_event()).await;
    assert!(matches!(event, Ok(Some(Event::IdleTimeout))), "{event:?}");
}

#[test]
fn close_delivers_the_output_on_a_runtime_without_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (near, mut far) = duplex(4);
        let bev = BufferEvent::new(near);
        bev.output().add(b"queued bytes").unwrap();
        let closing = tokio::spawn(bev.close());
        let mut got = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut got)
            .await
            .unwrap();
        drop(far);
        assert_eq!(got, b"queued bytes");
        closing.await.unwrap().unwrap();
    });
}

#[test]
fn dropping_the_handle_delivers_the_output_on_a_runtime_without_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (near, mut far) = duplex(4);
        let bev = BufferEvent::new(near);
        bev.output().add(b"queued bytes").unwrap();
        drop(bev);
        let mut got = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut got)
            .await
            .unwrap();
        assert_eq!(got, b"queued bytes");
    });
}
