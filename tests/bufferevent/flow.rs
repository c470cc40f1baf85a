//! Flow control of a `BufferEvent`: watermarks, limits of single reads and writes, frozen ends.

#![cfg(feature = "net")]

use std::{
    io::{self, Write as _},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, duplex},
    time::timeout,
};
use tokio_evbuffer::{
    BufferError, BufferEvent, EvBuffer, Event, SharedEvBuffer, Watermarks,
    buffer::{End, FileSegment},
    bufferevent::{Direction, PauseReason, Side},
};

use crate::support::{
    data::{pattern, temp_file},
    net::tcp_pair,
    tasks::yield_many,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_ends_used_by_the_task_are_frozen_for_the_user() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    bev.disable(Direction::Write);
    bev.output().add(b"output").unwrap();
    far.write_all(b"input").await.unwrap();
    bev.input().readable(5).await.unwrap();

    let (front, back) = (
        BufferError::Frozen(End::Front),
        BufferError::Frozen(End::Back),
    );
    assert_eq!(bev.input().add(b"x"), Err(back));
    assert_eq!(bev.output().drain(1), Err(front));
    assert_eq!(bev.output().prepend(b"x"), Err(front));
    assert_eq!(bev.output().take_bytes(1), Err(front));
    {
        // A guard cannot undo that.
        let mut output = bev.output().lock();
        output.unfreeze(End::Front);
        assert_eq!(output.drain(1), Err(front));
        let mut input = bev.input().lock();
        input.unfreeze(End::Back);
        assert_eq!(input.add(b"x"), Err(back));
        let old = input.replace(EvBuffer::new());
        assert_eq!(old, b"input"[..]);
        assert_eq!(input.add(b"x"), Err(back));
        input.prepend(b"put back: ").unwrap();
    }
    bev.enable(Direction::Write);
    far.write_all(b"more").await.unwrap();
    bev.input().readable(14).await.unwrap();
    assert_eq!(bev.input().take_bytes(99).unwrap(), "put back: more");
    let mut got = [0; 6];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"output");
}

#[tokio::test]
async fn defect_d19_reading_resumes_at_the_low_watermark_and_not_at_each_byte() {
    let (near, mut far) = duplex(8192);
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::new(50, 100).unwrap())
        .spawn(near);
    far.write_all(&pattern(4000)).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 4000 {
        bev.input().readable(1).await.unwrap();
        assert!(bev.input().len() <= 100);
        got.extend(bev.input().take_bytes(1).unwrap());
        yield_many().await;
    }
    assert!(got == pattern(4000));
    let reads = bev.metrics().reads;
    assert!(reads <= 80, "{reads} reads of 4000 bytes");
}

#[tokio::test(start_paused = true)]
async fn a_frame_awaited_between_the_watermarks_is_read() {
    let (near, mut far) = duplex(8192);
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::new(50, 100).unwrap())
        .spawn(near);
    far.write_all(&pattern(1000)).await.unwrap();
    bev.input().readable(100).await.unwrap();
    bev.input().drain(30).unwrap();
    yield_many().await;
    assert_eq!(bev.input().len(), 70);
    timeout(SECOND, bev.input().readable(90))
        .await
        .expect("there is room for it")
        .unwrap();
    assert_eq!(bev.input().len(), 90);
}

#[tokio::test]
async fn raising_the_watermarks_resumes_reading_at_once() {
    let (near, mut far) = duplex(8192);
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::with_high(10).unwrap())
        .spawn(near);
    far.write_all(&pattern(1000)).await.unwrap();
    bev.input().readable(10).await.unwrap();
    yield_many().await;
    assert_eq!(bev.input().len(), 10);
    let paused = bev.paused(Direction::Read);
    assert!(paused.contains(PauseReason::HighWatermark) && !paused.is_empty());
    assert_eq!(
        paused.iter().collect::<Vec<_>>(),
        [PauseReason::HighWatermark]
    );
    bev.set_watermarks(Side::Input, Watermarks::with_high(100).unwrap());
    bev.input().readable(100).await.unwrap();
    yield_many().await;
    assert_eq!(bev.input().len(), 100);
    bev.set_watermarks(Side::Input, Watermarks::NONE);
    bev.input().readable(1000).await.unwrap();
    assert!(bev.paused(Direction::Read).is_empty());
}

/// Reading that a guard stopped resumes when a guard allows it, even if no byte was removed in between.
#[tokio::test(start_paused = true)]
async fn reading_resumes_when_the_input_is_unfrozen_or_its_cap_raised() {
    let (near, mut far) = duplex(8192);
    let bev = BufferEvent::new(near);
    bev.input().lock().freeze(End::Back);
    far.write_all(&pattern(10)).await.unwrap();
    yield_many().await;
    assert!(bev.input().is_empty());
    bev.input().lock().unfreeze(End::Back);
    timeout(SECOND, bev.input().readable(10))
        .await
        .expect("it was unfrozen")
        .unwrap();

    bev.input().lock().set_max_len(Some(15));
    far.write_all(&pattern(10)).await.unwrap();
    yield_many().await;
    assert_eq!(bev.input().len(), 15);
    bev.input().lock().set_max_len(None);
    timeout(SECOND, bev.input().readable(20))
        .await
        .expect("the cap was taken away")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn defect_d21_a_writer_waits_at_the_high_watermark_of_the_output() {
    let (near, mut far) = duplex(10);
    let bev = BufferEvent::builder()
        .write_watermarks(Watermarks::new(50, 100).unwrap())
        .spawn(near);
    let mut writer = bev.clone();
    let data = pattern(1000);
    let mut writing = std::pin::pin!(writer.write_all(&data));
    assert!(timeout(SECOND, writing.as_mut()).await.is_err());
    assert!(bev.output().len() <= 100, "{}", bev.output().len());
    assert!(bev.paused(Direction::Write).contains(PauseReason::Peer));
    let mut got = vec![0; 1000];
    let (written, read) = tokio::join!(writing, far.read_exact(&mut got));
    written.unwrap();
    read.unwrap();
    assert!(got == data);
}

#[tokio::test]
async fn a_disabled_direction_moves_no_bytes() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    bev.disable(Direction::Read);
    bev.disable(Direction::Write);
    assert!(!bev.is_enabled(Direction::Read) && !bev.is_enabled(Direction::Write));
    yield_many().await;
    far.write_all(b"in").await.unwrap();
    bev.output().add(b"out").unwrap();
    yield_many().await;
    assert_eq!((bev.input().len(), bev.output().len()), (0, 3));
    for direction in [Direction::Read, Direction::Write] {
        assert!(bev.paused(direction).contains(PauseReason::User));
        bev.enable(direction);
    }
    bev.input().readable(2).await.unwrap();
    bev.flush().await.unwrap();
    assert!(bev.paused(Direction::Read).is_empty());
}

#[tokio::test]
async fn single_reads_and_writes_are_limited_and_zero_means_one_byte() {
    for (limit, calls) in [(0, 100), (1, 100), (30, 4)] {
        let (near, mut far) = duplex(1024);
        let bev = BufferEvent::builder()
            .max_single_read(limit)
            .max_single_write(limit)
            .spawn(near);
        far.write_all(&pattern(100)).await.unwrap();
        bev.output().add(&pattern(100)).unwrap();
        bev.input().readable(100).await.unwrap();
        bev.flush().await.unwrap();
        let metrics = bev.metrics();
        assert_eq!((metrics.reads, metrics.writes), (calls, calls), "{limit}");
        assert_eq!((metrics.bytes_in, metrics.bytes_out), (100, 100));
    }
}

#[tokio::test]
async fn defect_d13_files_respect_the_limit_of_a_single_write() {
    for socket in [true, false] {
        let file = pattern(100_000);
        let build = BufferEvent::builder().max_single_write(1000);
        let mut got = Vec::new();
        let bev;
        if socket {
            let (near, mut far) = tcp_pair().await;
            bev = build.spawn(near);
            send_around(&bev, &file);
            far.read_to_end(&mut got).await.unwrap();
        } else {
            let (near, mut far) = duplex(5000);
            bev = build.spawn(near);
            send_around(&bev, &file);
            far.read_to_end(&mut got).await.unwrap();
        }
        assert!(got == [&b"head "[..], &file, b" tail"].concat(), "{socket}");
        let metrics = bev.metrics();
        assert!(metrics.writes >= 100, "{} writes", metrics.writes);
    }
}

fn send_around(bev: &BufferEvent, file: &[u8]) {
    let mut output = bev.output().lock();
    output.add(b"head ").unwrap();
    output
        .add_file(FileSegment::new(temp_file(file), ..).unwrap())
        .unwrap();
    output.add(b" tail").unwrap();
    drop(output);
    bev.output().close();
}

#[tokio::test]
async fn a_truncated_file_is_a_write_error() {
    for socket in [true, false] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(1000)).unwrap();
        let segment = FileSegment::new(Arc::new(file.try_clone().unwrap()), ..).unwrap();
        file.set_len(10).unwrap();
        let (near, far);
        let (memory, other);
        let bev = if socket {
            (near, far) = tcp_pair().await;
            other = None;
            memory = Some(far);
            BufferEvent::new(near)
        } else {
            let (near, far) = duplex(5000);
            memory = None;
            other = Some(far);
            BufferEvent::new(near)
        };
        bev.output().lock().add_file(segment).unwrap();
        match bev.next_event().await {
            Some(Event::WriteError(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
            }
            event => panic!("{event:?}"),
        }
        drop((memory, other));
    }
}

#[tokio::test]
async fn replacing_the_output_while_sending_loses_no_other_bytes() {
    let (near, mut far) = duplex(10);
    let bev = BufferEvent::new(near);
    bev.output().add(&[1; 100]).unwrap();
    yield_many().await;
    let old = bev.output().lock().replace(EvBuffer::from(&b"new"[..]));
    assert_eq!(old.len(), 90);
    let mut got = [0; 13];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, b'n', b'e', b'w']);
    bev.flush().await.unwrap();
}

#[tokio::test]
async fn many_small_adds_are_few_writes() {
    let (near, mut far) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    for _ in 0..1000 {
        bev.output().add(b"line\n").unwrap();
    }
    let mut got = vec![0; 5000];
    far.read_exact(&mut got).await.unwrap();
    let writes = bev.metrics().writes;
    assert!(writes <= 2, "{writes} writes");
}

#[tokio::test]
async fn an_emptied_side_holds_no_memory_with_any_subscriber() {
    let (near, far) = BufferEvent::pair();
    for is_subscribed in [false, true] {
        let reported = is_subscribed.then(|| near.input().on_change_inline(|_, _| {}));
        far.output().add(&pattern(3000)).unwrap();
        near.input().readable(3000).await.unwrap();
        near.input().drain(2000).unwrap();
        near.input().drain(1000).unwrap();
        yield_many().await;
        for side in [near.input(), far.output()] {
            assert_eq!(side.lock().capacity(), 0, "{is_subscribed}");
        }
        drop(reported);
    }
}

#[tokio::test]
async fn a_freeze_or_a_cap_pauses_reading_at_once() {
    let (near, mut far) = duplex(8192);
    let bev = BufferEvent::new(near);
    // The task waits for bytes now, and has computed how many it may read.
    yield_many().await;
    bev.input().lock().freeze(End::Back);
    far.write_all(&pattern(100)).await.unwrap();
    yield_many().await;
    assert!(bev.input().is_empty() && bev.is_enabled(Direction::Read));

    bev.input().lock().set_max_len(Some(10));
    bev.input().lock().unfreeze(End::Back);
    let mut got = Vec::new();
    while got.len() < 100 {
        yield_many().await;
        assert!(bev.input().len() <= 10);
        got.extend(bev.input().take_bytes(usize::MAX).unwrap());
    }
    assert!(got == pattern(100));
}

/// A stream that freezes or caps the input in the middle of a read.
struct Meddles {
    input: Arc<OnceLock<SharedEvBuffer>>,
    how: fn(&mut EvBuffer),
}

impl AsyncRead for Meddles {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(input) = self.input.get() else {
            return Poll::Pending;
        };
        out.put_slice(&pattern(100));
        (self.how)(&mut input.lock());
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn bytes_of_a_read_during_a_freeze_or_cap_are_kept() {
    let ways: [fn(&mut EvBuffer); 2] = [
        |input| input.freeze(End::Back),
        |input| input.set_max_len(Some(1)),
    ];
    for how in ways {
        let input = Arc::new(OnceLock::new());
        let stream = Meddles {
            input: Arc::clone(&input),
            how,
        };
        let bev = BufferEvent::new(tokio::io::join(stream, tokio::io::sink()));
        input.set(bev.input().clone()).unwrap();
        yield_many().await;
        assert!(bev.is_enabled(Direction::Read));
        assert_eq!(bev.input().take_bytes(200).unwrap(), pattern(100));
    }
}

#[test]
fn removing_a_file_from_the_output_while_it_is_read_is_no_error() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build();
    runtime.unwrap().block_on(async {
        // The only thread that reads files is busy until the file has been removed.
        let (free, is_free) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || is_free.recv());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(1000)).unwrap();
        let cut_short = FileSegment::new(Arc::new(file.try_clone().unwrap()), ..).unwrap();
        file.set_len(10).unwrap();
        let (near, mut far) = duplex(64);
        let bev = BufferEvent::new(near);
        bev.output().lock().add_file(cut_short).unwrap();
        // The task begins to read the file.
        tokio::task::yield_now().await;
        let mut output = bev.output().lock();
        output.replace(EvBuffer::new());
        output.add(b"instead").unwrap();
        output
            .add_file(FileSegment::new(temp_file(b" of it"), ..).unwrap())
            .unwrap();
        drop(output);
        free.send(()).unwrap();
        busy.await.unwrap().unwrap();
        bev.flush().await.unwrap();
        let mut got = [0; 13];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"instead of it");
    });
}
