//! What the examples and tests of this package share.

use std::sync::Arc;

use anyhow::Result;
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
