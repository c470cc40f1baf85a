//! A TLS front for HTTP servers: looks at the `Host` of the first request, then joins the two streams.
//!
//! [`Prefixed::peek_until`] reads the head of the request and leaves it in front of the stream, so that [`Relay`] sends
//! it first. After that nothing looks at the traffic.
//!
//! ```sh
//! cargo run --release -p evbuffer-protocols --bin http_peek_proxy     # a demonstration that ends by itself
//! cargo run --release -p evbuffer-protocols --bin http_peek_proxy -- \
//!     --listen 127.0.0.1:8443 --route localhost=127.0.0.1:8080
//! ```
//!
//! The certificate, for `localhost`, is made at the start.

#[path = "../../../support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use evbuffer_protocols::{Routes, STEP_MAX, certificate, log};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_evbuffer::{EvBuffer, Prefixed, Relay, relay::RelaySummary};
use tokio_rustls::{TlsAcceptor, rustls::pki_types::ServerName, server::TlsStream};

/// The longest head of a request.
const HEAD_MAX: usize = 16 * 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let mut routes = Routes::default();
    let listen = support::arguments(|name, value| routes.option(name, &value))?;
    let Some(addr) = listen else {
        return demonstrate().await;
    };
    ensure!(!routes.is_empty(), "--listen needs a --route");
    let (acceptor, _) = certificate()?;
    support::listen(addr, |listener| accept(listener, acceptor, routes)).await
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, routes: Routes) {
    let serve = |stream, peer| {
        let serving = serve(stream, acceptor.clone(), routes.clone());
        tokio::spawn(log(peer, serving));
    };
    support::accept_all(listener, serve).await
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, routes: Routes) -> Result<RelaySummary> {
    stream.set_nodelay(true)?;
    let (client, host) = timeout(STEP_MAX, receive_head(stream, acceptor))
        .await
        .context("no request in time")??;
    let upstream = routes.connect(&host).await?;
    Ok(Relay::new(client, upstream).run().await?)
}

/// Accepts the TLS connection, and returns it with the host of its first request, which is still to be read.
async fn receive_head(
    stream: TcpStream,
    acceptor: TlsAcceptor,
) -> Result<(Prefixed<TlsStream<TcpStream>>, String)> {
    let stream = acceptor.accept(stream).await.context("no TLS handshake")?;
    let mut client = Prefixed::new(stream, EvBuffer::new());
    let head_len = client
        .peek_until(b"\r\n\r\n", HEAD_MAX)
        .await?
        .context("the client left before its request was complete")?;
    let host = host_of(client.peek(head_len).await?)?;
    Ok((client, host))
}

fn host_of(head: &[u8]) -> Result<String> {
    let head = std::str::from_utf8(head).context("the head of the request is not text")?;
    let host = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.trim())
        .context("the request has no Host")?;
    Ok(without_port(host).to_owned())
}

/// Removes the port, which clients send unless it is the default one.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Runs two servers, and a client of each through the front.
async fn demonstrate() -> Result<()> {
    const HOSTS: [&str; 2] = ["one.example", "two.example"];

    let mut routes = Routes::default();
    for host in HOSTS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        routes.add(&format!("{host}={}", listener.local_addr()?))?;
        tokio::spawn(respond(listener, host));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (acceptor, connector) = certificate()?;
    tokio::spawn(accept(listener, acceptor, routes));

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
        println!("{host} received the request unchanged, and answered");
    }
    Ok(())
}

/// Answers each request with the name of the server and the request.
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
