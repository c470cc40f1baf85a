//! The settings of a relay: what happens when one side ends or fails, and how much is held.

use std::time::Duration;

/// The default time without progress after which a half-closed or failed relay ends.
pub(super) const DEFAULT_LINGER: Duration = Duration::from_secs(30);

/// The default of [`Limits::stall`], in bytes.
const STALL: u32 = 16 << 10;

/// What the end of one side's stream means for the other direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HalfClose {
    /// Passes the end on, and relays the other direction until that ends, too.
    ///
    /// A side that never ends its stream keeps the relay permanently, unless there is an idle timeout.
    Propagate,
    /// Passes the end on, and then relays the other direction for as long as bytes move.
    ///
    /// The relay ends when no byte has moved for this duration. The default, with 30 s. [`Duration::ZERO`] ends the
    /// relay as soon as the other direction has to wait.
    Linger(Duration),
    /// Ends both directions at the first end, once what was read is written.
    ///
    /// Without progress in writing it ends after 30 s.
    Close,
}

impl HalfClose {
    /// Returns the time without progress after which a half-closed relay ends; `None` for no limit.
    pub(super) fn linger(self) -> Option<Duration> {
        match self {
            Self::Propagate => None,
            Self::Linger(linger) => Some(linger),
            Self::Close => Some(DEFAULT_LINGER),
        }
    }
}

impl Default for HalfClose {
    fn default() -> Self {
        Self::Linger(DEFAULT_LINGER)
    }
}

/// How the connection to the healthy side ends when the other side fails.
///
/// In both cases the healthy side first gets everything that was read for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// With an error, so that a truncated answer does not look complete. The default.
    ///
    /// A TCP socket is reset, once the peer's kernel has acknowledged everything or has made no progress for
    /// [`HalfClose::Linger`] (30 s with the other policies). Any other stream is dropped without `shutdown`: a TLS
    /// stream then sends no `close_notify`. A stream that was lent as `&mut` is left open.
    Reset,
    /// With an orderly end of stream, as if the other side had ended in order.
    Fin,
}

/// Whether the kernel may move the bytes of bulk flows without copying them through the process.
///
/// `splice` has no way to suppress `SIGPIPE`. Rust programs ignore that signal from the start; a process that restores
/// its default disposition may be killed when a spliced flow writes to a connection that is gone, and has to use
/// [`Splice::Never`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Splice {
    /// Splices on Linux, from a TCP socket to a TCP or Unix socket, while a flow is bulk. The default.
    ///
    /// The relay may set the low-water mark of the sockets while it runs, see [`Relay::splice`](crate::Relay::splice).
    #[default]
    Auto,
    /// Always copies.
    Never,
}

/// The most bytes that a direction holds, below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In memory; at least one.
    chain: u32,
    /// In a pipe, where they cost no memory of the process; at least one.
    pipe: u32,
    /// Beyond what was held when the sink stopped taking bytes.
    stall: u32,
}

impl Limits {
    /// More bytes in the pipe cost fewer wake-ups: with 16 connections on one CPU a pipe limited to 256 KiB took a third
    /// more CPU time.
    pub(crate) const DEFAULT: Self = Self {
        chain: 256 << 10,
        pipe: 1 << 20,
        stall: STALL,
    };

    /// Limits both the chain and the pipe. Zero counts as one.
    pub(crate) fn set_buffer(&mut self, high: usize) {
        let high = u32::try_from(high.max(1)).unwrap_or(u32::MAX);
        (self.chain, self.pipe) = (high, high);
    }

    pub(crate) fn set_stall(&mut self, stall: usize) {
        self.stall = u32::try_from(stall).unwrap_or(u32::MAX);
    }

    #[inline]
    pub(crate) fn chain(self) -> usize {
        self.chain as usize
    }

    #[inline]
    pub(crate) fn pipe(self) -> usize {
        self.pipe as usize
    }

    /// Returns whether more is read ahead of a sink that takes nothing than by default.
    #[inline]
    pub(crate) fn reads_ahead(self) -> bool {
        self.stall > STALL
    }

    #[inline]
    pub(crate) fn stall(self) -> usize {
        self.stall as usize
    }
}
