//! A byte queue made of linked segments: [`EvBuffer`](crate::EvBuffer) and what its methods take and return.
//!
//! No async runtime, no lock and no callback appears here; those belong to the layers above.
//!
//! # Examples
//!
//! ```
//! use tokio_evbuffer::EvBuffer;
//!
//! let (mut message, mut body) = (EvBuffer::from("GET / "), EvBuffer::from(vec![7; 4096]));
//! message.add_buffer(&mut body)?; // moves the segments
//! assert_eq!(message.take_bytes(3)?, "GET");
//! assert_eq!((message.len(), body.len()), (3 + 4096, 0));
//! # Ok::<(), tokio_evbuffer::BufferError>(())
//! ```

mod account;
mod add;
mod attach;
mod attached;
pub(crate) mod chain;
mod chunks;
mod compact;
mod cursor;
mod edit;
pub(crate) mod eol;
mod flags;
mod invariants;
mod io;
mod lines;
mod link;
mod look;
#[cfg(test)]
mod model;
mod reference;
mod remove;
mod reserve;
mod search;
mod shared_bytes;
mod steps;
#[cfg(test)]
mod tests;
mod tidy;
mod traits;
mod transfer;

pub use crate::error::{End, LineError, Result};
pub use crate::segment::{COPY_THRESHOLD, FileSegment};
pub use chunks::Chunks;
pub use cursor::Cursor;
pub use eol::Eol;
pub use reserve::{Reservation, SlicesMut};
pub use shared_bytes::SharedBytes;

/// Foreign memory that was released under a lock, to be dropped after it.
pub(crate) type DeferredDrops = Vec<crate::segment::Segment>;
