//! Whether a range of a file is in the page cache, so that reading it does not wait for a disk.

use std::{fs::File, ops::Range};

/// Where the bytes of a file are.
// Where the system is not asked, the answer is always the same.
#[cfg_attr(not(all(feature = "net", target_os = "linux")), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    /// In memory.
    Cached,
    /// Some of them have to be read from the disk.
    Absent,
    /// The system or the file system does not say.
    Unknown,
}

/// Asks the kernel to read `range`, without waiting.
pub(super) fn request(file: &File, range: Range<u64>) {
    #[cfg(all(feature = "net", target_os = "linux"))]
    {
        use rustix::fs::{Advice, fadvise};
        let len = std::num::NonZeroU64::new(range.end - range.start);
        // Advice only: reading works without it.
        let _ = fadvise(file, range.start, len, Advice::WillNeed);
    }
    let _ = (file, range);
}

#[cfg(all(feature = "net", target_os = "linux"))]
pub(super) use linux::residency;

#[cfg(not(all(feature = "net", target_os = "linux")))]
pub(super) fn residency(_: &File, _: Range<u64>) -> Residency {
    Residency::Unknown
}

#[cfg(all(feature = "net", target_os = "linux"))]
mod linux {
    use std::{fs::File, io::IoSliceMut, ops::Range};

    use rustix::{
        fs::fstatfs,
        io::{Errno, ReadWriteFlags, preadv2},
    };

    use super::Residency;

    /// A page of a file, at least. The kernel reads it as a whole.
    const PAGE: u64 = 4 << 10;

    /// File systems whose files are always in memory: tmpfs and ramfs.
    const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

    /// Looks at the last and the first byte of `range`, which is not empty, with reads that do not wait.
    ///
    /// The kernel reads files ahead, and evicts them again, in long runs. So a range that is cached in part mostly lacks one
    /// of the two. To look at more takes system calls that a `sendfile` of cached bytes would have to pay for.
    pub(crate) fn residency(file: &File, range: Range<u64>) -> Residency {
        let (first, last) = (range.start, range.end - 1);
        match residency_of_byte(file, last) {
            Residency::Cached if first / PAGE != last / PAGE => residency_of_byte(file, first),
            residency => residency,
        }
    }

    fn residency_of_byte(file: &File, at: u64) -> Residency {
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        match preadv2(file, &mut slices, at, ReadWriteFlags::NOWAIT) {
            // A file that has become shorter: a worker should not find that out from the disk either.
            Ok(0) | Err(Errno::AGAIN) => Residency::Absent,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if !is_in_memory(file) => {
                Residency::Unknown
            }
            // After another error a read fails as well, at once, and returns it.
            Ok(_) | Err(_) => Residency::Cached,
        }
    }

    fn is_in_memory(file: &File) -> bool {
        fstatfs(file).is_ok_and(|stat| IN_MEMORY.contains(&(stat.f_type as u32)))
    }
}
