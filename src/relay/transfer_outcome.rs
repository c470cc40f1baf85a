//! What a transfer reports: its counters, and its error.

use std::{
    error::Error,
    fmt, io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::Step;

/// The bytes of a [`Transfer`](crate::Transfer), counted while it runs.
///
/// You can read them from any thread, also after the future was dropped. If you give the same counters to many
/// transfers, they hold the sum.
#[derive(Debug, Default)]
pub struct TransferCounters {
    pub(super) read: AtomicU64,
    pub(super) written: AtomicU64,
}

impl TransferCounters {
    /// Returns the number of bytes that were read, including initial bytes.
    pub fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Returns the number of bytes that were written.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Returns the number of bytes that were read and not written. They are lost if the future is dropped.
    pub fn held(&self) -> u64 {
        let written = self.written();
        self.read().saturating_sub(written)
    }
}

/// The error of a transfer: the operation that failed, its error, and how much was written before.
///
/// Converts into an [`io::Error`] of the same kind, which holds this error ([`get_ref`](io::Error::get_ref)).
#[derive(Debug)]
#[non_exhaustive]
pub struct TransferError {
    /// The number of bytes that were written.
    pub bytes: u64,
    /// The operation that failed.
    pub step: Step,
    /// Its error. An end before the limit is [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    pub error: io::Error,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, step, .. } = self;
        let stream = match step {
            Step::Read => "reader",
            _ => "writer",
        };
        write!(f, "transfer failed {step} the {stream} after {bytes} bytes")
    }
}

impl Error for TransferError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl From<TransferError> for io::Error {
    fn from(error: TransferError) -> Self {
        io::Error::new(error.error.kind(), error)
    }
}
