//! What the process holds and has moved, counted by all layers.
//!
//! Rare events are counted in padded shards, so that threads rarely wait for each other's cache lines. A pool of blocks,
//! which is used for every small buffer, has a counter that only its thread changes: that takes no locked instruction.
//! The atomics are those of the standard library under loom too, since no decision depends on them.
// Where there are no pipes, nothing counts them.
#![cfg_attr(
    not(all(feature = "net", any(target_os = "linux", target_os = "android"))),
    allow(dead_code)
)]

use std::{
    iter, ptr,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed,
            Ordering::Release,
        },
    },
};

/// The number of shards, a power of two.
const SHARDS: usize = 16;

static COUNTERS: [Shard; SHARDS] = [const { Shard::new() }; SHARDS];

/// The counters of some threads. One thread may add what another subtracts, so only the sum over all shards has a meaning.
#[repr(align(128))]
struct Shard {
    /// Blocks that came from the allocator, pooled ones included.
    blocks: AtomicUsize,
    block_bytes: AtomicUsize,
    pipes: AtomicUsize,
    pipes_refused: AtomicU64,
    spliced: AtomicU64,
    copied: AtomicU64,
    from_files: AtomicU64,
}

impl Shard {
    const fn new() -> Self {
        Self {
            blocks: AtomicUsize::new(0),
            block_bytes: AtomicUsize::new(0),
            pipes: AtomicUsize::new(0),
            pipes_refused: AtomicU64::new(0),
            spliced: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            from_files: AtomicU64::new(0),
        }
    }

    /// Returns the shard of this thread.
    #[inline]
    fn here() -> &'static Self {
        thread_local! {
            static PLACE: u8 = const { 0 };
        }
        // Threads have this variable at different addresses, at least a page apart on the usual systems.
        let address = PLACE.try_with(|place| ptr::from_ref(place).addr());
        &COUNTERS[(address.unwrap_or(0) >> 12) % SHARDS]
    }
}

/// The counter of the pool of one thread, which alone changes it.
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct PoolCounter {
    /// The number of blocks in the upper half, and their bytes in the lower.
    kept: AtomicU64,
    is_claimed: AtomicBool,
}

/// One block in [`PoolCounter::kept`].
const ONE_BLOCK: u64 = 1 << 32;

/// The counter of threads that have not claimed one. It reads as a full pool.
pub(crate) static UNCLAIMED: PoolCounter = PoolCounter {
    kept: AtomicU64::new(ONE_BLOCK / 2),
    is_claimed: AtomicBool::new(false),
};

/// Counters of pools, and more of them if there are more threads.
struct Pools {
    counters: [PoolCounter; 64],
    next: OnceLock<Box<Pools>>,
}

static POOLS: Pools = Pools::new();

impl Pools {
    const fn new() -> Self {
        let counters = [const {
            PoolCounter {
                kept: AtomicU64::new(0),
                is_claimed: AtomicBool::new(false),
            }
        }; 64];
        Self {
            counters,
            next: OnceLock::new(),
        }
    }
}

impl PoolCounter {
    /// Returns a counter of zero that no other thread uses until [`release`](Self::release).
    #[cold]
    #[inline(never)]
    pub(crate) fn claim() -> &'static Self {
        let mut pools = &POOLS;
        loop {
            let mut free =
                (pools.counters.iter()).filter(|counter| !counter.is_claimed.load(Relaxed));
            if let Some(claimed) = free.find(|counter| !counter.is_claimed.swap(true, Acquire)) {
                return claimed;
            }
            pools = pools.next.get_or_init(|| Box::new(Pools::new()));
        }
    }

    /// Gives the counter, which is zero again, to other threads.
    pub(crate) fn release(&self) {
        debug_assert_eq!(self.kept.load(Relaxed) % ONE_BLOCK, 0);
        self.is_claimed.store(false, Release);
    }

    pub(crate) fn is_claimed(&self) -> bool {
        self.is_claimed.load(Relaxed)
    }

    /// Returns the bytes in the pool.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        (self.kept.load(Relaxed) % ONE_BLOCK) as usize
    }

    /// Counts a block of `len` bytes that was put into the pool of this thread.
    #[inline]
    pub(crate) fn add(&self, len: usize) {
        let kept = self.kept.load(Relaxed) + (ONE_BLOCK + len as u64);
        self.kept.store(kept, Relaxed);
    }

    /// Counts a block of `len` bytes that was taken from the pool of this thread.
    #[inline]
    pub(crate) fn subtract(&self, len: usize) {
        let kept = self.kept.load(Relaxed) - (ONE_BLOCK + len as u64);
        self.kept.store(kept, Relaxed);
    }
}

/// Counts a block of `len` bytes that came from the allocator.
#[cold]
#[inline(never)]
pub(crate) fn block_allocated(len: usize) {
    let shard = Shard::here();
    shard.blocks.fetch_add(1, Relaxed);
    shard.block_bytes.fetch_add(len, Relaxed);
}

/// Counts a block of `len` bytes that was returned to the allocator.
#[cold]
#[inline(never)]
pub(crate) fn block_released(len: usize) {
    let shard = Shard::here();
    shard.blocks.fetch_sub(1, Relaxed);
    shard.block_bytes.fetch_sub(len, Relaxed);
}

/// Counts `n` bytes from memory that were written to a stream.
#[inline]
pub(crate) fn copied(n: usize) {
    Shard::here().copied.fetch_add(n as u64, Relaxed);
}

/// Counts a pipe that a flow has leased.
pub(crate) fn pipe_leased() {
    Shard::here().pipes.fetch_add(1, Relaxed);
}

/// Counts a pipe that a flow has given back or closed.
pub(crate) fn pipe_returned() {
    Shard::here().pipes.fetch_sub(1, Relaxed);
}

/// Counts a flow that has asked for a pipe and got none.
pub(crate) fn pipe_refused() {
    Shard::here().pipes_refused.fetch_add(1, Relaxed);
}

/// Counts `n` bytes from a pipe that were written to a socket.
pub(crate) fn spliced(n: usize) {
    Shard::here().spliced.fetch_add(n as u64, Relaxed);
}

/// Counts `n` bytes from a file that the kernel has written to a socket.
pub(crate) fn sent_from_file(n: usize) {
    Shard::here().from_files.fetch_add(n as u64, Relaxed);
}

/// What the process holds and has moved. [`stats`] returns it.
///
/// The first four fields say what is held now, and `pipes_refused` and the last three are totals since the process began.
///
/// # Examples
///
/// ```standalone_crate
/// use tokio_evbuffer::{copy, stats};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let before = stats();
/// copy(&mut &b"hello"[..], &mut tokio::io::sink()).await?;
/// let now = stats();
/// assert_eq!(now.bytes_copied - before.bytes_copied, 5);
/// assert_eq!(now.bytes_live, before.bytes_live);
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks of memory that buffers hold. A block that several segments share counts once.
    ///
    /// Memory that buffers hold by reference, such as [`Bytes`](bytes::Bytes), and ranges of files do not count.
    pub segments_live: usize,
    /// Bytes of these blocks, used or not.
    pub bytes_live: usize,
    /// Bytes of free blocks that threads keep for their next buffers: at most 40 KiB for each thread.
    pub bytes_pooled: usize,
    /// Pipes that relays splice through now. Always 0 where the system or the build cannot splice.
    pub pipes_in_use: usize,
    /// The number of times that a flow asked for a pipe and got none, since all of
    /// [`max_pipes`](crate::relay::max_pipes) were in use or the system has refused one. The flow is then copied, and
    /// asks again about once per MiB.
    pub pipes_refused: u64,
    /// Bytes written to a socket from a pipe, without a copy through this process.
    pub bytes_spliced: u64,
    /// Bytes written to a stream from memory, by relays, transfers and [`BufferEvent`](crate::BufferEvent)s.
    pub bytes_copied: u64,
    /// Bytes of files that the kernel has sent to a socket, without a copy through this process.
    ///
    /// Bytes of files that were read into memory first count as copied.
    pub bytes_sent_from_files: u64,
}

/// Returns what the process holds and has moved, of all threads and runtimes.
///
/// Each byte that a relay, a transfer or a [`BufferEvent`](crate::BufferEvent) writes to its stream counts as either
/// spliced, copied or sent from a file. What you write to a stream yourself does not count.
///
/// Takes no lock. The counters are read one after the other: while other threads work, one may include a change that
/// another does not include yet.
///
/// # Examples
///
/// ```standalone_crate
/// use tokio_evbuffer::{EvBuffer, stats};
///
/// let before = stats();
/// let buffer = EvBuffer::from(&[0; 5000][..]);
/// let now = stats();
/// assert!(now.segments_live > before.segments_live);
/// assert!(now.bytes_live >= before.bytes_live + 5000);
/// drop(buffer);
/// assert_eq!(stats().bytes_live, before.bytes_live);
/// ```
#[must_use]
pub fn stats() -> Stats {
    // The counters of one shard may be below zero, which wraps: the sum is right.
    let sum = |counter: fn(&Shard) -> &AtomicUsize| -> usize {
        let values = COUNTERS.iter().map(|shard| counter(shard).load(Relaxed));
        values.fold(0, usize::wrapping_add)
    };
    let total = |counter: fn(&Shard) -> &AtomicU64| -> u64 {
        let values = COUNTERS.iter().map(|shard| counter(shard).load(Relaxed));
        values.fold(0, u64::wrapping_add)
    };
    let (mut blocks_pooled, mut bytes_pooled) = (0, 0);
    let first = Some(&POOLS);
    for pools in iter::successors(first, |pools| Some(&**pools.next.get()?)) {
        for pool in &pools.counters {
            let kept = pool.kept.load(Relaxed);
            blocks_pooled += (kept / ONE_BLOCK) as usize;
            bytes_pooled += (kept % ONE_BLOCK) as usize;
        }
    }
    Stats {
        // Other threads may have changed one of the two sums meanwhile.
        segments_live: sum(|shard| &shard.blocks).saturating_sub(blocks_pooled),
        bytes_live: sum(|shard| &shard.block_bytes).saturating_sub(bytes_pooled),
        bytes_pooled,
        pipes_in_use: sum(|shard| &shard.pipes),
        pipes_refused: total(|shard| &shard.pipes_refused),
        bytes_spliced: total(|shard| &shard.spliced),
        bytes_copied: total(|shard| &shard.copied),
        bytes_sent_from_files: total(|shard| &shard.from_files),
    }
}
