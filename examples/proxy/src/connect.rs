//! Connects a client to its upstream, for as long as the client waits for it.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{sleep, timeout},
};

use crate::{cli::ProxyConfig, listener::is_same_endpoint};

/// How long a client that has ended its side still waits for the upstream. It may have sent all that it has to send, or
/// it may be gone: the two look the same, and the second must not occupy a slot until the connect timeout.
const ENDED_CLIENT_WAIT: Duration = Duration::from_secs(1);

/// Probes in a row without an answer after which the peer counts as dead.
const KEEPALIVE_PROBES: u32 = 4;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The client left first.
    ClientGone,
    Upstream(io::Error),
}

/// Connects to the upstream of `config`.
///
/// # Errors
///
/// `ClientGone` as soon as `client` was reset, and a short while after it ended its side.
pub(crate) async fn connect(
    client: &TcpStream,
    config: &ProxyConfig,
    listening: SocketAddr,
) -> Result<TcpStream, ConnectError> {
    let connecting = timeout(config.connect_timeout, connect_upstream(config, listening));
    tokio::select! {
        connected = connecting => match connected {
            Ok(connected) => connected.map_err(ConnectError::Upstream),
            Err(_) => Err(ConnectError::Upstream(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer in time",
            ))),
        },
        () = gone(client) => Err(ConnectError::ClientGone),
    }
}

async fn connect_upstream(config: &ProxyConfig, listening: SocketAddr) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host(&config.connect).await?.collect();
    if addresses
        .iter()
        .any(|upstream| is_same_endpoint(listening, *upstream))
    {
        return Err(io::Error::other(
            "this is the proxy itself: each connection would cause another one",
        ));
    }
    TcpStream::connect(&addresses[..]).await
}

/// Waits until `client` was reset, or has ended its side a while ago. Reads nothing.
#[cfg(target_os = "linux")]
async fn gone(client: &TcpStream) {
    // Ready for priority data includes the end of the stream, but not bytes that wait to be read.
    match client.ready(tokio::io::Interest::PRIORITY).await {
        // Urgent data, which says nothing about the end.
        Ok(ready) if !ready.is_read_closed() => std::future::pending().await,
        Ok(_) if matches!(client.take_error(), Ok(None)) => sleep(ENDED_CLIENT_WAIT).await,
        _ => {}
    }
}

#[cfg(not(target_os = "linux"))]
async fn gone(_client: &TcpStream) {
    std::future::pending().await
}

/// Sets the options of a socket of a connection. One that refuses them is about to fail anyway.
pub(crate) fn configure(stream: &TcpStream, config: &ProxyConfig) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    if let Some(idle) = config.keepalive {
        let interval = (idle / KEEPALIVE_PROBES).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new()
            .with_time(idle.max(Duration::from_secs(1)))
            .with_interval(interval)
            .with_retries(KEEPALIVE_PROBES);
        let _ = socket.set_tcp_keepalive(&keepalive);
    }
    // Off by default: the kernel also applies it to a peer that only reads slowly, and instead of the number of
    // keepalive probes.
    #[cfg(target_os = "linux")]
    if config.user_timeout.is_some() {
        let _ = socket.set_tcp_user_timeout(config.user_timeout);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Args, Mode};

    fn config(options: &[&str]) -> ProxyConfig {
        let required = [
            "proxy",
            "--listen",
            "localhost:0",
            "--connect",
            "localhost:1",
        ];
        let arguments = Args::try_parse_from(required.iter().chain(options)).unwrap();
        match arguments.mode() {
            Mode::Proxy(config) => *config,
            Mode::Demo(_) => unreachable!("there is an address to listen on"),
        }
    }

    #[tokio::test]
    async fn keepalive_is_on_by_default_and_the_user_timeout_on_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let stream = stream.await.unwrap();
        let socket = SockRef::from(&stream);
        configure(&stream, &config(&["--keepalive", "never"]));
        assert!(!socket.keepalive().unwrap());

        configure(&stream, &config(&[]));
        assert!(socket.keepalive().unwrap());
        let minute = Duration::from_secs(60);
        assert_eq!(socket.tcp_keepalive_time().unwrap(), minute);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);

        configure(&stream, &config(&["--user-timeout", "2m"]));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(2 * minute));
    }
}
