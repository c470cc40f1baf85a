//! Limits of open files.
#![cfg(target_os = "linux")]

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{Echo, Proxy, exchange, program, program_with_open_files, soon};

#[tokio::test]
async fn the_number_of_connections_is_lowered_to_what_the_limit_of_open_files_allows() {
    let upstream = Echo::start().await;
    let command = program_with_open_files(256);
    let mut proxy = Proxy::start_as(command, "127.0.0.1:0", upstream.address, &[]).await;
    let line = proxy.logs("limit of open files is 256").await;
    assert!(line.contains("instead of 8192"), "{line}");

    // More clients than descriptors: each is served in its turn, and accepting never fails.
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..300 {
        clients.push(proxy.connect().await);
    }
    proxy.logs("all connections are in use").await;
    for mut client in clients {
        exchange(&mut client).await.unwrap();
    }
    for line in proxy.remaining_logs().await {
        assert!(!line.contains("Too many open files"), "{line}");
    }
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised() {
    let upstream = Echo::start().await;
    let mut shell = tokio::process::Command::new("sh");
    shell
        .args(["-c", "ulimit -S -n 100; exec \"$0\" \"$@\""])
        .arg(program());
    let options = ["--max-connections", "100"];
    let mut proxy = Proxy::start_as(shell, "127.0.0.1:0", upstream.address, &options).await;
    proxy.logs("limit of open files raised from 100").await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = proxy.connect().await;
        exchange(&mut client).await.unwrap();
        clients.push(client);
    }
}

/// The limit is lowered while the proxy runs, so that accepting fails although there are free slots.
#[tokio::test]
async fn without_descriptors_accepting_pauses_and_recovers() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--no-splice"]).await;
    let mut early = proxy.connect().await;
    exchange(&mut early).await.unwrap();
    let limit = Rlimit {
        current: Some(24),
        maximum: Some(24),
    };
    prlimit(Some(proxy.pid()), Resource::Nofile, limit).unwrap();

    let mut clients = Vec::new();
    for _ in 0..32 {
        clients.push(proxy.connect().await);
    }
    let line = proxy.logs("cannot").await;
    assert!(line.contains("Too many open files"), "{line}");
    exchange(&mut early).await.unwrap();
    drop(clients);
    // Descriptors are freed one by one, so the first clients may still find none for their upstream.
    let served = async { while exchange(&mut proxy.connect().await).await.is_err() {} };
    soon("a client is served again", served).await;
}

/// Impatient clients, which come again when they are turned away, neither make the proxy spin nor flood its log.
#[tokio::test]
async fn without_descriptors_the_log_is_not_flooded() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--no-splice"]).await;
    let mut first = proxy.connect().await;
    exchange(&mut first).await.unwrap();
    let limit = Rlimit {
        current: Some(40),
        maximum: Some(40),
    };
    prlimit(Some(proxy.pid()), Resource::Nofile, limit).unwrap();

    let (cpu, start) = (proxy.cpu(), Instant::now());
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(proxy.connect().await);
    }
    while start.elapsed() < Duration::from_secs(3) {
        for client in &mut clients {
            let mut byte = [0];
            let ended = tokio::select! {
                biased;
                end = client.read(&mut byte) => matches!(end, Ok(0) | Err(_)),
                () = std::future::ready(()) => false,
            };
            if ended {
                *client = proxy.connect().await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    let (used, took) = (proxy.cpu() - cpu, start.elapsed().as_secs_f64());
    exchange(&mut first).await.unwrap();
    drop(clients);
    let served = async { while exchange(&mut proxy.connect().await).await.is_err() {} };
    soon("a client is served again", served).await;
    proxy.logs("Too many open files").await;
    let lines = proxy.remaining_logs().await;
    assert!(lines.len() < 5, "{lines:?}");
    assert!(used < took / 2.0, "{used} s of CPU in {took} s");
}

/// Sends `len` bytes to the echo and reads them back. Returns how long that took.
async fn round_trip(client: TcpStream, len: usize) -> Duration {
    try_round_trip(client, len).await.unwrap()
}

async fn try_round_trip(client: TcpStream, len: usize) -> io::Result<Duration> {
    let start = Instant::now();
    let (mut read, mut write) = client.into_split();
    let sender = tokio::spawn(async move { write.write_all(&vec![1; len]).await });
    let mut received = vec![0; len];
    soon("all bytes", read.read_exact(&mut received)).await?;
    sender.await.unwrap()?;
    Ok(start.elapsed())
}

/// Of 500 kB, 200 kB pass at once: the burst is one second's worth. The rest takes 1.5 s.
#[tokio::test]
async fn a_rate_limit_holds_for_one_connection_and_for_all_together() {
    let upstream = Echo::start().await;
    for options in [
        &["--rate-limit", "200kB"][..],
        &["--rate-limit", "200kB", "--no-splice"],
        &["--total-rate-limit", "200kB"],
    ] {
        let proxy = Proxy::start(upstream.address, options).await;
        let took = round_trip(proxy.connect().await, 500_000).await;
        assert!(took > Duration::from_millis(1400), "{options:?}: {took:?}");
    }
    let proxy = Proxy::start(upstream.address, &["--total-rate-limit", "400kB"]).await;
    let (one, two) = (proxy.connect().await, proxy.connect().await);
    let (one, two) = tokio::join!(round_trip(one, 500_000), round_trip(two, 500_000));
    assert!(
        one.max(two) > Duration::from_millis(1400),
        "{one:?}, {two:?}"
    );
}

/// Clients that do not read their answers use up the memory. They are ended, or leave, and the others continue. The limit is
/// small, as a stalled flow holds little.
#[tokio::test]
async fn clients_that_take_nothing_do_not_use_up_the_memory_permanently() {
    let upstream = Echo::start().await;
    let options = ["--memory", "16KiB", "--no-splice"];
    let mut proxy = Proxy::start(upstream.address, &options).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = proxy.connect().await;
        let flood = async {
            let (mut client, block) = (client, [1; 64 * 1024]);
            let patience = Duration::from_millis(100);
            while timeout(patience, client.write_all(&block)).await.is_ok() {}
            client
        };
        clients.push(flood.await);
    }
    proxy.logs("memory is used up").await;
    // While too many take nothing, all others wait, and one that waits may be the largest.
    let is_served = async {
        while try_round_trip(proxy.connect().await, 1 << 20)
            .await
            .is_err()
        {}
    };
    soon("a client is served", is_served).await;
    drop(clients);
}
