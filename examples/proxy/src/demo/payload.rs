//! The bytes of transfers, and the hash that shows whether they arrived.

use std::sync::OnceLock;

use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use xxhash_rust::xxh3::Xxh3;

const BLOCK: usize = 64 * 1024;
/// The bytes of a transfer are followed by their hash, big-endian.
const TRAILER: usize = size_of::<u64>();

/// Generates the bytes of one transfer. No two blocks are the same, so that lost, doubled and swapped ones are noticed.
struct Blocks {
    block: Box<[u8]>,
    seed: u64,
    sent: u64,
}

impl Blocks {
    fn new(seed: u64) -> Self {
        static NOISE: OnceLock<Box<[u8]>> = OnceLock::new();
        let noise = NOISE.get_or_init(|| {
            let words = (1..=BLOCK as u64 / 8).flat_map(|n| scrambled(n).to_ne_bytes());
            words.collect()
        });
        Self {
            block: noise.clone(),
            seed,
            sent: 0,
        }
    }

    fn next(&mut self, at_most: u64) -> &mut [u8] {
        self.sent += 1;
        let stamp = scrambled(self.seed ^ self.sent).to_ne_bytes();
        self.block[..stamp.len()].copy_from_slice(&stamp);
        let len = at_most.min(BLOCK as u64) as usize;
        &mut self.block[..len]
    }
}

/// Sends `len` bytes and their hash. Calls `progress` with the number of bytes of each step.
///
/// With `corrupt`, one bit is wrong; the hash is that of the right bytes.
pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    len: u64,
    seed: u64,
    corrupt: bool,
    mut progress: impl FnMut(usize),
) -> io::Result<()> {
    let mut blocks = Blocks::new(seed);
    let mut hash = Xxh3::new();
    let mut left = len;
    while left > 0 {
        let block = blocks.next(left);
        hash.update(block);
        left -= block.len() as u64;
        if corrupt && left == 0 {
            block[block.len() / 2] ^= 1;
        }
        to.write_all(block).await?;
        progress(block.len());
    }
    to.write_all(&hash.digest().to_be_bytes()).await
}

/// Reads `len` bytes and their hash, and returns whether they match. Calls `progress` with the number of bytes of each
/// step.
///
/// # Errors
///
/// The errors of reading, and `UnexpectedEof` if there were fewer bytes.
pub(super) async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    len: u64,
    mut progress: impl FnMut(usize),
) -> io::Result<bool> {
    let mut room = vec![0; BLOCK];
    let mut hash = Xxh3::new();
    let mut left = len;
    while left > 0 {
        let most = left.min(BLOCK as u64) as usize;
        let n = from.read(&mut room[..most]).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&room[..n]);
        left -= n as u64;
        progress(n);
    }
    let mut trailer = [0; TRAILER];
    from.read_exact(&mut trailer).await?;
    Ok(trailer == hash.digest().to_be_bytes())
}

/// Mixes the bits of `n` (the finalizer of SplitMix64).
pub(super) fn scrambled(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
