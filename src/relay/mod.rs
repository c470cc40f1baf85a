//! Relays between two streams: one task, both directions, backpressure, half-close.
//!
//! [`relay`](crate::relay()) joins two streams with the defaults that a proxy wants, [`Relay`] with other settings, and
//! [`copy_bidirectional`](crate::copy_bidirectional) replaces Tokio's function of that name.
//!
//! Each direction is a chain of segments between a source and a sink. Reading continues while a write waits, up to a
//! limit. An empty chain holds no memory, so an idle relay costs its future and nothing else. A relay spawns no task and
//! takes no lock.
//!
//! A [`TcpStream`] or [`UnixStream`], by value or as `&mut`, is recognised and read with one system call for many
//! segments. On Linux, bulk flows from a TCP socket to another socket are spliced ([`Splice`]). As with Tokio's own reads,
//! bytes behind an urgent mark (`MSG_OOB`) that were queued already wait for the next byte, the end of the stream or a time
//! limit.
//!
//! # Ends
//!
//! A peer sees an orderly end (FIN, `close_notify`, the end of a pipe) if it got everything that was sent to it and the
//! other side did not fail. That side has ended in order then, or a time limit expired when nothing was left to deliver.
//! Every other end is visible as an error, if the stream has one and unless [`OnError::Fin`] is set: a TCP connection is
//! reset, a TLS stream is dropped without `close_notify`. The reset waits until the peer's kernel has acknowledged what was
//! written, so that it discards nothing that counts as delivered. A reset is noticed while the other side takes nothing, and
//! what the kernel had received before it is delivered all the same, unless that side takes nothing for two seconds.
//!
//! # Examples
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let (mut client, a) = tokio::io::duplex(64);
//! let (b, mut server) = tokio::io::duplex(64);
//! tokio::spawn(tokio_evbuffer::relay(a, b));
//!
//! client.write_all(b"ping").await?;
//! let mut request = [0; 4];
//! server.read_exact(&mut request).await?;
//! assert_eq!(&request, b"ping");
//! # Ok(())
//! # }
//! ```
//!
//! [`TcpStream`]: https://docs.rs/tokio/latest/tokio/net/struct.TcpStream.html
//! [`UnixStream`]: https://docs.rs/tokio/latest/tokio/net/struct.UnixStream.html

pub(crate) mod builder;
pub(crate) mod config;
mod counters;
mod deadlines;
pub(crate) mod direction;
mod ending;
mod flow_limits;
pub(crate) mod functions;
mod future;
mod gather;
mod join;
pub(crate) mod low_water;
pub(crate) mod pump;
mod run;
mod side;
mod sink_room;
pub(crate) mod splice_mode;
mod stream;
mod summary;
pub(crate) mod transfer;
mod transfer_outcome;

#[cfg(doc)]
use builder::Relay;
pub use config::{HalfClose, OnError, Splice};
pub use counters::RelayCounters;
pub use functions::copy_exact;
pub use stream::RelayStream;
pub use summary::{
    Peer, Progress, RelayEnd, RelayError, RelayOutcome, RelayParts, RelaySummary, Step,
};
pub use transfer_outcome::{TransferCounters, TransferError};

#[cfg(feature = "net")]
pub use crate::transport::Socket;
pub use crate::transport::{PeekError, max_pipes, set_max_pipes};
