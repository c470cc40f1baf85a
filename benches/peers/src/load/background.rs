//! Bulk in the background, on a separate thread.

use std::{
    net::SocketAddr,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Result, anyhow};
use tokio::{io::AsyncWriteExt, runtime, sync::oneshot};

use super::{
    connect,
    upstream::{Answer, Upstream},
};

/// An upstream that echoes short messages, and connections that send bulk to it through a proxy. Ends when it is dropped.
#[derive(Debug)]
pub struct Background {
    upstream: SocketAddr,
    start: Option<oneshot::Sender<(SocketAddr, usize)>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub fn new() -> Result<Self> {
        let (addr, upstream) = mpsc::channel();
        let (start, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            // Without a runtime or an upstream the sender is dropped, which `new` reports.
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let Ok(upstream) = Upstream::start(Answer::EchoShort).await else {
                    return;
                };
                let _ = addr.send(upstream.addr());
                if let Ok((proxy, connections)) = started.await {
                    (0..connections).for_each(|_| drop(tokio::spawn(flood(proxy))));
                }
                let _ = stopped.await;
            });
        });
        Ok(Self {
            upstream: upstream.recv()?,
            start: Some(start),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    /// Starts to send bulk over this many connections.
    pub fn send(&mut self, proxy: SocketAddr, connections: usize) -> Result<()> {
        let start = self.start.take().ok_or_else(|| anyhow!("sends already"))?;
        start
            .send((proxy, connections))
            .map_err(|_| anyhow!("the background thread has ended"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It ends with its runtime; its panic has been printed.
            let _ = thread.join();
        }
    }
}

async fn flood(proxy: SocketAddr) -> Result<()> {
    static BLOCK: [u8; 256 * 1024] = [b'x'; 256 * 1024];
    let mut socket = connect(proxy).await?;
    loop {
        socket.write_all(&BLOCK).await?;
        // Otherwise a task of the load moves up to 32 MiB before the echo has its turn.
        tokio::task::yield_now().await;
    }
}
