//! The listener: accepts while there is room, pauses when the system has none, and serves its queue at a stop.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use crate::output::Repeated;

/// How long accepting pauses when the system has no descriptor or memory for another connection. Running connections
/// continue meanwhile, and their ends are what helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients, at most this many at the same time; the others wait in the kernel's queue.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    slots: Slots,
    full: Repeated,
    failing: Repeated,
}

impl Listener {
    /// Listens on `address` (`HOST:PORT`) with a queue of `backlog` clients.
    ///
    /// Other proxies may listen on the same address, so that a successor can start before its predecessor stops.
    pub(crate) async fn bind(
        address: &str,
        backlog: i32,
        max_connections: usize,
    ) -> anyhow::Result<Self> {
        let bind = async {
            let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in lookup_host(address).await? {
                match listen(address, backlog) {
                    Ok(socket) => return Ok(socket),
                    Err(failed) => error = failed,
                }
            }
            Err(error)
        };
        let socket = bind
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        Ok(Self {
            local: socket.local_addr()?,
            socket,
            slots: Slots(Arc::new(Semaphore::new(max_connections))),
            full: Repeated::default(),
            failing: Repeated::default(),
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the next client once there is a slot for it.
    ///
    /// # Cancel safety
    ///
    /// No client is lost: one that was accepted is returned at once. A pause is cut short.
    pub(crate) async fn accept(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        if self.slots.0.available_permits() == 0 {
            self.full.log(format_args!(
                "cannot accept more clients for now: all connections are in use"
            ));
        }
        let slot = self.slots.next().await;
        loop {
            match self.socket.accept().await {
                Ok((client, from)) => return (client, from, slot),
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    self.failing.log(format_args!(
                        "cannot accept: {error}; trying again every {ACCEPT_PAUSE:?}"
                    ));
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Returns the slots, for clients that are accepted before there is one for them.
    pub(crate) fn slots(&self) -> Slots {
        self.slots.clone()
    }

    /// Passes all clients in the kernel's queue to `queued`, whether there is a slot or not, and stops listening.
    ///
    /// The kernel resets what is in the queue when the listener is closed.
    pub(crate) async fn close(
        self,
        mut queued: impl FnMut(TcpStream, SocketAddr),
    ) -> io::Result<()> {
        let socket = self.socket.into_std()?;
        loop {
            match socket.accept() {
                Ok((client, from)) => {
                    client.set_nonblocking(true)?;
                    queued(TcpStream::from_std(client)?, from);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_of_one_client(&error) => {}
                // Connections that end free descriptors.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// Permission for this many connections to run at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Semaphore>);

impl Slots {
    /// Waits for the next free slot.
    pub(crate) fn next(&self) -> impl Future<Output = OwnedSemaphorePermit> + use<> {
        let slots = Arc::clone(&self.0);
        async move {
            let slot = slots.acquire_owned().await;
            slot.expect("the semaphore is never closed")
        }
    }
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    #[cfg(unix)]
    {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

/// Returns whether a connection to `upstream` would arrive at a listener on `listening`.
pub(crate) fn is_same_endpoint(listening: SocketAddr, upstream: SocketAddr) -> bool {
    let (own, other) = (listening.ip().to_canonical(), upstream.ip().to_canonical());
    // Connecting to the unspecified address means this machine.
    let on_this_machine = || other.is_unspecified() || UdpSocket::bind((other, 0)).is_ok();
    listening.port() == upstream.port()
        && (own == other || (own.is_unspecified() || other.is_unspecified()) && on_this_machine())
}

/// Returns whether the error is that of a client that left before it was accepted. It says nothing about the next one.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_on_the_own_port_is_the_same_endpoint_if_its_address_is_local() {
        let same = |listening: &str, upstream: &str| {
            is_same_endpoint(listening.parse().unwrap(), upstream.parse().unwrap())
        };
        assert!(same("127.0.0.1:80", "127.0.0.1:80"));
        assert!(same("0.0.0.0:80", "127.0.0.1:80"));
        assert!(same("[::]:80", "127.0.0.1:80"));
        assert!(same("[::]:80", "[::ffff:127.0.0.1]:80"));
        assert!(same("127.0.0.1:80", "0.0.0.0:80"));
        assert!(!same("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!same("127.0.0.1:80", "127.0.0.2:80"));
        // An address of documentation, which no machine has.
        assert!(!same("0.0.0.0:80", "192.0.2.1:80"));
    }
}
