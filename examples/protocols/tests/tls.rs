//! TLS over BufferEvents and relays: ends, flushes and pauses.
#![cfg(unix)]

use std::{io, sync::Arc, time::Duration};

use evbuffer_protocols::certificate;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tokio_evbuffer::{
    BufferEvent, Event, Relay, Watermarks, bufferevent::CloseReason, relay, relay::OnError,
};
use tokio_rustls::{client, rustls::pki_types::ServerName, server};

use support::{net::tcp_pair, tasks::soon, wrapped::Wrapped};

mod support;

/// Both ends of one TLS connection: the client's, the server's.
async fn tls_pair() -> (client::TlsStream<TcpStream>, server::TlsStream<TcpStream>) {
    let (acceptor, connector) = certificate().unwrap();
    let (near, far) = tcp_pair().await;
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    (client.unwrap(), server.unwrap())
}

/// A relay that never flushes leaves the end of what it wrote in the buffer of the TLS stream, and both sides wait.
#[tokio::test]
async fn a_relay_between_tls_streams_holds_nothing_back() {
    let (mut client, a) = tls_pair().await;
    let (b, mut upstream) = tls_pair().await;
    tokio::spawn(relay(a, b));
    let sizes = [1, 100, 16_383, 16_384, 16_385, 65_536, 70_001, 1_000_000];
    let answering = tokio::spawn(async move {
        for n in sizes {
            let mut message = vec![0; n];
            upstream.read_exact(&mut message).await?;
            upstream.write_all(&message).await?;
            upstream.flush().await?;
        }
        io::Result::Ok(upstream)
    });
    for n in sizes {
        let message = vec![n as u8; n];
        let mut answer = vec![0; n];
        soon("the write", client.write_all(&message)).await.unwrap();
        soon("the flush", client.flush()).await.unwrap();
        soon("the answer", client.read_exact(&mut answer))
            .await
            .unwrap();
        assert!(answer == message, "{n}");
    }
    answering.await.unwrap().unwrap();
}

/// The client ends its direction with close_notify, and then reads a long answer.
#[tokio::test]
async fn a_half_close_of_tls_passes_through_a_relay() {
    let (mut client, a) = tls_pair().await;
    let (b, mut upstream) = tcp_pair().await;
    let relaying = tokio::spawn(relay(a, b));
    let answering = tokio::spawn(async move {
        let mut request = Vec::new();
        upstream.read_to_end(&mut request).await?;
        upstream.write_all(&vec![5; 2_000_000]).await?;
        upstream.shutdown().await?;
        io::Result::Ok(request.len())
    });
    client.write_all(&[4; 10_000]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let end = soon("the answer", client.read_to_end(&mut answer)).await;
    let request = soon("the upstream", answering).await.unwrap().unwrap();
    assert_eq!((request, answer.len()), (10_000, 2_000_000));
    end.unwrap();
    soon("the relay", relaying).await.unwrap().unwrap();
}

/// Many peers close TLS without close_notify. What such an upstream has sent before reaches a client that reads late.
#[tokio::test]
async fn an_answer_that_ends_without_close_notify_arrives_complete() {
    const LEN: usize = 1 << 20;

    for on_error in [None, Some(OnError::Fin)] {
        let (mut client, a) = tcp_pair().await;
        let (b, mut upstream) = tls_pair().await;
        let mut relay = Relay::new(a, b);
        if let Some(on_error) = on_error {
            relay = relay.on_error(on_error);
        }
        let relaying = tokio::spawn(relay.run());
        tokio::spawn(async move {
            upstream.write_all(&vec![6; LEN]).await.unwrap();
            upstream.flush().await.unwrap();
            // An orderly end of TCP, without a close_notify of TLS.
            let (mut tcp, _) = upstream.into_inner();
            tcp.shutdown().await.unwrap();
            let _ = tcp.read(&mut [0]).await;
        });
        sleep(Duration::from_millis(500)).await;
        let mut received = Vec::new();
        let end = soon("the client", client.read_to_end(&mut received)).await;
        assert_eq!(received.len(), LEN, "{on_error:?}: then {end:?}");
        // The answer may be truncated, so the end is an error unless that is switched off.
        assert_eq!(end.is_err(), on_error.is_none(), "{on_error:?}: {end:?}");
        let error = soon("the relay", relaying).await.unwrap().unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.summary.b_to_a, LEN as u64);
    }
}

/// A pause at the high watermark leaves bytes inside the TLS layer, for which the socket does not become readable again.
#[tokio::test]
async fn bytes_inside_the_tls_layer_are_read_after_a_pause() {
    let (mut client, server) = tls_pair().await;
    let connection = BufferEvent::builder()
        .read_watermarks(Watermarks::new(1_000, 4_096).unwrap())
        .spawn(server);
    client.write_all(&[1; 393]).await.unwrap();
    client.flush().await.unwrap();
    client.write_all(&[2; 16_500]).await.unwrap();
    client.flush().await.unwrap();
    let full = async {
        while connection.input().len() < 4_096 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the pause", full).await;
    sleep(Duration::from_millis(20)).await;
    let paused_at = connection.input().len();
    let mut taken = 0;
    while taken < 16_893 {
        soon("more bytes", connection.input().readable(1))
            .await
            .unwrap();
        taken += connection.input().drain(500).unwrap();
    }
    assert_eq!(paused_at, 4_096);
}

#[tokio::test]
async fn each_orderly_end_sends_close_notify() {
    for end in ["close", "shutdown", "drop", "relay"] {
        let (mut client, server) = tls_pair().await;
        let mut keep_open: (Option<BufferEvent>, Option<TcpStream>) = (None, None);
        if end == "relay" {
            let (b, mut upstream) = tcp_pair().await;
            tokio::spawn(relay(server, b));
            upstream.write_all(b"the last words").await.unwrap();
            upstream.shutdown().await.unwrap();
            keep_open.1 = Some(upstream);
        } else {
            let connection = BufferEvent::new(server);
            connection.output().add(b"the last words").unwrap();
            match end {
                "close" => drop(tokio::spawn(connection.close())),
                "drop" => drop(connection),
                _ => {
                    connection.shutdown().await.unwrap();
                    keep_open.0 = Some(connection);
                }
            }
        }
        let mut received = Vec::new();
        let result = soon(end, client.read_to_end(&mut received)).await;
        assert_eq!(received, b"the last words", "{end}");
        assert!(result.is_ok(), "{end}: {result:?}");
        drop(keep_open);
    }
}

/// Deferred callbacks, a write callback, and many writes in the read callback release everything at the end.
#[tokio::test]
async fn deferred_callbacks_on_tls_leak_nothing() {
    let (mut client, server) = tls_pair().await;
    let owned = Arc::new(());
    let (in_read, in_write) = (Arc::clone(&owned), Arc::clone(&owned));
    let connection = BufferEvent::builder()
        .on_read(move |connection| {
            let _ = &in_read;
            let input = connection.input().take_bytes(usize::MAX).unwrap();
            let _ = connection.output().add_reference(input);
            for _ in 0..1000 {
                let _ = connection.output().add(b"some line\n");
            }
        })
        .on_write(move |_| {
            let _ = &in_write;
        })
        .on_event(|connection, event| {
            if matches!(event, Event::Eof | Event::ReadError(_)) {
                connection.output().close();
            }
        })
        .spawn(Wrapped(server, Arc::clone(&owned)));
    connection.detach();
    client.write_all(b"go").await.unwrap();
    client.flush().await.unwrap();
    let mut answer = vec![0; 10_002];
    soon("the answer", client.read_exact(&mut answer))
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    drop(client);
    let released = async {
        while Arc::strong_count(&owned) > 1 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon("stream and callbacks are dropped", released).await;
}

/// Ends that cut the output off must not look complete.
#[tokio::test]
async fn no_other_end_sends_close_notify() {
    const LONG: usize = 8 << 20;
    for end in ["abort", "linger", "reset of the peer"] {
        let (mut client, server) = tls_pair().await;
        let connection = BufferEvent::builder()
            .linger(Duration::from_millis(50))
            .spawn(server);
        connection.output().add(vec![7; LONG]).unwrap();
        while connection.metrics().bytes_out == 0 {
            tokio::task::yield_now().await;
        }
        match end {
            "abort" => connection.abort(),
            "linger" => drop(tokio::spawn(connection.clone().close())),
            _ => {
                client.get_ref().0.set_zero_linger().unwrap();
                drop(client);
                let summary = soon(end, connection.closed()).await;
                assert!(
                    matches!(summary.reason, CloseReason::Error(_)),
                    "{summary:?}"
                );
                continue;
            }
        }
        let summary = soon(end, connection.closed()).await;
        assert_eq!(summary.bytes_out + summary.unsent, LONG as u64, "{end}");
        assert!(summary.unsent > 0, "{end}");
        let mut received = Vec::new();
        let result = soon(end, client.read_to_end(&mut received)).await;
        assert_eq!(
            result.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof,
            "{end}"
        );
    }
}
