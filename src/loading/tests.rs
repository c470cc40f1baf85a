use std::{
    future::{Future, poll_fn},
    io::{self, Write},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    task::yield_now,
};

use crate::{
    BufferEvent, EolStyle, EvBuffer, Prefixed, SharedEvBuffer, Transfer,
    buffer::FileSegment,
    bufferevent::{Direction, FilterStatus},
    segment::slow_disk::SlowDisk,
    shared::{LengthDecoder, Reader},
};

/// A file of several pieces, with lines, and a frame at the front.
const LEN: usize = 600 << 10;

fn pattern() -> Vec<u8> {
    let mut data: Vec<u8> = (0..LEN).map(|i| b'a' + (i % 23) as u8).collect();
    data[..8].copy_from_slice(b"\0\0\0\x04abc\n");
    data
}

fn on_disk(disk: &Arc<SlowDisk>, data: &[u8]) -> FileSegment {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    FileSegment::on_disk(file, disk.clone()).unwrap()
}

fn buffer(segment: FileSegment) -> EvBuffer {
    let mut buffer = EvBuffer::new();
    buffer.add_file(segment).unwrap();
    buffer
}

fn shared(segment: FileSegment) -> SharedEvBuffer {
    let shared = SharedEvBuffer::new();
    shared.lock().add_file(segment).unwrap();
    shared.close();
    shared
}

fn reader(segment: FileSegment) -> Reader {
    shared(segment).reader()
}

/// Releases the disk at the end, also of a test that fails.
struct Release(Arc<SlowDisk>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.release();
    }
}

async fn until_a_read_waits(disk: &SlowDisk) {
    while disk.waiting() == 0 {
        yield_now().await;
    }
}

/// Checks that `take` takes the first bytes of a file, and that this thread does other work while they are read.
///
/// The disk panics if this thread, which is the only worker, waits for it.
async fn check<F: Future<Output = Vec<u8>>>(take: impl FnOnce(FileSegment) -> F) {
    let disk = Arc::new(SlowDisk::new());
    let release = Release(disk.clone());
    let data = pattern();
    let mut taking = pin!(take(on_disk(&disk, &data)));
    tokio::select! {
        biased;
        _ = &mut taking => panic!("taken before the disk has read it"),
        () = until_a_read_waits(&disk) => {}
    }
    drop(release);
    let taken = taking.await;
    assert!(!taken.is_empty() && data.starts_with(&taken));
    assert!(disk.served() > 0);
}

/// Returns what a connection writes that `set` has prepared.
async fn written(segment: FileSegment, set: impl FnOnce(BufferEvent) -> BufferEvent) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let connection = set(BufferEvent::new(near));
    connection.output().lock().add_file(segment).unwrap();
    let mut taken = vec![0; LEN];
    far.read_exact(&mut taken).await.unwrap();
    taken
}

#[tokio::test]
async fn a_connection_writes_files_without_waiting_for_the_disk() {
    check(|segment| written(segment, |connection| connection)).await;
}

#[tokio::test]
async fn a_filter_gets_files_without_waiting_for_the_disk() {
    let same = |src: &mut EvBuffer, dst: &mut EvBuffer, limit: Option<usize>, _| {
        let n = limit.unwrap_or(usize::MAX).min(src.len());
        dst.add(src.take_bytes(n)?)?;
        io::Result::Ok(FilterStatus::Ok)
    };
    check(|segment| written(segment, |connection| connection.filter(same, same))).await;
}

#[tokio::test]
async fn a_filter_gets_files_of_a_system_that_does_not_report_what_is_cached() {
    let disk = Arc::new(SlowDisk::without_reports());
    disk.release();
    let data = pattern();
    let pass = |src: &mut EvBuffer, dst: &mut EvBuffer, _, _| {
        src.remove_buffer(dst, usize::MAX)?;
        io::Result::Ok(FilterStatus::Ok)
    };
    let written = written(on_disk(&disk, &data), |connection| {
        let filtered = connection.filter(pass, pass);
        filtered.set_max_single(Direction::Write, LEN);
        filtered
    });
    let written = tokio::time::timeout(Duration::from_secs(60), written).await;
    assert!(written.expect("the write makes no progress") == data);
    // Each piece once into the page cache, and once into memory.
    assert!(disk.bytes_read() <= 2 * LEN as u64);
}

#[tokio::test]
async fn a_transfer_sends_files_without_waiting_for_the_disk() {
    check(|segment| async {
        let (mut near, mut far) = tokio::io::duplex(1 << 10);
        let transfer = Transfer::new(tokio::io::empty(), &mut near)
            .initial(buffer(segment))
            .shutdown(true);
        let mut taken = Vec::new();
        let (sent, _) = tokio::join!(transfer.run(), far.read_to_end(&mut taken));
        assert_eq!(sent.unwrap(), LEN as u64);
        taken
    })
    .await;
}

#[cfg(feature = "net")]
#[tokio::test]
async fn a_socket_is_sent_files_without_waiting_for_the_disk() {
    use crate::test_net::tcp_pair;

    check(|segment| async {
        let (near, mut far) = tcp_pair().await;
        let connection = BufferEvent::new(near);
        connection.output().lock().add_file(segment).unwrap();
        let mut taken = vec![0; LEN];
        far.read_exact(&mut taken).await.unwrap();
        taken
    })
    .await;
    check(|segment| async {
        let (near, mut far) = tcp_pair().await;
        let transfer = Transfer::new(tokio::io::empty(), near).initial(buffer(segment));
        let mut taken = vec![0; LEN];
        let (sent, read) = tokio::join!(transfer.run(), far.read_exact(&mut taken));
        assert_eq!((sent.unwrap(), read.unwrap()), (LEN as u64, LEN));
        taken
    })
    .await;
}

#[tokio::test]
async fn readers_take_files_without_waiting_for_the_disk() {
    check(|segment| async {
        let mut taken = Vec::new();
        reader(segment).read_to_end(&mut taken).await.unwrap();
        taken
    })
    .await;
    check(|segment| async { reader(segment).fill_buf().await.unwrap().to_vec() }).await;
    check(|segment| async { reader(segment).next().await.unwrap().unwrap().into() }).await;
}

#[tokio::test]
async fn awaited_pieces_of_files_are_taken_without_waiting_for_the_disk() {
    check(|segment| async { shared(segment).take_exact(LEN).await.unwrap().into() }).await;
    check(|segment| async {
        let line = shared(segment).next_line(EolStyle::Lf, usize::MAX).await;
        line.unwrap().unwrap().into()
    })
    .await;
    check(|segment| async {
        let taken = shared(segment).take_until(b"\n", 100).await;
        taken.unwrap().unwrap().into()
    })
    .await;
    check(|segment| async {
        let frame = shared(segment).frames(LengthDecoder::new(10)).next().await;
        [b"\0\0\0\x04", &frame.unwrap().unwrap()[..]].concat()
    })
    .await;
}

#[tokio::test]
async fn a_prefix_of_files_is_read_without_waiting_for_the_disk() {
    let prefixed = |segment| Prefixed::new(tokio::io::empty(), buffer(segment));
    check(|segment| async { prefixed(segment).peek(LEN).await.unwrap().to_vec() }).await;
    check(|segment| async {
        let mut stream = prefixed(segment);
        let until = stream.peek_until(b"\n", LEN).await.unwrap().unwrap();
        stream.prefix().to_vec()[..until].to_vec()
    })
    .await;
    check(|segment| async {
        let mut taken = Vec::new();
        let mut stream = prefixed(segment);
        stream.read_to_end(&mut taken).await.unwrap();
        taken
    })
    .await;
    check(|segment| async { prefixed(segment).fill_buf().await.unwrap().to_vec() }).await;
}

#[tokio::test]
async fn a_read_that_is_dropped_while_the_disk_reads_loses_nothing() {
    let disk = Arc::new(SlowDisk::new());
    let release = Release(disk.clone());
    let data = pattern();
    let mut reader = reader(on_disk(&disk, &data));
    tokio::select! {
        biased;
        _ = reader.read_u8() => panic!("taken before the disk has read it"),
        () = until_a_read_waits(&disk) => {}
    }
    tokio::select! {
        biased;
        _ = reader.fill_buf() => panic!("taken before the disk has read it"),
        () = yield_now() => {}
    }
    drop(release);
    let mut taken = Vec::new();
    reader.read_to_end(&mut taken).await.unwrap();
    assert!(taken == data);
}

#[tokio::test]
async fn a_result_for_bytes_that_others_have_taken_is_ignored() {
    let disk = Arc::new(SlowDisk::new());
    let release = Release(disk.clone());
    let shared = shared(on_disk(&disk, &pattern()));
    let mut reader = shared.reader();
    let mut reading = pin!(reader.fill_buf());
    tokio::select! {
        biased;
        _ = &mut reading => panic!("taken before the disk has read it"),
        () = until_a_read_waits(&disk) => {}
    }
    shared.lock().drain(LEN).unwrap();
    drop(release);
    assert_eq!(reading.await.unwrap(), b"");
}

#[tokio::test]
async fn readers_of_one_buffer_take_each_byte_of_a_file_once() {
    let disk = Arc::new(SlowDisk::new());
    let release = Release(disk.clone());
    let data = pattern();
    let shared = shared(on_disk(&disk, &data));
    let mut first = shared.reader();
    let mut second = shared.reader();
    let both = async {
        let (mut from_first, mut from_second) = (Vec::new(), Vec::new());
        let (first, second) = tokio::join!(
            first.read_to_end(&mut from_first),
            second.read_to_end(&mut from_second)
        );
        assert_eq!(first.unwrap() + second.unwrap(), LEN);
        [from_first, from_second].concat()
    };
    let mut both = pin!(both);
    tokio::select! {
        biased;
        _ = &mut both => panic!("taken before the disk has read it"),
        () = until_a_read_waits(&disk) => {}
    }
    drop(release);
    let mut all = both.await;
    let mut expected = data;
    all.sort_unstable();
    expected.sort_unstable();
    assert!(all == expected);
}

#[tokio::test]
async fn a_file_that_became_shorter_is_an_error_of_the_read() {
    let disk = Arc::new(SlowDisk::new());
    disk.release();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern()).unwrap();
    let cut = file.try_clone().unwrap();
    let segment = FileSegment::on_disk(file, disk).unwrap();
    cut.set_len(10).unwrap();
    let error = reader(segment.clone()).read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let error = Prefixed::new(tokio::io::empty(), buffer(segment.clone()))
        .peek(LEN)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let error = Transfer::new(tokio::io::empty(), tokio::io::sink())
        .initial(buffer(segment))
        .run()
        .await
        .unwrap_err();
    assert_eq!(error.error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn without_a_runtime_the_task_reads_by_itself() {
    let disk = std::thread::spawn(|| Arc::new(SlowDisk::new()));
    let disk = disk.join().unwrap();
    disk.release();
    let data = pattern();
    let mut reader = tokio_test::task::spawn(reader(on_disk(&disk, &data)));
    let mut taken: Vec<Bytes> = Vec::new();
    while let Poll::Ready(Some(bytes)) = reader.poll_next() {
        taken.push(bytes.unwrap());
    }
    assert!(taken.concat() == data);
    assert!(disk.served() > 0);
}

#[tokio::test]
async fn the_file_is_closed_with_its_last_byte() {
    let disk = Arc::new(SlowDisk::new());
    disk.release();
    let lease = Arc::new(());
    let segment = on_disk(&disk, &pattern()).with_owner(lease.clone());
    let shared = SharedEvBuffer::new();
    shared.lock().add_file(segment).unwrap();
    let mut reader = shared.reader();
    let mut taken = vec![0; LEN];
    reader.read_exact(&mut taken).await.unwrap();
    assert_eq!(Arc::strong_count(&lease), 1);
    let mut reading = pin!(reader.read_u8());
    let waits = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_pending())).await;
    assert!(waits);
}

#[tokio::test]
async fn the_rest_of_a_message_follows_a_file_from_the_disk() {
    let disk = Arc::new(SlowDisk::new());
    disk.release();
    let data = pattern();
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let connection = BufferEvent::new(near);
    connection.output().add("head").unwrap();
    let mut output = connection.output().lock();
    output.add_file(on_disk(&disk, &data)).unwrap();
    output.add("tail").unwrap();
    drop(output);
    let mut taken = vec![0; LEN + 8];
    far.read_exact(&mut taken).await.unwrap();
    assert!(taken == [b"head", &data[..], b"tail"].concat());
    far.shutdown().await.unwrap();
}
