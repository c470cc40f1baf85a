//! Small messages, each answered before the next is sent.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{connect, digest::Pattern, together};

pub const MESSAGE: usize = 64;

/// Connections that exchange messages with an upstream that echoes.
#[derive(Debug)]
pub struct PingPong {
    sockets: Vec<TcpStream>,
}

impl PingPong {
    /// Connects, and exchanges one message over each connection, so that the measurement does not include the setup.
    pub async fn start(proxy: SocketAddr, connections: usize) -> Result<Self> {
        let mut sockets = Vec::with_capacity(connections);
        for stream in 0..connections {
            let socket = connect(proxy).await?;
            sockets.push(exchange(socket, stream, 1).await?.0);
        }
        Ok(Self { sockets })
    }

    /// Exchanges `messages` over each connection at the same time; returns how long each message took.
    pub async fn run(&mut self, messages: usize) -> Result<Vec<Duration>> {
        let sockets = std::mem::take(&mut self.sockets);
        let count = sockets.len();
        let done = together(sockets.into_iter().enumerate(), move |(stream, socket)| {
            exchange(socket, stream, messages)
        })
        .await?;
        let mut latencies = Vec::with_capacity(count * messages);
        for (socket, some) in done {
            self.sockets.push(socket);
            latencies.extend(some);
        }
        Ok(latencies)
    }
}

async fn exchange(
    mut socket: TcpStream,
    stream: usize,
    messages: usize,
) -> Result<(TcpStream, Vec<Duration>)> {
    let mut pattern = Pattern::new(stream);
    let mut latencies = Vec::with_capacity(messages);
    let mut answer = [0; MESSAGE];
    for _ in 0..messages {
        let message = pattern.chunk(MESSAGE);
        let began = Instant::now();
        socket.write_all(message).await?;
        socket.read_exact(&mut answer[..message.len()]).await?;
        latencies.push(began.elapsed());
        ensure!(
            answer[..message.len()] == *message,
            "the answer is not what was sent"
        );
        pattern.advance(message.len());
    }
    Ok((socket, latencies))
}
