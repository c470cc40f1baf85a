//! The tables of ends in `docs/ENDS.md`: streams, peers, and the comparison with the page.
//!
//! `ENDS_ROUNDS=n` runs each cell `n` times, `ENDS_ONLY=text` only cells whose name contains the text, against nothing.
//! `UPDATE_DOCS=1` writes the page.
#![allow(dead_code, unreachable_pub)]

pub mod bufferevent;
pub mod relay;
pub mod streams;

use std::{
    collections::BTreeMap, fmt::Write as _, future::Future, io, path::Path, pin::pin,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{self, Handle, Runtime},
    sync::oneshot,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};

use self::streams::Far;
use crate::support::tasks::HANG;

/// How long slow peers wait before they read.
const LATE: Duration = Duration::from_millis(100);

/// What the peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Starts to read late.
    Slow,
    /// Sends until it sees the end, and starts to read late.
    Sends,
    /// Has reset the connection, or dropped its stream.
    Gone,
}

/// What one end looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub sees: String,
    pub gets: String,
    pub counted: String,
}

/// A cell with its place in the table. `E` are the ends.
pub struct Row<E> {
    pub end: E,
    pub peer: Peer,
    pub stream: &'static str,
    pub cell: Cell,
}

/// Runs cells at the same time, and returns them in the order in which they were added.
pub struct Cells<E>(JoinSet<(usize, Row<E>)>);

impl<E: Copy + std::fmt::Debug + Send + 'static> Cells<E> {
    pub fn new() -> Self {
        Self(JoinSet::new())
    }

    pub fn add(
        &mut self,
        (end, peer, stream): (E, Peer, &'static str),
        cell: impl Future<Output = Cell> + Send + 'static,
    ) {
        let name = format!("{end:?} {peer:?} {stream}");
        if std::env::var("ENDS_ONLY").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        let index = self.0.len();
        self.0.spawn(async move {
            let cell = timeout(HANG, cell).await;
            let cell = cell.unwrap_or_else(|_| panic!("{name}: no end"));
            let row = Row {
                end,
                peer,
                stream,
                cell,
            };
            (index, row)
        });
    }

    pub async fn run(self) -> Vec<Row<E>> {
        let mut rows = self.0.join_all().await;
        rows.sort_by_key(|(index, _)| *index);
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// Returns the lines of a table. Streams with the same outcome share one.
pub fn lines<E: Ord + Copy>(rows: Vec<Row<E>>, title: fn(E) -> &'static str) -> String {
    let mut merged = BTreeMap::<(E, Peer), Vec<(Cell, Vec<&str>)>>::new();
    for row in rows {
        let cells = merged.entry((row.end, row.peer)).or_default();
        match cells.iter_mut().find(|(cell, _)| *cell == row.cell) {
            Some((_, streams)) => streams.push(row.stream),
            None => cells.push((row.cell, vec![row.stream])),
        }
    }
    let mut text = String::new();
    for ((end, peer), cells) in merged {
        let peer = match peer {
            Peer::Slow => "slow",
            Peer::Sends => "still sends",
            Peer::Gone => "gone",
        };
        for (cell, streams) in cells {
            let (end, streams) = (title(end), streams.join(", "));
            let Cell {
                sees,
                gets,
                counted,
            } = cell;
            writeln!(
                text,
                "| {end} | {peer} | {streams} | {sees} | {gets} | {counted} |"
            )
            .unwrap();
        }
    }
    text
}

/// A table in whose making the runtime ran no task for longer proves nothing: its timeouts fire where none should.
const STALL_MAX: Duration = Duration::from_secs(1);

/// How often a table is made again because of that.
const TRIES: usize = 10;

/// Returns what `table` returns, and the longest time for which the runtime ran no task meanwhile.
async fn watched<T: Send + 'static>(
    table: impl Future<Output = T> + Send + 'static,
) -> (Result<T, JoinError>, Duration) {
    let mut making = tokio::spawn(table);
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    loop {
        let made = timeout(Duration::from_millis(5), &mut making).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if let Ok(made) = made {
            return (made, longest);
        }
    }
}

/// Compares the lines that `table` returns with those of the page between the comments named `name`, in each round.
pub async fn check<F>(name: &str, mut table: impl FnMut() -> F)
where
    F: Future<Output = String> + Send + 'static,
{
    let rounds = std::env::var("ENDS_ROUNDS").map_or(1, |text| text.parse().unwrap());
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("docs/ENDS.md"))
        .find(|page| page.exists())
        .unwrap();
    let (mut round, mut stalled) = (0, 0);
    while round < rounds {
        let (found, longest) = watched(table()).await;
        round += 1;
        if std::env::var_os("ENDS_ONLY").is_some() {
            eprint!("{}", found.unwrap());
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        let begin = format!("<!-- begin: {name} -->\n");
        let end = format!("<!-- end: {name} -->\n");
        let (before, rest) = text.split_once(&begin).unwrap();
        let (documented, after) = rest.split_once(&end).unwrap();
        let (head, body) =
            documented.split_at(documented.match_indices('\n').nth(1).unwrap().0 + 1);
        if longest > STALL_MAX && !found.as_ref().is_ok_and(|found| body == found) {
            eprintln!("round {round} does not count: this machine ran nothing for {longest:?}");
            stalled += 1;
            assert!(
                found.is_ok() || stalled < TRIES,
                "a cell has failed {TRIES} times"
            );
            if stalled < TRIES {
                round -= 1;
            }
            continue;
        }
        let found = found.unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&page, format!("{before}{begin}{head}{found}{end}{after}")).unwrap();
            continue;
        }
        let wrong: Vec<_> = (found.lines())
            .filter(|line| !body.contains(&format!("{line}\n")))
            .collect();
        assert!(
            body == found,
            "round {round}: the page does not have\n{}",
            wrong.join("\n")
        );
    }
}

/// Of a stream that discards what it has not sent when it is closed.
const ANY: &str = "what had arrived by then";

/// What the peer did see.
pub struct Seen {
    pub received: usize,
    pub end: &'static str,
}

/// Plays a peer: reads once `start` is ready, up to the end. With a `pace` it also sends, until `keep_sending` is ready behind the end.
/// `is_expected` checks a piece with its position. When `all` bytes have come, `got_all` is triggered.
pub async fn play(
    far: Box<dyn Far>,
    pace: Option<Duration>,
    (start, keep_sending): (impl Future, impl Future),
    (all, is_expected): (usize, impl Fn(usize, &[u8]) -> bool),
    mut got_all: Option<oneshot::Sender<()>>,
) -> Seen {
    let (mut from, mut to) = tokio::io::split(far);
    let mut sending = Box::pin(async {
        let Some(pace) = pace else {
            return std::future::pending().await;
        };
        loop {
            match to.write_all(&[7; 1000]).await {
                Ok(()) if pace.is_zero() => tokio::task::yield_now().await,
                Ok(()) => sleep(pace).await,
                Err(error) => return error.kind(),
            }
        }
    });
    let mut reading = pin!(async {
        start.await;
        let (mut received, mut piece) = (0, vec![0; 32 << 10]);
        loop {
            match from.read(&mut piece).await {
                Ok(0) => return (received, "the end"),
                Ok(n) => {
                    assert!(is_expected(received, &piece[..n]), "at {received}");
                    received += n;
                }
                Err(error) => return (received, named(error.kind())),
            }
            if received == all
                && let Some(got_all) = got_all.take()
            {
                let _ = got_all.send(());
            }
        }
    });
    let mut sends = true;
    let (received, end) = tokio::select! {
        seen = &mut reading => seen,
        failed = &mut sending => {
            sends = false;
            // A socket reports a reset once, to a write or to a read.
            match (failed, reading.await) {
                (io::ErrorKind::ConnectionReset, (received, "the end")) => (received, "a reset"),
                (_, seen) => seen,
            }
        }
    };
    tokio::select! {
        _ = &mut sending, if sends => {}
        _ = keep_sending => {}
    }
    drop(sending);
    // It has seen the end, and ends its own direction.
    let _ = timeout(Duration::from_secs(1), to.shutdown()).await;
    Seen { received, end }
}

/// How the peer calls an error at the end.
fn named(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionReset => "a reset",
        io::ErrorKind::UnexpectedEof => "`UnexpectedEof`",
        other => panic!("the peer got {other:?}"),
    }
}

impl Seen {
    /// Says how much came and how it ended. Where the kernel decides, `ends` names all possible ends.
    fn describe(&self, expected: usize, ends: &str) -> String {
        let amount = match self.received == expected {
            true => "everything",
            false => "a part",
        };
        match ends {
            ANY => ANY.to_owned(),
            _ if ends.contains(self.end) => format!("{amount}, then {ends}"),
            _ => format!("{amount}, then {}", self.end),
        }
    }
}

/// A runtime for one connection.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> Self {
        let mut builder = runtime::Builder::new_multi_thread();
        Self(Some(
            builder.worker_threads(1).enable_all().build().unwrap(),
        ))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().unwrap().handle().clone()
    }

    /// Shuts it down. Must not be called by a task.
    fn shut_down(mut self) {
        drop(self.0.take());
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(own) = self.0.take() {
            own.shutdown_background();
        }
    }
}
