//! The settings of a connection that its task needs.

use super::timeouts::Limits;

/// The most bytes of one read or write, time limits, and the treatment of a truncated stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) max_single_read: usize,
    pub(super) max_single_write: usize,
    pub(super) limits: Limits,
    /// An end of stream without the end of its protocol, as a TLS stream reports it, counts as an end.
    pub(super) allow_truncation: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Settings {
    pub(super) const DEFAULT: Self = Self {
        max_single_read: usize::MAX,
        max_single_write: 256 * 1024,
        limits: Limits::DEFAULT,
        allow_truncation: false,
    };
}
