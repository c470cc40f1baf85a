//! Bytes to send, and the proof that they came.

use xxhash_rust::xxh3::Xxh3Default;

/// An endless stream of bytes in which no two places near each other look alike.
///
/// Its period is odd and no multiple of any buffer's size, so that a piece that was lost, repeated, or put elsewhere
/// changes what follows.
#[derive(Clone, Debug)]
pub struct Pattern {
    block: std::sync::Arc<[u8]>,
    at: usize,
}

const PERIOD: usize = (1 << 20) + 4_093;

impl Pattern {
    /// `stream` numbers streams that are to differ.
    pub fn new(stream: usize) -> Self {
        static BLOCK: std::sync::OnceLock<std::sync::Arc<[u8]>> = std::sync::OnceLock::new();
        let block = BLOCK.get_or_init(|| noise(PERIOD).into()).clone();
        Self {
            block,
            at: stream.wrapping_mul(7_919) % PERIOD,
        }
    }

    /// The next bytes: at least one, at most `max`.
    pub fn chunk(&self, max: usize) -> &[u8] {
        let rest = &self.block[self.at..];
        &rest[..rest.len().min(max)]
    }

    pub fn advance(&mut self, n: usize) {
        self.at = (self.at + n) % PERIOD;
    }
}

/// A hash of a stream, and its length.
#[derive(Default)]
pub struct Digest {
    hash: Xxh3Default,
    len: u64,
}

pub const DIGEST_LEN: usize = 16;

impl Digest {
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
    }

    pub fn finish(&self) -> [u8; DIGEST_LEN] {
        let mut digest = [0; DIGEST_LEN];
        digest[..8].copy_from_slice(&self.len.to_le_bytes());
        digest[8..].copy_from_slice(&self.hash.digest().to_le_bytes());
        digest
    }
}

/// xorshift64: the same on every machine.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(bytes: &[u8]) -> [u8; DIGEST_LEN] {
        let mut digest = Digest::default();
        digest.update(bytes);
        digest.finish()
    }

    #[test]
    fn one_changed_byte_changes_the_digest_anywhere() {
        let bytes = noise(10_000);
        for at in [0, 1, 4_999, 9_999] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(digest_of(&bytes), digest_of(&changed), "at {at}");
        }
        assert_ne!(
            digest_of(&bytes),
            digest_of(&bytes[..9_999]),
            "one byte less"
        );
    }

    #[test]
    fn a_digest_does_not_depend_on_where_the_stream_was_cut() {
        let bytes = noise(10_000);
        let mut digest = Digest::default();
        bytes.chunks(77).for_each(|piece| digest.update(piece));
        assert_eq!(digest.finish(), digest_of(&bytes));
    }
}
