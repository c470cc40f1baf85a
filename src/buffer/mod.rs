//! A byte queue made of linked segments: [`EvBuffer`](crate::EvBuffer) and what its methods take and return.
//!
//! No async runtime, no lock and no callback appears here; those belong to the layers above.

mod add;
mod attached;
pub(crate) mod chain;
mod chunks;
mod compact;
pub(crate) mod eol;
mod flags;
mod invariants;
mod io;
mod remove;
mod reserve;
mod search;
#[cfg(test)]
mod tests;
mod traits;
mod transfer;

pub use crate::error::{End, LineError, Result};
pub use crate::segment::{COPY_THRESHOLD, FileSegment};
pub use chunks::Chunks;
pub use eol::Eol;
pub use reserve::{Reservation, SlicesMut};
