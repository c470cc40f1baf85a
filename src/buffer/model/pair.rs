//! A buffer beside its model: how a pair is made, and what must hold after each step.

use bytes::{Bytes, BytesMut};
use tokio_evbuffer::{EvBuffer, buffer::End};

use super::{
    flat::Flat,
    op::{Data, RemoveBy, RenewBy},
};

/// A buffer longer than this is emptied before the next step.
const LEN_MAX: usize = 300_000;
/// What a buffer may hold beyond four times its length, in bytes.
const MEMORY_ALLOWED: usize = 64 * 1024;
/// The maximum number of bytes that an emptied buffer keeps.
const KEPT_MAX: usize = 16 * 1024;

/// A buffer and its model.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) buffer: EvBuffer,
    pub(super) flat: Flat,
}

impl Pair {
    /// Creates a buffer by one of the constructors.
    pub(super) fn renewed(by: RenewBy, data: Data) -> Self {
        let bytes = data.bytes();
        let half = bytes.len() / 2;
        let buffer = match by {
            RenewBy::New => EvBuffer::new(),
            RenewBy::WithCapacity => EvBuffer::with_capacity(data.len),
            RenewBy::Slice => EvBuffer::from(&bytes[..]),
            RenewBy::Vec => EvBuffer::from(bytes.clone()),
            RenewBy::Bytes => EvBuffer::from(Bytes::from(bytes.clone())),
            RenewBy::BytesMut => EvBuffer::from(BytesMut::from(&bytes[..])),
            RenewBy::Collect => [&bytes[..half], &bytes[half..]]
                .into_iter()
                .map(Bytes::copy_from_slice)
                .collect(),
        };
        let empty = matches!(by, RenewBy::New | RenewBy::WithCapacity);
        let flat = Flat {
            bytes: if empty { Vec::new() } else { bytes },
            room_kept: data.len,
            ..Flat::default()
        };
        Self { buffer, flat }
    }

    /// Empties a buffer that has become so long that further steps would be slow.
    pub(super) fn relieve(&mut self) {
        if self.flat.len() > LEN_MAX {
            self.freeze(End::Front, false);
            let n = self.flat.len();
            self.remove(RemoveBy::Clear, n, &mut Vec::new());
        }
    }

    pub(super) fn expand(&mut self, n: usize) {
        let expected = self.flat.check_growth(End::Back, n);
        assert_eq!(self.buffer.expand(n), expected);
        if expected.is_ok() {
            self.flat.room_kept = self.flat.room_kept.max(n);
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.buffer.shrink_to_fit();
        self.flat.room_kept = 0;
        if self.flat.bytes.is_empty() {
            assert_eq!(
                self.buffer.capacity(),
                0,
                "an empty buffer that was shrunk holds nothing"
            );
        }
    }

    pub(super) fn freeze(&mut self, end: End, on: bool) {
        if on {
            self.buffer.freeze(end);
        } else {
            self.buffer.unfreeze(end);
        }
        match end {
            End::Front => self.flat.front_frozen = on,
            End::Back => self.flat.back_frozen = on,
        }
    }

    /// Returns how many bytes of memory the buffer may hold.
    pub(super) fn memory_allowed(&self) -> usize {
        let Self { buffer, flat } = self;
        let ranges = if flat.files { buffer.segments() } else { 0 };
        // A block for `n` bytes has less than twice as many.
        4 * flat.len() + MEMORY_ALLOWED + 2 * flat.room_kept + 256 * ranges
    }

    /// Compares the observable state of the buffer with its model.
    pub(super) fn check(&self, closely: bool) {
        let Self { buffer, flat } = self;
        assert_eq!(buffer.len(), flat.len());
        assert_eq!(buffer.is_empty(), flat.bytes.is_empty());
        assert_eq!(buffer.max_len(), flat.max_len);
        assert_eq!(buffer.is_frozen(End::Front), flat.front_frozen);
        assert_eq!(buffer.is_frozen(End::Back), flat.back_frozen);
        let capacity = buffer.capacity();
        if !flat.files {
            assert!(capacity >= flat.len(), "{capacity} >= {}", flat.len());
        }
        let bound = self.memory_allowed();
        assert!(
            capacity <= bound,
            "{} bytes in {capacity} bytes of memory, at most {bound}",
            flat.len()
        );
        if flat.bytes.is_empty() && flat.room_kept == 0 {
            assert!(
                capacity <= KEPT_MAX,
                "an emptied buffer keeps {capacity} bytes"
            );
        }
        if flat.files && !closely {
            return;
        }
        assert_eq!(buffer.chunks().count(), buffer.segments());
        assert!(buffer.chunks().all(|chunk| !chunk.is_empty()));
        assert!(*buffer == flat.bytes, "the bytes differ");
    }
}
