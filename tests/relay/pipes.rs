//! Flows that make no progress leave pipes to others, and hold little.

#![cfg(all(feature = "net", target_os = "linux"))]

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    Relay, relay,
    relay::{RelayOutcome, Splice},
};

use crate::support::{
    net::{pipes, tcp_pair},
    tasks::soon,
};

#[tokio::test]
async fn stalled_clients_do_not_take_the_splice_lane_from_others() {
    let before = pipes();
    let mut kept = Vec::new();
    for _ in 0..40 {
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        tokio::spawn(relay(a, b));
        let (data, mut room) = (vec![1; 3 << 20], vec![0; 3 << 20]);
        let (sent, got) = tokio::join!(server.write_all(&data), client.read_exact(&mut room));
        sent.unwrap();
        got.unwrap();
        // Now the client stops reading, and the buffers of the kernel fill up.
        let piece = vec![1; 1 << 20];
        let fill = async { while server.write_all(&piece).await.is_ok() {} };
        let full = timeout(Duration::from_millis(100), fill).await;
        assert!(full.is_err());
        kept.push((client, server));
    }
    let few = async {
        while pipes().saturating_sub(before) / 2 >= 32 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon("40 stalled flows hold fewer than 32 pipes", few).await;
}

/// What a full sink does not take stays in the kernel of the source. A client that reads slowly fills its sink many times.
#[tokio::test]
async fn a_copied_flow_holds_little_for_a_client_that_does_not_read() {
    /// The largest read that does not look for room in the sink.
    const MOST: usize = 8 << 10;
    const PERIOD: usize = 251;
    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    let (stop, is_stopped) = oneshot::channel::<()>();
    let relay = Relay::new(a, b).splice(Splice::Never);
    let relaying = tokio::spawn(relay.run_until(async { is_stopped.await.unwrap() }));
    let piece: Vec<u8> = (0..=250).cycle().take(PERIOD << 10).collect();
    let in_order = |received: usize, bytes: &[u8]| {
        let mut bytes = bytes.iter().enumerate();
        assert!(bytes.all(|(i, &byte)| (received + i) % PERIOD == byte.into()));
    };
    let mut sent = 0;
    let mut flood = async || {
        loop {
            sent += server.write(&piece[sent % PERIOD..]).await.unwrap();
        }
    };
    let mut received = 0;
    let mut room = vec![0; 100_000];
    let read = async {
        while received < 20_000_000 {
            let n = client.read(&mut room).await.unwrap();
            in_order(received, &room[..n]);
            received += n;
        }
    };
    tokio::select! {
        () = read => {}
        () = flood() => {}
    }
    // Now the buffers of the kernel fill up.
    let full = timeout(Duration::from_millis(100), flood()).await;
    assert!(full.is_err());
    stop.send(()).unwrap();
    let RelayOutcome::Stopped(mut parts) = relaying.await.unwrap().unwrap() else {
        panic!("the relay was stopped");
    };
    drop((server, parts.a));
    let held = parts.to_a.take_bytes(usize::MAX).unwrap();
    assert!(held.len() <= MOST, "{} bytes held", held.len());
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    rest.extend(held);
    parts.b.read_to_end(&mut rest).await.unwrap();
    in_order(received, &rest);
    assert_eq!(received + rest.len(), sent);
}
