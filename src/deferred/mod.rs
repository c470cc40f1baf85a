//! Deferred callbacks: [`DeferredQueue`](crate::DeferredQueue), one for each runtime.
//!
//! A change to a buffer must not run user code in the middle of the call that made it. So the change only schedules a
//! notification, and an executor, a task of the runtime, delivers it soon after, with no lock held.
//!
//! # Examples
//!
//! ```
//! use tokio_evbuffer::DeferredQueue;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tokio_evbuffer::deferred::QueueClosed> {
//! let queue = DeferredQueue::current();
//! queue.defer(|| println!("after this call"))?;
//! queue.drained().await;
//! assert_eq!(queue.metrics().run, 1);
//! # Ok(())
//! # }
//! ```

mod drained;
mod jobs;
#[cfg(all(test, loom))]
pub(crate) mod loom;
pub(crate) mod queue;
mod registry;
mod schedule;

pub use drained::Drained;
pub use queue::{NoRuntime, QueueClosed, QueueMetrics};
pub(crate) use schedule::{Deferred, Runner, Source};
