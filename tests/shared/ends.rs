//! Ends: waits end when they can no longer come true, and subscribers are notified of the end.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_evbuffer::{
    BufferEvent, DeferredQueue, EolStyle, EvBuffer, SharedEvBuffer, Watermarks,
    buffer::{End, LineError},
    pipe,
    shared::{Crossing, LengthDecoder, WaitError},
};
use tokio_test::task;

use crate::support::{data::shared_with, tasks::soon};

/// The line is longer than what fits between the watermarks.
#[tokio::test(start_paused = true)]
async fn wait_for_gets_a_line_that_fits_below_the_high_watermark() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::with_high(64).unwrap());
    let mut writer = buffer.writer();
    let sender = tokio::spawn(async move {
        let mut data = vec![b'a'; 10];
        data.push(b'\n');
        data.extend([b'b'; 60]);
        data.push(b'\n');
        writer.write_all(&data).await
    });
    let has_line = |b: &EvBuffer| b.search_eol(0, EolStyle::Lf).is_some();
    let mut lines = 0;
    while lines < 2 {
        let waited =
            tokio::time::timeout(Duration::from_secs(3600), buffer.wait_for(has_line)).await;
        assert!(
            waited.is_ok(),
            "an hour for line {lines} of 60 bytes, with a high mark of 64: {} bytes are there, the writer waits",
            buffer.len()
        );
        buffer.readln(EolStyle::Lf).unwrap().unwrap();
        lines += 1;
    }
    sender.await.unwrap().unwrap();
}

/// A server that answers each line in capitals.
async fn shout(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let peer = BufferEvent::builder()
        .linger(Duration::from_secs(5))
        .spawn(stream);
    let has_line = |input: &EvBuffer| input.search_eol(0, EolStyle::Crlf).is_some();
    while peer.input().wait_for(has_line).await.is_ok() {
        while let Some(line) = peer.input().readln(EolStyle::Crlf)? {
            peer.output().add(&line.to_ascii_uppercase())?;
            peer.output().add(b"\r\n")?;
        }
        peer.flush().await?;
    }
    peer.close().await?;
    Ok(())
}

/// A client sends 300 KiB without a line end and leaves.
#[tokio::test(start_paused = true)]
async fn a_line_server_ends_when_its_client_is_gone() {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(shout(server));
    let sent = tokio::time::timeout(
        Duration::from_secs(60),
        client.write_all(&vec![b'x'; 300 * 1024]),
    )
    .await;
    println!("sent all: {}", sent.is_ok());
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(24 * 3600), serving).await;
    assert!(ended.is_ok(), "a day after the client has gone");
}

/// Lines of 100, 60 and 220 KiB, below the high watermark of 256 KiB.
#[tokio::test(start_paused = true)]
async fn a_line_server_answers_lines_that_fit_below_the_high_watermark() {
    const LINES: [usize; 3] = [100 * 1024, 60 * 1024, 220 * 1024];
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(shout(server));
    for n in LINES {
        client.write_all(&vec![b'x'; n]).await.unwrap();
        client.write_all(b"\r\n").await.unwrap();
    }
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(24 * 3600), client.read_to_end(&mut all));
    let ended = read.await;
    assert!(
        ended.is_ok(),
        "a day, and {} of {} bytes are answered",
        all.len(),
        LINES.iter().sum::<usize>() + 6
    );
    serving.await.unwrap().unwrap();
}

/// Watermarks refuse nothing, so only a hard cap is called a limit that is never exceeded.
#[tokio::test]
async fn a_wait_that_never_fits_is_right_about_it() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::with_high(10).unwrap());
    let waited = buffer.readable(20).await;
    buffer.add(&[0; 20]).unwrap();
    let len = buffer.len();
    assert!(
        !matches!(waited, Err(WaitError::NeverFits { limit }) if len > limit),
        "{waited:?}, and then it held {len}"
    );
}

/// The stream ends after the last byte has left.
#[tokio::test]
async fn a_stream_of_changes_reports_removals_after_the_close() {
    let buffer = SharedEvBuffer::new();
    let mut changes = buffer.changes();
    let follower = tokio::spawn(async move {
        let mut sums = (0, 0);
        while let Some(change) = changes.next().await {
            sums = (sums.0 + change.added, sums.1 + change.removed);
        }
        sums
    });
    buffer.add(b"12345").unwrap();
    buffer.close();
    tokio::task::yield_now().await;
    buffer.drain(5).unwrap();
    assert_eq!(follower.await.unwrap(), (5, 5));
}

/// A reader will take the bytes that are left.
#[tokio::test]
async fn the_drain_can_be_awaited_after_the_close() {
    let buffer = SharedEvBuffer::new();
    buffer.add(b"rest").unwrap();
    let mark = buffer.mark();
    buffer.close();
    let mut drained = task::spawn(buffer.drained_to(mark));
    let first = drained.poll();
    assert!(
        first.is_pending(),
        "{first:?} at once, though the reader will take the rest"
    );
}

/// The contents have not changed.
#[tokio::test]
async fn a_deferred_callback_is_notified_of_the_end() {
    let buffer = SharedEvBuffer::new();
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    let _handle =
        buffer.on_change(move |buffer, _| flag.store(buffer.is_closed(), Ordering::SeqCst));
    buffer.close();
    DeferredQueue::current().drained().await;
    assert!(ended.load(Ordering::SeqCst));
}

/// High is never reported twice without Low in between.
#[test]
fn low_is_reported_when_a_low_watermark_replaces_a_high_one() {
    let buffer = SharedEvBuffer::new();
    let reported = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let _handle = buffer.on_watermark(move |_, crossing| log.lock().unwrap().push(crossing));
    buffer.set_watermarks(Watermarks::with_high(20).unwrap());
    buffer.add(&[0; 90]).unwrap();
    buffer.set_watermarks(Watermarks::with_low(15));
    buffer.set_watermarks(Watermarks::with_high(30).unwrap());
    assert_eq!(
        *reported.lock().unwrap(),
        [
            Crossing::High { len: 90 },
            Crossing::Low { len: 90 },
            Crossing::High { len: 90 }
        ]
    );
}

/// A wait or a timeout of a minute ends it within a day.
#[tokio::test(start_paused = true)]
async fn a_connection_whose_input_is_full_of_half_a_line_ends() {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let minute = Duration::from_secs(60);
    let peer = BufferEvent::builder()
        .read_timeout(minute)
        .write_timeout(minute)
        .idle_timeout(minute)
        .stall_timeout(minute)
        .linger(minute)
        .spawn(server);
    client.write_all(&vec![b'x'; 300 * 1024]).await.unwrap();
    drop(client);
    let has_line = |input: &EvBuffer| input.search_eol(0, EolStyle::Crlf).is_some();
    let ended = tokio::time::timeout(Duration::from_secs(24 * 3600), async {
        tokio::select! {
            waited = peer.input().wait_for(has_line) => format!("{waited:?}"),
            event = peer.next_event() => format!("{event:?}"),
        }
    })
    .await;
    assert!(ended.is_ok(), "a day, and no timeout of a minute has fired");
}

/// The same over TCP, in real time.
#[tokio::test]
async fn a_line_server_over_tcp_ends_when_its_client_is_gone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let client = tokio::spawn(async move {
        let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
        client.write_all(&vec![b'x'; 300 * 1024]).await.unwrap();
    });
    let (stream, _) = listener.accept().await.unwrap();
    let serving = tokio::spawn(shout(stream));
    client.await.unwrap();
    let served = soon("the end of the client", serving).await;
    let _ = served.unwrap();
}

/// What ends a wait.
#[derive(Clone, Copy, Debug)]
enum Reason {
    Close,
    Error,
    High,
    Cap,
    FrozenFront,
    FrozenBack,
}

impl Reason {
    const ALL: [Self; 6] = [
        Self::Close,
        Self::Error,
        Self::High,
        Self::Cap,
        Self::FrozenFront,
        Self::FrozenBack,
    ];

    fn apply(self, buffer: &SharedEvBuffer) {
        match self {
            Self::Close => buffer.close(),
            Self::Error => buffer.close_with(io::ErrorKind::ConnectionReset.into()),
            Self::High => buffer.set_watermarks(Watermarks::with_high(3).unwrap()),
            Self::Cap => buffer.set_max_len(Some(3)),
            Self::FrozenFront => buffer.freeze(End::Front),
            Self::FrozenBack => buffer.freeze(End::Back),
        }
    }
}

/// Polls `wait` before and after `reason`, and returns what it ended with; "waits" if it is still pending, without a wake-up unless
/// the buffer was closed.
fn end_of<T: std::fmt::Debug>(
    wait: impl Future<Output = T>,
    buffer: &SharedEvBuffer,
    reason: Reason,
) -> String {
    let mut wait = task::spawn(wait);
    assert!(wait.poll().is_pending(), "{reason:?}");
    reason.apply(buffer);
    let woken = wait.is_woken();
    match wait.poll() {
        std::task::Poll::Ready(output) => {
            assert!(woken, "{reason:?}: not woken for {output:?}");
            format!("{output:?}")
        }
        std::task::Poll::Pending => "waits".into(),
    }
}

/// The table wait x reason, as the documentation has it. The buffer holds "abc" while it is waited for.
#[test]
fn every_wait_ends_when_it_can_no_longer_come_true() {
    let has_line = |b: &EvBuffer| b.search_eol(0, EolStyle::Lf).is_some();
    for reason in Reason::ALL {
        let filled = || shared_with(b"abc");
        let reset = "Stream(Kind(ConnectionReset))";
        let closed = match reason {
            Reason::Close => "Closed",
            Reason::Error => reset,
            _ => "waits",
        };
        let looking = match reason {
            Reason::High => "AboveHigh { high: 3 }",
            Reason::Cap => "NeverFits { limit: 3 }",
            Reason::FrozenBack => "Frozen(Back)",
            _ => closed,
        };
        let taking = match reason {
            Reason::FrozenFront => "Frozen(Front)",
            _ => looking,
        };
        let error = |kind: &str| match kind {
            "waits" => kind.to_owned(),
            kind => format!("Err({kind})"),
        };
        let line = |kind: &str| match (kind, reason) {
            ("waits", _) => kind.to_owned(),
            (_, Reason::Close) => r#"Ok(Some(b"abc"))"#.to_owned(),
            (kind, _) => format!("Err(Closed({kind}))"),
        };

        let b = filled();
        assert_eq!(end_of(b.changed(), &b, reason), error(closed));
        let b = filled();
        assert_eq!(end_of(b.wait_for(has_line), &b, reason), error(looking));
        let b = filled();
        assert_eq!(end_of(b.readable(4), &b, reason), error(looking));
        let b = filled();
        assert_eq!(end_of(b.take_exact(4), &b, reason), error(taking));
        let b = filled();
        assert_eq!(
            end_of(b.next_line(EolStyle::Lf, 10), &b, reason),
            line(taking)
        );
        let b = filled();
        assert_eq!(end_of(b.take_until(b"?", 10), &b, reason), line(taking));
        let b = filled();
        let drained = match reason {
            Reason::FrozenFront => "Err(Frozen(Front))",
            _ => "waits",
        };
        assert_eq!(end_of(b.drained_to(b.mark()), &b, reason), drained);

        let b = filled();
        let mut frames = b.frames(LengthDecoder::new(100));
        let frame = end_of(frames.next(), &b, reason);
        match reason {
            Reason::Close => assert!(frame.contains("UnexpectedEof"), "{frame}"),
            Reason::Error => assert!(frame.contains("ConnectionReset"), "{frame}"),
            Reason::FrozenFront | Reason::FrozenBack => {
                assert!(frame.contains("PermissionDenied"), "{frame}")
            }
            Reason::High | Reason::Cap => assert!(frame.contains("InvalidInput"), "{frame}"),
        }

        let b = SharedEvBuffer::new();
        let mut reader = b.reader();
        let read = end_of(reader.read_u8(), &b, reason);
        match reason {
            Reason::Close => assert!(read.contains("UnexpectedEof"), "{read}"),
            Reason::Error => assert!(read.contains("ConnectionReset"), "{read}"),
            Reason::FrozenFront => assert!(read.contains("PermissionDenied"), "{read}"),
            _ => assert_eq!(read, "waits"),
        }

        let b = filled();
        b.set_max_len(Some(3));
        let mut writer = b.writer();
        let written = end_of(writer.write(b"x"), &b, reason);
        match reason {
            Reason::Close => assert!(written.contains("BrokenPipe"), "{written}"),
            Reason::Error => assert!(written.contains("ConnectionReset"), "{written}"),
            Reason::FrozenBack => assert!(written.contains("PermissionDenied"), "{written}"),
            _ => assert_eq!(written, "waits"),
        }
    }
}

/// The reader of a pipe that is dropped discards what it did not read, and a wait for that fails.
#[tokio::test]
async fn a_wait_for_discarded_bytes_to_be_read_is_an_error() {
    let (mut writer, reader) = pipe(Watermarks::NONE);
    writer.write_all(b"never read").await.unwrap();
    let buffer = writer.buffer().clone();
    let mut drained = task::spawn(buffer.drained_to(buffer.mark()));
    assert!(drained.poll().is_pending());
    drop(reader);
    assert!(drained.is_woken());
    assert_eq!(drained.await, Err(WaitError::Closed));
}

/// A line that is too long stays in the buffer, and the error says the bound.
#[tokio::test]
async fn a_line_above_the_bound_is_an_error_as_soon_as_it_is_seen() {
    let buffer = SharedEvBuffer::new();
    let mut line = task::spawn(buffer.next_line(EolStyle::Crlf, 4));
    assert!(line.poll().is_pending());
    buffer.add(b"1234").unwrap();
    assert!(line.poll().is_pending());
    buffer.add(b"56").unwrap();
    assert_eq!(line.await, Err(LineError::TooLong { max: 4 }));
    assert_eq!(buffer.len(), 6);
    buffer.close();
    assert_eq!(
        buffer.next_line(EolStyle::Crlf, 5).await,
        Err(LineError::TooLong { max: 5 })
    );
}
