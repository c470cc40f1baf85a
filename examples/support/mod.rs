//! What the servers among the examples share: arguments, listening, and accepting until ctrl-c.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use tokio::net::{TcpListener, TcpStream};

/// Reads the arguments, all of the form `--name value`, and returns the address of `--listen ADDR`.
///
/// Passes each other option to `option`, which returns whether it knows it.
pub(crate) fn arguments(
    mut option: impl FnMut(&str, String) -> Result<bool>,
) -> Result<Option<SocketAddr>> {
    let mut listen = None;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        let Long(name) = argument else {
            return Err(argument.unexpected().into());
        };
        let name = name.to_owned();
        let value = arguments.value()?.string()?;
        if name == "listen" {
            listen = Some(value.parse().context("--listen takes IP:PORT")?);
        } else if !option(&name, value)? {
            bail!("unknown option --{name}");
        }
    }
    Ok(listen)
}

/// Listens on `addr`, prints the address, and runs `run` until ctrl-c.
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

/// Passes each connection to `serve`; never returns.
pub(crate) async fn accept_all(
    listener: TcpListener,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => serve(stream, peer),
            Err(error) => {
                // Usually out of descriptors. Connections that end free some.
                eprintln!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
