//! libevent's evbuffer and bufferevent for Tokio.
//!
//! Two ideas carry the crate.
//!
//! **A chain of segments.** An [`EvBuffer`] is a byte queue made of linked segments. Whole segments move from buffer to
//! buffer, foreign memory is linked in by reference, bytes are put in front without moving the others, and a system call
//! reads or writes many segments at once. Nothing is copied that need not be, and what is empty holds no memory.
//!
//! **Two kinds of callbacks.** A change to a [`SharedEvBuffer`] calls its watermark callbacks inline, when the length
//! crosses a mark, and defers the ordinary ones onto a [`DeferredQueue`]: one for each runtime, drained by a task of
//! that runtime, so that a callback never runs in the middle of what caused it, and many changes are told as one. Who
//! would rather wait than be called awaits a condition instead: [`readable`](SharedEvBuffer::readable),
//! [`drained_to`](SharedEvBuffer::drained_to), [`changed`](SharedEvBuffer::changed), or a stream of
//! [`changes`](SharedEvBuffer::changes).
//!
//! | To … | there is | in C it is |
//! |---|---|---|
//! | hold, parse and move bytes | [`EvBuffer`] | `evbuffer` |
//! | share them among tasks | [`SharedEvBuffer`], [`pipe`] | `evbuffer` with a lock and callbacks |
//! | serve a connection | [`BufferEvent`] | `bufferevent` |
//! | join two connections | [`relay()`], [`Relay`], [`copy_bidirectional`] | by hand |
//! | run callbacks later | [`DeferredQueue`] | deferred callbacks of an `event_base` |
//!
//! Every method names its C function, so a search in this documentation for `evbuffer_add_buffer` finds
//! [`EvBuffer::add_buffer`].
//!
//! # Examples
//!
//! A server of lines. What is added to the output is written by the task of the [`BufferEvent`], which gathers what
//! comes meanwhile:
//!
//! ```
//! use tokio_evbuffer::{BufferEvent, EolStyle};
//!
//! async fn serve(connection: BufferEvent) -> std::io::Result<()> {
//!     loop {
//!         let seen = {
//!             let mut input = connection.input().lock();
//!             while let Some(line) = input.readln(EolStyle::Crlf)? {
//!                 connection.output().add(&[&line, &b"\n"[..]].concat())?;
//!             }
//!             input.len()
//!         };
//!         // Not woken for the part of a line that was looked at already.
//!         if connection.input().readable(seen + 1).await.is_err() {
//!             break;
//!         }
//!     }
//!     connection.close().await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let (mut client, stream) = tokio::io::duplex(64);
//! let served = tokio::spawn(serve(BufferEvent::new(stream)));
//!
//! client.write_all(b"one\r\ntwo\r\n").await?;
//! client.shutdown().await?;
//! let mut echoed = String::new();
//! client.read_to_string(&mut echoed).await?;
//! assert_eq!(echoed, "one\ntwo\n");
//! served.await.unwrap()
//! # }
//! ```
//!
//! # Features
//!
//! - `net` (default): TCP and Unix sockets are recognised and take vectored reads and writes, `sendfile` and, between
//!   two of them, `splice`; [`BufferEvent::connect`](Builder::connect).
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc(test(attr(deny(warnings))))]
// Under loom there is no `tokio::net`, and what stands on it is left out.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

// Tests that know this crate by its name are part of it, too.
#[cfg(test)]
extern crate self as tokio_evbuffer;

pub mod buffer;
#[cfg(not(loom))]
pub mod bufferevent;
pub mod deferred;
mod error;
pub mod limits;
mod panic;
#[cfg(not(loom))]
pub mod relay;
mod segment;
pub mod shared;
mod sync;
#[cfg(not(loom))]
mod timer;
#[cfg(not(loom))]
mod transport;

pub use buffer::{EolStyle, EvBuffer};
#[cfg(not(loom))]
pub use bufferevent::{BufferEvent, Event};
pub use deferred::DeferredQueue;
pub use error::BufferError;
#[cfg(not(loom))]
pub use relay::{Relay, copy_bidirectional, relay};
pub use shared::{SharedEvBuffer, Watermarks, pipe};

/// Keeps the examples in the README compiling and true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
