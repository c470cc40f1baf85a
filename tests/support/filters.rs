//! Filters of connections.

use std::io;

use tokio_evbuffer::{
    EvBuffer,
    bufferevent::{FilterStatus, FlushMode},
};

/// Moves bytes on as they are, as many as are allowed.
pub fn pass(
    src: &mut EvBuffer,
    dst: &mut EvBuffer,
    limit: Option<usize>,
    _: FlushMode,
) -> io::Result<FilterStatus> {
    src.remove_buffer(dst, limit.unwrap_or(usize::MAX))?;
    Ok(FilterStatus::Ok)
}
