//! Joins two live connections: the input of each moves to the output of the other.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Peer, RelayEnd, RelayError, RelaySummary, Step};
use crate::{
    BufferEvent, EvBuffer,
    bufferevent::Callbacks,
    shared::BufferWait,
    timer::{Backoff, Timer},
    transport::poll::{BYTES_PER_POLL, ROUNDS_PER_POLL, yield_to_driver},
};

impl BufferEvent {
    /// Relays between two live connections: what is in the input of each, and what arrives there, moves to the output
    /// of the other.
    ///
    /// Whole segments move, nothing is copied. What the outputs hold already is sent first. Unlike
    /// [`Relay`](crate::Relay), it works with filters, rate limits and timeouts of the connections, and after you have
    /// read from them. The callbacks of both are removed.
    ///
    /// Reading from one side pauses while the output of the other is above its high watermark. It then shows
    /// [`PauseReason::Peer`](crate::bufferevent::PauseReason::Peer). An output with the default watermarks holds up to 256 KiB
    /// while it is joined; others stay as they are.
    ///
    /// Ends and errors are passed on as by [`relay`](crate::relay()): the end of one side shuts down the other, and the
    /// opposite direction continues until no byte has moved for the [linger time](crate::bufferevent::Builder::linger) of
    /// either side, by default 30 s. After an error the healthy side gets everything that was read for it, and is then
    /// aborted. In the end both connections are closed.
    ///
    /// # Errors
    ///
    /// A [`RelayError`] for the first direction that failed: with [`Step::Read`] or [`Step::Write`], the side, and the
    /// bytes delivered.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe if you keep clones of the handles: every byte is in one of the four buffers, and nothing is read or
    /// written by the future itself. Without clones, dropping the future drops the connections.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut client, a) = tokio::io::duplex(64);
    /// let (mut server, b) = tokio::io::duplex(64);
    /// let (a, b) = (BufferEvent::new(a), BufferEvent::new(b));
    ///
    /// client.write_all(b"host\nrequest").await?;
    /// client.shutdown().await?;
    /// a.input().readable(5).await?;
    /// assert_eq!(a.input().take_bytes(5)?, "host\n");
    /// let joined = tokio::spawn(BufferEvent::join(a, b));
    ///
    /// let mut request = String::new();
    /// server.read_to_string(&mut request).await?;
    /// assert_eq!(request, "request");
    /// server.write_all(b"answer").await?;
    /// drop(server);
    /// let mut answer = String::new();
    /// client.read_to_string(&mut answer).await?;
    /// assert_eq!(answer, "answer");
    ///
    /// let summary = joined.await??;
    /// assert_eq!((summary.a_to_b, summary.b_to_a), (7, 6));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn join(a: BufferEvent, b: BufferEvent) -> Result<RelaySummary, RelayError> {
        a.set_callbacks(Callbacks::new());
        b.set_callbacks(Callbacks::new());
        let mut joined = Joined::new(&a, &b);
        let ended = poll_fn(|cx| joined.poll(cx)).await;
        let (peer, step, error) = match ended {
            Ok(RelayEnd::Eof) => {
                let summary = joined.summary(RelayEnd::Eof);
                // Both streams have ended: this waits for what the peers have not confirmed.
                let _ = futures::future::join(a.close(), b.close()).await;
                return Ok(summary);
            }
            Ok(end) => {
                let summary = joined.summary(end);
                a.abort();
                b.abort();
                return Ok(summary);
            }
            Err(failed) => failed,
        };
        let (failed, healthy) = match peer {
            Peer::A => (&a, &b),
            Peer::B => (&b, &a),
        };
        let from_failed = joined.direction_from(peer);
        if failed.is_reset_with_rest() {
            let _ = poll_fn(|cx| from_failed.poll_move(cx)).await;
        }
        from_failed.move_rest();
        deliver(healthy).await;
        let summary = joined.summary(RelayEnd::Error);
        failed.abort();
        healthy.abort();
        Err(RelayError {
            summary,
            peer,
            step,
            error,
        })
    }
}

/// Waits until the peer of `healthy` has everything that was written for it, or makes no progress for too long.
async fn deliver(healthy: &BufferEvent) {
    let linger = healthy.linger();
    let (mut timer, mut left, mut since) = (Timer::default(), usize::MAX, Instant::now());
    let mut flush = pin!(healthy.flush());
    poll_fn(|cx| {
        if flush.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            note_progress(healthy.output().len(), &mut left, &mut since);
            if since.elapsed() >= linger {
                return Poll::Ready(());
            }
            let Some(end) = since.checked_add(linger) else {
                return Poll::Pending;
            };
            ready!(timer.poll(cx, end));
        }
    })
    .await;

    let mut backoff = Backoff::default();
    (left, since) = (usize::MAX, Instant::now());
    loop {
        let unacknowledged = healthy.unacknowledged();
        note_progress(unacknowledged, &mut left, &mut since);
        if unacknowledged == 0 || since.elapsed() >= linger || timer.is_unavailable() {
            return;
        }
        let next = Instant::now() + backoff.next_delay();
        poll_fn(|cx| match timer.poll(cx, next) {
            Poll::Pending if !timer.is_unavailable() => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }
}

/// Records when the number of bytes that are left has become smaller.
fn note_progress(now: usize, left: &mut usize, since: &mut Instant) {
    if now < *left {
        (*left, *since) = (now, Instant::now());
    }
}

/// The side of a connection that failed, what it did, and its error.
type Failed = (Peer, Step, io::Error);

/// Both directions of a join.
struct Joined {
    a_to_b: JoinDirection,
    b_to_a: JoinDirection,
    /// The bytes that had moved through the streams when `since` was set.
    moved: u64,
    since: Instant,
    timer: Timer,
}

impl Joined {
    fn new(a: &BufferEvent, b: &BufferEvent) -> Self {
        Self {
            a_to_b: JoinDirection::new(Peer::A, a, b),
            b_to_a: JoinDirection::new(Peer::B, b, a),
            moved: 0,
            since: Instant::now(),
            timer: Timer::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<RelayEnd, Failed>> {
        // Polls both even if the first is ready, so that both store the waker.
        let a_to_b = self.a_to_b.poll(cx);
        let b_to_a = self.b_to_a.poll(cx);
        match (a_to_b, b_to_a) {
            (Poll::Ready(Err(failed)), _) | (_, Poll::Ready(Err(failed))) => {
                Poll::Ready(Err(failed))
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(RelayEnd::Eof)),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => self.poll_linger(cx).map(Ok),
        }
    }

    /// Waits until no byte has moved for too long in one direction, after the other has ended.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        loop {
            let (a, b) = (self.a_to_b.from.metrics(), self.b_to_a.from.metrics());
            let moved = a.bytes_in + a.bytes_out + b.bytes_in + b.bytes_out;
            let now = Instant::now();
            if self.moved != moved {
                (self.moved, self.since) = (moved, now);
            }
            let linger = self.a_to_b.from.linger().min(self.b_to_a.from.linger());
            let Some(end) = self.since.checked_add(linger) else {
                return Poll::Pending;
            };
            if now >= end {
                return Poll::Ready(RelayEnd::LingerExpired);
            }
            ready!(self.timer.poll(cx, end));
        }
    }

    fn direction_from(&mut self, peer: Peer) -> &mut JoinDirection {
        match peer {
            Peer::A => &mut self.a_to_b,
            Peer::B => &mut self.b_to_a,
        }
    }

    fn summary(&self, reason: RelayEnd) -> RelaySummary {
        RelaySummary {
            a_to_b: self.a_to_b.delivered(),
            b_to_a: self.b_to_a.delivered(),
            held_a: self.a_to_b.held(),
            held_b: self.b_to_a.held(),
            reason,
        }
    }
}

/// From the input of one connection to the output of the other.
struct JoinDirection {
    peer: Peer,
    from: BufferEvent,
    to: BufferEvent,
    more: BufferWait,
    room: BufferWait,
    /// Bytes that were moved to the output.
    moved: u64,
    /// The output is full, and `from` shows that.
    is_blocked: bool,
    /// The end or failure of `from`, which has to be noticed while its input is not read.
    hang_up: Option<BoxFuture<'static, ()>>,
    phase: Phase,
}

enum Phase {
    Moving,
    /// The source has ended, and everything was moved.
    ShuttingDown(BoxFuture<'static, io::Result<()>>),
    Done,
}

impl JoinDirection {
    fn new(peer: Peer, from: &BufferEvent, to: &BufferEvent) -> Self {
        to.enlarge_output();
        Self {
            peer,
            more: BufferWait::new(from.input().clone()),
            room: BufferWait::new(to.output().clone()),
            from: from.clone(),
            to: to.clone(),
            moved: 0,
            is_blocked: false,
            hang_up: None,
            phase: Phase::Moving,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if let Phase::Moving = self.phase {
            ready!(self.poll_move(cx))?;
            let to = self.to.clone();
            self.phase = Phase::ShuttingDown(Box::pin(async move { to.shutdown().await }));
        }
        if let Phase::ShuttingDown(shutdown) = &mut self.phase {
            let shut_down = ready!(shutdown.as_mut().poll(cx));
            self.phase = Phase::Done;
            if let Err(error) = shut_down {
                return Poll::Ready(Err(self.sink_failed(Step::Shutdown, error)));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves bytes until the stream of the source has ended.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let mut moved = 0;
        for _ in 0..ROUNDS_PER_POLL {
            match self.room.poll_room(cx) {
                Poll::Pending => {
                    self.set_blocked(true);
                    ready!(self.poll_source_failed(cx));
                    let error = self.from.read_error();
                    let error = error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
                    return Poll::Ready(Err((self.peer, Step::Read, error)));
                }
                // Its output may have ended in order, in an earlier join. A source that has no more needs no sink.
                Poll::Ready(Err(_)) if !self.to.has_failed_to_write() && self.has_ended(cx) => {}
                Poll::Ready(Err(_)) => {
                    let error = self.to.write_error();
                    return Poll::Ready(Err(self.sink_failed(Step::Write, error)));
                }
                Poll::Ready(Ok(())) => self.set_blocked(false),
            }
            if ready!(self.more.poll_readable(cx)).is_err() {
                let end = self.from.check_orderly_end();
                return Poll::Ready(end.map_err(|error| (self.peer, Step::Read, error)));
            }
            match self.move_segments() {
                Ok(n) => moved += n,
                Err(_) => continue,
            }
            if moved >= BYTES_PER_POLL {
                break;
            }
        }
        yield_to_driver(cx);
        Poll::Pending
    }

    /// Returns whether the source has ended, and everything was moved.
    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(self.more.poll_readable(cx), Poll::Ready(Err(_)))
    }

    /// Returns why an operation on the sink has failed. A read error is the cause, since it ends writing, too.
    fn sink_failed(&self, step: Step, error: io::Error) -> Failed {
        let peer = self.peer.other();
        match self.to.read_error() {
            Some(cause) => (peer, Step::Read, cause),
            None => (peer, step, error),
        }
    }

    /// Moves what there is, up to the high watermark of the output.
    fn move_segments(&mut self) -> io::Result<usize> {
        let output = self.to.output();
        let room = (output.watermarks().high())
            .map_or(usize::MAX, |high| high.saturating_sub(output.len()).max(1));
        let mut chain = EvBuffer::new();
        let n = (self.from.input().lock()).remove_buffer(&mut chain, room)?;
        let mut output = output.lock();
        if let Err(error) = output.add_buffer(&mut chain) {
            drop(output);
            // The output was closed meanwhile. The bytes count as held.
            let _ = self.from.input().lock().prepend_buffer(&mut chain);
            return Err(error.into());
        }
        drop(output);
        self.moved += n as u64;
        Ok(n)
    }

    /// Moves what is left without regard to the watermarks, after an error.
    fn move_rest(&mut self) {
        self.set_blocked(false);
        let mut chain = EvBuffer::new();
        let taken = self
            .from
            .input()
            .lock()
            .remove_buffer(&mut chain, usize::MAX);
        let n = chain.len() as u64;
        if taken.is_ok() && self.to.output().add_buffer(&mut chain).is_ok() {
            self.moved += n;
        } else {
            // The output was closed before. The bytes count as held.
            let _ = self.from.input().lock().prepend_buffer(&mut chain);
        }
    }

    /// Waits until the source has failed and gives no more. An orderly end is no failure: its bytes are still to be moved.
    fn poll_source_failed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let from = &self.from;
        let hang_up = self.hang_up.get_or_insert_with(|| {
            let from = from.clone();
            Box::pin(async move {
                from.closed().await;
                if from.read_error().is_none() {
                    std::future::pending().await
                }
            })
        });
        hang_up.as_mut().poll(cx)
    }

    fn set_blocked(&mut self, is_blocked: bool) {
        if self.is_blocked != is_blocked {
            self.is_blocked = is_blocked;
            self.from.set_read_blocked(is_blocked);
        }
    }

    /// Returns the bytes that the stream of the other connection has taken.
    fn delivered(&self) -> u64 {
        self.moved.saturating_sub(self.to.output().len() as u64)
    }

    /// Returns the bytes that were read and not delivered.
    fn held(&self) -> u64 {
        self.from.input().len() as u64 + self.moved - self.delivered()
    }
}

impl Drop for JoinDirection {
    fn drop(&mut self) {
        self.set_blocked(false);
        self.to.restore_output();
    }
}
