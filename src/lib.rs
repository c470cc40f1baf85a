//! libevent's evbuffer and bufferevent for Tokio.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc(test(attr(deny(warnings))))]

// Tests that know this crate by its name are part of it, too.
#[cfg(test)]
extern crate self as tokio_evbuffer;

pub mod buffer;
pub mod bufferevent;
pub mod deferred;
mod error;
pub mod relay;
mod segment;
pub mod shared;
mod sync;
mod transport;

pub use buffer::{
    COPY_THRESHOLD, Chunks, End, Eol, EolStyle, EvBuffer, FileSegment, Reservation, SlicesMut,
};
pub use bufferevent::{
    BufferEvent, Builder, Callbacks, CloseReason, Direction, Event, IntoInnerError, Metrics, Parts,
    PauseReason, PauseReasons, ReadHalf, Side, Summary, Transport, WriteHalf,
};
pub use deferred::{DeferredQueue, Drained, NoRuntime, QueueClosed, QueueMetrics};
pub use error::{BufferError, Result};
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
