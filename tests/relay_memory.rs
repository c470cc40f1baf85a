//! An idle relay holds no buffer memory, before and after it has carried bytes.

#![cfg(feature = "net")]

#[path = "support/heap.rs"]
#[allow(dead_code)]
mod heap;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_evbuffer::{HalfClose, Relay};

/// Two ends of one TCP connection.
async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = TcpStream::connect(listener.local_addr().unwrap());
    let (accepted, connected) = tokio::join!(listener.accept(), connect);
    (accepted.unwrap().0, connected.unwrap())
}

/// Carries `data` both ways and lets the relay fall asleep.
async fn carry(left: &mut TcpStream, right: &mut TcpStream, data: &[u8], sink: &mut [u8]) {
    for _ in 0..2 {
        let (sent, got) = tokio::join!(left.write_all(data), right.read_exact(sink));
        sent.unwrap();
        got.unwrap();
        std::mem::swap(left, right);
    }
}

// One test only, since the count is that of the process.
#[tokio::test]
async fn an_idle_relay_holds_no_more_memory_than_a_new_one() {
    let data = vec![1; 256 << 10];
    let mut sink = vec![0; data.len()];
    // What is allocated once in the process, by whomever and whenever, shows in one round; what a relay keeps, in each.
    let mut kept = isize::MAX;
    for _ in 0..5 {
        let ((mut left, a), (mut right, b)) = (tcp_pair().await, tcp_pair().await);
        // The timer of a half-closed relay would be the only memory that it may have.
        let relay = Relay::new(a, b).half_close(HalfClose::Propagate);
        let relaying = tokio::spawn(relay.run());
        carry(&mut left, &mut right, &data[..1], &mut sink[..1]).await;
        let before = heap::in_use();
        carry(&mut left, &mut right, &data, &mut sink).await;
        let after = heap::in_use();
        // Until small reads are made, which leave room where they have read nothing.
        for _ in 0..12 {
            carry(&mut left, &mut right, &data[..1], &mut sink[..1]).await;
        }
        left.shutdown().await.unwrap();
        assert_eq!(right.read(&mut sink).await.unwrap(), 0);
        let half_closed = heap::in_use();
        relaying.abort();
        assert!(relaying.await.unwrap_err().is_cancelled());
        kept = kept.min(after.max(half_closed) - before);
    }
    assert!(kept <= 0, "an idle relay keeps {kept} bytes");
}
