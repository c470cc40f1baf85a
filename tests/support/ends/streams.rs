//! The streams of the tables.

use std::future::Future;

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    net::{TcpStream, UnixStream},
    runtime::Handle,
};

use crate::support::net::slow_pair;

/// The peer's stream.
pub trait Far: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Resets the connection, or drops the stream.
    fn leave(self: Box<Self>);
}

/// A kind of stream.
pub trait Kind: Send + 'static {
    const NAME: &'static str;
    /// The stream is lent as `&mut`, and its owner has it back in the end.
    const LENT: bool = false;
    /// Whether the peer gets all that was written before the stream was closed.
    const KEEPS_WRITTEN: bool = true;
    type Near: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Returns both ends of a connection: the peer's, and the other one, which belongs to the runtime `on`.
    fn pair(on: Handle) -> impl Future<Output = (Box<dyn Far>, Self::Near)> + Send;
}

#[derive(Debug)]
pub struct Tcp;
#[derive(Debug)]
pub struct Lent;
#[derive(Debug)]
pub struct Unix;
#[derive(Debug)]
pub struct Other;

impl Kind for Tcp {
    const NAME: &'static str = "TCP";
    type Near = TcpStream;

    async fn pair(on: Handle) -> (Box<dyn Far>, TcpStream) {
        let (far, near) = slow_pair().await;
        (Box::new(far), moved(near.into_std().unwrap(), &on))
    }
}

impl Kind for Lent {
    const NAME: &'static str = "TCP lent";
    const LENT: bool = true;
    type Near = TcpStream;

    fn pair(on: Handle) -> impl Future<Output = (Box<dyn Far>, TcpStream)> + Send {
        Tcp::pair(on)
    }
}

impl Kind for Unix {
    const NAME: &'static str = "Unix";
    type Near = UnixStream;

    async fn pair(on: Handle) -> (Box<dyn Far>, UnixStream) {
        let (far, near) = UnixStream::pair().unwrap();
        let near = near.into_std().unwrap();
        let _entered = on.enter();
        (Box::new(far), UnixStream::from_std(near).unwrap())
    }
}

impl Kind for Other {
    const NAME: &'static str = "other";
    type Near = DuplexStream;

    async fn pair(_: Handle) -> (Box<dyn Far>, DuplexStream) {
        let (far, near) = duplex(1 << 20);
        (Box::new(far), near)
    }
}

impl Far for TcpStream {
    fn leave(self: Box<Self>) {
        reset(*self);
    }
}

impl Far for UnixStream {
    fn leave(self: Box<Self>) {}
}

impl Far for DuplexStream {
    fn leave(self: Box<Self>) {}
}

/// Gives a socket to the runtime `on`.
pub fn moved(socket: std::net::TcpStream, on: &Handle) -> TcpStream {
    let _entered = on.enter();
    TcpStream::from_std(socket).unwrap()
}

/// Closes the socket with a reset.
pub fn reset(socket: TcpStream) {
    socket.set_zero_linger().unwrap();
}
