//! Our candidates, as the tables call them.

pub const RELAY: &str = "tokio-evbuffer relay";
pub const RELAY_CURRENT_THREAD: &str = "tokio-evbuffer relay, current-thread";
pub const RELAY_NO_SPLICE: &str = "tokio-evbuffer relay, splice off";

pub const BATCH: &str = "BufferEvent, one guard a batch";
pub const BATCH_CURRENT_THREAD: &str = "BufferEvent, one guard a batch, current-thread";
pub const CALLBACK: &str = "BufferEvent, read callback";
pub const PLAIN: &str = "BufferEvent, readln and add per line";
pub const STREAM: &str = "BufferEvent, AsyncBufRead and AsyncWrite";
