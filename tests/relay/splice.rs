//! Flows that change between splice and copy: no byte is lost, held or reordered at a change.

#![cfg(all(feature = "net", target_os = "linux"))]

use std::{
    io,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_evbuffer::{
    EvBuffer, Relay, relay,
    relay::{HalfClose, OnError, RelayEnd, RelayError, RelayStream, RelaySummary, Splice, Step},
};

use crate::support::{net::tcp_pair, tasks::yield_many, wrapped::Wrapped};

/// Returns the bytes of each stream from position `from`. Their period is no multiple of a buffer's length.
fn bytes(from: usize, len: usize) -> Vec<u8> {
    static PERIOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..99_991_u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .collect()
    });
    let (mut bytes, mut at) = (Vec::with_capacity(len), from % PERIOD.len());
    while bytes.len() < len {
        let rest = &PERIOD[at..];
        bytes.extend_from_slice(&rest[..rest.len().min(len - bytes.len())]);
        at = 0;
    }
    bytes
}

/// An end of a relayed connection that counts the bytes sent and received.
struct End<S> {
    stream: S,
    sent: usize,
    received: usize,
}

impl<S: RelayStream> End<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            sent: 0,
            received: 0,
        }
    }

    async fn send(&mut self, len: usize) {
        let data = bytes(self.sent, len);
        self.stream.write_all(&data).await.unwrap();
        self.sent += len;
    }

    async fn receive(&mut self, len: usize) {
        let mut data = vec![0; len];
        self.stream.read_exact(&mut data).await.unwrap();
        assert!(
            data == bytes(self.received, len),
            "other bytes from {} on",
            self.received
        );
        self.received += len;
    }

    /// Receives to the end of the stream.
    async fn receive_rest(&mut self) -> io::Result<()> {
        let mut data = vec![0; 100_000];
        loop {
            let n = self.stream.read(&mut data).await?;
            assert!(
                data[..n] == bytes(self.received, n),
                "other bytes from {} on",
                self.received
            );
            self.received += n;
            if n == 0 {
                return Ok(());
            }
        }
    }
}

/// Sends bulk, then requests and answers, and repeats. Each answer must arrive before the next request is sent.
async fn check_changes<L: RelayStream, R: RelayStream>(mut left: End<L>, mut right: End<R>) {
    for round in 0..4 {
        let bulk = 3_000_000 + round;
        tokio::join!(left.send(bulk), right.receive(bulk));
        for len in [1, 64, 3000, 1, 20_000] {
            tokio::join!(left.send(len), right.receive(len));
            tokio::join!(right.send(len), left.receive(len));
        }
        tokio::join!(right.send(bulk), left.receive(bulk));
    }
    left.stream.shutdown().await.unwrap();
    right.receive_rest().await.unwrap();
    right.stream.shutdown().await.unwrap();
    left.receive_rest().await.unwrap();
    assert_eq!((left.sent, right.sent), (right.received, left.received));
}

#[tokio::test]
async fn no_byte_is_lost_or_held_when_a_flow_changes_between_splice_and_copy() {
    for splice in [Splice::Auto, Splice::Never] {
        for swapped in [false, true] {
            let ((left, a), (right, b)) = (tcp_pair().await, tcp_pair().await);
            let (a, b) = if swapped { (b, a) } else { (a, b) };
            let relaying = tokio::spawn(Relay::new(a, b).splice(splice).run());
            check_changes(End::new(left), End::new(right)).await;
            let summary = relaying.await.unwrap().unwrap();
            assert_eq!(summary.reason, RelayEnd::Eof);
            assert_eq!(summary.a_to_b, summary.b_to_a);
        }
    }
}

#[tokio::test]
async fn no_byte_is_lost_or_held_when_a_flow_to_a_unix_socket_changes() {
    let (left, a) = tcp_pair().await;
    let (right, b) = UnixStream::pair().unwrap();
    let relaying = tokio::spawn(relay(a, b));
    check_changes(End::new(left), End::new(right)).await;
    relaying.await.unwrap().unwrap();
}

#[tokio::test]
async fn initial_bytes_are_sent_before_spliced_bytes() {
    let ((left, a), (right, b)) = (tcp_pair().await, tcp_pair().await);
    let from_a = EvBuffer::from(bytes(0, 50_000));
    let relaying = tokio::spawn(Relay::new(a, b).initial(from_a, EvBuffer::new()).run());
    let (mut left, mut right) = (End::new(left), End::new(right));
    left.sent = 50_000;
    tokio::join!(left.send(4_000_000), right.receive(4_050_000));
    drop((left, right));
    relaying.await.unwrap().unwrap();
}

/// The source ends before the sink begins to read: the bytes in the pipe still arrive.
#[tokio::test]
async fn an_end_of_stream_does_not_overtake_bytes_in_the_pipe() {
    let ((left, a), (right, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = tokio::spawn(relay(a, b));
    let (mut left, mut right) = (End::new(left), End::new(right));
    tokio::join!(left.send(2_000_000), right.receive(2_000_000));
    let send = async {
        left.send(8_000_000).await;
        left.stream.shutdown().await.unwrap();
    };
    let read = async {
        // Read slowly, so that all buffers on the path fill up.
        for _ in 0..50 {
            yield_many().await;
            right.receive(1000).await;
        }
        right.receive_rest().await.unwrap();
        assert_eq!(right.received, 10_000_000);
    };
    tokio::join!(send, read);
    drop((left, right));
    relaying.await.unwrap().unwrap();
}

/// Returns a relay with a sink that does not read, and a pipe that holds bytes and is not full.
///
/// The sockets behind it have small buffers, so that most of the bytes are in the pipe. The receive buffer has room for two
/// of the packets that loopback carries: with less, each packet waits for a timer of the kernel.
async fn stalled(
    half_close: HalfClose,
) -> (
    End<TcpStream>,
    End<TcpStream>,
    JoinHandle<Result<RelaySummary, RelayError>>,
) {
    let ((left, a), (right, b)) = (tcp_pair().await, tcp_pair().await);
    socket2::SockRef::from(&b)
        .set_send_buffer_size(16 << 10)
        .unwrap();
    socket2::SockRef::from(&right)
        .set_recv_buffer_size(128 << 10)
        .unwrap();
    let relaying = Relay::new(a, b)
        .buffer(1 << 20)
        .stall_buffer(1 << 20)
        .half_close(half_close);
    let relaying = tokio::spawn(relaying.run());
    let (mut left, mut right) = (End::new(left), End::new(right));
    tokio::join!(left.send(3_000_000), right.receive(3_000_000));
    left.send(600_000).await;
    yield_many().await;
    (left, right, relaying)
}

#[tokio::test]
async fn an_end_of_stream_waits_until_the_pipe_is_empty() {
    let (mut left, mut right, relaying) = stalled(HalfClose::Propagate).await;
    left.stream.shutdown().await.unwrap();
    yield_many().await;
    right.receive_rest().await.unwrap();
    assert_eq!(right.received, 3_600_000);
    drop((left, right));
    relaying.await.unwrap().unwrap();
}

/// The end of the source is noticed while the sink does not read, so that the linger time runs.
#[tokio::test]
async fn the_source_is_watched_while_the_pipe_holds_bytes() {
    let linger = HalfClose::Linger(Duration::from_millis(10));
    let (mut left, _right, relaying) = stalled(linger).await;
    left.stream.shutdown().await.unwrap();
    let ended = relaying.await.unwrap().unwrap();
    assert_eq!(ended.reason, RelayEnd::LingerExpired);

    let (left, _right, relaying) = stalled(linger).await;
    socket2::SockRef::from(&left.stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(left);
    let failed = relaying.await.unwrap().unwrap_err();
    assert_eq!(failed.step, Step::Read);
}

#[tokio::test]
async fn a_flow_that_turns_to_copy_while_the_pipe_holds_bytes_keeps_its_order() {
    let (mut left, mut right, relaying) = stalled(HalfClose::Propagate).await;
    for _ in 0..6 {
        // The relay reads its source again after the sink took some bytes.
        left.send(1000).await;
        right.receive(50_000).await;
        yield_many().await;
    }
    right.receive(306_000).await;
    drop((left, right));
    relaying.await.unwrap().unwrap();
}

/// Small pieces fill the pipe's slots long before its bytes; that must not look like an empty socket.
#[tokio::test]
async fn a_pipe_full_of_small_pieces_is_not_an_empty_socket() {
    let (left, a) = tcp_pair().await;
    let (right, b) = UnixStream::pair().unwrap();
    let relaying = tokio::spawn(relay(a, b));
    let (mut left, mut right) = (End::new(left), End::new(right));
    tokio::join!(left.send(3_000_000), right.receive(3_000_000));
    let small = async {
        for _ in 0..3000 {
            left.send(7).await;
        }
        left.stream.shutdown().await.unwrap();
    };
    let read = async {
        tokio::task::yield_now().await;
        right.receive_rest().await.unwrap();
        assert_eq!(right.received, 3_021_000);
    };
    tokio::join!(small, read);
    drop((left, right));
    relaying.await.unwrap().unwrap();
}

/// The source is reset while the sink does not read: bytes already read are delivered, and the counts are exact.
#[tokio::test]
async fn a_reset_while_the_pipe_holds_bytes_is_reported_with_exact_counts() {
    let ((left, a), (right, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = tokio::spawn(Relay::new(a, b).on_error(OnError::Fin).run());
    let (mut left, mut right) = (End::new(left), End::new(right));
    tokio::join!(left.send(2_000_000), right.receive(2_000_000));
    // Wait until no more progress is made.
    let data = bytes(left.sent, 64 << 20);
    let stuck = tokio::time::timeout(Duration::from_millis(200), left.stream.write_all(&data));
    stuck.await.expect_err("more than all buffers hold");
    socket2::SockRef::from(&left.stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(left);

    right.receive_rest().await.unwrap();
    drop(right.stream);
    let failed = relaying.await.unwrap().unwrap_err();
    assert_eq!(failed.summary.a_to_b, right.received as u64);
    assert!(right.received > 2_000_000);
}

/// A dropped relay discards the bytes in its pipe; no later flow may get them.
#[tokio::test]
async fn bytes_of_a_dropped_relay_never_show_up_in_another() {
    for _ in 0..40 {
        let ((mut left, a), (_right, b)) = (tcp_pair().await, tcp_pair().await);
        let relaying = tokio::spawn(relay(a, b));
        let sending = left.write_all(&[0xEE; 64 << 20]);
        let _ = tokio::time::timeout(Duration::from_millis(5), sending).await;
        relaying.abort();
        assert!(relaying.await.unwrap_err().is_cancelled());
    }
    let ((left, a), (right, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = tokio::spawn(relay(a, b));
    check_changes(End::new(left), End::new(right)).await;
    relaying.await.unwrap().unwrap();
}

/// A splice stops at an urgent mark: the bytes behind it arrive with the next byte, and at the latest before the end.
#[tokio::test]
async fn bytes_behind_an_urgent_mark_of_a_spliced_flow_are_neither_lost_nor_held() {
    for ends in [false, true] {
        let ((left, a), (right, b)) = (tcp_pair().await, tcp_pair().await);
        let relaying = tokio::spawn(relay(a, b));
        let (mut left, mut right) = (End::new(left), End::new(right));
        tokio::join!(left.send(3_000_000), right.receive(3_000_000));
        left.send(60_000).await;
        left.stream.writable().await.unwrap();
        let sent = socket2::SockRef::from(&left.stream).send_out_of_band(b"!");
        assert_eq!(sent.unwrap(), 1);
        left.send(60_000).await;
        right.receive(60_000).await;
        yield_many().await;
        if ends {
            left.stream.shutdown().await.unwrap();
            right.receive_rest().await.unwrap();
        } else {
            left.send(1).await;
            right.receive(60_001).await;
        }
        assert_eq!(right.received, left.sent);
        drop((left, right));
        relaying.await.unwrap().unwrap();
    }
}

/// The bytes in the pipe are copied if splice to the sink stops working.
#[tokio::test]
async fn bytes_in_the_pipe_are_copied_to_a_sink_that_refuses_splice() {
    let ((left, a), (right, b)) = (tcp_pair().await, tcp_pair().await);
    // While the socket is hidden, the relay writes to the wrapper.
    let is_found = Arc::new(AtomicBool::new(true));
    let finds = Arc::clone(&is_found);
    let relaying = Relay::new(a, Wrapped(b, ())).sockets(
        |_| None,
        move |b| finds.load(Ordering::Relaxed).then(|| (&b.0).into()),
    );
    let relaying = tokio::spawn(relaying.run());
    let (mut left, mut right) = (End::new(left), End::new(right));
    tokio::join!(left.send(2_000_000), right.receive(2_000_000));
    // Wait until no more progress is made.
    let data = bytes(left.sent, 64 << 20);
    let stuck = tokio::time::timeout(Duration::from_millis(200), left.stream.write_all(&data));
    stuck.await.expect_err("more than all buffers hold");

    is_found.store(false, Ordering::Relaxed);
    left.stream.shutdown().await.unwrap();
    right.receive_rest().await.unwrap();
    assert!(right.received > 2_000_000);
    right.stream.shutdown().await.unwrap();
    let summary = relaying.await.unwrap().unwrap();
    assert_eq!(summary.a_to_b, right.received as u64);
}
