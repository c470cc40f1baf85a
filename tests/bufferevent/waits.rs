//! The table wait x reason of a connection: each wait ends when it can no longer come true, with the reason.

use std::{
    fmt::Debug,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    runtime::{Builder, Runtime},
    time::sleep,
};
use tokio_evbuffer::{
    BufferEvent, EolStyle, Prefixed, Watermarks,
    bufferevent::{CloseReason, Side, Summary, UpgradeError},
};
use tokio_test::task;

/// A stream on which nothing moves until `end` is set.
struct Stuck(Arc<Mutex<Control>>);

#[derive(Default)]
struct Control {
    read: Option<Result<(), io::ErrorKind>>,
    write: Option<io::ErrorKind>,
    wakers: Vec<Waker>,
}

impl Control {
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<io::Result<T>> {
        self.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for Stuck {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut control = self.0.lock().unwrap();
        match control.read {
            Some(end) => Poll::Ready(end.map_err(Into::into)),
            None => control.wait(cx),
        }
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        let mut control = self.0.lock().unwrap();
        match control.write {
            Some(error) => Poll::Ready(Err(error.into())),
            None => control.wait(cx),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// The peer ends its stream. Writing is still possible.
    End,
    ReadError,
    WriteError,
    WriteTimeout,
    Abort,
    /// Another handle closes, and the peer takes nothing.
    Linger,
    /// Another handle takes the stream.
    Detach,
    Runtime,
}

impl Reason {
    const ALL: [Self; 8] = [
        Self::End,
        Self::ReadError,
        Self::WriteError,
        Self::WriteTimeout,
        Self::Abort,
        Self::Linger,
        Self::Detach,
        Self::Runtime,
    ];
}

const SECOND: Duration = Duration::from_secs(1);

fn paused() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap()
}

fn named(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Error(error) => format!("{:?}", error.kind()),
        other => format!("{other:?}"),
    }
}

fn kind<T: Debug>(result: io::Result<T>) -> String {
    result.map_or_else(
        |error| format!("{:?}", error.kind()),
        |ok| format!("{ok:?}"),
    )
}

fn ended(summary: &Summary) -> String {
    format!("over: {}", named(&summary.reason))
}

type Wait = fn(BufferEvent) -> BoxFuture<'static, String>;

/// Every wait of a connection. A connection that is given a stream is connected at once.
const WAITS: [(&str, Wait); 14] = [
    ("flush", |bev| {
        Box::pin(async move { kind(bev.flush().await) })
    }),
    ("shutdown", |bev| {
        Box::pin(async move { kind(bev.shutdown().await) })
    }),
    ("close", |bev| {
        Box::pin(async move {
            match bev.close().await {
                Ok(summary) => named(&summary.reason),
                Err(error) => format!("{:?}", error.kind()),
            }
        })
    }),
    ("closed", |bev| {
        Box::pin(async move { named(&bev.closed().await.reason) })
    }),
    ("peer_closed", |bev| {
        Box::pin(async move { format!("{:?}", bev.peer_closed().await) })
    }),
    ("next_event", |bev| {
        Box::pin(async move {
            let event = format!("{:?}", bev.next_event().await);
            event.split(['(', ')']).nth(1).unwrap().to_owned()
        })
    }),
    ("upgrade", |bev| {
        Box::pin(async move {
            let upgrade = |stream: Prefixed<Stuck>| async move { Ok(stream) };
            match bev.upgrade(upgrade).await {
                Ok(()) => "upgraded".to_owned(),
                Err(UpgradeError::Flush(error)) => format!("{:?}", error.kind()),
                Err(UpgradeError::Closed(summary)) => ended(&summary),
                Err(error) => format!("{error:?}"),
            }
        })
    }),
    ("input.readable", |bev| {
        Box::pin(async move { kind(bev.input().readable(1).await.map_err(Into::into)) })
    }),
    ("input.next_line", |bev| {
        Box::pin(async move {
            let line = bev.input().next_line(EolStyle::Lf, 10).await;
            kind(line.map_err(Into::into))
        })
    }),
    ("input.changed", |bev| {
        Box::pin(async move { kind(bev.input().changed().await.map_err(Into::into)) })
    }),
    ("output.drained_to", |bev| {
        Box::pin(async move {
            let mark = bev.output().mark();
            kind(bev.output().drained_to(mark).await.map_err(Into::into))
        })
    }),
    ("read", |mut bev| {
        Box::pin(async move { kind(bev.read(&mut [0]).await) })
    }),
    ("write", |mut bev| {
        Box::pin(async move { kind(bev.write(b"x").await) })
    }),
    ("AsyncWrite::flush", |mut bev| {
        Box::pin(async move { kind(AsyncWriteExt::flush(&mut bev).await) })
    }),
];

/// Runs one cell: the wait is pending, and then `reason` happens.
fn cell(wait: Wait, reason: Reason) -> String {
    let (outer, own) = (paused(), paused());
    let control = Arc::new(Mutex::new(Control::default()));
    let runtime = match reason {
        Reason::Runtime => &own,
        _ => &outer,
    };
    let mut builder = BufferEvent::builder().linger(5 * SECOND);
    if reason == Reason::WriteTimeout {
        builder = builder.write_timeout(5 * SECOND);
    }
    let bev = {
        let _entered = runtime.enter();
        builder.spawn(Stuck(Arc::clone(&control)))
    };
    bev.set_watermarks(Side::Output, Watermarks::with_high(4).unwrap());
    bev.output().add(b"more than four").unwrap();
    let mut waiting = task::spawn(wait(bev.clone()));
    runtime.block_on(async { sleep(SECOND).await });
    let _entered = outer.enter();
    assert!(waiting.poll().is_pending());
    let stop = |change: fn(&mut Control)| {
        let mut control = control.lock().unwrap();
        change(&mut control);
        let wakers = std::mem::take(&mut control.wakers);
        drop(control);
        wakers.into_iter().for_each(Waker::wake);
    };
    let mut other: Option<BoxFuture<'_, ()>> = None;
    match reason {
        Reason::End => stop(|control| control.read = Some(Ok(()))),
        Reason::ReadError => {
            stop(|control| control.read = Some(Err(io::ErrorKind::ConnectionReset)));
        }
        Reason::WriteError => stop(|control| control.write = Some(io::ErrorKind::BrokenPipe)),
        Reason::WriteTimeout => {}
        Reason::Abort => bev.abort(),
        Reason::Linger => {
            let bev = bev.clone();
            other = Some(Box::pin(async move { drop(bev.close().await) }));
        }
        Reason::Detach => {
            let bev = bev.clone();
            other = Some(Box::pin(
                async move { drop(bev.into_inner::<Stuck>().await) },
            ));
        }
        Reason::Runtime => drop(own),
    }
    drop(bev);
    outer.block_on(async {
        let time = async { sleep(10 * SECOND).await };
        match other {
            Some(other) => drop(tokio::join!(time, other)),
            None => time.await,
        }
    });
    let woken = waiting.is_woken();
    match waiting.poll() {
        Poll::Ready(outcome) => {
            assert!(woken, "not woken for {outcome}");
            outcome
        }
        Poll::Pending => "waits".to_owned(),
    }
}

/// The table. "waits": the reason leaves it possible.
#[rustfmt::skip]
const TABLE: &[(&str, [&str; 8])] = &[
    // wait, and the outcome for each reason in the order of `Reason::ALL`
    ("flush", ["waits", "ConnectionReset", "BrokenPipe", "TimedOut", "BrokenPipe", "BrokenPipe", "BrokenPipe", "BrokenPipe"]),
    ("shutdown", ["waits", "ConnectionReset", "BrokenPipe", "TimedOut", "BrokenPipe", "BrokenPipe", "BrokenPipe", "BrokenPipe"]),
    ("close", ["LingerExpired", "ConnectionReset", "BrokenPipe", "LingerExpired", "Aborted", "LingerExpired", "LingerExpired", "RuntimeShutdown"]),
    ("closed", ["waits", "ConnectionReset", "waits", "waits", "Aborted", "LingerExpired", "Detached", "RuntimeShutdown"]),
    ("peer_closed", ["()", "()", "waits", "waits", "()", "()", "()", "()"]),
    ("next_event", ["Eof", "ReadError", "WriteError", "WriteTimeout", "Closed", "Closed", "Closed", "Closed"]),
    ("upgrade", ["waits", "ConnectionReset", "BrokenPipe", "TimedOut", "BrokenPipe", "BrokenPipe", "BrokenPipe", "BrokenPipe"]),
    ("input.readable", ["BrokenPipe", "ConnectionReset", "waits", "waits", "ConnectionAborted", "BrokenPipe", "ConnectionAborted", "ConnectionAborted"]),
    ("input.next_line", ["None", "ConnectionReset", "waits", "waits", "ConnectionAborted", "None", "ConnectionAborted", "ConnectionAborted"]),
    ("input.changed", ["BrokenPipe", "ConnectionReset", "waits", "waits", "ConnectionAborted", "BrokenPipe", "ConnectionAborted", "ConnectionAborted"]),
    ("output.drained_to", ["waits", "BrokenPipe", "BrokenPipe", "waits", "BrokenPipe", "BrokenPipe", "BrokenPipe", "BrokenPipe"]),
    ("read", ["0", "ConnectionReset", "waits", "waits", "ConnectionAborted", "0", "ConnectionAborted", "ConnectionAborted"]),
    ("write", ["waits", "BrokenPipe", "BrokenPipe", "TimedOut", "BrokenPipe", "BrokenPipe", "BrokenPipe", "BrokenPipe"]),
    ("AsyncWrite::flush", ["waits", "ConnectionReset", "BrokenPipe", "TimedOut", "BrokenPipe", "BrokenPipe", "BrokenPipe", "BrokenPipe"]),
];

#[test]
fn every_wait_of_a_connection_ends_when_it_can_no_longer_come_true() {
    for ((name, wait), (row, outcomes)) in WAITS.into_iter().zip(TABLE) {
        assert_eq!(name, *row);
        for (reason, expected) in Reason::ALL.into_iter().zip(outcomes) {
            let outcome = cell(wait, reason);
            assert_eq!(outcome, *expected, "{name}, {reason:?}");
        }
    }
}
