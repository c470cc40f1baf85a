//! Bytes one way, as fast as possible.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    connect_through,
    digest::{DIGEST_LEN, Digest, Pattern},
    together,
    upstream::Upstream,
};

/// Connections through a proxy to an upstream that answers with the digest of the bytes.
pub struct Bulk<'a> {
    upstream: &'a Upstream,
    flows: Vec<Flow>,
}

impl<'a> Bulk<'a> {
    pub async fn start(
        proxy: SocketAddr,
        upstream: &'a Upstream,
        connections: usize,
    ) -> Result<Self> {
        let mut flows = Vec::with_capacity(connections);
        for stream in 0..connections {
            let socket = connect_through(proxy, upstream).await?;
            flows.push(Flow {
                socket,
                pattern: Pattern::new(stream),
                sent: Digest::default(),
            });
        }
        Ok(Self { upstream, flows })
    }

    /// Sends `bytes` over each connection at the same time, and waits until all have arrived.
    pub async fn send(&mut self, bytes: u64) -> Result<()> {
        let flows = std::mem::take(&mut self.flows);
        let expected = self.upstream.totals().bytes + bytes * flows.len() as u64;
        self.flows = together(flows, move |flow| flow.send(bytes)).await?;
        self.upstream.until(|totals| totals.bytes >= expected).await
    }

    /// Ends all connections. Fails if one of them delivered other bytes than those sent.
    pub async fn finish(self) -> Result<()> {
        together(self.flows, Flow::finish).await.map(drop)
    }
}

struct Flow {
    socket: TcpStream,
    pattern: Pattern,
    sent: Digest,
}

impl Flow {
    async fn send(mut self, bytes: u64) -> Result<Self> {
        const MOST_AT_ONCE: usize = 256 * 1024;
        let mut left = bytes;
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(MOST_AT_ONCE);
            let chunk = self.pattern.chunk(most);
            let n = self.socket.write(chunk).await?;
            self.sent.update(&chunk[..n]);
            self.pattern.advance(n);
            left -= n as u64;
        }
        Ok(self)
    }

    async fn finish(mut self) -> Result<()> {
        self.socket.shutdown().await?;
        let mut came = Vec::with_capacity(DIGEST_LEN);
        self.socket.read_to_end(&mut came).await?;
        ensure!(
            came == self.sent.finish(),
            "the bytes that came are not those that were sent"
        );
        Ok(())
    }
}
