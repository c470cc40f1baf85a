//! A chat room: each line of a member goes to all members.
//!
//! The bytes of a message exist once, however many members it waits for. All connections share a [`MemoryBudget`]: when
//! members that do not read use it up, the others stop being read, and the room drops the slowest ones.
//!
//! ```sh
//! cargo run --release --example chat                               # a demonstration that ends by itself
//! cargo run --release --example chat -- --listen 127.0.0.1:7000    # the real thing, until ctrl-c
//! nc 127.0.0.1 7000                                                # in other terminals
//! ```

mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    BufferEvent, EolStyle, EvBuffer,
    bufferevent::{Direction, PauseReason},
    limits::MemoryBudget,
};

/// The longest line.
const LINE_MAX: usize = 16 * 1024;
/// How often the room checks its memory.
const SHED_INTERVAL: Duration = Duration::from_millis(50);
/// How often the room prints how much memory it holds, if that has changed.
const PRINT_INTERVAL: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<()> {
    match support::arguments(|_, _| Ok(false))? {
        Some(addr) => {
            let room = Arc::new(Room::new(MemoryBudget::new(64 << 20)));
            support::listen(addr, |listener| accept(listener, room)).await
        }
        None => demonstrate().await,
    }
}

async fn accept(listener: TcpListener, room: Arc<Room>) {
    let serve = |stream, peer| {
        let room = Arc::clone(&room);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, peer, &room).await {
                println!("{peer}: {error:#}");
            }
        });
    };
    tokio::join!(
        support::accept_all(listener, serve),
        room.shed(),
        room.print()
    );
}

/// The members, and what they hold together.
struct Room {
    members: Mutex<HashMap<SocketAddr, BufferEvent>>,
    budget: MemoryBudget,
    dropped: AtomicUsize,
    /// The most memory that was in use, and how much it would have been with a copy of each message for each member.
    held_max: AtomicUsize,
    copies_max: AtomicUsize,
}

async fn serve(stream: TcpStream, peer: SocketAddr, room: &Room) -> Result<()> {
    let member = BufferEvent::builder()
        .name(peer.to_string())
        .budget(&room.budget)
        .spawn(stream);
    let _membership = room.join(peer, &member);
    member.output().add(b"welcome\n")?;
    while let Some(line) = member.input().next_line(EolStyle::Crlf, LINE_MAX).await? {
        room.post(&line)?;
    }
    member.close().await?;
    Ok(())
}

impl Room {
    fn new(budget: MemoryBudget) -> Self {
        Self {
            members: Mutex::default(),
            budget,
            dropped: AtomicUsize::new(0),
            held_max: AtomicUsize::new(0),
            copies_max: AtomicUsize::new(0),
        }
    }

    /// Adds a member until the result is dropped.
    fn join(&self, peer: SocketAddr, member: &BufferEvent) -> impl Drop + use<'_> {
        struct Membership<'a>(&'a Room, SocketAddr);
        impl Drop for Membership<'_> {
            fn drop(&mut self) {
                let mut members = self
                    .0
                    .members
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                members.remove(&self.1);
            }
        }
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.insert(peer, member.clone());
        Membership(self, peer)
    }

    /// Sends a line to all members.
    fn post(&self, line: &[u8]) -> Result<()> {
        let mut message = EvBuffer::new();
        message.add(line)?;
        message.add(b"\n")?;
        let message = message.share();
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut copies = 0;
        for member in members.values() {
            // A member that is leaving takes no more.
            let _ = member.output().lock().add_shared(&message);
            copies += member.output().len();
        }
        drop(members);
        self.held_max.fetch_max(self.budget.used(), Relaxed);
        self.copies_max.fetch_max(copies, Relaxed);
        Ok(())
    }

    /// Prints how much memory was held, and how much copies would have held; never returns.
    async fn print(&self) {
        let mut printed = 0;
        loop {
            sleep(PRINT_INTERVAL).await;
            let (held, copies) = self.memory();
            if copies > printed {
                printed = copies;
                println!("at most {held} bytes were held; copies would have held {copies}");
            }
        }
    }

    fn memory(&self) -> (usize, usize) {
        (self.held_max.load(Relaxed), self.copies_max.load(Relaxed))
    }

    /// Drops slow members while the budget is used up; never returns.
    async fn shed(&self) {
        loop {
            sleep(SHED_INTERVAL).await;
            // A shared message counts for one of its members only, so the budget does not know who is slow.
            let slowest = {
                let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
                members
                    .iter()
                    .filter(|(_, member)| {
                        member.paused(Direction::Read).contains(PauseReason::Budget)
                    })
                    .max_by_key(|(_, member)| member.output().len())
                    .map(|(peer, member)| (*peer, member.clone()))
            };
            if let Some((peer, member)) = slowest {
                println!("dropping {peer}: {} bytes behind", member.output().len());
                self.dropped.fetch_add(1, Relaxed);
                member.abort();
                // Its memory is released before another one is chosen.
                member.closed().await;
            }
        }
    }
}

/// Runs members that read everything, and some that never read.
async fn demonstrate() -> Result<()> {
    const READERS: usize = 20;
    const SLEEPERS: usize = 3;
    const POSTS: usize = 2000;
    const POST_LEN: usize = 4096;
    const BUDGET: usize = 2 << 20;

    let room = Arc::new(Room::new(MemoryBudget::new(BUDGET)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(accept(listener, Arc::clone(&room)));

    let mut sleepers = Vec::new();
    for _ in 0..SLEEPERS {
        // The kernel keeps little for them.
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(16 << 10)?;
        sleepers.push(socket.connect(addr).await?);
    }
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let mut lines = join(addr).await?;
        readers.spawn(async move {
            for number in 0..POSTS {
                let line = lines.next_line().await?.context("a post is missing")?;
                ensure!(
                    line.len() == POST_LEN && line.starts_with(&format!("{number:8}")),
                    "a wrong post"
                );
            }
            Ok(())
        });
    }
    // Each post waits for its own copy, so that the author is not faster than the room.
    let mut author = join(addr).await?;
    for number in 0..POSTS {
        let post = format!("{number:8}{:.>1$}\n", "", POST_LEN - 8);
        author.get_mut().write_all(post.as_bytes()).await?;
        let echo = timeout(Duration::from_secs(20), author.next_line());
        ensure!(echo.await??.is_some(), "the author was dropped");
    }
    while let Some(reader) = readers.join_next().await {
        reader??;
    }
    let (held, copies) = room.memory();
    let dropped = room.dropped.load(Relaxed);
    println!("{READERS} readers received {POSTS} posts each; {dropped} sleepers were dropped");
    println!("at most {held} bytes were held; copies for each member would have held {copies}");
    ensure!(dropped == SLEEPERS, "{dropped} members were dropped");
    ensure!(held <= BUDGET + BUDGET / 20, "the budget was exceeded");
    ensure!(held < copies, "messages were copied");
    Ok(())
}

/// Connects, and waits until the room has taken the new member in.
async fn join(addr: SocketAddr) -> Result<Lines<BufReader<TcpStream>>> {
    let mut lines = BufReader::new(TcpStream::connect(addr).await?).lines();
    ensure!(lines.next_line().await?.is_some(), "no welcome");
    Ok(lines)
}
