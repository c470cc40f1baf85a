//! An HTTP/1.1 reverse proxy with keep-alive. It parses heads and lets the kernel move the bodies.
//!
//! [`Prefixed::peek_until`] waits for a head, `httparse` parses it, and [`copy_exact`] moves exactly `Content-Length`
//! bytes from socket to socket. Not a byte more leaves the reader, so the next head can be parsed after it.
//!
//! ```sh
//! cargo run --release -p evbuffer-protocols --bin http_reverse_proxy     # a demonstration that ends by itself
//! cargo run --release -p evbuffer-protocols --bin http_reverse_proxy -- \
//!     --listen 127.0.0.1:8000 --connect 127.0.0.1:8080
//! ```

#[path = "../../../support/mod.rs"]
mod support;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_evbuffer::{EvBuffer, Prefixed, Relay, copy, relay::copy_exact};

/// The longest head of a request or a response.
const HEAD_MAX: usize = 64 * 1024;
/// The most header fields of a head.
const FIELDS_MAX: usize = 100;
/// The longest line in front of a chunk: its length, and extensions.
const CHUNK_LINE_MAX: usize = 4096;
/// Time for the next request, and for the upstream to accept a connection and to answer.
const STEP_MAX: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let mut upstream = None;
    let listen = support::arguments(|name, value| {
        upstream = Some(value.parse().context("an option takes IP:PORT")?);
        Ok(name == "connect")
    })?;
    match (listen, upstream) {
        (Some(addr), Some(upstream)) => {
            support::listen(addr, |listener| accept(listener, upstream)).await
        }
        (None, None) => demonstrate().await,
        _ => bail!("--listen and --connect need each other"),
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr) {
    let serve = |stream, peer: SocketAddr| {
        tokio::spawn(async move {
            if let Err(error) = serve(stream, peer, upstream).await {
                eprintln!("{peer}: {error:#}");
            }
        });
    };
    support::accept_all(listener, serve).await
}

type Stream = Prefixed<TcpStream>;

/// Serves the requests of one client, each over the same connection to the upstream.
async fn serve(client: TcpStream, peer: SocketAddr, upstream: SocketAddr) -> Result<()> {
    client.set_nodelay(true)?;
    let mut client = Prefixed::new(client, EvBuffer::new());
    let upstream = match timeout(STEP_MAX, TcpStream::connect(upstream)).await {
        Ok(Ok(upstream)) => upstream,
        _ => return refuse(&mut client, "502 Bad Gateway").await,
    };
    upstream.set_nodelay(true)?;
    let mut upstream = Prefixed::new(upstream, EvBuffer::new());
    loop {
        let request = match next_head(&mut client, Head::of_request).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                refuse(&mut client, "400 Bad Request").await?;
                return Err(error.context("request"));
            }
        };
        let forwarded = format!("X-Forwarded-For: {}\r\n", peer.ip());
        request.send(&mut upstream, &forwarded).await?;
        request.body.copy(&mut client, &mut upstream).await?;
        let response = loop {
            let head = next_head(&mut upstream, |bytes| Head::of_response(bytes, &request))
                .await
                .context("response")?
                .context("the upstream left without an answer")?;
            head.send(&mut client, "").await?;
            if !head.is_interim {
                break head;
            }
        };
        if response.switches_protocols {
            // A WebSocket, for example: from here on it is not HTTP.
            Relay::new(client, upstream).run().await?;
            return Ok(());
        }
        response.body.copy(&mut upstream, &mut client).await?;
        if !(request.keep_alive && response.keep_alive) {
            return Ok(client.shutdown().await?);
        }
    }
}

/// Answers without asking the upstream, and ends the connection.
async fn refuse(client: &mut Stream, status: &str) -> Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    client.write_all(head.as_bytes()).await?;
    Ok(client.shutdown().await?)
}

/// What the proxy needs to know about a message.
struct Head {
    /// The head, with the empty line at its end.
    bytes: Vec<u8>,
    body: Body,
    keep_alive: bool,
    /// A request without a body in its response.
    is_head: bool,
    /// A response that another one follows.
    is_interim: bool,
    switches_protocols: bool,
}

/// How long the body of a message is.
enum Body {
    Length(u64),
    Chunked,
    UntilEnd,
}

/// Takes the next head off the stream; `None` at the end of the stream.
async fn next_head(
    stream: &mut Stream,
    parse: impl FnOnce(Vec<u8>) -> Result<Head>,
) -> Result<Option<Head>> {
    let found = timeout(STEP_MAX, stream.peek_until(b"\r\n\r\n", HEAD_MAX));
    let Some(len) = found.await.context("no head in time")?? else {
        ensure!(stream.prefix().is_empty(), "the stream ended within a head");
        return Ok(None);
    };
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await?;
    parse(bytes).map(Some)
}

impl Head {
    fn of_request(bytes: Vec<u8>) -> Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        ensure!(request.parse(&bytes)?.is_complete(), "incomplete");
        let is_head = request.method == Some("HEAD");
        let (body, keep_alive) = framing(request.version, request.headers)?;
        Ok(Self {
            // Without a length a request has no body.
            body: body.unwrap_or(Body::Length(0)),
            keep_alive,
            is_head,
            is_interim: false,
            switches_protocols: false,
            bytes,
        })
    }

    fn of_response(bytes: Vec<u8>, request: &Head) -> Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        ensure!(response.parse(&bytes)?.is_complete(), "incomplete");
        let status = response.code.unwrap_or_default();
        let (body, keep_alive) = framing(response.version, response.headers)?;
        let has_no_body = request.is_head || matches!(status, 100..200 | 204 | 304);
        let body = if has_no_body {
            Body::Length(0)
        } else {
            body.unwrap_or(Body::UntilEnd)
        };
        Ok(Self {
            keep_alive: keep_alive && !matches!(body, Body::UntilEnd),
            body,
            is_head: false,
            is_interim: matches!(status, 100 | 102..200),
            switches_protocols: status == 101,
            bytes,
        })
    }

    /// Sends the head, with more fields at its end.
    async fn send(&self, to: &mut Stream, more: &str) -> Result<()> {
        let (head, empty_line) = self.bytes.split_at(self.bytes.len() - 2);
        let bytes = [head, more.as_bytes(), empty_line].concat();
        Ok(to.write_all(&bytes).await?)
    }
}

/// Returns the body that the fields announce, if they do, and whether the connection may be used again.
///
/// Messages whose length two servers may understand differently are refused: that is how requests are smuggled.
fn framing(version: Option<u8>, fields: &[httparse::Header<'_>]) -> Result<(Option<Body>, bool)> {
    let mut body = None;
    let mut keep_alive = version == Some(1);
    for field in fields {
        let value = std::str::from_utf8(field.value).unwrap_or_default().trim();
        let new = if field.name.eq_ignore_ascii_case("content-length") {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            ensure!(digits, "Content-Length is not a number");
            Body::Length(value.parse().context("Content-Length is not a number")?)
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            let chunked = value.eq_ignore_ascii_case("chunked") && version == Some(1);
            ensure!(chunked, "unknown Transfer-Encoding");
            Body::Chunked
        } else {
            if field.name.eq_ignore_ascii_case("connection") {
                let mut options = value.split(',').map(str::trim);
                keep_alive &= !options.any(|option| option.eq_ignore_ascii_case("close"));
            }
            continue;
        };
        ensure!(body.replace(new).is_none(), "two lengths");
    }
    Ok((body, keep_alive))
}

impl Body {
    async fn copy(&self, from: &mut Stream, to: &mut Stream) -> Result<()> {
        match self {
            Self::Length(len) => copy_exact(from, to, *len).await?,
            Self::UntilEnd => _ = copy(from, to).await?,
            Self::Chunked => loop {
                let line = from.peek_until(b"\r\n", CHUNK_LINE_MAX).await?;
                let line_len = line.context("the stream ended within a chunked body")?;
                let line = from.peek(line_len).await?;
                let Ok(httparse::Status::Complete((_, len))) = httparse::parse_chunk_size(line)
                else {
                    bail!("a chunk without a length");
                };
                if len == 0 {
                    copy_exact(from, to, line_len as u64).await?;
                    break copy_trailers(from, to).await?;
                }
                let line_and_end = line_len as u64 + 2;
                let chunk_len = len
                    .checked_add(line_and_end)
                    .context("a chunk is too long")?;
                copy_exact(from, to, chunk_len).await?;
            },
        }
        Ok(())
    }
}

/// Copies the fields after the last chunk, up to an empty line.
async fn copy_trailers(from: &mut Stream, to: &mut Stream) -> Result<()> {
    let mut copied = 0;
    loop {
        let line = from.peek_until(b"\r\n", CHUNK_LINE_MAX).await?;
        let len = line.context("the stream ended within its trailers")?;
        copy_exact(from, to, len as u64).await?;
        copied += len;
        if len == 2 {
            return Ok(());
        }
        ensure!(copied < HEAD_MAX, "the trailers are too long");
    }
}

/// Runs an upstream, and a client that sends several requests over one connection through the proxy.
async fn demonstrate() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = listener.local_addr()?;
    tokio::spawn(send_back(listener));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(accept(listener, upstream));

    let mut client = BufReader::new(TcpStream::connect(addr).await?);
    for size in [0, 5, 16 << 20, 5] {
        let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let head = format!("POST / HTTP/1.1\r\nHost: here\r\nContent-Length: {size}\r\n\r\n");
        client.write_all(head.as_bytes()).await?;
        client.write_all(&body).await?;
        let (head, received) = read_message(&mut client).await?.context("no response")?;
        ensure!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        ensure!(received == body, "a body of {size} bytes arrived changed");
        println!("a body of {size} bytes went to the upstream and came back");
    }
    Ok(())
}

/// An upstream that sends the body of each request back, if the proxy has said who the client is.
async fn send_back(listener: TcpListener) -> Result<()> {
    loop {
        let mut stream = BufReader::new(listener.accept().await?.0);
        tokio::spawn(async move {
            while let Some((head, body)) = read_message(&mut stream).await? {
                let status = match head.contains("X-Forwarded-For: 127.0.0.1") {
                    true => "200 OK",
                    false => "403 Forbidden",
                };
                let len = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&body).await?;
            }
            anyhow::Ok(())
        });
    }
}

/// Reads a message with a `Content-Length`; `None` at the end of the stream.
async fn read_message(stream: &mut BufReader<TcpStream>) -> Result<Option<(String, Vec<u8>)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .context("no Content-Length")?;
    let mut body = vec![0; len.parse()?];
    stream.read_exact(&mut body).await?;
    Ok(Some((head, body)))
}
