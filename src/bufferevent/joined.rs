//! The methods by which a join reads the state of its two connections and changes it, and filters that of the one below.

use std::{io, time::Duration};

use super::{
    builder::{JOINED_WRITE_WATERMARKS, WRITE_WATERMARKS},
    inner::BufferEvent,
};
use crate::{Watermarks, error::clone_io_error};

impl BufferEvent {
    /// Fails if the input was closed for another reason than the end of the stream.
    pub(crate) fn check_orderly_end(&self) -> io::Result<()> {
        let control = self.inner.control.lock();
        match control.state.read.error() {
            Some(error) => Err(clone_io_error(error)),
            None if control.state.read.has_ended() => Ok(()),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Returns the error that has ended reading, or ends it after the last bytes.
    pub(crate) fn read_error(&self) -> Option<io::Error> {
        let control = self.inner.control.lock();
        let read = &control.state.read;
        read.error().or(read.reset()).map(clone_io_error)
    }

    /// Returns whether the peer has reset the connection, and its last bytes are still unread.
    pub(crate) fn is_reset_with_rest(&self) -> bool {
        self.inner.control.lock().state.read.reset().is_some()
    }

    /// Returns the reason why nothing can be added to the output.
    pub(crate) fn write_error(&self) -> io::Error {
        let control = self.inner.control.lock();
        let error = (control.state.write.error()).or_else(|| control.state.read.error());
        error.map_or_else(|| io::ErrorKind::BrokenPipe.into(), clone_io_error)
    }

    /// Returns the time without progress after which closing gives up.
    pub(crate) fn linger(&self) -> Duration {
        self.inner.control.lock().settings().limits.linger
    }

    /// Returns whether an error has ended writing.
    pub(crate) fn has_failed_to_write(&self) -> bool {
        self.inner.control.lock().state.write.error().is_some()
    }

    /// Shows whether the bytes of the input wait for another connection.
    pub(crate) fn set_read_blocked(&self, blocked: bool) {
        let mut control = self.inner.control.lock();
        control.state.read.set_blocked(blocked);
    }

    /// Lets an output with the default watermarks hold as much as one turn of a joined connection reads. Watermarks that the
    /// user has set stay.
    pub(crate) fn enlarge_output(&self) {
        self.replace_output_watermarks(WRITE_WATERMARKS, JOINED_WRITE_WATERMARKS);
    }

    /// Ends that.
    pub(crate) fn restore_output(&self) {
        self.replace_output_watermarks(JOINED_WRITE_WATERMARKS, WRITE_WATERMARKS);
    }

    fn replace_output_watermarks(&self, from: Watermarks, to: Watermarks) {
        if self.output().watermarks() == from {
            self.output().set_watermarks(to);
        }
    }

    /// Returns the bytes that the kernel of the peer has not confirmed; 0 if that is not known.
    pub(crate) fn unacknowledged(&self) -> usize {
        let stream = self.inner.control.lock().stream.clone();
        stream
            .and_then(|stream| stream.unacknowledged())
            .unwrap_or(0)
    }
}
