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
async fn an_upstream_that_refuses_costs_one_client_only() {
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
    let line = proxy.says("upstream").await;
    assert!(line.contains(&address.to_string()), "{line}");

    early.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    soon("bytes", accepted.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"still here");

    let upstream = Echo::on(TcpListener::bind(address).await.unwrap());
    assert_eq!(upstream.address, address);
    exchange(&mut proxy.connect().await).await.unwrap();
}

#[tokio::test]
async fn no_more_connections_run_than_may() {
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
        .counts("0 running, 1 accepted", "5 B to upstream, 5 B to clients")
        .await;
}

/// Bytes are counted while they flow: the connection is still open when the figures show them.
#[tokio::test]
async fn stats_count_connections_that_still_run() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--stats", "20ms"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    proxy
        .counts("1 running, 1 accepted", "5 B to upstream, 5 B to clients")
        .await;
    exchange(&mut client).await.unwrap();
    proxy
        .counts("1 running, 1 accepted", "10 B to upstream, 10 B to clients")
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
    assert_eq!(
        soon("the first end", accepted.read(&mut [0]))
            .await
            .unwrap(),
        0
    );
    assert_ended(&mut client).await;
}
