//! A process that is measured: this program started anew, which answers each line on its stdin with its figures.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicIsize, Ordering::Relaxed},
    time::Duration,
};

use super::Result;

/// A process of its own, ended when dropped.
pub(crate) struct Process {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this program with `args`.
    pub(crate) fn start(args: &[&str]) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = child.stdin.take().expect("piped");
        let answer = BufReader::new(child.stdout.take().expect("piped"));
        Ok(Self { child, ask, answer })
    }

    /// The next line that it printed.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// CPU time so far.
    pub(crate) fn cpu(&mut self) -> Result<Duration> {
        Ok(Duration::from_nanos(self.figures()?[0] as u64))
    }

    /// Bytes of RSS and of live heap.
    pub(crate) fn memory(&mut self) -> Result<(i64, i64)> {
        let [_, rss, heap] = self.figures()?;
        Ok((rss, heap))
    }

    fn figures(&mut self) -> Result<[i64; 3]> {
        writeln!(self.ask)?;
        let line = self.line()?;
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || numbers.next().ok_or("too few numbers");
        Ok([next()??, next()??, next()??])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have gone already; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the process that is measured: answers on a thread of its own until stdin ends, and then ends the process.
pub(crate) fn answer_with_figures() {
    std::thread::spawn(|| {
        for line in io::stdin().lines() {
            let figures = line.map_err(Into::into).and_then(|_| figures());
            println!("{}", figures.unwrap_or_else(|error| error.to_string()));
        }
        std::process::exit(0);
    });
}

/// CPU time in ns, RSS and live heap in bytes.
#[cfg(target_os = "linux")]
fn figures() -> Result<String> {
    use rustix::{
        param::page_size,
        time::{ClockId, clock_gettime},
    };
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .ok_or("no resident pages")?
        .parse()?;
    Ok(format!(
        "{cpu} {} {}",
        pages * page_size(),
        LIVE.load(Relaxed)
    ))
}

#[cfg(not(target_os = "linux"))]
fn figures() -> Result<String> {
    Err("the figures of a process are known on Linux only".into())
}

/// Two descriptors a connection, in both processes.
pub(crate) fn allow_many_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If it cannot be had, connecting will say so.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Counts the bytes of memory in use.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code)]
// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}
