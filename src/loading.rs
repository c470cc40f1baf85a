//! [`Loading`]: the one mechanism by which futures read ranges of files without blocking a worker thread.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    buffer::chain::EvBuffer,
    error::Result,
    segment::{FilePart, FilePlace, Residency},
};

/// Brings parts of files to where reading them does not wait for a disk.
///
/// What the page cache holds is read by the task itself. The rest is read by Tokio's blocking pool first, one part at a
/// time. Without a runtime the task reads it.
///
/// Dropping this loses nothing: the bytes are in the chain. A read that has begun ends by itself.
#[derive(Debug, Default)]
pub(crate) struct Loading(Option<Box<Load>>);

/// The latest load.
#[derive(Debug)]
struct Load {
    place: FilePlace,
    /// `None` once it has ended.
    task: Option<JoinHandle<()>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            // A read that has not begun is no longer needed.
            task.abort();
        }
    }
}

impl Loading {
    /// Loads the first `n` bytes of `chain` into memory.
    ///
    /// # Errors
    ///
    /// [`BufferError::File`](crate::BufferError::File) if a range cannot be read.
    #[inline]
    pub(crate) fn poll_loaded(
        &mut self,
        cx: &mut Context<'_>,
        chain: &EvBuffer,
        n: usize,
    ) -> Poll<Result<()>> {
        while let Some((_, part)) = self.load_ready(chain, n)? {
            ready!(self.poll_ready(cx, &part));
        }
        Poll::Ready(Ok(()))
    }

    /// Loads some of the first `n` bytes of `chain` into memory, and returns how many. That is at least one if there is
    /// any.
    ///
    /// For a chain that the caller makes again for each poll: such a chain forgets what was loaded of it, except the first
    /// piece of a range. To wait for all `n` bytes might make no progress.
    ///
    /// # Errors
    ///
    /// As [`poll_loaded`](Self::poll_loaded).
    pub(crate) fn poll_some_loaded(
        &mut self,
        cx: &mut Context<'_>,
        chain: &EvBuffer,
        n: usize,
    ) -> Poll<Result<usize>> {
        ready!(self.poll_loaded(cx, chain, n.min(1)))?;
        let unloaded = self.load_ready(chain, n)?;
        Poll::Ready(Ok(unloaded.map_or(n.min(chain.len()), |(at, _)| at)))
    }

    /// Loads the first `n` bytes of `chain` into memory up to the first part that would wait for a disk. Returns the
    /// position of that part, and the part for [`poll_ready`](Self::poll_ready).
    ///
    /// # Errors
    ///
    /// As [`poll_loaded`](Self::poll_loaded).
    #[inline]
    pub(crate) fn load_ready(
        &self,
        chain: &EvBuffer,
        n: usize,
    ) -> Result<Option<(usize, FilePart)>> {
        while let Some((at, part)) = chain.first_unloaded(n) {
            if self.ready_len(&part) == 0 {
                return Ok(Some((at, part)));
            }
            chain.load_range(at, 1)?;
        }
        Ok(None)
    }

    /// Waits until the first bytes of `part` are in memory or in the page cache, and returns their number.
    ///
    /// They are also ready if they cannot be read: the next operation on them returns the error.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>, part: &FilePart) -> Poll<usize> {
        loop {
            if let Some(load) = &mut self.0 {
                if let Some(task) = &mut load.task {
                    // Also if other bytes are wanted meanwhile: a stream does not occupy several threads of the pool. A
                    // task that was cancelled or has panicked leaves the read to the caller.
                    let _ = ready!(Pin::new(task).poll(cx));
                    load.task = None;
                }
            }
            let ready = self.ready_len(part);
            if ready > 0 {
                return Poll::Ready(ready);
            }
            self.start(part);
        }
    }

    /// Returns how many of the first bytes of `part` can be read without waiting for a disk.
    fn ready_len(&self, part: &FilePart) -> usize {
        let loaded = (self.0.as_deref()).filter(|load| load.task.is_none());
        let (is_latest, loaded) = loaded.map_or((false, 0), |load| {
            (load.place.begins(part), load.place.overlap(part))
        });
        if is_latest {
            // Also if the page cache has lost it since, so that there is progress.
            return loaded;
        }
        match part.residency() {
            Residency::Cached => part.len(),
            Residency::Unknown if loaded > 0 => loaded,
            _ if Handle::try_current().is_err() => part.len(),
            Residency::Absent | Residency::Unknown => 0,
        }
    }

    fn start(&mut self, part: &FilePart) {
        let place = part.place();
        let part = part.clone();
        let task = Handle::try_current()
            .ok()
            .map(|runtime| runtime.spawn_blocking(move || part.load()));
        self.0 = Some(Box::new(Load { place, task }));
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
