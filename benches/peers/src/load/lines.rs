//! Requests of one line each, some of them on their way at the same time.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{connect, together};

/// With its line end.
pub const LINE: usize = 40;

/// Sends `requests` lines over each of `connections`, `depth` at a time, and waits for their answers between.
pub async fn run(
    server: SocketAddr,
    connections: usize,
    depth: usize,
    requests: usize,
) -> Result<()> {
    together(0..connections, move |connection| async move {
        let mut socket = connect(server).await?;
        let mut number = connection * requests;
        for _ in 0..requests / depth {
            let batch: Vec<u8> = (number..number + depth).flat_map(line).collect();
            exchange(&mut socket, &batch).await?;
            number += depth;
        }
        Ok(())
    })
    .await
    .map(drop)
}

/// Connections that have exchanged one line and are idle.
pub async fn idle(server: SocketAddr, connections: usize) -> Result<Vec<TcpStream>> {
    let mut sockets = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut socket = connect(server).await?;
        exchange(&mut socket, &line(number)).await?;
        sockets.push(socket);
    }
    Ok(sockets)
}

async fn exchange(socket: &mut TcpStream, batch: &[u8]) -> Result<()> {
    socket.write_all(batch).await?;
    let mut answer = vec![0; batch.len()];
    socket.read_exact(&mut answer).await?;
    ensure!(
        answer == batch,
        "the lines that came back are not those that were sent"
    );
    Ok(())
}

/// Every line is another one, so that none can stand for its neighbour.
fn line(number: usize) -> Vec<u8> {
    format!("{number:0width$}\n", width = LINE - 1).into_bytes()
}
