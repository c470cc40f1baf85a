//! HTTP requests over connections that stay open, one at a time on each.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{connect, together};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const BODY: &[u8] = b"ok";

/// Sends `requests` over each of `connections`, and checks the status and the body of each answer.
pub async fn run(server: SocketAddr, connections: usize, requests: usize) -> Result<()> {
    together(0..connections, move |_| async move {
        let mut socket = connect(server).await?;
        let mut answer = first_answer(&mut socket).await?;
        for _ in 1..requests {
            // The head has no field of variable length.
            socket.write_all(REQUEST).await?;
            socket.read_exact(&mut answer).await?;
            ensure!(is_good(&answer), "a wrong answer");
        }
        Ok(())
    })
    .await
    .map(drop)
}

async fn first_answer(socket: &mut TcpStream) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    socket.write_all(REQUEST).await?;
    while !is_good(&answer) {
        ensure!(
            socket.read_buf(&mut answer).await? > 0,
            "the connection has ended"
        );
    }
    Ok(answer)
}

fn is_good(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(BODY)
}
