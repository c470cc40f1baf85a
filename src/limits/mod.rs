//! Limits on what connections use: bytes per second, and memory.
//!
//! A [`RateLimit`] is a plain value: bytes per second, and the largest burst. Give it to one connection, or to a
//! [`RateLimitGroup`] that many connections share. A [`MemoryBudget`] bounds the memory that its members hold together.
//!
//! # Examples
//!
//! ```
//! use tokio_evbuffer::limits::{RateLimit, RateLimitGroup};
//!
//! # fn main() -> Result<(), tokio_evbuffer::limits::InvalidRateLimit> {
//! // 1 MB/s in each direction, at most 64 KiB at once.
//! let limit = RateLimit::both(1_000_000)?.and_burst(64 << 10)?;
//! let group = RateLimitGroup::new(limit);
//! assert_eq!((group.members(), group.totals()), (0, (0, 0)));
//! # Ok(())
//! # }
//! ```

#[cfg(not(loom))]
mod activity;
#[cfg(not(loom))]
mod bucket;
pub(crate) mod budget;
#[cfg(not(loom))]
mod group;
#[cfg(not(loom))]
mod rate_limit;
#[cfg(not(loom))]
mod throttle;

pub use budget::{Holder, MemoryBudget};
#[cfg(not(loom))]
pub use group::RateLimitGroup;
#[cfg(not(loom))]
pub use rate_limit::{InvalidRateLimit, RateLimit};
#[cfg(not(loom))]
pub(crate) use throttle::{Held, Throttle};

#[cfg(all(test, not(loom)))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
