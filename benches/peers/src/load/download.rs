//! Clients that read what a server sends.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::{connect, upstream::read};

/// Reads to the end, and fails if that were not this many bytes, each an `x`.
pub async fn run(server: SocketAddr, bytes: u64) -> Result<()> {
    let socket = connect(server).await?;
    let (mut received, mut wrong) = (0, false);
    loop {
        let n = read(&socket, |bytes| {
            wrong |= bytes.iter().any(|&byte| byte != b'x')
        })
        .await?;
        if n == 0 {
            break;
        }
        received += n as u64;
    }
    ensure!(
        !wrong && received == bytes,
        "{received} bytes arrived, or wrong ones"
    );
    Ok(())
}
