//! Idle connections.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::{net::TcpStream, time::timeout};

use super::{
    connect_through,
    digest::{Digest, Pattern},
    upstream::{Upstream, read},
};

/// Pairs of connections through a proxy to an upstream that echoes.
#[derive(Debug, Default)]
pub struct Idle {
    sockets: Vec<TcpStream>,
}

impl Idle {
    /// Opens more, one after the other, until there are `pairs`; returns when the upstream has them all.
    pub async fn open(
        &mut self,
        proxy: SocketAddr,
        upstream: &Upstream,
        pairs: usize,
    ) -> Result<()> {
        while self.sockets.len() < pairs {
            self.sockets.push(connect_through(proxy, upstream).await?);
        }
        Ok(())
    }

    /// Sends `bytes` each way over every pair, one pair after the other.
    pub async fn carry(&mut self, bytes: u64) -> Result<()> {
        for (stream, socket) in self.sockets.iter_mut().enumerate() {
            timeout(super::STUCK, there_and_back(socket, stream, bytes))
                .await
                .context("hangs")??;
        }
        Ok(())
    }
}

async fn there_and_back(socket: &mut TcpStream, stream: usize, bytes: u64) -> Result<()> {
    let mut pattern = Pattern::new(stream);
    let (mut sent, mut came) = (Digest::default(), Digest::default());
    let (mut to_send, mut to_come) = (bytes, bytes);
    while to_come > 0 {
        // The echo has to be read while there are bytes left to send.
        let sends = async {
            match to_send {
                0 => std::future::pending().await,
                _ => socket.writable().await,
            }
        };
        tokio::select! {
            ready = sends => {
                ready?;
                let chunk = pattern.chunk(usize::try_from(to_send)?);
                match socket.try_write(chunk) {
                    Ok(n) => {
                        sent.update(&chunk[..n]);
                        pattern.advance(n);
                        to_send -= n as u64;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            n = read(socket, |bytes| came.update(bytes)) => {
                let n = n? as u64;
                ensure!(n > 0, "the connection ended with {to_come} bytes to come");
                to_come = to_come.checked_sub(n).context("more came back than was sent")?;
            }
        }
    }
    ensure!(
        came.finish() == sent.finish(),
        "the bytes that came back are not those that were sent"
    );
    Ok(())
}
