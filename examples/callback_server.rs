//! A line server with callbacks only, as in libevent: it answers each line with the same line backwards.
//!
//! Compare `bufferevent_setcb`, `bufferevent_setwatermark` and `bufferevent_enable`. No task of the server waits.
//!
//! ```sh
//! cargo run --release --example callback_server                               # a demonstration that ends by itself
//! cargo run --release --example callback_server -- --listen 127.0.0.1:7000    # the real thing, until ctrl-c
//! ```

mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_evbuffer::{
    BufferEvent, EolStyle, Event, Watermarks,
    bufferevent::{Direction, Side},
    shared::Crossing,
};

#[tokio::main]
async fn main() -> Result<()> {
    let Some(addr) = support::arguments(|_, _| Ok(false))? else {
        return demonstrate().await;
    };
    support::listen(addr, accept).await
}

/// The longest line that is answered; a longer one ends the connection.
const LINE_MAX: usize = 8 * 1024;

/// How often reading was paused because a client did not read its answers.
static PAUSES: AtomicUsize = AtomicUsize::new(0);

async fn accept(listener: TcpListener) {
    support::accept_all(listener, |stream, _| serve(stream)).await
}

fn serve(stream: TcpStream) {
    let watermarks = Watermarks::new(16 * 1024, 64 * 1024).expect("low is below high");
    BufferEvent::builder()
        .write_watermarks(watermarks)
        .idle_timeout(Duration::from_secs(60))
        .on_read(answer)
        .on_watermark(|connection, side, crossing| match (side, crossing) {
            // Answers pile up: stop reading questions. This callback runs inline, in the code that added the bytes.
            (Side::Output, Crossing::High { .. }) => {
                PAUSES.fetch_add(1, Relaxed);
                connection.disable(Direction::Read);
            }
            (Side::Output, Crossing::Low { .. }) => connection.enable(Direction::Read),
            _ => {}
        })
        .on_event(|connection, event| match event {
            Event::Eof => shut_down(connection.clone()),
            // The peer sends no more. `Eof` follows once everything before it was read.
            Event::PeerClosed | Event::Closed => {}
            other => {
                eprintln!("{other:?}");
                connection.abort();
            }
        })
        .spawn(stream)
        // Without a handle, it lives until the connection has ended.
        .detach();
}

/// Answers all lines that have arrived since the last call.
fn answer(connection: &BufferEvent) {
    let mut input = connection.input().lock();
    let mut output = connection.output().lock();
    while let Ok(Some(line)) = input.readln(EolStyle::Crlf) {
        let backwards: Vec<u8> = line.iter().rev().chain(b"\n").copied().collect();
        if output.add(&backwards).is_err() {
            // The connection is closing and takes no more output.
            return;
        }
    }
    if input.len() >= LINE_MAX {
        // An input that is full is not read from, so a longer line would never be complete.
        connection.abort();
    }
}

/// Sends the remaining answers, then FIN. That takes time, so a task does it: callbacks must not wait.
fn shut_down(connection: BufferEvent) {
    tokio::spawn(async move {
        if let Err(error) = connection.close().await {
            eprintln!("cannot send all answers: {error}");
        }
    });
}

/// Runs a client that sends many questions before it reads its first answer.
async fn demonstrate() -> Result<()> {
    const LINES: usize = 100_000;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let server = tokio::spawn(accept(listener));

    let (mut read, mut write) = TcpStream::connect(addr).await?.into_split();
    let sender = tokio::spawn(async move {
        let questions: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
        write.write_all(questions.as_bytes()).await?;
        write.shutdown().await
    });
    let mut answers = String::new();
    read.read_to_string(&mut answers).await?;
    sender.await??;
    server.abort();

    let right = answers
        .lines()
        .enumerate()
        .all(|(i, answer)| answer.chars().rev().collect::<String>() == format!("line {i}"));
    ensure!(
        right && answers.lines().count() == LINES,
        "an answer is wrong or missing"
    );
    println!(
        "{LINES} lines answered correctly; reading was paused {} times",
        PAUSES.load(Relaxed)
    );
    Ok(())
}
