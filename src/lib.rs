//! libevent's evbuffer and bufferevent for Tokio.
//!
//! The crate rests on two ideas.
//!
//! **A chain of segments.** An [`EvBuffer`] is a byte queue made of linked segments. Whole segments move from buffer to
//! buffer, your memory is linked by reference, a header is put in front without moving the body, and one system
//! call reads or writes many segments. A new buffer holds no memory, and one that was emptied at most 16 KiB.
//!
//! **Changes that notify.** A change of a [`SharedEvBuffer`] calls callbacks at once, for watermarks and for those that ask
//! for it, with no lock held. The others are deferred: they run on the [`DeferredQueue`] of a runtime, never inside the call
//! that caused them, and many changes become one call. Instead of a callback you can await a condition:
//! [`readable`](SharedEvBuffer::readable), [`drained_to`](SharedEvBuffer::drained_to),
//! [`changed`](SharedEvBuffer::changed), or the stream [`changes`](SharedEvBuffer::changes).
//!
//! | You want to | Use | In C |
//! |---|---|---|
//! | hold, parse and move bytes | [`EvBuffer`] | `evbuffer` |
//! | share them between tasks | [`SharedEvBuffer`], [`pipe`] | `evbuffer` with a lock and callbacks |
//! | serve a connection | [`BufferEvent`] | `bufferevent` |
//! | join two connections | [`relay()`], [`Relay`], [`copy_bidirectional`] | by hand |
//! | move bytes one way | [`copy()`], [`Transfer`] | by hand |
//! | look at the first bytes | [`Prefixed`] | by hand |
//! | limit rate and memory | [`limits`] | `ev_token_bucket_cfg` |
//! | run callbacks later | [`DeferredQueue`] | deferred callbacks of an `event_base` |
//! | see what the process holds and moves | [`stats()`] | by hand |
//!
//! Each method has the name of its C function as an alias: a search for `evbuffer_add_buffer` finds
//! [`EvBuffer::add_buffer`].
//!
//! # Examples
//!
//! A server that echoes lines. The task of the [`BufferEvent`] writes what was added to the output, and coalesces what is
//! added meanwhile:
//!
//! ```
//! use tokio_evbuffer::{BufferEvent, EolStyle};
//!
//! async fn serve(connection: BufferEvent) -> std::io::Result<()> {
//!     // A line longer than 8 KiB is an error.
//!     while let Some(line) = connection.input().next_line(EolStyle::Crlf, 8192).await? {
//!         connection.output().add(&line)?;
//!         connection.output().add("\n")?;
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
//! - `net` (default): TCP and Unix sockets are recognised and use vectored reads and writes; on Linux also `sendfile`, and
//!   `splice` from a TCP socket to another socket. Adds `bufferevent::Builder::connect`.
#![cfg_attr(docsrs, feature(doc_cfg), doc(auto_cfg(hide(loom))))]
#![doc(test(attr(deny(warnings), allow(dead_code))))]
// loom has no `tokio::net`, so the modules that need it are left out.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

// Unit tests share code with `tests/`, which names the crate.
#[cfg(test)]
extern crate self as tokio_evbuffer;

pub mod buffer;
#[cfg(not(loom))]
pub mod bufferevent;
pub mod deferred;
mod error;
pub mod limits;
mod loading;
mod panic;
#[cfg(not(loom))]
pub mod relay;
mod segment;
pub mod shared;
mod stats;
mod sync;
#[cfg(all(test, feature = "net", not(loom)))]
mod test_net;
#[cfg(not(loom))]
mod timer;
#[cfg(not(loom))]
mod transport;

pub use buffer::chain::EvBuffer;
pub use buffer::eol::EolStyle;
#[cfg(not(loom))]
pub use bufferevent::{event::Event, inner::BufferEvent};
pub use deferred::queue::DeferredQueue;
pub use error::BufferError;
#[cfg(not(loom))]
pub use relay::builder::Relay;
#[cfg(not(loom))]
pub use relay::functions::{copy, copy_bidirectional, relay};
#[cfg(not(loom))]
pub use relay::transfer::Transfer;
pub use shared::{inner::SharedEvBuffer, pipe::pipe, watermarks::Watermarks};
pub use stats::{Stats, stats};
#[cfg(not(loom))]
pub use transport::Prefixed;

/// Tests the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
