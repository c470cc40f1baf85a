//! Bulk that arrives at a fixed rate, as over a network that is slower than the machine.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::sys::prctl::set_timerslack;
use tokio::io::AsyncReadExt;

use super::{
    connect_through,
    digest::{DIGEST_LEN, Digest, Pattern},
    upstream::Upstream,
};

/// A connection that sends a piece at each tick of a clock.
pub struct Paced<'a> {
    upstream: &'a Upstream,
    flow: Flow,
}

struct Flow {
    socket: TcpStream,
    pattern: Pattern,
    sent: Digest,
}

impl<'a> Paced<'a> {
    pub async fn start(proxy: std::net::SocketAddr, upstream: &'a Upstream) -> Result<Self> {
        let socket = connect_through(proxy, upstream).await?.into_std()?;
        socket.set_nonblocking(false)?;
        let flow = Flow {
            socket,
            pattern: Pattern::new(0),
            sent: Digest::default(),
        };
        Ok(Self { upstream, flow })
    }

    /// Sends `count` pieces of `len` bytes, one each `gap`, and waits until they have arrived.
    pub async fn send(self, count: usize, len: usize, gap: Duration) -> Result<Self> {
        let Self { upstream, flow } = self;
        let expected = upstream.totals().bytes + (count * len) as u64;
        // On its own thread, which sleeps more exactly than Tokio's timer of a millisecond.
        let sending = tokio::task::spawn_blocking(move || flow.send(count, len, gap));
        let flow = sending.await??;
        upstream.until(|totals| totals.bytes >= expected).await?;
        Ok(Self { upstream, flow })
    }

    /// Ends the connection; fails if other bytes arrived than those sent.
    pub async fn finish(self) -> Result<()> {
        let Flow { socket, sent, .. } = self.flow;
        socket.shutdown(std::net::Shutdown::Write)?;
        socket.set_nonblocking(true)?;
        let mut digest = Vec::with_capacity(DIGEST_LEN);
        tokio::net::TcpStream::from_std(socket)?
            .read_to_end(&mut digest)
            .await?;
        ensure!(
            digest == sent.finish(),
            "the bytes that arrived are not those that were sent"
        );
        Ok(())
    }
}

impl Flow {
    fn send(mut self, count: usize, len: usize, gap: Duration) -> Result<Self> {
        set_timerslack(1)?;
        let mut due = Instant::now();
        for _ in 0..count {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A piece that is late does not make the next ones come sooner.
            due = due.max(Instant::now() - gap) + gap;
            let mut left = len;
            while left > 0 {
                let chunk = self.pattern.chunk(left);
                self.socket.write_all(chunk)?;
                self.sent.update(chunk);
                let n = chunk.len();
                self.pattern.advance(n);
                left -= n;
            }
        }
        Ok(self)
    }
}
