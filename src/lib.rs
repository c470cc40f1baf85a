//! libevent's evbuffer and bufferevent for Tokio.
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
#[cfg(not(loom))]
pub mod relay;
mod segment;
pub mod shared;
mod sync;
#[cfg(not(loom))]
mod transport;

pub use buffer::{
    COPY_THRESHOLD, Chunks, End, Eol, EolStyle, EvBuffer, FileSegment, Reservation, SlicesMut,
};
#[cfg(not(loom))]
pub use bufferevent::{
    BufferEvent, Builder, Callbacks, CloseReason, Direction, Event, IntoInnerError, Metrics, Parts,
    PauseReason, PauseReasons, ReadHalf, Side, Summary, Transport, WriteHalf,
};
pub use deferred::{DeferredQueue, Drained, NoRuntime, QueueClosed, QueueMetrics};
pub use error::{BufferError, Result};
#[cfg(not(loom))]
pub use relay::{
    HalfClose, OnError, Peer, Progress, Relay, RelayCounters, RelayEnd, RelayError, RelayStream,
    RelaySummary, Splice, Step, copy_bidirectional, relay,
};
pub use shared::{
    BufferGuard, CallbackHandle, Change, Changed, Changes, Closed, Crossing, InvalidWatermarks,
    Mark, Reader, SharedEvBuffer, WaitError, Watermarks, Writer, pipe,
};

/// Keeps the examples in the README compiling and true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
