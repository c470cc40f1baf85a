//! What the examples and tests of this package share.

use std::{collections::HashMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{net::TcpStream, time::timeout};
use tokio_evbuffer::relay::RelaySummary;
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, RootCertStore, ServerConfig},
};

/// Makes a certificate for `localhost`, and returns the server's side of it and that of a client that trusts it.
pub fn certificate() -> Result<(TlsAcceptor, TlsConnector)> {
    certificate_for("localhost")
}

/// Makes a certificate for `host`, as [`certificate`] does.
pub fn certificate_for(host: &str) -> Result<(TlsAcceptor, TlsConnector)> {
    let made = rcgen::generate_simple_self_signed([host.to_owned()])?;
    let key = made
        .signing_key
        .serialize_der()
        .try_into()
        .map_err(anyhow::Error::msg)?;
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server).into(), Arc::new(client).into()))
}

/// Time for a client to say what it wants, and for a server to accept a connection.
pub const STEP_MAX: Duration = Duration::from_secs(10);

/// The servers of the proxies that choose one by its host name.
#[derive(Clone, Debug, Default)]
pub struct Routes(HashMap<String, SocketAddr>);

impl Routes {
    /// Takes the value of an option if that is `--route`. Returns whether it is.
    pub fn option(&mut self, name: &str, value: &str) -> Result<bool> {
        let is_route = name == "route";
        if is_route {
            self.add(value)?;
        }
        Ok(is_route)
    }

    /// Adds a route, `HOST=ADDR`.
    pub fn add(&mut self, route: &str) -> Result<()> {
        let parsed = route
            .split_once('=')
            .and_then(|(host, addr)| Some((host.to_owned(), addr.parse().ok()?)));
        self.0
            .extend([parsed.context("--route takes HOST=IP:PORT")?]);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Connects to the server of `host`.
    pub async fn connect(&self, host: &str) -> Result<TcpStream> {
        let addr = self.0.get(host);
        let addr = addr.with_context(|| format!("no route to {host}"))?;
        let stream = timeout(STEP_MAX, TcpStream::connect(addr))
            .await
            .with_context(|| format!("no answer from {addr}"))?
            .with_context(|| format!("cannot connect to {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Serves a client, and prints how it ended.
pub async fn log(peer: SocketAddr, serving: impl Future<Output = Result<RelaySummary>>) {
    match serving.await {
        Ok(done) => println!("{peer}: {} bytes in, {} out", done.a_to_b, done.b_to_a),
        Err(error) => eprintln!("{peer}: {error:#}"),
    }
}
