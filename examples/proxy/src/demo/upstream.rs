//! The server behind the proxy. A connection begins with a request that says what follows.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::payload;

/// Length of an echoed message.
pub(super) const MESSAGE: usize = 64;

/// The first bytes of a connection: what its client wants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    /// The server sends `len` bytes and their hash, then the end.
    Download { len: u64, seed: u64 },
    /// The client sends `len` bytes and their hash, then the end. The answer is [`VERDICT_GOOD`] or [`VERDICT_BAD`].
    Upload { len: u64 },
    /// The server sends every message back.
    Echo,
}

pub(super) const VERDICT_GOOD: u8 = b'+';
pub(super) const VERDICT_BAD: u8 = b'-';

impl Request {
    const ENCODED: usize = 17;

    pub(super) fn encode(self) -> [u8; Self::ENCODED] {
        let (kind, len, seed) = match self {
            Self::Download { len, seed } => (b'D', len, seed),
            Self::Upload { len } => (b'U', len, 0),
            Self::Echo => (b'E', 0, 0),
        };
        let mut encoded = [kind; Self::ENCODED];
        encoded[1..9].copy_from_slice(&len.to_be_bytes());
        encoded[9..].copy_from_slice(&seed.to_be_bytes());
        encoded
    }

    async fn read(from: &mut TcpStream) -> io::Result<Self> {
        let kind = from.read_u8().await?;
        let len = from.read_u64().await?;
        let seed = from.read_u64().await?;
        match kind {
            b'D' => Ok(Self::Download { len, seed }),
            b'U' => Ok(Self::Upload { len }),
            b'E' => Ok(Self::Echo),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Runs until it is dropped.
pub(super) struct Upstream {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Upstream {
    /// Starts it. While `corrupt` is true, the next download gets one wrong bit.
    pub(super) async fn start(corrupt: Arc<AtomicBool>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                serving.spawn(serve(client, Arc::clone(&corrupt)));
                while serving.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            _accepting: accepting,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves one client. The client notices an error, since bytes are missing.
async fn serve(mut client: TcpStream, corrupt: Arc<AtomicBool>) -> io::Result<()> {
    client.set_nodelay(true)?;
    match Request::read(&mut client).await? {
        Request::Download { len, seed } => {
            let corrupt = corrupt.swap(false, Relaxed);
            payload::send(&mut client, len, seed, corrupt, |_| ()).await?;
            client.shutdown().await
        }
        Request::Upload { len } => {
            let good = payload::receive(&mut client, len, |_| ()).await?;
            // The end of the stream must have come through the proxy, too.
            let ended = client.read(&mut [0]).await? == 0;
            let verdict = if good && ended {
                VERDICT_GOOD
            } else {
                VERDICT_BAD
            };
            client.write_all(&[verdict]).await?;
            client.shutdown().await
        }
        Request::Echo => {
            let mut message = [0; MESSAGE];
            while client.read_exact(&mut message).await.is_ok() {
                client.write_all(&message).await?;
            }
            client.shutdown().await
        }
    }
}
