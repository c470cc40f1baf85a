//! Ends of relays while a source is not read: the end behind its bytes counts, and so do the bytes themselves.

#![cfg(all(feature = "net", target_os = "linux"))]

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
};
use tokio_evbuffer::{
    Relay, SharedEvBuffer,
    limits::MemoryBudget,
    relay::{HalfClose, RelayEnd},
};

use crate::{
    ends::read_to_the_end,
    support::{
        net::tcp_pair,
        tasks::{pause, soon, yield_many},
    },
};

const HOUR: Duration = Duration::from_secs(3600);

/// Returns a relay that holds one byte, and whose sink takes one, with a client that has sent 100 bytes and its end.
async fn full(policy: HalfClose) -> (Relay<TcpStream, DuplexStream>, TcpStream, DuplexStream) {
    let ((mut client, a), (server, b)) = (tcp_pair().await, duplex(1));
    client.write_all(&[1; 100]).await.unwrap();
    client.shutdown().await.unwrap();
    let relay = Relay::new(a, b).half_close(policy);
    (relay.buffer(1).stall_buffer(1), client, server)
}

#[tokio::test]
async fn linger_counts_from_an_end_that_cannot_be_read() {
    let linger = HalfClose::Linger(Duration::from_millis(300));
    let (relay, _client, _server) = full(linger).await;
    let summary = soon("the end of the relay", relay.run()).await.unwrap();
    assert_eq!(summary.reason, RelayEnd::LingerExpired);
}

#[tokio::test]
async fn an_end_that_cannot_be_read_closes_nothing_yet() {
    let (relay, _client, mut server) = full(HalfClose::Close).await;
    let relaying = tokio::spawn(relay.run());
    // The relay finds the end when it looks at stalled flows.
    pause(Duration::from_millis(300)).await;
    let mut received = Vec::new();
    let reading = soon("the end", server.read_to_end(&mut received));
    reading.await.unwrap();
    assert_eq!(received.len(), 100);
    let summary = relaying.await.unwrap().unwrap();
    assert_eq!(summary.reason, RelayEnd::FirstEof);
}

/// Both directions of a relay wake the task that has polled it last.
#[tokio::test]
async fn a_relay_may_move_to_another_task() {
    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    let mut running = pin!(Relay::new(a, b).run());
    let polled = (running.as_mut()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    // The direction from the server moves bytes in the first poll by this task.
    server.write_all(b"first").await.unwrap();
    yield_many().await;
    let exchange = async {
        client.read_exact(&mut [0; 5]).await.unwrap();
        client.write_all(b"second").await.unwrap();
        server.read_exact(&mut [0; 6]).await.unwrap();
    };
    let relaying = poll_fn(|cx| match running.as_mut().poll(cx) {
        Poll::Ready(ended) => panic!("{ended:?}"),
        Poll::Pending => Poll::<()>::Pending,
    });
    tokio::select! {
        biased;
        () = relaying => {}
        () = soon("the exchange", exchange) => {}
    }
}

/// The source was found empty, and has sent more since its relay stopped reading.
#[tokio::test]
async fn a_sink_is_reset_if_its_source_has_sent_more_than_was_read() {
    for is_dropped in [true, false] {
        let budget = MemoryBudget::new(1 << 10);
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        let relay = Relay::new(a, b).budget(&budget).max_lifetime(HOUR);
        let relaying = tokio::spawn(relay.run());
        client.write_all(b"read").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        yield_many().await;

        let other = SharedEvBuffer::new();
        other.set_budget(&budget);
        other.add([0; 64 << 10]).unwrap();
        client.write_all(b"unread").await.unwrap();
        pause(Duration::from_millis(50)).await;
        match is_dropped {
            true => relaying.abort(),
            false => {
                tokio::time::pause();
                tokio::time::advance(HOUR).await;
                let summary = relaying.await.unwrap().unwrap();
                assert_eq!(summary.reason, RelayEnd::Lifetime);
                assert_eq!(summary.a_to_b, 4);
                tokio::time::resume();
            }
        }
        let (read, end) = read_to_the_end(&mut server).await;
        assert_eq!(read, 0);
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
