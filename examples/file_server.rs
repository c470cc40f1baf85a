//! A small HTTP file server. The kernel sends the files (`sendfile`): their bytes never enter this process.
//!
//! ```sh
//! cargo run --release --example file_server     # a demonstration that ends by itself
//! cargo run --release --example file_server -- --listen 127.0.0.1:8080 --root .
//! ```

mod support;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_evbuffer::{BufferEvent, EolStyle, Event, buffer::FileSegment};

/// The longest line of a request.
const LINE_MAX: usize = 8 * 1024;

/// A connection on which nothing moved for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let mut root = None;
    let listen = support::arguments(|name, value| {
        root = Some(PathBuf::from(value));
        Ok(name == "root")
    })?;
    let (addr, root) = match (listen, root) {
        (Some(addr), Some(root)) => (addr, root),
        (None, None) => return demonstrate().await,
        _ => bail!("--listen and --root need each other"),
    };
    let root = root
        .canonicalize()
        .with_context(|| format!("cannot serve {}", root.display()))?;
    support::listen(addr, |listener| accept(listener, root)).await
}

async fn accept(listener: TcpListener, root: PathBuf) {
    let serve = |stream, peer| {
        let root = root.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &root).await {
                eprintln!("{peer}: {error:#}");
            }
        });
    };
    support::accept_all(listener, serve).await
}

/// Serves one client until it has no more requests or is idle for too long.
async fn serve(stream: TcpStream, root: &Path) -> Result<()> {
    let connection = BufferEvent::builder().idle_timeout(IDLE_MAX).spawn(stream);
    tokio::select! {
        answered = answer_all(&connection, root) => answered?,
        () = idle(&connection) => {
            connection.abort();
            bail!("idle for {IDLE_MAX:?}");
        }
    }
    connection.close().await?;
    Ok(())
}

/// Waits until the connection is idle for too long. The timeout is only reported; the caller closes the connection.
async fn idle(connection: &BufferEvent) {
    while let Some(event) = connection.next_event().await {
        if matches!(event, Event::IdleTimeout) {
            return;
        }
    }
    std::future::pending().await
}

/// Answers requests until the client ends its side, or sends one that the server does not know.
async fn answer_all(connection: &BufferEvent, root: &Path) -> Result<()> {
    while let Some(request) = next_line(connection).await? {
        while next_line(connection)
            .await?
            .is_some_and(|header| !header.is_empty())
        {}
        let Some((method @ ("GET" | "HEAD"), rest)) = request.split_once(' ') else {
            // It may have a body, which must not be taken for the next request.
            return refuse(
                connection,
                "405 Method Not Allowed\r\nAllow: GET, HEAD\r\nConnection: close",
            );
        };
        let target = rest.split(' ').next().unwrap_or_default();
        answer(connection, root, target, method == "GET").await?;
        // A client that does not read this answer does not get another one.
        connection.flush().await?;
    }
    Ok(())
}

/// Returns the next line, or `None` if the client has ended its side.
async fn next_line(connection: &BufferEvent) -> Result<Option<String>> {
    let line = connection
        .input()
        .next_line(EolStyle::Crlf, LINE_MAX)
        .await?;
    let text = line.map(|line| String::from_utf8(line.into())).transpose();
    text.context("the request is not text")
}

async fn answer(
    connection: &BufferEvent,
    root: &Path,
    target: &str,
    with_body: bool,
) -> Result<()> {
    match find(root, target).await {
        Ok(file) => {
            // Added under one guard, so that the head and the file leave together.
            let mut output = connection.output().lock();
            output.add(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                file.len()
            ))?;
            if with_body {
                output.add_file(file)?;
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => refuse(connection, "404 Not Found"),
        Err(_) => refuse(connection, "403 Forbidden"),
    }
}

/// Answers without a file. `status` may be followed by more header fields.
fn refuse(connection: &BufferEvent, status: &str) -> Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    Ok(connection.output().add(head.as_bytes())?)
}

/// Opens the file that `target` names. After all links and `..` are resolved, it must be below `root`.
async fn find(root: &Path, target: &str) -> std::io::Result<FileSegment> {
    let path = fs::canonicalize(root.join(target.trim_start_matches('/'))).await?;
    if !path.starts_with(root) || !fs::metadata(&path).await?.is_file() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    FileSegment::new(fs::File::open(path).await?.into_std().await, ..)
}

/// Runs a client that requests a large file, a file that does not exist, and one outside of the folder.
async fn demonstrate() -> Result<()> {
    const SIZE: usize = 64 << 20;

    let outside = tempfile::tempdir()?;
    let root = outside.path().canonicalize()?.join("root");
    std::fs::create_dir(&root)?;
    let data: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    std::fs::write(root.join("large"), &data)?;
    std::fs::write(outside.path().join("secret"), "not for you")?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(accept(listener, root));

    let ok = get(addr, "/large").await?;
    ensure!(
        ok.0 == "HTTP/1.1 200 OK" && ok.1 == data,
        "the file arrived changed"
    );
    println!("/large: {SIZE} bytes arrived unchanged");
    for (target, status) in [
        ("/nothing", "404 Not Found"),
        ("/../secret", "403 Forbidden"),
    ] {
        let (head, body) = get(addr, target).await?;
        ensure!(
            head.ends_with(status) && body.is_empty(),
            "{target}: {head}"
        );
        println!("{target}: {status}");
    }
    Ok(())
}

/// Requests `target`, and returns the status line and the body.
async fn get(addr: SocketAddr, target: &str) -> Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(addr).await?;
    stream
        .write_all(format!("GET {target} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes())
        .await?;
    stream.shutdown().await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    let end = response
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("no head")?;
    let body = response.split_off(end + 4);
    let head = String::from_utf8(response)?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body))
}
