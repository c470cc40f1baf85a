//! Lines on stdout and stderr. A thread for each of them writes, so that a pipe that is full never blocks the traffic.

use std::{
    fmt,
    io::{self, Write},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait for a slow reader of stdout or stderr; those that do not fit are dropped and counted.
const LINES_MAX: usize = 1024;

static STDOUT: OnceLock<NonBlocking> = OnceLock::new();
static STDERR: OnceLock<NonBlocking> = OnceLock::new();

/// Starts the threads. Dropping the result writes what is left, for at most about a second.
#[must_use = "lines are lost if this is dropped before the end"]
pub(crate) fn start() -> [WorkerGuard; 2] {
    let builder = || NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX);
    let (stdout, stdout_guard) = builder().finish(io::stdout());
    let (stderr, stderr_guard) = builder().finish(io::stderr());
    STDOUT.get_or_init(|| stdout);
    STDERR.get_or_init(|| stderr);
    [stdout_guard, stderr_guard]
}

/// Prints a line on stdout.
pub(crate) fn print(line: fmt::Arguments<'_>) {
    write(&STDOUT, line);
}

/// Prints a line on stderr.
pub(crate) fn log(line: fmt::Arguments<'_>) {
    write(&STDERR, line);
}

/// Returns the number of lines dropped so far because the reader of stdout or stderr was too slow.
pub(crate) fn dropped_lines() -> usize {
    let dropped = |output: &OnceLock<NonBlocking>| {
        let counter = output.get().map(NonBlocking::error_counter);
        counter.map_or(0, |counter| counter.dropped_lines())
    };
    dropped(&STDOUT) + dropped(&STDERR)
}

fn write(output: &OnceLock<NonBlocking>, line: fmt::Arguments<'_>) {
    if let Some(output) = output.get() {
        // One write is one line. A failed write is counted as dropped.
        let _ = output.clone().write_all(format!("{line}\n").as_bytes());
    }
}

/// A message about a condition that may come back many times a second. Logged at most once in ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    last: Mutex<Option<Instant>>,
}

impl Repeated {
    const INTERVAL: Duration = Duration::from_secs(10);

    /// Logs the line, unless one was logged a short while ago.
    pub(crate) fn log(&self, line: fmt::Arguments<'_>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= Self::INTERVAL) {
            *last = Some(Instant::now());
            drop(last);
            log(line);
        }
    }
}
