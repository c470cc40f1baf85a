//! An echo server for lines, written the way one would think of first: read a line, add the answer, no flush.
//!
//! The task of the [`BufferEvent`] writes all that has gathered with few system calls, so this is also the fast way.
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
    shared::WaitError,
};

/// The longest line that is answered; a longer one ends the connection.
const LINE_MAX: usize = 64 * 1024;

/// A connection on which nothing has moved for so long is closed.
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
            bail!("nothing has moved for {IDLE_MAX:?}");
        }
    }
    let summary = connection.close().await?;
    println!(
        "{} bytes in, {} out, {:?}",
        summary.bytes_in, summary.bytes_out, summary.reason
    );
    Ok(())
}

/// Waits until nothing has moved for too long. What becomes of the connection then is for its users to say.
async fn idle(connection: &BufferEvent) {
    while let Some(event) = connection.next_event().await {
        if matches!(event, Event::IdleTimeout) {
            return;
        }
    }
    std::future::pending().await
}

/// Answers line after line until the client has no more.
async fn answer_all(connection: &BufferEvent) -> Result<()> {
    loop {
        let seen = {
            let mut input = connection.input().lock();
            while let Some(line) = input.readln(EolStyle::Crlf)? {
                let mut answer = line.to_ascii_uppercase();
                answer.push(b'\n');
                connection.output().add(&answer)?;
            }
            // Under the same guard: what arrives after it has not been looked at.
            input.len()
        };
        ensure!(seen < LINE_MAX, "a line is longer than {LINE_MAX} bytes");
        if connection
            .paused(Direction::Write)
            .contains(PauseReason::HighWatermark)
        {
            // A client that does not read its answers gets no more of them.
            connection.flush().await?;
        }
        match connection.input().readable(seen + 1).await {
            Ok(()) => {}
            Err(WaitError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A few clients, each of which sends many lines at once and checks every answer.
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
            ensure!(
                answers.next_line().await?.is_none(),
                "there is an answer too many"
            );
            sender.await??;
            Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    server.abort();
    println!("{CLIENTS} clients had {LINES} lines each answered rightly");
    Ok(())
}
