//! The PROXY protocol: a load balancer puts a header in front of a connection that says who its client is.

use std::{io, net::SocketAddr};

use clap::ValueEnum;
use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader, Tlv};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_evbuffer::EvBuffer;

/// How a header is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Version {
    /// A line of text
    V1,
    /// Binary, with the extensions (TLVs) of the header received
    V2,
}

/// The client of a connection, and the server address that it connected to.
#[derive(Debug)]
pub(crate) struct Origin {
    client: SocketAddr,
    server: SocketAddr,
    /// Extensions of a received header, such as a unique id or the name that a TLS client asked for.
    extensions: Vec<Tlv<'static>>,
}

/// A header that was received.
#[derive(Debug)]
pub(crate) enum Received {
    /// The connection of a client.
    Proxied(Origin),
    /// A connection of the balancer itself, such as a health check.
    Local,
}

impl Origin {
    /// What the socket itself says.
    pub(crate) fn of_socket(stream: &TcpStream, from: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(from, stream.local_addr()?, Vec::new()))
    }

    /// A dual-stack socket shows an IPv4 client as an IPv6 address, which the readers of a header do not expect.
    fn new(client: SocketAddr, server: SocketAddr, extensions: Vec<Tlv<'static>>) -> Self {
        let canonical = |mut address: SocketAddr| {
            address.set_ip(address.ip().to_canonical());
            address
        };
        let (client4, server4) = (canonical(client), canonical(server));
        // A header has one family for both.
        let (client, server) = match client4.is_ipv4() == server4.is_ipv4() {
            true => (client4, server4),
            false => (client, server),
        };
        Self {
            client,
            server,
            extensions,
        }
    }

    /// Encodes the header. Version 1 has no place for extensions.
    pub(crate) fn encode(self, version: Version) -> io::Result<Vec<u8>> {
        let address = ProxiedAddress::stream(self.client, self.server);
        let mut encoded = Vec::new();
        match version {
            Version::V1 => ProxyHeader::with_address(address).encode_v1(&mut encoded),
            Version::V2 => {
                ProxyHeader::with_tlvs(Some(address), self.extensions).encode_v2(&mut encoded)
            }
        }
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(encoded)
    }
}

/// Reads a header of either version, of up to 64 KiB. Bytes behind it are left in `received`.
///
/// # Errors
///
/// `InvalidData` if it is not a header, `UnexpectedEof` if the stream ends within, and the errors of reading.
pub(crate) async fn read(stream: &mut TcpStream, received: &mut EvBuffer) -> io::Result<Received> {
    loop {
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = received.len();
        let bytes = received.pullup(len).unwrap_or_default();
        // A version 1 header that is too long is invalid, and the length field of version 2 has 16 bits: this ends.
        match ProxyHeader::parse(bytes, ParseConfig::default()) {
            Ok((header, header_len)) => {
                let header = header.into_owned();
                received.drain(header_len)?;
                return Ok(match header.proxied_address() {
                    Some(address) => Received::Proxied(Origin::new(
                        address.source,
                        address.destination,
                        extensions(&header),
                    )),
                    None => Received::Local,
                });
            }
            Err(Error::BufferTooShort) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

/// The extensions to pass on. Padding and a checksum belong to the header that they came in.
fn extensions(header: &ProxyHeader<'_>) -> Vec<Tlv<'static>> {
    let well_formed = header.tlvs().filter_map(Result::ok);
    well_formed
        .filter(|tlv| !matches!(tlv, Tlv::Noop(_) | Tlv::Crc32c(_)))
        .map(Tlv::into_owned)
        .collect()
}
