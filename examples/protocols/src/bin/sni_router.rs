//! Routes TLS connections by the server name that the client asks for (SNI), without decrypting them.
//!
//! The ClientHello is read into a [`Prefixed`] and parsed by rustls; then [`Relay`] sends it on, followed by everything
//! else. The router has no certificate and sees no plain text.
//!
//! ```sh
//! cargo run --release -p evbuffer-protocols --bin sni_router     # a demonstration that ends by itself
//! cargo run --release -p evbuffer-protocols --bin sni_router -- \
//!     --listen 127.0.0.1:8443 --route one.example=127.0.0.1:9443 --route two.example=127.0.0.1:9444
//! ```

#[path = "../../../support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use evbuffer_protocols::{Routes, STEP_MAX, certificate_for, log};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_evbuffer::{EvBuffer, Prefixed, Relay, relay::RelaySummary};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{pki_types::ServerName, server::Acceptor},
};

/// The longest ClientHello, in all its records together. One with a post-quantum key share has about 2 KiB.
const HELLO_MAX: usize = 64 * 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let mut routes = Routes::default();
    let listen = support::arguments(|name, value| routes.option(name, &value))?;
    let Some(addr) = listen else {
        return demonstrate().await;
    };
    ensure!(!routes.is_empty(), "--listen needs a --route");
    support::listen(addr, |listener| accept(listener, routes)).await
}

async fn accept(listener: TcpListener, routes: Routes) {
    let serve = |stream, peer| {
        tokio::spawn(log(peer, serve(stream, routes.clone())));
    };
    support::accept_all(listener, serve).await
}

async fn serve(stream: TcpStream, routes: Routes) -> Result<RelaySummary> {
    stream.set_nodelay(true)?;
    let mut client = Prefixed::new(stream, EvBuffer::new());
    let name = timeout(STEP_MAX, peek_server_name(&mut client))
        .await
        .context("no ClientHello in time")??;
    let upstream = routes.connect(&name).await?;
    Ok(Relay::new(client, upstream).run().await?)
}

/// Returns the server name in the ClientHello, which may be split over several records. Consumes nothing.
async fn peek_server_name(client: &mut Prefixed<TcpStream>) -> Result<String> {
    const RECORD_HEADER: usize = 5;

    let mut acceptor = Acceptor::default();
    let mut parsed = 0;
    loop {
        let with_header = client.peek(parsed + RECORD_HEADER).await?;
        let header = with_header.get(parsed..).unwrap_or_default();
        let &[_type, _major, _minor, high, low] = header else {
            anyhow::bail!("the client left before its ClientHello was complete");
        };
        let end = parsed + RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
        ensure!(
            end <= HELLO_MAX,
            "the ClientHello is longer than {HELLO_MAX} bytes"
        );
        let mut record = client
            .peek(end)
            .await?
            .get(parsed..end)
            .context("the client left before its ClientHello was complete")?;
        while !record.is_empty() {
            acceptor.read_tls(&mut record)?;
        }
        parsed = end;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let name = hello.server_name().context("the client names no server")?;
                return Ok(name.to_owned());
            }
            Ok(None) => {}
            // An alert for the client could be sent here; this router just closes.
            Err((error, _alert)) => return Err(error).context("not a ClientHello"),
        }
    }
}

/// Runs two TLS servers, and a client of each through the router. Only the right server has the right certificate.
async fn demonstrate() -> Result<()> {
    const HOSTS: [&str; 2] = ["one.example", "two.example"];

    let (mut routes, mut clients) = (Routes::default(), Vec::new());
    for host in HOSTS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (acceptor, connector) = certificate_for(host)?;
        routes.add(&format!("{host}={}", listener.local_addr()?))?;
        tokio::spawn(respond(listener, acceptor, host));
        clients.push((host, connector));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(accept(listener, routes));

    for (host, connector) in clients {
        let stream = TcpStream::connect(addr).await?;
        let mut stream = connector
            .connect(ServerName::try_from(host)?, stream)
            .await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(
            answer == format!("{host} received hello"),
            "wrong answer: {answer}"
        );
        println!("{answer}");
    }
    Ok(())
}

/// Answers each connection with the name of the server and what it received.
async fn respond(listener: TcpListener, acceptor: TlsAcceptor, name: &str) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        let mut received = String::new();
        stream.read_to_string(&mut received).await?;
        let answer = format!("{name} received {received}");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
    }
}
