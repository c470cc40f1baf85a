//! File ranges sent to sockets: by the kernel where possible, with exact counts.

#![cfg(all(feature = "net", unix))]

use std::{fs::File, io};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_evbuffer::{
    EvBuffer, Relay,
    buffer::FileSegment,
    relay::{RelayError, RelayStream, RelaySummary, Step},
};

use crate::support::{
    data::{pattern, temp_file},
    net::tcp_pair,
};

/// Sends `initial` through a relay to `receiver`, the far end of `to`, and returns what arrived before the end.
async fn deliver<S: RelayStream>(
    initial: EvBuffer,
    to: S,
    mut receiver: S,
) -> (Result<RelaySummary, RelayError>, Vec<u8>) {
    let (from, peer) = tokio::io::duplex(64);
    drop(peer);
    let mut received = Vec::new();
    let receive = async {
        // An error is the reset that ends a truncated stream.
        let _ = receiver.read_to_end(&mut received).await;
        let _ = receiver.shutdown().await;
    };
    let relaying = async {
        Relay::new(from, to)
            .initial(initial, EvBuffer::new())
            .run()
            .await
    };
    let (result, ()) = tokio::join!(relaying, receive);
    (result, received)
}

/// The file is longer than any socket buffer, between bytes from memory, over all kinds of streams.
#[tokio::test]
async fn a_file_between_bytes_from_memory_arrives_unchanged() {
    let data = pattern(3_000_001);
    let segment = FileSegment::new(temp_file(&data), 1..).unwrap();
    let initial = || {
        let mut buffer = EvBuffer::from(&b"head"[..]);
        buffer.add_file(segment.clone()).unwrap();
        buffer.add(b"middle").unwrap();
        buffer.add_file(segment.slice(..10).unwrap()).unwrap();
        buffer
    };
    let expected = [b"head", &data[1..], b"middle", &data[1..11]].concat();

    let (to, receiver) = tcp_pair().await;
    let (result, received) = deliver(initial(), to, receiver).await;
    assert_eq!(result.unwrap().a_to_b, expected.len() as u64);
    assert!(received == expected, "over TCP");

    let (to, receiver) = UnixStream::pair().unwrap();
    let (result, received) = deliver(initial(), to, receiver).await;
    assert_eq!(result.unwrap().a_to_b, expected.len() as u64);
    assert!(received == expected, "over a Unix socket");

    let (to, receiver) = tokio::io::duplex(1000);
    let (result, received) = deliver(initial(), to, receiver).await;
    assert_eq!(result.unwrap().a_to_b, expected.len() as u64);
    assert!(received == expected, "over a stream that is no socket");
}

#[tokio::test]
async fn a_truncated_file_is_an_error_with_exact_counts() {
    for left in [0, 1, 300_000, 999_999] {
        let data = pattern(1_000_000);
        let file = temp_file(&data);
        let mut initial = EvBuffer::new();
        initial
            .add_file(FileSegment::new(file.clone(), ..).unwrap())
            .unwrap();
        file.set_len(left).unwrap();

        let (to, receiver) = tcp_pair().await;
        let (result, received) = deliver(initial, to, receiver).await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.step, error.error.kind()),
            (Step::Write, io::ErrorKind::UnexpectedEof)
        );
        assert_eq!(
            error.summary.a_to_b, left,
            "what the file still had was sent"
        );
        assert!(received == data[..received.len()]);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_one_error() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, b"secret").unwrap();
    let write_only = File::options().write(true).open(&path).unwrap();
    let mut initial = EvBuffer::new();
    initial
        .add_file(FileSegment::new(write_only, ..).unwrap())
        .unwrap();

    let (to, receiver) = tcp_pair().await;
    let (result, received) = deliver(initial, to, receiver).await;
    let error = result.unwrap_err();
    assert_eq!((error.step, error.summary.a_to_b), (Step::Write, 0));
    assert!(received.is_empty());
}

/// Asks the kernel to remove `file` from the page cache.
#[cfg(target_os = "linux")]
fn evict(file: &File) {
    use rustix::fs::{Advice, fadvise};
    // Only what is on the disk can be evicted.
    file.sync_all().unwrap();
    fadvise(file, 0, None, Advice::DontNeed).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_not_in_the_page_cache_arrives_unchanged() {
    use tokio_evbuffer::{Prefixed, SharedEvBuffer};

    let data = pattern(2_000_003);
    let file = temp_file(&data);
    let initial = || {
        evict(&file);
        let mut buffer = EvBuffer::new();
        buffer
            .add_file(FileSegment::new(file.clone(), 3..).unwrap())
            .unwrap();
        buffer
    };

    let (to, receiver) = tcp_pair().await;
    let (result, received) = deliver(initial(), to, receiver).await;
    assert_eq!(result.unwrap().a_to_b, 2_000_000);
    assert!(received == data[3..], "over TCP");

    let (to, receiver) = tokio::io::duplex(1000);
    let (result, received) = deliver(initial(), to, receiver).await;
    assert_eq!(result.unwrap().a_to_b, 2_000_000);
    assert!(received == data[3..], "over a stream that is no socket");

    let shared = SharedEvBuffer::new();
    shared.lock().add_buffer(&mut initial()).unwrap();
    shared.close();
    assert_eq!(shared.take_exact(1000).await.unwrap(), data[3..1003]);
    let mut received = Vec::new();
    shared.reader().read_to_end(&mut received).await.unwrap();
    assert!(received == data[1003..], "through a shared buffer");

    let mut prefixed = Prefixed::new(tokio::io::empty(), initial());
    assert_eq!(prefixed.peek(300_000).await.unwrap(), &data[3..300_003]);
    let mut received = Vec::new();
    prefixed.read_to_end(&mut received).await.unwrap();
    assert!(received == data[3..], "in front of a stream");
}
