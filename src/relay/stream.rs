//! The trait of streams that a relay takes.

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream that can be relayed, by value or as `&mut`.
pub trait RelayStream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> RelayStream for T {}
