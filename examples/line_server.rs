//! A line server in the obvious way: read a line, add the answer, no flush.
//!
//! The task of the [`BufferEvent`] writes many answers with one system call, so the obvious way is also fast.
//!
//! ```sh
//! cargo run --release --example line_server                               # a demonstration that ends by itself
//! cargo run --release --example line_server -- --listen 127.0.0.1:7000    # the real thing, until ctrl-c
//! ```

mod support;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_evbuffer::{
    BufferEvent, EolStyle, Event,
    bufferevent::{Direction, PauseReason},
};

/// The longest line that is answered; a longer one ends the connection.
const LINE_MAX: usize = 64 * 1024;

/// A connection on which nothing moved for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let Some(addr) = support::arguments(|_, _| Ok(false))? else {
        return demonstrate().await;
    };
    support::listen(addr, accept).await
}

async fn accept(listener: TcpListener) {
    let serve = |stream, peer| {
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("{peer}: {error:#}");
            }
        });
    };
    support::accept_all(listener, serve).await
}

async fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let connection = BufferEvent::builder().idle_timeout(IDLE_MAX).spawn(stream);
    tokio::select! {
        answered = answer_all(&connection) => answered?,
        () = idle(&connection) => {
            connection.abort();
            bail!("idle for {IDLE_MAX:?}");
        }
    }
    let summary = connection.close().await?;
    println!(
        "{} bytes in, {} out, {:?}",
        summary.bytes_in, summary.bytes_out, summary.reason
    );
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

/// Answers each line with the same line in capitals, until the client ends its side.
async fn answer_all(connection: &BufferEvent) -> Result<()> {
    while let Some(line) = connection
        .input()
        .next_line(EolStyle::Crlf, LINE_MAX)
        .await?
    {
        let mut answer = line.to_ascii_uppercase();
        answer.push(b'\n');
        connection.output().add(answer)?;
        if connection
            .paused(Direction::Write)
            .contains(PauseReason::HighWatermark)
        {
            // The client does not read its answers: wait until it does.
            connection.flush().await?;
        }
    }
    Ok(())
}

/// Runs a few clients that send many lines and check every answer.
async fn demonstrate() -> Result<()> {
    const CLIENTS: usize = 4;
    const LINES: usize = 1000;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let server = tokio::spawn(accept(listener));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(async move {
            let (read, mut write) = TcpStream::connect(addr).await?.into_split();
            let sender = tokio::spawn(async move {
                for line in 0..LINES {
                    write
                        .write_all(format!("client {client} says {line}\r\n").as_bytes())
                        .await?;
                }
                write.shutdown().await
            });
            let mut answers = BufReader::new(read).lines();
            for line in 0..LINES {
                let answer = answers.next_line().await?.context("an answer is missing")?;
                ensure!(
                    answer == format!("CLIENT {client} SAYS {line}"),
                    "wrong answer: {answer}"
                );
            }
            ensure!(answers.next_line().await?.is_none(), "one answer too many");
            sender.await??;
            Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    server.abort();
    println!("{CLIENTS} clients got correct answers to {LINES} lines each");
    Ok(())
}
