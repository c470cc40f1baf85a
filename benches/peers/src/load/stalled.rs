//! Clients that ask for a bulk answer and never read it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use super::upstream::{Upstream, limit_packets};

/// Pairs of connections through a proxy to an upstream that floods them.
#[derive(Debug, Default)]
pub struct Stalled {
    sockets: Vec<TcpStream>,
}

impl Stalled {
    /// Opens more until there are `pairs`, and waits until no byte moves any more.
    pub async fn open(
        &mut self,
        proxy: SocketAddr,
        upstream: &Upstream,
        pairs: usize,
    ) -> Result<()> {
        while self.sockets.len() < pairs {
            let before = upstream.totals().connections;
            let socket = TcpSocket::new_v4()?;
            // The kernel's buffers of the client are not the subject.
            socket.set_recv_buffer_size(16 * 1024)?;
            limit_packets(&socket)?;
            self.sockets.push(socket.connect(proxy).await?);
            upstream.until(|totals| totals.connections > before).await?;
        }
        timeout(super::STUCK, standstill(upstream))
            .await
            .context("bytes still move")
    }
}

async fn standstill(upstream: &Upstream) {
    const QUIET: Duration = Duration::from_millis(700);
    loop {
        let before = upstream.totals().bytes;
        sleep(QUIET).await;
        if upstream.totals().bytes == before {
            return;
        }
    }
}
