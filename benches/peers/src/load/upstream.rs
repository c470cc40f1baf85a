//! The server behind a proxy: a sink that answers with a digest, or an echo.

use std::{cell::RefCell, io, net::SocketAddr};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt::TcpMaxSeg};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::{STUCK, digest::Digest};

/// Accepts until it is dropped.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    totals: watch::Receiver<Totals>,
    task: JoinHandle<()>,
}

/// The connections and bytes so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub connections: usize,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Reads to the end, then sends the digest of what it read.
    Digest,
    /// Sends back what it reads.
    Echo,
    /// Sends back short reads, and discards longer ones.
    EchoShort,
    /// Sends so many bytes, each an `x`, then ends the stream. Reads nothing.
    Send(u64),
    /// The same without end, in packets as small as those of most networks.
    Flood,
}

impl Upstream {
    pub async fn start(answer: Answer) -> Result<Self> {
        let listener = listen(answer)?;
        let addr = listener.local_addr()?;
        let (count, totals) = watch::channel(Totals::default());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.send_modify(|totals| totals.connections += 1);
                let count = count.clone();
                // The load notices a broken connection, so the error is ignored.
                tokio::spawn(async move {
                    stream.set_nodelay(true)?;
                    match answer {
                        Answer::Digest => digest(stream, &count).await,
                        Answer::Echo => echo(stream).await,
                        Answer::EchoShort => echo_short(stream).await,
                        Answer::Send(bytes) => send(stream, &count, bytes).await,
                        Answer::Flood => send(stream, &count, u64::MAX).await,
                    }
                });
            }
        });
        Ok(Self { addr, totals, task })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the totals. Bytes are those that a sink read, or that a flood wrote.
    pub fn totals(&self) -> Totals {
        *self.totals.borrow()
    }

    /// Waits until the totals are `enough`.
    pub async fn until(&self, enough: impl FnMut(&Totals) -> bool) -> Result<()> {
        timeout(STUCK, self.totals.clone().wait_for(enough))
            .await
            .context("it does not arrive")??;
        Ok(())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(answer: Answer) -> io::Result<TcpListener> {
    const QUEUE: u32 = 1024;
    let socket = TcpSocket::new_v4()?;
    if answer == Answer::Flood {
        // The kernel's buffers of the upstream are not the subject.
        socket.set_send_buffer_size(16 * 1024)?;
        limit_packets(&socket)?;
    }
    socket.bind(([127, 0, 0, 1], 0).into())?;
    socket.listen(QUEUE)
}

async fn digest(mut stream: TcpStream, count: &watch::Sender<Totals>) -> io::Result<()> {
    let mut digest = Digest::default();
    loop {
        let n = read(&stream, |bytes| digest.update(bytes)).await?;
        if n == 0 {
            return stream.write_all(&digest.finish()).await;
        }
        count.send_modify(|totals| totals.bytes += n as u64);
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    while read(&stream, |new| bytes.extend_from_slice(new)).await? > 0 {
        stream.write_all(&bytes).await?;
        // Releases the memory: there may be tens of thousands of idle connections.
        bytes = Vec::new();
    }
    Ok(())
}

async fn echo_short(mut stream: TcpStream) -> io::Result<()> {
    const SHORT: usize = 64;
    let mut bytes = Vec::new();
    while read(&stream, |new| bytes.extend_from_slice(new)).await? > 0 {
        if bytes.len() <= SHORT {
            stream.write_all(&bytes).await?;
        }
        bytes.clear();
        // The next read may be of bulk: other connections have their turn first.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn send(mut stream: TcpStream, count: &watch::Sender<Totals>, bytes: u64) -> io::Result<()> {
    static BLOCK: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let most = left.min(BLOCK.len() as u64) as usize;
        let n = stream.write(&BLOCK[..most]).await?;
        left -= n as u64;
        count.send_modify(|totals| totals.bytes += n as u64);
    }
    stream.shutdown().await
}

/// Sends and receives packets of the size of an Ethernet frame. Those of the loopback device hold 64 KiB, so that the ten
/// packets that a connection may start with are more than a whole answer.
pub(super) fn limit_packets(socket: &TcpSocket) -> io::Result<()> {
    const ETHERNET: u32 = 1_448;
    Ok(setsockopt(socket, TcpMaxSeg, &ETHERNET)?)
}

/// Reads at most 256 KiB and calls `see` with them. The memory belongs to the thread, not to the connection.
pub(super) async fn read(stream: &TcpStream, mut see: impl FnMut(&[u8])) -> io::Result<usize> {
    thread_local! {
        static SPACE: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 * 1024]);
    }
    loop {
        stream.readable().await?;
        let read =
            SPACE.with_borrow_mut(|space| stream.try_read(space).inspect(|&n| see(&space[..n])));
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}
