//! One buffer, one producer, and three who wait for its bytes, each in its own way.
//!
//! ```sh
//! cargo run --example notify
//! ```
//!
//! * A **callback**, run later by the executor of the runtime's queue: changes made meanwhile are merged.
//! * A **stream** of changes, for those who keep books.
//! * **`readable(n)`**, for those who parse: woken when a whole record may be there, not at each byte.
//!
//! Whatever is merged, the sums come out the same; the example asserts that at the end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::{Result, ensure};
use futures::StreamExt;
use tokio_evbuffer::{
    DeferredQueue, SharedEvBuffer,
    shared::{Changes, WaitError},
};

const PIECES: usize = 10;
const PIECE: &[u8] = b"a piece of 25 bytes, okay";
const RECORD: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let buffer = SharedEvBuffer::new();

    let told = Arc::new(AtomicU64::new(0));
    let callback = buffer.on_change({
        let told = told.clone();
        move |_, change| {
            told.fetch_add(change.added, Relaxed);
            println!(
                "callback  +{} -{} bytes, merged into one run, now {}",
                change.added, change.removed, change.after
            );
        }
    });
    let bookkeeper = tokio::spawn(keep_books(buffer.changes()));
    let parser = tokio::spawn(take_records(buffer.clone()));

    for piece in 1..=PIECES {
        // All that is done under one guard is one change: nobody sees half a piece.
        let mut guard = buffer.lock();
        let (head, rest) = PIECE.split_at(8);
        guard.add(head)?;
        guard.add(rest)?;
        drop(guard);
        println!("producer  added piece {piece} in two steps under one guard");
        if piece % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    buffer.close();
    println!("producer  closed the buffer: who waits for more than there will be is told so");

    let (records, rest) = parser.await??;
    let (added, removed) = bookkeeper.await?;
    DeferredQueue::current().drained().await;
    drop(callback);

    let all = PIECES * PIECE.len();
    println!(
        "{records} records of {RECORD} bytes, {rest} bytes over; {added} bytes in, {removed} out"
    );
    ensure!(
        records * RECORD + rest == all,
        "the parser has seen every byte"
    );
    ensure!(added == all as u64, "the books have every byte that came");
    // The stream ends with the buffer's closing; the rest was taken after that.
    ensure!(
        removed == (records * RECORD) as u64,
        "the books have every byte that went until then"
    );
    ensure!(
        told.load(Relaxed) == all as u64,
        "the callback was told of every byte"
    );
    Ok(())
}

/// Sums up all changes, from the moment the stream was made until the buffer is closed.
async fn keep_books(mut changes: Changes) -> (u64, u64) {
    let mut sums = (0, 0);
    while let Some(change) = changes.next().await {
        println!("stream    {} -> {} bytes", change.before, change.after);
        sums = (sums.0 + change.added, sums.1 + change.removed);
    }
    sums
}

/// Takes whole records until no other can come; returns how many, and the bytes that were left over.
async fn take_records(buffer: SharedEvBuffer) -> Result<(usize, usize)> {
    let mut records = 0;
    loop {
        match buffer.readable(RECORD).await {
            Ok(()) => {
                let record = buffer.take_bytes(RECORD)?;
                records += 1;
                println!("readable  took record {records} of {} bytes", record.len());
            }
            Err(WaitError::Closed) => return Ok((records, buffer.drain(usize::MAX)?)),
            Err(error) => return Err(error.into()),
        }
    }
}
