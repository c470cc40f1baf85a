//! What a newcomer expects of a connection's end, its waits and its defaults.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_evbuffer::{
    BufferEvent, EolStyle, EvBuffer,
    bufferevent::{Direction, PauseReason},
};

use crate::support::{
    net::{slow_pair, tcp_pair},
    tasks::{HANG, soon, until},
};

/// Reading stops at the high watermark, so the condition cannot come true.
#[tokio::test]
async fn a_wait_for_a_line_longer_than_the_high_watermark_ends() {
    let (mut client, server) = tcp_pair().await;
    let peer = BufferEvent::builder()
        .linger(Duration::from_secs(5))
        .spawn(server);
    let serve = tokio::spawn(async move {
        let has_line = |input: &EvBuffer| input.search_eol(0, EolStyle::Crlf).is_some();
        let waited = peer.input().wait_for(has_line).await;
        (waited, peer.input().len())
    });
    let write = tokio::spawn(async move {
        let chunk = vec![b'x'; 1 << 20];
        let wrote = client.write_all(&chunk).await;
        let _ = client.write_all(b"\r\n").await;
        let _ = client.shutdown().await;
        (wrote.is_ok(), client)
    });
    let (waited, _) = soon("a line longer than 256 KiB", serve).await.unwrap();
    write.abort();
    assert!(waited.is_err());
}

/// Adds 13 MB, more than a slow client takes.
fn add_much(bev: &BufferEvent) {
    for _ in 0..200 {
        bev.output().add(&[7; 65536]).unwrap();
    }
}

async fn sees_an_error(client: &mut TcpStream) {
    let mut got = Vec::new();
    let end = client.read_to_end(&mut got).await;
    let len = got.len();
    assert!(
        end.is_err(),
        "cut to {len} B, and the client saw an orderly end"
    );
}

#[tokio::test]
async fn abort_does_not_look_like_an_orderly_end() {
    let (mut client, server) = slow_pair().await;
    let bev = BufferEvent::new(server);
    add_much(&bev);
    until("writing waits for the peer", || {
        bev.paused(Direction::Write).contains(PauseReason::Peer)
    })
    .await;
    bev.abort();
    let summary = bev.closed().await;
    assert!(summary.unsent > 0);
    sees_an_error(&mut client).await;
}

/// The peer reads nothing, so the linger of `close` expires.
#[tokio::test]
async fn expired_linger_does_not_look_like_an_orderly_end() {
    let (mut client, server) = slow_pair().await;
    let bev = BufferEvent::builder()
        .linger(Duration::from_millis(300))
        .spawn(server);
    add_much(&bev);
    let summary = bev.close().await.unwrap();
    assert!(summary.unsent > 0);
    sees_an_error(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn expired_linger_after_drop_does_not_look_like_an_orderly_end() {
    let (mut client, server) = slow_pair().await;
    let bev = BufferEvent::builder()
        .linger(Duration::from_millis(300))
        .spawn(server);
    add_much(&bev);
    drop(bev);
    // On a paused clock this ends when nothing else can happen before.
    tokio::time::sleep(Duration::from_secs(100)).await;
    sees_an_error(&mut client).await;
}

/// The client keeps its side open after the goodbye of the server.
#[tokio::test]
async fn close_with_a_peer_that_stays_does_not_wait_for_linger() {
    let (mut client, server) = tcp_pair().await;
    let bev = BufferEvent::builder().linger(2 * HANG).spawn(server);
    bev.output().add(b"221 bye\r\n").unwrap();
    let closing = tokio::spawn(bev.close());
    let mut b = [0; 9];
    client.read_exact(&mut b).await.unwrap();
    soon("the end of `close`", closing).await.unwrap().unwrap();
}

/// `Builder::connect` switches off Nagle's algorithm.
#[tokio::test]
async fn two_writes_and_a_read_over_connect_do_not_wait_for_a_delayed_acknowledgement() {
    let l = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = l.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut s, _) = l.accept().await.unwrap();
        let mut b = [0; 2];
        while s.read_exact(&mut b).await.is_ok() {
            if s.write_all(b"!").await.is_err() {
                break;
            }
        }
    });
    let bev = BufferEvent::builder().connect(addr);
    bev.connected().await.unwrap();
    let nodelay = bev.with_stream(|tcp: &TcpStream| tcp.nodelay());
    assert!(nodelay.unwrap().unwrap());
    for _ in 0..20 {
        bev.output().add(b"a").unwrap();
        bev.flush().await.unwrap();
        bev.output().add(b"b").unwrap();
        bev.flush().await.unwrap();
        bev.input().readable(1).await.unwrap();
        bev.input().drain(1).unwrap();
    }
}

/// An accept loop keeps no handle, as libevent programs do.
#[tokio::test]
async fn callbacks_of_a_detached_connection_are_called() {
    let (mut client, server) = tcp_pair().await;
    let called = Arc::new(Mutex::new(0));
    let count = called.clone();
    BufferEvent::builder()
        .on_read(move |bev| {
            *count.lock().unwrap() += 1;
            let _ = bev.input().move_to(bev.output(), usize::MAX);
        })
        .spawn_detached(server);
    client.write_all(b"hello").await.unwrap();
    let mut b = [0; 5];
    let read = soon("the callback", client.read_exact(&mut b)).await;
    assert_eq!(read.unwrap(), 5);
    assert!(*called.lock().unwrap() > 0);
}

#[tokio::test]
async fn waits_and_reads_distinguish_a_reset_from_an_end() {
    let (client, server) = tcp_pair().await;
    client.set_zero_linger().unwrap();
    let mut bev = BufferEvent::new(server);
    let other = bev.clone();
    drop(client);
    let waited = other.input().readable(1).await;
    let mut b = [0; 1];
    let read = bev.read(&mut b).await;
    assert!(read.is_err());
    assert!(
        format!("{waited:?}") != "Err(Closed)",
        "readable says Closed for a reset as for an orderly end"
    );
}

#[tokio::test]
async fn a_reset_connection_is_closed() {
    let (client, server) = tcp_pair().await;
    client.set_zero_linger().unwrap();
    let bev = BufferEvent::new(server);
    drop(client);
    assert!(bev.input().readable(1).await.is_err());
    soon("the end", bev.closed()).await;
}

/// The input is full, so the task does not read.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_notices_that_the_client_of_a_full_input_has_gone() {
    use tokio::task::yield_now;
    use tokio_evbuffer::Event;

    let (mut client, server) = tcp_pair().await;
    let peer = BufferEvent::new(server);
    let sending = async { while client.write_all(&[b'x'; 8 << 10]).await.is_ok() {} };
    let full = async {
        while !peer
            .paused(Direction::Read)
            .contains(PauseReason::HighWatermark)
        {
            yield_now().await;
        }
    };
    tokio::select! {
        () = sending => panic!("the connection has ended"),
        () = soon("a full input", full) => {}
    }
    client.set_zero_linger().unwrap();
    drop(client); // resets the connection
    match soon("the reset", peer.next_event()).await {
        Some(Event::ReadError(error)) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        other => panic!("{other:?}"),
    }
}
