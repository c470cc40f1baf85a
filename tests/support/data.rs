//! Test data, in memory and in files, and memory of a user.

use std::{
    fs::File,
    io::{Seek, Write},
    sync::{Arc, Mutex},
};

use tokio_evbuffer::{EvBuffer, SharedEvBuffer};

/// Returns `len` bytes whose value depends on their position, so that a lost or repeated piece shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Returns `len` pseudo-random bytes (xorshift) that depend on `seed`.
pub fn random_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

/// Returns a shared buffer that holds `data`.
pub fn shared_with(data: &[u8]) -> SharedEvBuffer {
    EvBuffer::from(data).into()
}

/// Returns where the segments of `buffer` lie in memory.
pub fn addresses(buffer: &EvBuffer) -> Vec<*const u8> {
    buffer.chunks().map(<[u8]>::as_ptr).collect()
}

/// Returns a temporary file that holds `data`. The file is removed with its last handle.
pub fn temp_file(data: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    file.rewind().unwrap();
    Arc::new(file)
}

/// Returns `value` with a reference that lasts until the process ends. The value stays reachable, so leak checkers do not
/// report it.
pub fn leak<T>(value: T) -> &'static mut T {
    static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let kept = Box::leak(Box::new(value));
    KEPT.lock().unwrap().push(std::ptr::from_mut(kept) as usize);
    kept
}

/// Memory of a user that calls a function when it is dropped.
pub struct Owner<F: FnMut()> {
    bytes: Vec<u8>,
    on_drop: F,
}

impl<F: FnMut()> Owner<F> {
    pub fn new(bytes: impl Into<Vec<u8>>, on_drop: F) -> Self {
        let bytes = bytes.into();
        Self { bytes, on_drop }
    }
}

impl<F: FnMut()> AsRef<[u8]> for Owner<F> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<F: FnMut()> Drop for Owner<F> {
    fn drop(&mut self) {
        (self.on_drop)();
    }
}
