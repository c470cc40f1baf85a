//! Figures of a process from the kernel and the allocator, and limits.

use std::{collections::HashSet, fs, os::unix::fs::OpenOptionsExt, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{Resource, getrlimit, setrlimit},
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// Kernel and processor, in a few words.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.split(['-', '\n']).next().unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let models = || {
        processors
            .lines()
            .filter_map(|line| line.strip_prefix("model name"))
    };
    let model = models()
        .next()
        .unwrap_or_default()
        .trim_matches([' ', '\t', ':']);
    format!("Linux {kernel}, {} CPUs, {model}", models().count())
}

/// Returns the CPUs that this thread may run on.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// Pins this thread, and processes that it starts later, to these CPUs.
pub fn run_on(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("cannot run on CPUs {cpus:?}"))
}

/// Raises the limit of open files to `wanted`, or up to what is allowed, and returns the new limit.
pub fn raise_file_limit(wanted: u64) -> Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(soft);
    }
    // Only root may raise the hard limit; every user may raise the soft limit up to it.
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard)?;
    }
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// Returns the CPU time that a process has used.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    Ok(clock_gettime(clock_getcpuclockid(pid_of(pid))?)?.into())
}

/// Bytes of memory that a process has in RAM, to the page. (`statm` may be off by some hundred KiB.)
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .context("no Rss")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Returns the CPU time of this thread.
pub fn thread_cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Returns the kernel memory of all TCP sockets of this machine, in bytes.
pub fn tcp_bytes() -> Result<u64> {
    const PAGE: u64 = 4096;
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| line.split_whitespace().last());
    Ok(pages.context("no TCP memory")?.parse::<u64>()? * PAGE)
}

/// Returns the bytes in all pipes of a process.
pub fn pipe_bytes(pid: u32) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    for file in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(target) = fs::read_link(file.path()) else {
            continue;
        };
        if !target.to_string_lossy().starts_with("pipe:") || !seen.insert(target) {
            continue;
        }
        let pipe = fs::File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(file.path());
        // The process may have closed it meanwhile.
        bytes += pipe.map_or(Ok(0), rustix::io::ioctl_fionread)?;
    }
    Ok(bytes)
}

/// Returns the bytes of glibc's heap in use by this process. Bytes in thread caches count as used.
#[allow(unsafe_code)]
pub fn heap_bytes() -> u64 {
    // SAFETY: takes no arguments, and locks each arena while it reads it.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// Whether `pid` itself, and no other process, listens on `port`.
pub fn listens_on(pid: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let Ok(table) = fs::read_to_string("/proc/net/tcp") else {
        return false;
    };
    let sockets = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let here = fields.get(1)?.ends_with(&format!(":{port:04X}")) && *fields.get(3)? == LISTEN;
        here.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
    });
    sockets.into_iter().any(|socket| has_open(pid, &socket))
}

/// Whether a tracer has attached itself to each thread of `pid`.
pub fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"))
            .is_some_and(|tracer| tracer.trim() != "0")
    })
}

fn has_open(pid: u32, link: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy() == link))
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("the kernel's pids are positive i32"))
}
