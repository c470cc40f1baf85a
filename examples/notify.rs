//! One buffer, one producer, and three ways to wait for its bytes.
//!
//! ```sh
//! cargo run --example notify
//! ```
//!
//! * A **callback** runs later, on the runtime's queue. Changes that happen meanwhile are merged into one call.
//! * A **stream** of changes, for bookkeeping.
//! * **`readable(n)`**, for parsers: wakes its task when a whole record is there, not at each byte.
//!
//! Merged or not, the sums are the same. The example checks that at the end.

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

    let added_by_callback = Arc::new(AtomicU64::new(0));
    let callback = buffer.on_change({
        let added = added_by_callback.clone();
        move |_, change| {
            added.fetch_add(change.added, Relaxed);
            println!(
                "callback  +{} -{} bytes in one call, now {}",
                change.added, change.removed, change.after
            );
        }
    });
    let bookkeeper = tokio::spawn(sum_up(buffer.changes()));
    let parser = tokio::spawn(take_records(buffer.clone()));

    for piece in 1..=PIECES {
        // Everything that is done under one guard is one change: no subscriber sees half a piece.
        let mut guard = buffer.lock();
        let (head, tail) = PIECE.split_at(8);
        guard.add(head)?;
        guard.add(tail)?;
        drop(guard);
        println!("producer  added piece {piece} in two steps under one guard");
        if piece % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    buffer.close();
    println!("producer  closed the buffer; waits for more bytes than there are now fail");

    let (records, rest) = parser.await??;
    let (added, removed) = bookkeeper.await?;
    DeferredQueue::current().drained().await;
    drop(callback);

    let all = PIECES * PIECE.len();
    println!(
        "{records} records of {RECORD} bytes, {rest} bytes left over; {added} bytes added, {removed} removed"
    );
    ensure!(records * RECORD + rest == all, "the parser missed bytes");
    ensure!(added == all as u64, "the stream missed added bytes");
    // The stream ends when the buffer is closed and empty.
    ensure!(removed == all as u64, "the stream missed removed bytes");
    ensure!(
        added_by_callback.load(Relaxed) == all as u64,
        "the callback missed bytes"
    );
    Ok(())
}

/// Sums up the bytes added and removed until the buffer is closed.
async fn sum_up(mut changes: Changes) -> (u64, u64) {
    let mut sums = (0, 0);
    while let Some(change) = changes.next().await {
        println!("stream    {} -> {} bytes", change.before, change.after);
        sums = (sums.0 + change.added, sums.1 + change.removed);
    }
    sums
}

/// Takes whole records until no more can come. Returns their number and the number of bytes left over.
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
