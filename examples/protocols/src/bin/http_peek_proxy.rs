//! A TLS front for HTTP servers: looks at the `Host` of the first request, then joins the two streams.
//!
//! The head of the request is read through a [`BufferEvent`] and left in its buffer; `into_inner` gives stream and bytes
//! back, and [`Relay::initial`] sends the bytes on before all others. From then on nothing looks at the traffic.
//!
//! ```sh
//! cargo run --release -p evbuffer-protocols --bin http_peek_proxy     # a demonstration that ends by itself
//! cargo run --release -p evbuffer-protocols --bin http_peek_proxy -- --listen 127.0.0.1:8443 --route localhost=127.0.0.1:8080
//! ```
//!
//! The certificate, for `localhost`, is made at the start.

#[path = "../../../support/mod.rs"]
mod support;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use evbuffer_protocols::certificate;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_evbuffer::{BufferEvent, EvBuffer, Relay, relay::RelaySummary, shared::WaitError};
use tokio_rustls::{TlsAcceptor, rustls::pki_types::ServerName, server::TlsStream};

/// The longest head of a request that is looked for a `Host`.
const HEAD_MAX: usize = 16 * 1024;

/// For how long a client may take to say what it wants, and a server to take the connection.
const PATIENCE: Duration = Duration::from_secs(10);

type Routes = Arc<HashMap<String, SocketAddr>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut routes = HashMap::new();
    let listen = support::arguments(|name, value| {
        if name != "route" {
            return Ok(false);
        }
        let (host, addr) = value.split_once('=').context("--route takes HOST=ADDR")?;
        routes.insert(
            host.to_owned(),
            addr.parse().context("--route takes HOST=ADDR")?,
        );
        Ok(true)
    })?;
    let Some(addr) = listen else {
        return demonstrate().await;
    };
    ensure!(!routes.is_empty(), "--listen needs a --route");
    let (acceptor, _) = certificate()?;
    support::listen(addr, |listener| {
        accept(listener, acceptor, Arc::new(routes))
    })
    .await
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, routes: Routes) {
    let serve = |stream, peer| {
        let (acceptor, routes) = (acceptor.clone(), routes.clone());
        tokio::spawn(async move {
            match serve(stream, acceptor, routes).await {
                Ok(done) => println!("{peer}: {} bytes in, {} out", done.a_to_b, done.b_to_a),
                Err(error) => eprintln!("{peer}: {error:#}"),
            }
        });
    };
    support::accept_all(listener, serve).await
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, routes: Routes) -> Result<RelaySummary> {
    stream.set_nodelay(true)?;
    let (client, host) = timeout(PATIENCE, greet(stream, acceptor))
        .await
        .context("no request in time")??;
    let addr = routes
        .get(&host)
        .with_context(|| format!("no route to {host}"))?;
    let upstream = timeout(PATIENCE, TcpStream::connect(addr))
        .await
        .with_context(|| format!("no answer from {addr}"))?
        .with_context(|| format!("cannot reach {addr}"))?;

    let parts = client
        .into_inner::<TlsStream<TcpStream>>()
        .await
        .map_err(|error| anyhow::anyhow!("the client has gone: {error:?}"))?;
    Ok(Relay::new(parts.stream, upstream)
        .initial(parts.input, EvBuffer::new())
        .run()
        .await?)
}

/// Makes the TLS connection, and finds out which host the client wants.
async fn greet(stream: TcpStream, acceptor: TlsAcceptor) -> Result<(BufferEvent, String)> {
    let stream = acceptor.accept(stream).await.context("no TLS handshake")?;
    let client = BufferEvent::new(stream);
    let host = peek_host(&client).await?;
    Ok((client, host))
}

/// Waits for the head of the first request and returns its `Host`. Nothing is taken from the input.
async fn peek_host(client: &BufferEvent) -> Result<String> {
    let input = client.input();
    loop {
        let seen = {
            let mut input = input.lock();
            if let Some(end) = input.search(b"\r\n\r\n", ..) {
                let head = input.pullup(end + 2).context("no memory for the head")?;
                return host_of(head);
            }
            input.len()
        };
        ensure!(
            seen < HEAD_MAX,
            "the head of the request is longer than {HEAD_MAX} bytes"
        );
        match input.readable(seen + 1).await {
            Ok(()) => {}
            Err(WaitError::Closed) => bail!("the client left before its request was complete"),
            Err(error) => return Err(error.into()),
        }
    }
}

fn host_of(head: &[u8]) -> Result<String> {
    let head = std::str::from_utf8(head).context("the head of the request is not text")?;
    let host = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.trim())
        .context("the request names no host")?;
    Ok(without_port(host).to_owned())
}

/// Clients name the port, too, where it is not the usual one.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Two servers, and a client of each, through one front.
async fn demonstrate() -> Result<()> {
    const HOSTS: [&str; 2] = ["one.example", "two.example"];

    let mut routes = HashMap::new();
    for host in HOSTS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        routes.insert(host.to_owned(), listener.local_addr()?);
        tokio::spawn(respond(listener, host));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (acceptor, connector) = certificate()?;
    tokio::spawn(accept(listener, acceptor, Arc::new(routes)));

    for host in HOSTS {
        let stream = TcpStream::connect(addr).await?;
        let mut stream = connector
            .connect(ServerName::try_from("localhost")?, stream)
            .await?;
        let port = addr.port();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        stream.shutdown().await?;
        let body = response
            .split_once("\r\n\r\n")
            .context("the response has no body")?
            .1;
        ensure!(
            body == format!("this is {host}\n{request}"),
            "wrong response: {response}"
        );
        println!("{host} answered, and had received the request as it was sent");
    }
    Ok(())
}

/// A server that answers with its name and the request.
async fn respond(listener: TcpListener, name: &str) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            ensure!(
                stream.read_buf(&mut request).await? > 0,
                "the request is not complete"
            );
        }
        let body = format!("this is {name}\n{}", String::from_utf8_lossy(&request));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
    }
}
