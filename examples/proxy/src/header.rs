//! The PROXY protocol: a balancer says in front of the bytes of a connection whose it is.

use std::{io, net::SocketAddr};

use clap::ValueEnum;
use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_evbuffer::EvBuffer;

/// Headers of version 2 may be longer by their extensions; nobody sends such.
const LONGEST: usize = 4096;

/// Both ends of a connection, as its client sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    client: SocketAddr,
    server: SocketAddr,
}

/// How a header is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Version {
    /// A line of text
    V1,
    /// Binary
    V2,
}

impl Ends {
    /// What the socket itself knows.
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self {
            client: stream.peer_addr()?,
            server: stream.local_addr()?,
        })
    }

    /// Reads a header of either version. What came behind it is left in `received`.
    ///
    /// `None` is a connection of the balancer itself, such as a health check.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is no header, `UnexpectedEof` if the stream ends within, and whatever reading gives.
    pub(crate) async fn read(
        stream: &mut TcpStream,
        received: &mut EvBuffer,
    ) -> io::Result<Option<Self>> {
        loop {
            if stream.read_buf(received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let len = received.len();
            let bytes = received.pullup(len).unwrap_or_default();
            match ProxyHeader::parse(bytes, ParseConfig::default()) {
                Ok((header, header_len)) => {
                    let ends = header.proxied_address().map(|address| Self {
                        client: address.source,
                        server: address.destination,
                    });
                    received.drain(header_len)?;
                    return Ok(ends);
                }
                Err(Error::BufferTooShort) if len < LONGEST => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }

    /// The header that says so.
    pub(crate) fn header(self, version: Version) -> io::Result<Vec<u8>> {
        let header = ProxyHeader::with_address(ProxiedAddress::stream(self.client, self.server));
        let mut encoded = Vec::new();
        match version {
            Version::V1 => header.encode_v1(&mut encoded),
            Version::V2 => header.encode_v2(&mut encoded),
        }
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(encoded)
    }
}
