//! Our candidates, as the tables call them.

pub const RELAY: &str = "tokio-evbuffer relay";
pub const RELAY_CURRENT_THREAD: &str = "tokio-evbuffer relay, current-thread";
pub const RELAY_NO_SPLICE: &str = "tokio-evbuffer relay, splice off";
