//! A candidate as a separate process.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::Backlog,
    },
    unistd::Pid,
};
use tempfile::{NamedTempFile, TempDir};
use tokio::runtime::Handle;

use crate::sys;

/// Long enough for a start under valgrind on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A running candidate. Dropping it ends the process.
#[derive(Debug)]
pub struct Running {
    child: Child,
    addr: SocketAddr,
    /// Only our own candidates answer on their standard output.
    answers: Option<BufReader<std::process::ChildStdout>>,
    /// Holds the configuration and the output to standard error.
    dir: TempDir,
    /// A file that the candidate reads.
    file: Option<NamedTempFile>,
}

impl Running {
    /// Starts a candidate of this program, which prints its address and ends with its standard input.
    pub fn own(mut command: Command) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut child = quietly(&mut command, &dir)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let Ok(addr) = line.trim().parse() else {
            let mut failed = Self {
                child,
                addr: ([0, 0, 0, 0], 0).into(),
                answers: None,
                dir,
                file: None,
            };
            failed.child.wait()?;
            bail!(
                "{command:?} said {line:?} instead of an address\n{}",
                failed.complaints()
            );
        };
        Ok(Self {
            child,
            addr,
            answers: Some(answers),
            dir,
            file: None,
        })
    }

    /// Starts another program whose configuration in `dir` lets it listen on `addr`.
    pub fn other(mut command: Command, addr: SocketAddr, dir: TempDir) -> Result<Self> {
        let child = quietly(&mut command, &dir)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.with_context(|| format!("{command:?}"))?;
        let mut running = Self {
            child,
            addr,
            answers: None,
            dir,
            file: None,
        };
        let began = Instant::now();
        while !sys::listens_on(running.pid(), addr.port()) {
            if let Some(status) = running.child.try_wait()? {
                bail!("{command:?} ended with {status}\n{}", running.complaints());
            }
            if began.elapsed() > START_TIMEOUT {
                bail!(
                    "{command:?} does not listen on {addr}\n{}",
                    running.complaints()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }

    /// Keeps `file` until the candidate has ended.
    pub fn keep(&mut self, file: NamedTempFile) {
        self.file = Some(file);
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn cpu_time(&self) -> Result<Duration> {
        sys::cpu_time(self.pid())
    }

    pub fn resident_bytes(&self) -> Result<u64> {
        sys::resident_bytes(self.pid())
    }

    /// Returns the live bytes of the heap of one of our own candidates.
    pub fn heap_bytes(&mut self) -> Result<Option<u64>> {
        self.ask("heap")
    }

    /// Returns the longest CPU time between two turns of the I/O driver since the last call. The first call starts the
    /// measurement.
    pub fn longest_between_turns(&mut self) -> Result<Duration> {
        let nanos = self.ask("turns")?.context("has no runtime")?;
        Ok(Duration::from_nanos(nanos))
    }

    /// Asks one of our own candidates for a number.
    fn ask(&mut self, question: &str) -> Result<Option<u64>> {
        let Some(answers) = &mut self.answers else {
            return Ok(None);
        };
        writeln!(self.child.stdin.as_mut().expect("piped"), "{question}")?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        Ok(Some(line.trim().parse()?))
    }

    /// Ends the process in order, as a profiler needs it, and returns its output to standard error.
    pub fn stop(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        if self.answers.is_none() {
            kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        }
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > STOP_TIMEOUT {
                bail!("a candidate does not end");
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(self.complaints())
    }

    fn complaints(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a listener whose queue does not overflow when thousands of clients connect at once.
pub fn listen() -> Result<TcpListener> {
    const QUEUE: i32 = 4096;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The standard library has set a shorter queue.
    nix::sys::socket::listen(&listener, Backlog::new(QUEUE)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The candidate's side of [`Running::own`]: prints the address, then answers requests until standard input is closed,
/// which also happens if the parent is killed.
pub fn serve_parent(addr: SocketAddr) {
    println!("{addr}");
    let runtime = Handle::try_current().ok();
    thread::spawn(move || {
        let longest = Arc::new(AtomicU64::new(0));
        let mut watched = false;
        for line in std::io::stdin().lines() {
            match line.as_deref() {
                Ok("heap") => println!("{}", sys::heap_bytes()),
                Ok("turns") => {
                    println!("{}", longest.swap(0, Ordering::Relaxed));
                    if let Some(runtime) = runtime.as_ref().filter(|_| !watched) {
                        watched = true;
                        runtime.spawn(watch_driver(longest.clone()));
                    }
                }
                _ => {}
            }
        }
        std::process::exit(0);
    });
}

/// Records the longest CPU time between two turns of the I/O driver: a task that yields runs once after each of them.
async fn watch_driver(longest: Arc<AtomicU64>) {
    let mut before = sys::thread_cpu_time();
    loop {
        tokio::task::yield_now().await;
        let now = sys::thread_cpu_time();
        let nanos = (now - before).as_nanos().try_into().unwrap_or(u64::MAX);
        longest.fetch_max(nanos, Ordering::Relaxed);
        before = now;
    }
}

fn quietly<'a>(command: &'a mut Command, dir: &TempDir) -> Result<&'a mut Command> {
    Ok(command.stderr(std::fs::File::create(dir.path().join("stderr"))?))
}
