//! An open file that segments share, and the user code that runs when it is no longer used.
#![allow(unsafe_code)]

use std::{fmt, fs::File, io, sync::Arc};

/// An open file, and the hook that runs when it is not used any more.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: Arc<File>,
    // Declared before `_inner`, so that the hook that was added last runs first.
    _hook: Hook,
    /// The same file with the hooks that were added before.
    _inner: Option<Arc<OpenFile>>,
    /// Replaces the page cache in tests.
    #[cfg(test)]
    pub(super) disk: Option<Arc<super::slow_disk::SlowDisk>>,
}

impl OpenFile {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self {
            file,
            _hook: Hook::default(),
            _inner: None,
            #[cfg(test)]
            disk: None,
        }
    }

    /// Returns the same file, for which `hook` runs before the hooks that it has.
    pub(super) fn with_hook(inner: Arc<Self>, hook: impl FnOnce() + Send + 'static) -> Self {
        Self {
            file: inner.file.clone(),
            _hook: Hook(Some(Box::new(hook))),
            #[cfg(test)]
            disk: inner.disk.clone(),
            _inner: Some(inner),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Fills `out` with the bytes from position `at` on, which blocks.
    pub(super) fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            disk.read(at..at + out.len() as u64);
        }
        read_exact_at(&self.file, out, at)
    }
}

/// User code that runs when this value is dropped.
#[derive(Default)]
struct Hook(Option<Box<dyn FnOnce() + Send>>);

// SAFETY: a `&Hook` gives no access to the closure, which is used only by the drop.
unsafe impl Sync for Hook {}

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            hook();
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
