//! Connections from their first byte to their last.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::{
    Echo, Proxy, SilentUpstream, assert_ended, exchange, free_address, has_ipv6, soon,
};

#[tokio::test]
async fn bytes_and_both_ends_pass_through() {
    let upstream = Echo::start().await;
    let proxy = Proxy::start(upstream.address, &[]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(soon("the end", client.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn an_upstream_that_refuses_affects_only_the_client_that_needs_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut proxy = Proxy::start(address, &[]).await;

    let mut early = proxy.connect().await;
    let (mut accepted, _) = soon("a connection", listener.accept()).await.unwrap();
    drop(listener);
    // A process that another test is starting may hold the listener a little longer.
    let refused_here = async { while TcpStream::connect(address).await.is_ok() {} };
    soon("the upstream is gone", refused_here).await;
    let mut refused = proxy.connect().await;
    assert_ended(&mut refused).await;
    let line = proxy.logs("upstream").await;
    assert!(line.contains(&address.to_string()), "{line}");

    early.write_all(b"still here").await.unwrap();
    let mut received = [0; 10];
    soon("bytes", accepted.read_exact(&mut received))
        .await
        .unwrap();
    assert_eq!(&received, b"still here");

    let upstream = Echo::on(TcpListener::bind(address).await.unwrap());
    assert_eq!(upstream.address, address);
    exchange(&mut proxy.connect().await).await.unwrap();
}

#[tokio::test]
async fn no_more_connections_run_than_allowed() {
    let upstream = Echo::start().await;
    let proxy = Proxy::start(upstream.address, &["--max-connections", "2"]).await;
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let mut client = proxy.connect().await;
        clients.spawn(async move {
            exchange(&mut client).await.unwrap();
            client.shutdown().await.unwrap();
            assert_ended(&mut client).await;
        });
    }
    soon("all clients are served", clients.join_all()).await;
    assert_eq!(upstream.most.load(SeqCst), 2);
}

#[tokio::test]
async fn stats_count_connections_and_bytes() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--stats", "20ms"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    client.shutdown().await.unwrap();
    assert_ended(&mut client).await;
    proxy
        .prints(&["0 running, 1 accepted", "5 B to upstream, 5 B to clients"])
        .await;
}

/// Bytes are counted while they flow: the connection is still open when the figures show them.
#[tokio::test]
async fn stats_count_bytes_of_running_connections() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--stats", "20ms"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    proxy
        .prints(&["1 running, 1 accepted", "5 B to upstream, 5 B to clients"])
        .await;
    exchange(&mut client).await.unwrap();
    proxy
        .prints(&["1 running, 1 accepted", "10 B to upstream, 10 B to clients"])
        .await;
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let upstream = Echo::start().await;
    let proxy = Proxy::start(upstream.address, &["--idle", "50ms"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    assert_ended(&mut client).await;
}

/// The upstream knows that the client has ended, but neither sends nor ends: only the linger ends the connection.
#[tokio::test]
async fn a_half_closed_connection_ends_with_its_linger() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let proxy = Proxy::start(address, &["--linger", "50ms"]).await;
    let mut client = proxy.connect().await;
    let (mut accepted, _) = soon("a connection", upstream.accept()).await.unwrap();
    client.shutdown().await.unwrap();
    let end = soon("the first end", accepted.read(&mut [0])).await;
    assert_eq!(end.unwrap(), 0);
    assert_ended(&mut client).await;
}

/// A client that has ended its side before the upstream accepts is served: it may only want to receive.
#[tokio::test]
async fn a_client_that_ends_its_side_at_once_gets_its_answer() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(upstream.local_addr().unwrap(), &[]).await;
    let mut client = proxy.connect().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut accepted, _) = soon("a connection", upstream.accept()).await.unwrap();
    let mut question = String::new();
    soon("the question", accepted.read_to_string(&mut question))
        .await
        .unwrap();
    assert_eq!(question, "question");
    accepted.write_all(b"answer").await.unwrap();
    drop(accepted);
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer, "answer");
}

/// Clients that leave, in order or by a reset, while the upstream does not answer must not hold their slots until the
/// connect timeout: a slow upstream and impatient clients would keep all others out.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_leaves_while_its_upstream_is_connected_frees_its_slot() {
    let upstream = SilentUpstream::start().await;
    let options = [
        "--max-connections",
        "3",
        "--connect-timeout",
        "8s",
        "--stats",
        "20ms",
    ];
    let mut proxy = Proxy::start(upstream.address, &options).await;
    let clients = [
        proxy.connect().await,
        proxy.connect().await,
        proxy.connect().await,
    ];
    proxy.prints(&["3 running, 3 accepted"]).await;
    let [ended, mut sent_first, reset] = clients;
    drop(ended);
    sent_first.write_all(b"question").await.unwrap();
    drop(sent_first);
    socket2::SockRef::from(&reset)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(reset);

    let _next = proxy.connect().await;
    let freed = proxy.prints(&["4 accepted"]);
    soon("a free slot", freed).await;
    let line = proxy.prints(&["1 running, 4 accepted, 3 left early"]).await;
    assert!(
        line.contains("0 without upstream, 0 broken"),
        "no fault of the upstream: {line}"
    );
}

/// A connection to itself would cause another one, until there are no descriptors left.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_upstream_that_is_the_proxy_itself_is_refused() {
    for listen_on in ["127.0.0.1", "[::]"] {
        if listen_on == "[::]" && !has_ipv6() {
            continue;
        }
        let upstream = free_address();
        let listen = format!("{listen_on}:{}", upstream.port());
        let command = tokio::process::Command::new(crate::support::program());
        let options = ["--max-connections", "100", "--stats", "20ms"];
        let mut proxy = Proxy::start_as(command, &listen, upstream, &options).await;
        let mut client = TcpStream::connect(upstream).await.unwrap();
        assert_ended(&mut client).await;
        proxy.logs("the proxy itself").await;
        proxy
            .prints(&["0 running, 1 accepted", "1 without upstream"])
            .await;
        assert!(proxy.open_files() < 50);
    }
}

/// A peer that disappears without a word (power, a firewall) would keep its connection permanently. Field `tr` of
/// /proc/net/tcp is 02 where a keepalive timer runs.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn both_sockets_of_a_connection_have_a_keepalive_timer() {
    let upstream = Echo::start().await;
    for (options, timer) in [(&[][..], "02"), (&["--keepalive", "never"], "00")] {
        let proxy = Proxy::start(upstream.address, options).await;
        let mut client = proxy.connect().await;
        exchange(&mut client).await.unwrap();
        let near = format!(":{:04X}", proxy.address.port());
        let far = format!(":{:04X}", upstream.address.port());
        let timers = || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let fields = table
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            let ours = fields.filter(|fields| {
                let (local, remote, state) = (fields[1], fields[2], fields[3]);
                state == "01" && (local.ends_with(&near) || remote.ends_with(&far))
            });
            ours.map(|fields| fields[5][..2].to_owned())
                .collect::<Vec<_>>()
        };
        // While an acknowledgement is under way, another timer runs.
        let settled = async {
            while timers() != [timer, timer] {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(&format!("{options:?}: the timer"), settled).await;
    }
}
