//! Buffered streams: settings, callbacks, events and halves of a [`BufferEvent`](crate::BufferEvent).
//!
//! ```text
//!            read                     link                 remove
//!  stream ─────────▶ task's segments ──────▶ input  ──────────────▶ user: callback, waiting task, reader
//!         ◀───────── task's segments ◀────── output ◀──────────────
//!            write                    share                add
//! ```
//!
//! One task owns the stream. It links what it reads into [`input`](crate::BufferEvent::input), up to the high watermark.
//! It shares the bytes of [`output`](crate::BufferEvent::output), writes them, and removes them when the stream has
//! accepted them. No buffer is locked during a system call. The task is woken only for what it waits for, so lines that
//! you add one by one leave in one write.
//!
//! Each method has the names of its C functions as aliases; `docs/LIBEVENT.md` lists them all, with what is different.
//!
//! # Examples
//!
//! ```
//! use tokio_evbuffer::{BufferEvent, EolStyle, Event};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (near, far) = BufferEvent::pair();
//! near.output().add("ping\n")?;
//! let line = far.input().next_line(EolStyle::Lf, 80).await?;
//! assert_eq!(line.unwrap(), "ping");
//!
//! near.shutdown().await?;
//! assert_eq!(far.next_event().await, Some(Event::Eof));
//! # Ok(())
//! # }
//! ```

mod builder;
mod callbacks;
#[cfg(feature = "net")]
mod connect;
mod control;
mod dispatch;
mod endpoint;
mod establish;
pub(crate) mod event;
mod filter;
mod handle;
pub(crate) mod inner;
mod interest;
mod into_inner;
mod io;
mod joined;
mod lifecycle;
mod pair;
mod rate;
mod settings;
mod spawn;
mod split;
mod stream_cell;
mod task;
mod task_waker;
mod throttles;
mod timeouts;
mod transitions;
mod upgrade;
mod wait;

pub use builder::Builder;
pub use callbacks::Callbacks;
#[cfg(feature = "net")]
pub use connect::AddressFamily;
pub use endpoint::Transport;
pub use event::{CloseReason, Direction, Metrics, PauseReason, PauseReasons, Side, Summary};
pub use filter::{Filter, FilterStatus, FlushMode};
pub use into_inner::{IntoInnerError, Parts};
pub use split::{ReadHalf, WriteHalf};
pub use upgrade::UpgradeError;
