//! Readers of stdout and stderr that are slow or gone.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::Command,
};

use crate::support::{Echo, Proxy, assert_ended, exchange, program, soon};

/// A pipe holds 64 KiB. A proxy that writes to it directly stops when it is full, with all its connections.
#[tokio::test]
async fn a_log_that_is_not_read_does_not_block_the_traffic() {
    const REFUSED: usize = 4000;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut proxy = Proxy::start(address, &["--stats", "50ms"]).await;
    let upstream = Echo::on(listener);
    let mut established = proxy.connect().await;
    exchange(&mut established).await.unwrap();
    drop(upstream);

    // Each of them is a line on stderr of about 100 bytes.
    for _ in 0..REFUSED {
        assert_ended(&mut proxy.connect().await).await;
    }
    let upstream = Echo::on(TcpListener::bind(address).await.unwrap());
    assert_eq!(upstream.address, address);
    exchange(&mut proxy.connect().await).await.unwrap();
    let line = proxy.prints(&[&format!("{} without", "4,000")]).await;
    assert!(!line.contains("; 0 log lines dropped"), "{line}");
}

/// The figures go to stdout: a reader that stops reading them must not stop the proxy, either.
#[tokio::test]
async fn figures_that_are_not_read_do_not_block_the_traffic() {
    let upstream = Echo::start().await;
    let proxy = Proxy::start(upstream.address, &["--stats", "100us"]).await;
    let mut client = proxy.connect().await;
    // Some 10,000 lines of more than 100 bytes.
    for _ in 0..100 {
        exchange(&mut client).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    exchange(&mut proxy.connect().await).await.unwrap();
}

#[tokio::test]
async fn a_closed_stdout_and_stderr_end_nothing() {
    let upstream = Echo::start().await;
    let mut child = Command::new(program())
        .args(["--listen", "127.0.0.1:0", "--connect"])
        .arg(upstream.address.to_string())
        .args(["--stats", "20ms"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = soon("the first line", stdout.next_line()).await.unwrap();
    let address = first.unwrap();
    let address = address.strip_prefix("listening on ").unwrap();
    drop((stdout, child.stderr.take()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    exchange(&mut client).await.unwrap();
    assert!(child.try_wait().unwrap().is_none());
}
