//! An idle relay holds no buffer memory, before and after it has carried bytes.

#![cfg(feature = "net")]

use bytes::BytesMut;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
};
use tokio_evbuffer::{EvBuffer, Relay, relay::HalfClose};

use crate::heap;

use crate::support::net::tcp_pair;

/// Sends `data` in both directions and waits until the relay is idle.
async fn carry(left: &mut TcpStream, right: &mut TcpStream, data: &[u8], sink: &mut [u8]) {
    for _ in 0..2 {
        let (sent, got) = tokio::join!(left.write_all(data), right.read_exact(sink));
        sent.unwrap();
        got.unwrap();
        std::mem::swap(left, right);
    }
}

#[tokio::test]
async fn an_idle_relay_holds_no_memory() {
    empty_initial_buffers_hold_no_memory().await;
    no_memory_is_kept_after_a_transfer().await;
}

/// A proxy passes such buffers: it read a header with them and drained it.
async fn empty_initial_buffers_hold_no_memory() {
    // More than a thread keeps of freed blocks.
    const RELAYS: usize = 50;
    let emptied = || {
        let mut buffer = EvBuffer::from(BytesMut::zeroed(16 << 10));
        buffer.add(&[1; 16 << 10]).unwrap();
        buffer.drain(32 << 10).unwrap();
        buffer
    };
    let mut running = Vec::new();
    let before = heap::in_use_here();
    for _ in 0..RELAYS {
        let ((left, a), (right, b)) = (duplex(1), duplex(1));
        let relay = Relay::new(a, b).initial(emptied(), emptied());
        let mut relay = tokio_test::task::spawn(relay.run());
        assert!(relay.poll().is_pending());
        running.push((left, right, relay));
    }
    let each = (heap::in_use_here() - before) / RELAYS as isize;
    assert!(each < 4 << 10, "{each} bytes each");
}

async fn no_memory_is_kept_after_a_transfer() {
    let data = vec![1; 128 << 10];
    let mut sink = vec![0; data.len()];
    // One-time allocations of the process show in one round; memory that a relay keeps shows in each.
    let mut kept = isize::MAX;
    for _ in 0..5 {
        let ((mut left, a), (mut right, b)) = (tcp_pair().await, tcp_pair().await);
        // Sockets that take all of it: a relay that has waited for its sink holds the memory of its timer, and so does one
        // that is half-closed and lingers.
        for socket in [&a, &b] {
            SockRef::from(socket)
                .set_send_buffer_size(256 << 10)
                .unwrap();
        }
        let relay = Relay::new(a, b).half_close(HalfClose::Propagate);
        let relaying = tokio::spawn(relay.run());
        carry(&mut left, &mut right, &data[..1], &mut sink[..1]).await;
        let before = heap::in_use_here();
        carry(&mut left, &mut right, &data, &mut sink).await;
        let after = heap::in_use_here();
        // Continue until the reads are small: a read of nothing leaves its spare room.
        for _ in 0..12 {
            carry(&mut left, &mut right, &data[..1], &mut sink[..1]).await;
        }
        left.shutdown().await.unwrap();
        assert_eq!(right.read(&mut sink).await.unwrap(), 0);
        let half_closed = heap::in_use_here();
        relaying.abort();
        assert!(relaying.await.unwrap_err().is_cancelled());
        kept = kept.min(after.max(half_closed) - before);
    }
    assert!(kept <= 0, "an idle relay keeps {kept} bytes");
}
