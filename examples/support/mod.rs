//! What the examples that are servers have in common: where they listen, and for how long.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};

/// Listens on `addr` and says so, then lets `run` go on until ctrl-c.
pub(crate) async fn listen<F: Future<Output = ()>>(
    addr: SocketAddr,
    run: impl FnOnce(TcpListener) -> F,
) -> Result<()> {
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}"))?;
    println!("listening on {}", listener.local_addr()?);
    tokio::select! {
        () = run(listener) => Ok(()),
        stopped = tokio::signal::ctrl_c() => Ok(stopped?),
    }
}

/// Has each connection served, for ever.
pub(crate) async fn accept_all(
    listener: TcpListener,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => serve(stream, peer),
            Err(error) => {
                // Out of descriptors, as a rule: connections that end will free some.
                eprintln!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
