//! How the proxy stops.

use std::time::Duration;

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::support::{Echo, Proxy, assert_ended, exchange, soon};

#[tokio::test]
async fn a_signal_lets_connections_finish() {
    for signal in [Signal::TERM, Signal::INT] {
        let upstream = Echo::start().await;
        let mut proxy = Proxy::start(upstream.address, &[]).await;
        let mut client = proxy.connect().await;
        exchange(&mut client).await.unwrap();

        proxy.signal(signal);
        proxy.logs("stopping").await;
        let refused = async { while TcpStream::connect(proxy.address).await.is_ok() {} };
        soon("new clients are refused", refused).await;
        exchange(&mut client).await.unwrap();
        client.shutdown().await.unwrap();
        assert_ended(&mut client).await;
        proxy.exits_successfully().await;
    }
}

#[tokio::test]
async fn connections_are_cut_and_counted_when_the_grace_time_is_over() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--grace", "10ms"]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = proxy.connect().await;
        exchange(&mut client).await.unwrap();
        clients.push(client);
    }
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        assert_ended(client).await;
    }
    proxy.logs("3 connections were cut").await;
    proxy.exits_successfully().await;
}

/// Bytes that a client did not take are lost when its connection is cut: the client sees a reset, not an orderly end.
#[tokio::test]
async fn a_client_that_is_cut_within_an_answer_sees_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for options in [
        &["--grace", "10ms"][..],
        &["--grace", "10ms", "--no-splice"],
    ] {
        let mut proxy = Proxy::start(address, options).await;
        let mut client = proxy.connect().await;
        let (mut upstream, _) = soon("a connection", listener.accept()).await.unwrap();
        // The upstream sends until everything on the way to the client is full.
        let full = async {
            let block = vec![1; 64 * 1024];
            while timeout(Duration::from_millis(300), upstream.write_all(&block))
                .await
                .is_ok()
            {}
        };
        soon("the way to the client is full", full).await;
        proxy.signal(Signal::TERM);
        proxy.logs("1 connections were cut").await;
        let mut received = Vec::new();
        let end = soon("the end", client.read_to_end(&mut received)).await;
        assert_eq!(
            end.map_err(|error| error.kind()),
            Err(std::io::ErrorKind::ConnectionReset)
        );
        proxy.exits_successfully().await;
    }
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--grace", "1h"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    proxy.signal(Signal::TERM);
    proxy.logs("stopping").await;
    proxy.signal(Signal::TERM);
    assert_ended(&mut client).await;
    proxy.logs("1 connections were cut").await;
    proxy.exits_successfully().await;
}

/// The kernel has accepted these clients; closing the listener would reset them.
#[tokio::test]
async fn clients_in_the_accept_queue_are_served_at_a_stop() {
    const WAITING: usize = 200;

    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--max-connections", "1"]).await;
    let mut running = proxy.connect().await;
    exchange(&mut running).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        waiting.push(proxy.connect().await);
    }

    proxy.signal(Signal::TERM);
    proxy.logs("stopping").await;
    exchange(&mut running).await.unwrap();
    drop(running);
    let mut clients = JoinSet::new();
    for mut client in waiting {
        clients.spawn(async move {
            exchange(&mut client).await.unwrap();
            client.shutdown().await.unwrap();
            assert_ended(&mut client).await;
        });
    }
    assert_eq!(
        soon("all are served", clients.join_all()).await.len(),
        WAITING
    );
    proxy.exits_successfully().await;
}

/// A successor listens on the same address while its predecessor still serves, so no client is refused in between.
#[tokio::test]
async fn a_successor_takes_over_without_turning_clients_away() {
    let upstream = Echo::start().await;
    let mut old = Proxy::start(upstream.address, &["--max-connections", "1"]).await;
    let mut running = old.connect().await;
    exchange(&mut running).await.unwrap();
    let mut waiting = [
        old.connect().await,
        old.connect().await,
        old.connect().await,
    ];

    let command = tokio::process::Command::new(crate::support::program());
    let new = Proxy::start_as(command, &old.address.to_string(), upstream.address, &[]).await;
    assert_eq!(new.address, old.address);
    old.signal(Signal::TERM);
    old.logs("stopping").await;
    drop(running);
    for client in &mut waiting {
        exchange(client).await.unwrap();
        client.shutdown().await.unwrap();
        assert_ended(client).await;
    }
    old.exits_successfully().await;
    exchange(&mut new.connect().await).await.unwrap();
}
