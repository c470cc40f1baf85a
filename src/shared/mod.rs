//! A buffer that several tasks share: [`SharedEvBuffer`](crate::SharedEvBuffer), its callbacks, and waiting for it.
//!
//! # Examples
//!
//! ```
//! use tokio_evbuffer::SharedEvBuffer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let buffer = SharedEvBuffer::new();
//! let producer = buffer.clone();
//! let produced = tokio::spawn(async move { producer.add("a message") });
//!
//! buffer.readable(9).await?;
//! assert_eq!(buffer.take_bytes(9)?, "a message");
//! # Ok(produced.await??)
//! # }
//! ```

mod callbacks;
mod change;
mod frames;
mod guard;
mod handle;
pub(crate) mod inner;
mod interest;
mod lock;
mod look;
#[cfg(all(test, loom))]
mod loom;
mod notify;
mod ops;
pub(crate) mod pipe;
mod reader;
mod state;
mod take;
mod tracker;
mod wait;
mod waiter;
pub(crate) mod watermarks;
mod writer;

pub use crate::error::{Closed, WaitError};
pub use callbacks::CallbackHandle;
pub use change::{Change, Mark};
pub use frames::{FrameDecoder, Frames, LengthDecoder, LineDecoder};
pub use guard::BufferGuard;
pub use handle::WeakEvBuffer;
pub(crate) use inner::{ChangeHook, ChangeInfo};
pub use reader::Reader;
pub use tracker::Crossing;
pub use wait::{Changed, Changes};
pub(crate) use waiter::BufferWait;
pub use watermarks::InvalidWatermarks;
pub use writer::Writer;
