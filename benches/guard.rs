//! Keeps the buffer's operations from becoming dearer unnoticed: instructions and allocations, counted, not timed.
//!
//! ```text
//! cargo bench --bench guard                 # fails if an operation costs 5 % more than benches/guard.txt says
//! cargo bench --bench guard -- --update     # writes the figures of today into that file
//! cargo bench --bench guard -- --peers      # shows what the same operations cost with other buffers
//! ```
//!
//! Each operation is done so many times, and so many times more, by this program under valgrind's callgrind; the
//! difference is what the further ones cost. That is the same on a busy machine and on an idle one, but not with another
//! compiler: then the figures are shown and not compared. Where there is no valgrind nothing is counted.

#[path = "support/buffer/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod buffer;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use buffer::{BUFFERS, LIBEVENT, OURS, Run, workloads};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// An operation may cost so much more than it did.
const SLACK: f64 = 1.05;

fn main() -> Result<ExitCode> {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["count", operation, buffer, times] = args[..] {
        count(operation, buffer, times.parse()?);
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: there is no valgrind, which counts the instructions");
        return Ok(ExitCode::SUCCESS);
    }
    let kept = Figures::read()?;
    match args[..] {
        [] => compare(&kept),
        ["--update"] => kept.measured(OURS)?.write().map(|()| ExitCode::SUCCESS),
        ["--peers"] => show_peers(&kept).map(|()| ExitCode::SUCCESS),
        _ => Err("usage: cargo bench --bench guard [-- --update | --peers]".into()),
    }
}

fn compare(kept: &Figures) -> Result<ExitCode> {
    let now = kept.measured(OURS)?;
    println!(
        "{:<48}{:>14}{:>14}{:>14}",
        "each time", "instructions", "kept", "allocations"
    );
    let mut dearer = Vec::new();
    for (was, is) in kept.lines.iter().zip(&now.lines) {
        println!(
            "{:<48}{:>14.1}{:>14.1}{:>14.3}",
            is.operation, is.instructions, was.instructions, is.allocations
        );
        let more_instructions = is.instructions > was.instructions * SLACK;
        let more_allocations = is.allocations > was.allocations * SLACK + 0.0005;
        if more_instructions || more_allocations {
            dearer.push(is.operation.as_str());
        }
    }
    if kept.compiler != now.compiler {
        println!(
            "not compared: the figures were made with {}, this is {}",
            kept.compiler, now.compiler
        );
    } else if !dearer.is_empty() {
        println!("dearer than they were: {}", dearer.join("; "));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn show_peers(kept: &Figures) -> Result<()> {
    let peers = BUFFERS.into_iter().filter(|&buffer| buffer != LIBEVENT);
    let columns = peers.map(|buffer| Ok((buffer, kept.measured(buffer)?)));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    print!("{:<48}", "instructions each time");
    columns
        .iter()
        .for_each(|(buffer, _)| print!("{buffer:>17}"));
    for (at, line) in kept.lines.iter().enumerate() {
        print!("\n{:<48}", line.operation);
        for (_, figures) in &columns {
            print!("{:>17.1}", figures.lines[at].instructions);
        }
    }
    println!();
    Ok(())
}

/// The kept figures, or those of today.
struct Figures {
    compiler: String,
    lines: Vec<Line>,
}

/// What an operation costs.
struct Line {
    operation: String,
    /// How often it is done. A multiple of the number after which it begins anew.
    times: u64,
    instructions: f64,
    allocations: f64,
}

impl Figures {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/guard.txt")
    }

    fn read() -> Result<Self> {
        let text = fs::read_to_string(Self::path())?;
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let compiler = lines.next().ok_or("benches/guard.txt is empty")?.to_owned();
        let lines = lines.map(str::parse).collect::<Result<_>>()?;
        Ok(Self { compiler, lines })
    }

    /// The same operations today, done by `buffer`. What it cannot do costs nothing.
    fn measured(&self, buffer: &str) -> Result<Self> {
        let version = Command::new("rustc").arg("--version").output()?.stdout;
        let compiler = String::from_utf8(version)?.trim().to_owned();
        let lines = self.lines.iter().map(|line| line.measured(buffer));
        let lines = lines.collect::<Result<_>>()?;
        Ok(Self { compiler, lines })
    }

    fn write(&self) -> Result<()> {
        let mut text = String::from(
            "# Compiler; then: operation | times | instructions each time | allocations each time.\n\
             # Written by `cargo bench --bench guard -- --update`.\n",
        );
        text += &format!("{}\n", self.compiler);
        self.lines
            .iter()
            .for_each(|line| text += &format!("{line}\n"));
        Ok(fs::write(Self::path(), text)?)
    }
}

impl Line {
    fn measured(&self, buffer: &str) -> Result<Self> {
        let count = |times: u64| count_under_valgrind(&self.operation, buffer, times);
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

/// What a whole process took.
struct Counts {
    instructions: u64,
    allocations: u64,
}

fn count_under_valgrind(operation: &str, buffer: &str, times: u64) -> Result<Counts> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["count", operation, buffer, &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, instructions) = collected.ok_or_else(|| format!("callgrind failed:\n{said}"))?;
    Ok(Counts {
        instructions: instructions.trim().parse()?,
        allocations: String::from_utf8(output.stdout)?.trim().parse()?,
    })
}

/// In the process that is counted: does the operation and prints how often memory was asked for.
fn count(operation: &str, buffer: &str, times: u64) {
    let workloads = workloads();
    let runs = workloads
        .iter()
        .filter(|workload| workload.name == operation)
        .flat_map(|workload| &workload.runs);
    let run: Option<Run> = runs
        .filter(|(name, _)| *name == buffer)
        .map(|&(_, run)| run)
        .next();
    if let Some(run) = run {
        run(times);
    }
    println!("{}", ALLOCATIONS.load(Relaxed));
}

/// Counts how often memory is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code)]
// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}
