//! Sockets on the loopback interface.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// The receive buffer of a socket, in bytes. The kernel lets it grow to 32 MiB where a peer does not read, and all tests share
/// the kernel's memory for TCP: when that is used up, the kernel drops what it receives and resets closed connections.
const RECV_BUFFER: u32 = 256 << 10;

/// Returns the two ends of a TCP connection, both without Nagle's delay.
pub async fn tcp_pair() -> (TcpStream, TcpStream) {
    let (connected, accepted) = pair_with_recv_buffer(RECV_BUFFER).await;
    accepted.set_nodelay(true).unwrap();
    connected.set_nodelay(true).unwrap();
    (accepted, connected)
}

/// Returns the two ends of a TCP connection. The first one has a small receive buffer: what is sent to it waits in the
/// kernel of the sender.
pub async fn slow_pair() -> (TcpStream, TcpStream) {
    pair_with_recv_buffer(4096).await
}

/// Returns the two ends of a TCP connection. The receive buffer of the first one does not grow beyond `len`, in bytes.
pub async fn pair_with_recv_buffer(len: u32) -> (TcpStream, TcpStream) {
    let listening = TcpSocket::new_v4().unwrap();
    listening.set_recv_buffer_size(RECV_BUFFER).unwrap();
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listening.listen(1).unwrap();
    let connecting = TcpSocket::new_v4().unwrap();
    connecting.set_recv_buffer_size(len).unwrap();
    let connect = connecting.connect(listener.local_addr().unwrap());
    let (accepted, connected) = tokio::join!(listener.accept(), connect);
    (connected.unwrap(), accepted.unwrap().0)
}

/// An address that refuses connections.
pub struct ClosedPort {
    /// Bound and not listening, so that no other test gets the port.
    socket: TcpSocket,
}

impl ClosedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { socket }
    }

    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }
}

/// An address that does not answer: its accept queue is full, so the kernel drops each new SYN.
pub struct SilentPort {
    listener: TcpListener,
    /// The connections that fill the queue.
    _queued: Vec<TcpStream>,
    /// Attempts that are not answered. On a slow machine they may fill the queue later.
    _waiting: Vec<JoinHandle<io::Result<TcpStream>>>,
}

impl SilentPort {
    pub async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let (mut queued, mut waiting) = (Vec::new(), Vec::new());
        while waiting.len() < 3 {
            let mut connecting = tokio::spawn(TcpStream::connect(addr));
            match timeout(Duration::from_millis(300), &mut connecting).await {
                Ok(stream) => queued.push(stream.unwrap().unwrap()),
                Err(_) => waiting.push(connecting),
            }
        }
        Self {
            listener,
            _queued: queued,
            _waiting: waiting,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

/// Returns the number of pipes of this process.
#[cfg(target_os = "linux")]
pub fn pipes() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("pipe:"))
        .count()
}
