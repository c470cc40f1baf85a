//! Frames with their length in front.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{connect, together};

/// The payload of a frame.
pub const FRAME: usize = 64 * 1024;

/// Sends `count` frames over each of `connections`, and checks the number of bytes that the server counted.
pub async fn run(server: SocketAddr, connections: usize, count: usize) -> Result<()> {
    together(0..connections, move |_| async move {
        let mut socket = connect(server).await?;
        let length = u32::try_from(FRAME)?.to_be_bytes();
        let frame = [&length[..], &vec![b'x'; FRAME]].concat();
        for _ in 0..count {
            socket.write_all(&frame).await?;
        }
        socket.shutdown().await?;
        let total = socket.read_u64().await?;
        ensure!(
            total == (count * FRAME) as u64,
            "the server counted {total} bytes"
        );
        Ok(())
    })
    .await
    .map(drop)
}
