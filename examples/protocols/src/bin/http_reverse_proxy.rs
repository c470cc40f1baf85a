//! An HTTP/1.1 reverse proxy with keep-alive. It parses heads and lets the kernel move the bodies.
//!
//! [`Prefixed::peek_until`] waits for a head, `httparse` parses it, and a [`Transfer`] moves exactly `Content-Length`
//! bytes from socket to socket. Not a byte more leaves the reader, so the next head can be parsed after it. A request and
//! its answer are moved at the same time, so an upstream can refuse a body before it has arrived.
//!
//! ```sh
//! cargo run --release -p evbuffer-protocols --bin http_reverse_proxy     # a demonstration that ends by itself
//! cargo run --release -p evbuffer-protocols --bin http_reverse_proxy -- \
//!     --listen 127.0.0.1:8000 --connect 127.0.0.1:8080
//! ```

#[path = "../../../support/mod.rs"]
mod support;

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    EvBuffer, Prefixed, Relay, Transfer, copy,
    relay::{Step, TransferError},
};

/// The longest head of a request or a response.
const HEAD_MAX: usize = 64 * 1024;
/// The most header fields of a head.
const FIELDS_MAX: usize = 100;
/// The longest line in front of a chunk: its length, and extensions.
const CHUNK_LINE_MAX: usize = 4096;
/// Time for the next request, for the upstream to accept a connection and to answer, and for a body that does not move.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Time in which the last answer reaches a client that is still sending.
const LINGER: Duration = Duration::from_secs(5);

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

/// A connection whose directions are used at the same time: a request may still arrive while its answer is sent.
struct Connection {
    reading: Prefixed<OwnedReadHalf>,
    writing: OwnedWriteHalf,
}

impl Connection {
    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let (reading, writing) = stream.into_split();
        let reading = Prefixed::new(reading, EvBuffer::new());
        Ok(Self { reading, writing })
    }

    fn into_stream(self) -> Result<Prefixed<TcpStream>> {
        let (reading, prefix) = self.reading.into_parts();
        Ok(Prefixed::new(reading.reunite(self.writing)?, prefix))
    }

    /// Ends the connection after everything that was sent. To close it while the client sends would reset it, and the
    /// client could lose the answer, so this reads and discards for a while.
    async fn close(mut self) -> Result<()> {
        self.writing.shutdown().await?;
        let _ = timeout(LINGER, copy(&mut self.reading, &mut tokio::io::sink())).await;
        Ok(())
    }

    /// Answers without asking the upstream, and ends the connection.
    async fn refuse(mut self, status: &str) -> Result<()> {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        self.writing.write_all(head.as_bytes()).await?;
        self.close().await
    }

    /// Resets the connection, so that the client does not take a part of an answer for all of it.
    fn reset(self) {
        let _ = self.writing.as_ref().set_zero_linger();
        // Dropped, the half would send an orderly end first.
        self.writing.forget();
    }
}

/// How the connection of a client continues after an answer.
enum Next {
    Request,
    Close,
    /// A WebSocket, for example: from here on it is not HTTP.
    OtherProtocol,
}

/// Serves the requests of one client, each over the same connection to the upstream.
async fn serve(client: TcpStream, peer: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let mut client = Connection::new(client)?;
    let mut upstream = match timeout(STEP_MAX, TcpStream::connect(upstream)).await {
        Ok(Ok(upstream)) => Connection::new(upstream)?,
        _ => return client.refuse("502 Bad Gateway").await,
    };
    loop {
        let next_request = next_head(&mut client.reading, Head::of_request, sleep(STEP_MAX));
        let request = tokio::select! {
            request = next_request => request,
            // The upstream has closed the idle connection, so the client needs another one, too.
            _ = upstream.reading.peek(1) => return client.close().await,
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                client.refuse("400 Bad Request").await?;
                return Err(error.context("request"));
            }
        };
        let forwarded = format!("X-Forwarded-For: {}\r\n", peer.ip());
        match exchange(&request, &forwarded, &mut client, &mut upstream).await {
            Ok(Next::Request) => {}
            Ok(Next::Close) => return client.close().await,
            Ok(Next::OtherProtocol) => {
                let relay = Relay::new(client.into_stream()?, upstream.into_stream()?);
                relay.run().await?;
                return Ok(());
            }
            Err(error) => {
                match error.is::<NoAnswer>() {
                    true => client.refuse("502 Bad Gateway").await?,
                    false => client.reset(),
                }
                return Err(error);
            }
        }
    }
}

/// The upstream has failed before the head of its answer.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer from the upstream")
    }
}

/// Sends a request to the upstream and its answer to the client, at the same time: an upstream may answer before it has
/// the whole body, to refuse it (413) or to ask for it (100).
async fn exchange(
    request: &Head,
    forwarded: &str,
    client: &mut Connection,
    upstream: &mut Connection,
) -> Result<Next> {
    let (sent, is_sent) = watch::channel(false);
    let sending = async {
        let send = async {
            request.send(&mut upstream.writing, forwarded).await?;
            let body = &request.body;
            body.copy(&mut client.reading, &mut upstream.writing).await
        };
        let outcome = send.await;
        sent.send_replace(true);
        outcome
    };
    let answering = answer(request, &mut upstream.reading, &mut client.writing, is_sent);
    tokio::pin!(sending, answering);
    let (sent, response) = tokio::select! {
        sent = &mut sending => {
            // An upstream that refuses the rest may have answered.
            if let Err(error) = &sent {
                ensure!(is_of_upstream(error), "request: {error:#}");
            }
            (sent, answering.await?)
        }
        response = &mut answering => {
            let response = response?;
            // If the connections are to be used again, the upstream reads the rest.
            match response.keep_alive {
                true => (sending.await, response),
                false => (Err(anyhow::anyhow!("not needed")), response),
            }
        }
    };
    Ok(match () {
        () if response.switches_protocols => {
            sent?;
            Next::OtherProtocol
        }
        () if sent.is_ok() && request.keep_alive && response.keep_alive => Next::Request,
        () => Next::Close,
    })
}

/// Whether sending a request has failed at the upstream, and not at the client.
fn is_of_upstream(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<TransferError>() {
        Some(failed) => failed.step != Step::Read,
        None => error.is::<std::io::Error>(),
    }
}

/// Sends the answer to the client, and returns the head of the final one.
async fn answer(
    request: &Head,
    upstream: &mut Prefixed<OwnedReadHalf>,
    client: &mut OwnedWriteHalf,
    mut is_sent: watch::Receiver<bool>,
) -> Result<Head> {
    loop {
        let parse = |bytes| Head::of_response(bytes, request);
        // The time of the upstream begins when it has the whole request, or takes no more of it.
        let too_late = async {
            let _ = is_sent.wait_for(|is_sent| *is_sent).await;
            sleep(STEP_MAX).await;
        };
        let head = next_head(upstream, parse, too_late)
            .await
            .and_then(|head| head.context("the upstream has sent no head"))
            .context(NoAnswer)?;
        head.send(client, "").await?;
        if !head.is_interim {
            head.body.copy(upstream, client).await?;
            return Ok(head);
        }
    }
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

/// Takes the next head off the stream; `None` if the stream ends, or it is too late, before any byte of one.
async fn next_head(
    stream: &mut Prefixed<OwnedReadHalf>,
    parse: impl FnOnce(Vec<u8>) -> Result<Head>,
    too_late: impl Future<Output = ()>,
) -> Result<Option<Head>> {
    let found = tokio::select! {
        found = stream.peek_until(b"\r\n\r\n", HEAD_MAX) => found?,
        () = too_late => None,
    };
    let Some(len) = found else {
        ensure!(stream.prefix().is_empty(), "a head is not complete");
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
    async fn send(&self, to: &mut OwnedWriteHalf, more: &str) -> Result<()> {
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
    async fn copy(
        &self,
        from: &mut Prefixed<OwnedReadHalf>,
        to: &mut OwnedWriteHalf,
    ) -> Result<()> {
        match self {
            Self::Length(len) => transfer(from, to, *len).await?,
            Self::UntilEnd => transfer(from, to, u64::MAX).await?,
            Self::Chunked => loop {
                let line_len = peek_line(from).await?;
                let line = from.peek(line_len).await?;
                let Ok(httparse::Status::Complete((_, len))) = httparse::parse_chunk_size(line)
                else {
                    bail!("a chunk without a length");
                };
                if len == 0 {
                    transfer(from, to, line_len as u64).await?;
                    break copy_trailers(from, to).await?;
                }
                let line_and_end = line_len as u64 + 2;
                let chunk_len = len
                    .checked_add(line_and_end)
                    .context("a chunk is too long")?;
                transfer(from, to, chunk_len).await?;
            },
        }
        Ok(())
    }
}

/// Moves exactly `len` bytes, or all up to the end with [`u64::MAX`]. The kernel moves bulk from socket to socket.
async fn transfer(
    from: &mut Prefixed<OwnedReadHalf>,
    to: &mut OwnedWriteHalf,
    len: u64,
) -> Result<(), TransferError> {
    let transfer = Transfer::new(from, to).limit(len).idle_timeout(STEP_MAX);
    transfer.run().await.map(drop)
}

/// Waits for a line of a chunked body, and returns its length.
async fn peek_line(from: &mut Prefixed<OwnedReadHalf>) -> Result<usize> {
    let line = timeout(STEP_MAX, from.peek_until(b"\r\n", CHUNK_LINE_MAX));
    let line_len = line.await.context("no chunk in time")??;
    line_len.context("the stream ended within a chunked body")
}

/// Copies the fields after the last chunk, up to an empty line.
async fn copy_trailers(from: &mut Prefixed<OwnedReadHalf>, to: &mut OwnedWriteHalf) -> Result<()> {
    let mut copied = 0;
    loop {
        let len = peek_line(from).await?;
        transfer(from, to, len as u64).await?;
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
