//! Fails if a buffer operation executes more instructions or allocates more often than the file says.
//!
//! ```text
//! cargo bench --bench instructions                 # fails above 105 % of benches/instructions.txt
//! cargo bench --bench instructions -- --update     # writes the current figures into that file
//! ```
//!
//! This program runs each operation `n` times and `2 n` times under valgrind's callgrind; the difference is the cost of
//! `n` operations. The result is the same on a busy and on an idle machine, but not with another compiler: then the
//! figures are printed and not compared. Without valgrind the program does nothing.

#[path = "workloads/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod workloads;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use workloads::OURS;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The tolerated growth.
const SLACK: f64 = 1.05;

fn main() -> Result<ExitCode> {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["count", operation, times] = args[..] {
        count(operation, times.parse()?);
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind, which counts the instructions, is not installed");
        return Ok(ExitCode::SUCCESS);
    }
    let kept = Figures::read()?;
    match args[..] {
        [] => compare(&kept),
        ["--update"] => kept.measured()?.write().map(|()| ExitCode::SUCCESS),
        _ => Err("usage: cargo bench --bench instructions [-- --update]".into()),
    }
}

fn compare(kept: &Figures) -> Result<ExitCode> {
    let now = kept.measured()?;
    println!(
        "{:<48}{:>14}{:>14}{:>14}",
        "operation", "instructions", "in the file", "allocations"
    );
    let mut more_expensive = Vec::new();
    for (was, is) in kept.lines.iter().zip(&now.lines) {
        println!(
            "{:<48}{:>14.1}{:>14.1}{:>14.3}",
            is.operation, is.instructions, was.instructions, is.allocations
        );
        let more_instructions = is.instructions > was.instructions * SLACK;
        let more_allocations = is.allocations > was.allocations * SLACK + 0.0005;
        if more_instructions || more_allocations {
            more_expensive.push(is.operation.as_str());
        }
    }
    if kept.compiler != now.compiler {
        println!(
            "not compared: the figures were made with {}, this is {}",
            kept.compiler, now.compiler
        );
    } else if !more_expensive.is_empty() {
        println!(
            "more expensive than in the file: {}",
            more_expensive.join("; ")
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The figures of the file, or the current ones.
struct Figures {
    compiler: String,
    lines: Vec<Line>,
}

/// The cost of one operation.
struct Line {
    operation: String,
    /// How often the operation runs: a multiple of the workload's period.
    times: u64,
    instructions: f64,
    allocations: f64,
}

impl Figures {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
    }

    fn read() -> Result<Self> {
        let text = fs::read_to_string(Self::path())?;
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let compiler = lines
            .next()
            .ok_or("benches/instructions.txt is empty")?
            .to_owned();
        let lines = lines.map(str::parse).collect::<Result<_>>()?;
        Ok(Self { compiler, lines })
    }

    /// Measures the same operations now.
    fn measured(&self) -> Result<Self> {
        let version = Command::new("rustc").arg("--version").output()?.stdout;
        let compiler = String::from_utf8(version)?.trim().to_owned();
        let lines = self.lines.iter().map(|line| line.measured());
        let lines = lines.collect::<Result<_>>()?;
        Ok(Self { compiler, lines })
    }

    fn write(&self) -> Result<()> {
        let mut text = String::from(
            "# Compiler; then: operation | times | instructions each | allocations each.\n\
             # Written by `cargo bench --bench instructions -- --update`.\n",
        );
        text += &format!("{}\n", self.compiler);
        self.lines
            .iter()
            .for_each(|line| text += &format!("{line}\n"));
        Ok(fs::write(Self::path(), text)?)
    }
}

impl Line {
    fn measured(&self) -> Result<Self> {
        let count = |times: u64| count_under_valgrind(&self.operation, times);
        let (few, many) = (count(self.times)?, count(2 * self.times)?);
        let each = |few: u64, many: u64| (many - few) as f64 / self.times as f64;
        Ok(Self {
            operation: self.operation.clone(),
            times: self.times,
            instructions: each(few.instructions, many.instructions),
            allocations: each(few.allocations, many.allocations),
        })
    }
}

impl FromStr for Line {
    type Err = Box<dyn std::error::Error>;

    fn from_str(line: &str) -> Result<Self> {
        let [operation, times, instructions, allocations] = line
            .split('|')
            .map(str::trim)
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| format!("not four fields: {line}"))?;
        Ok(Self {
            operation: operation.to_owned(),
            times: times.parse()?,
            instructions: instructions.parse()?,
            allocations: allocations.parse()?,
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            times,
            instructions,
            allocations,
        } = self;
        write!(
            f,
            "{operation} | {times} | {instructions:.1} | {allocations:.4}"
        )
    }
}

/// The counts of a whole process.
struct Counts {
    instructions: u64,
    allocations: u64,
}

fn count_under_valgrind(operation: &str, times: u64) -> Result<Counts> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["count", operation, &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, instructions) = collected.ok_or_else(|| format!("callgrind failed:\n{said}"))?;
    Ok(Counts {
        instructions: instructions.trim().parse()?,
        allocations: String::from_utf8(output.stdout)?.trim().parse()?,
    })
}

/// Runs in the process that is counted: runs the operation and prints the number of allocations.
fn count(operation: &str, times: u64) {
    let workloads = workloads::all();
    let workload = workloads.iter().find(|w| w.name == operation);
    let run = workload.and_then(|w| w.runs.iter().find(|(name, _)| *name == OURS));
    let (_, run) = run.expect("benches/instructions.txt names an operation that no longer exists");
    run(times);
    println!("{}", ALLOCATIONS.load(Relaxed));
}

/// Counts the allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code)]
// SAFETY: each call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}
