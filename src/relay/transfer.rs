//! One direction by itself: from a reader to a writer, up to a limit.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    HalfClose, Splice, Step,
    config::Limits,
    deadlines::{Deadlines, Due},
    direction::{Direction, SinkEnd},
    flow_limits::{Round, poll_rounds},
    pump::{self, Endpoint, Failed, Turn},
    splice_mode::Mode,
    transfer_outcome::{TransferCounters, TransferError},
};
use crate::{
    buffer::{End, chain::EvBuffer},
    limits::{RateLimit, Throttle},
    transport::{Finder, take_prefix},
};

/// Configures a transfer: moves bytes from a reader to a writer, up to its end or up to a limit.
///
/// | setting | default | zero means |
/// |---|---|---|
/// | [`limit`](Self::limit) | up to the end of the reader | nothing is read |
/// | [`initial`](Self::initial) | nothing | |
/// | [`buffer`](Self::buffer) | 256 KiB; 1 MiB in the kernel while spliced | counts as 1 |
/// | [`splice`](Self::splice) | [`Splice::Auto`] | |
/// | [`rate_limit`](Self::rate_limit) | none | [`RateLimit`] refuses it |
/// | [`idle_timeout`](Self::idle_timeout) | none | ends when it has to wait |
/// | [`shutdown`](Self::shutdown) | off | |
///
/// From a TCP socket or half of one to a socket, bulk is spliced on Linux: the bytes stay in the kernel. A
/// [`FileSegment`](crate::buffer::FileSegment) goes to a socket by `sendfile`. Everything else goes through a chain.
/// Give the streams as `&mut` to use them afterwards. Those that you give by value are closed when the transfer ends.
///
/// # Examples
///
/// A proxy has parsed a head. It moves the body, and then parses the next head:
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio_evbuffer::{EvBuffer, Prefixed, Transfer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut client, stream) = tokio::io::duplex(64);
/// let (mut upstream, mut server) = tokio::io::duplex(64);
/// client.write_all(b"length 4\nbodylength 0\n").await?;
///
/// let mut client = Prefixed::new(stream, EvBuffer::new());
/// let head = client.peek_until(b"\n", 100).await?.unwrap();
/// let mut line = vec![0; head];
/// client.read_exact(&mut line).await?;
/// let moved = Transfer::new(&mut client, &mut upstream).limit(4).run().await?;
/// assert_eq!(moved, 4);
///
/// assert_eq!(client.peek_until(b"\n", 100).await?, Some(9));
/// drop(upstream);
/// let mut body = String::new();
/// server.read_to_string(&mut body).await?;
/// assert_eq!(body, "body");
/// # Ok(())
/// # }
/// ```
#[must_use = "a transfer does nothing until it is run"]
pub struct Transfer<R, W> {
    reader: R,
    writer: W,
    limits: Limits,
    splice: Splice,
    limit: u64,
    initial: EvBuffer,
    rate_limit: Option<RateLimit>,
    idle_timeout: Option<Duration>,
    shutdown: bool,
    counters: Option<Arc<TransferCounters>>,
}

impl<R, W> Transfer<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Returns a transfer from `reader` to `writer` with the default settings.
    pub fn new(reader: R, writer: W) -> Self {
        Self {
            reader,
            writer,
            limits: Limits::DEFAULT,
            splice: Splice::default(),
            limit: u64::MAX,
            initial: EvBuffer::new(),
            rate_limit: None,
            idle_timeout: None,
            shutdown: false,
            counters: None,
        }
    }

    /// Stops after `bytes` bytes. Never a byte more than that is taken out of the reader. The default, [`u64::MAX`], is no
    /// limit; with zero nothing is read.
    ///
    /// An end of the reader before the limit is an error, [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Sends `from` before what the reader has. Its bytes count towards the limit. By default there are none.
    ///
    /// If it is longer than the limit, only its first bytes are sent and the rest is discarded.
    pub fn initial(mut self, from: EvBuffer) -> Self {
        self.initial = from;
        self
    }

    /// Limits the bytes that are held between reader and writer. The default is 256 KiB in memory, and 1 MiB in a pipe. Zero
    /// counts as 1.
    pub fn buffer(mut self, n: usize) -> Self {
        self.limits.set_buffer(n);
        self
    }

    /// Sets whether the kernel may move bulk from socket to socket without copying it. By default it may.
    pub fn splice(mut self, mode: Splice) -> Self {
        self.splice = mode;
        self
    }

    /// Limits the bytes per second, whether `limit` is one of reading, of writing or of both. By default there is no limit.
    ///
    /// Spliced bytes are limited, too. Time in which the limit holds does not count as idle.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Fails with [`TimedOut`](io::ErrorKind::TimedOut) if no byte moves for this time. By default it never does.
    ///
    /// [`Duration::ZERO`] fails as soon as the transfer has to wait, [`Duration::MAX`] never.
    pub fn idle_timeout(mut self, d: Duration) -> Self {
        self.idle_timeout = Some(d);
        self
    }

    /// Sets whether the writer is shut down after the last byte. By default it is only flushed.
    ///
    /// It is not shut down after an error, or if the future is dropped before the end. A TCP socket that you gave by value is
    /// then reset, so that what it got does not look complete.
    pub fn shutdown(mut self, on: bool) -> Self {
        self.shutdown = on;
        self
    }

    /// Counts the bytes in `counters`, which you can read while the transfer runs and after its future was dropped.
    pub fn counters(mut self, counters: Arc<TransferCounters>) -> Self {
        self.counters = Some(counters);
        self
    }

    /// Moves the bytes, flushes the writer, and returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// A [`TransferError`] for the first operation that failed. After a failed read, what was read before is still
    /// written; the writer may make no progress for 30 s meanwhile. `Interrupted` is not an error: the operation is
    /// tried again.
    ///
    /// # Cancel safety
    ///
    /// If you drop the future, what it has read and not written is lost: at most [`buffer`](Self::buffer) bytes, which
    /// [`counters`](Self::counters) count, and before these what is left of [`initial`](Self::initial) and of the prefix of a
    /// [`Prefixed`](crate::Prefixed) socket. The streams themselves, given as `&mut`, stay usable.
    pub fn run(self) -> impl Future<Output = Result<u64, TransferError>> {
        Running::new(self)
    }
}

impl<R: fmt::Debug, W: fmt::Debug> fmt::Debug for Transfer<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("reader", &self.reader)
            .field("writer", &self.writer)
            .field("limit", &self.limit)
            .field("initial", &self.initial.len())
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}

/// The future of a running transfer.
struct Running<R, W> {
    /// `None` once the transfer has ended.
    streams: Option<(R, W)>,
    direction: Direction,
    limits: Limits,
    /// Bytes that may still be read; `u64::MAX` for no limit.
    left: u64,
    throttle: Option<Box<Throttle>>,
    /// `None` while no time limit applies.
    deadlines: Option<Box<Deadlines>>,
    counters: Option<Box<Counted>>,
    /// A read that failed. What was read before is still written.
    failed: Option<Box<Failed>>,
    shutdown: bool,
}

/// The user's counters, and the bytes that were already added to them.
struct Counted {
    counters: Arc<TransferCounters>,
    read: u64,
    written: u64,
}

impl<R, W> Running<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    fn new(mut transfer: Transfer<R, W>) -> Self {
        let Transfer {
            limit, shutdown, ..
        } = transfer;
        let in_memory = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut initial = transfer.initial;
        initial.unfreeze(End::Back);
        let cut = initial.truncate(in_memory);
        debug_assert!(cut.is_ok(), "the back is not frozen");
        let prefix = take_prefix(&mut transfer.reader, in_memory - initial.len());
        let mode = Mode::of(
            transfer.splice,
            Finder::by_type().socket(&transfer.reader),
            Finder::by_type().socket(&transfer.writer),
        );
        let mut direction = Direction::new(initial, mode).followed_by(prefix);
        // With a limit, an end before it must not reach the writer.
        direction.set_sink_end(match shutdown && limit == u64::MAX {
            true => SinkEnd::Fin,
            false => SinkEnd::Leave,
        });
        let left = match limit {
            u64::MAX => u64::MAX,
            limit => limit - direction.chain.len() as u64,
        };
        let idle = transfer.idle_timeout;
        let throttle = transfer.rate_limit.map(Throttle::one_way);
        Self {
            streams: Some((transfer.reader, transfer.writer)),
            direction,
            limits: transfer.limits,
            left,
            throttle: throttle.map(Box::new),
            deadlines: idle.map(|idle| Box::new(deadlines(Some(idle)))),
            counters: transfer.counters.map(|counters| {
                Box::new(Counted {
                    counters,
                    read: 0,
                    written: 0,
                })
            }),
            failed: None,
            shutdown,
        }
    }

    /// Moves what can be moved now.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, Failed> {
        poll_rounds(cx, |cx| {
            if self.left == 0 {
                self.direction.end(match self.shutdown {
                    true => SinkEnd::Fin,
                    false => SinkEnd::Leave,
                });
            }
            let allowed = self.poll_allowance(cx);
            self.direction.allowance = allowed;
            let before = self.direction.read();
            let polled = self.poll_pump(cx);
            // An error may have dropped bytes that were read before.
            let read = self.direction.read().saturating_sub(before);
            if self.left != u64::MAX {
                self.left -= read;
            }
            if let Some(throttle) = &mut self.throttle {
                throttle.moved(read);
            }
            Ok(Round {
                turn: polled?,
                exhausted: allowed > 0 && read >= allowed && !self.direction.is_done(),
            })
        })
    }

    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Result<Turn, Failed> {
        let Some((reader, writer)) = &mut self.streams else {
            panic!("a transfer was polled after it had ended");
        };
        let from = Endpoint {
            stream: reader,
            finder: Finder::by_type(),
        };
        let to = Endpoint {
            stream: writer,
            finder: Finder::by_type(),
        };
        pump::poll_turn(cx, &mut self.direction, from, to, self.limits)
    }

    /// Returns how many bytes may be read in this poll.
    fn poll_allowance(&mut self, cx: &mut Context<'_>) -> u64 {
        let Some(throttle) = &mut self.throttle else {
            return self.left;
        };
        if self.left == 0 || !self.direction.is_open() {
            return 0;
        }
        match throttle.poll_allowance(cx, self.left) {
            Poll::Ready(allowed) => allowed,
            Poll::Pending => 0,
        }
    }

    fn is_throttled(&self) -> bool {
        let throttle = self.throttle.as_deref();
        throttle.is_some_and(|throttle| throttle.held().is_some())
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>, turn: Turn) -> Poll<Due> {
        let blocked = self.direction.held() > 0;
        if self.deadlines.is_none() && (!blocked || turn.more) {
            return Poll::Pending;
        }
        let is_throttled = self.is_throttled();
        let deadlines = self.deadlines();
        if is_throttled {
            deadlines.note_progress();
        }
        deadlines.poll(cx, turn, blocked)
    }

    fn deadlines(&mut self) -> &mut Deadlines {
        self.deadlines
            .get_or_insert_with(|| Box::new(deadlines(None)))
    }

    /// Records that reading has failed. What was read before is still written.
    fn read_failed(&mut self, failed: Failed) {
        let stalled = self.direction.held() > 0;
        self.direction.source_has_failed(SinkEnd::Leave);
        self.failed = Some(Box::new(failed));
        self.deadlines().stopped_reading(stalled);
    }

    fn count(&mut self) {
        let Some(counted) = &mut self.counters else {
            return;
        };
        let read = self.direction.read().max(counted.read);
        let written = self.direction.written;
        counted
            .counters
            .read
            .fetch_add(read - counted.read, Relaxed);
        let new = written - counted.written;
        counted.counters.written.fetch_add(new, Relaxed);
        (counted.read, counted.written) = (read, written);
    }

    fn finish(&mut self, failed: Option<Failed>) -> Result<u64, TransferError> {
        let bytes = self.direction.written;
        let failed = match (self.failed.take(), failed) {
            (Some(first), _) => Some(*first),
            (None, Some(failed)) => Some(failed),
            (None, None) if self.left == 0 || self.left == u64::MAX => None,
            (None, None) => Some((Step::Read, io::ErrorKind::UnexpectedEof.into())),
        };
        if failed.is_some() {
            self.spoil_end();
        }
        self.stop_gathering();
        self.streams = None;
        match failed {
            None => Ok(bytes),
            Some((step, error)) => Err(TransferError { bytes, step, error }),
        }
    }
}

impl<R, W> Future for Running<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    type Output = Result<u64, TransferError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let polled = this.poll_turn(cx);
            this.count();
            let turn = match polled {
                Ok(turn) => turn,
                Err(failed @ (Step::Read, _)) if this.failed.is_none() => {
                    this.read_failed(failed);
                    continue;
                }
                Err(failed) => return Poll::Ready(this.finish(Some(failed))),
            };
            if this.direction.is_done() {
                return Poll::Ready(this.finish(None));
            }
            match ready!(this.poll_deadlines(cx, turn)) {
                Due::StallCheck => {
                    if let Err(error) = this.direction.keep_stalled_pipe() {
                        return Poll::Ready(this.finish(Some((Step::Read, error))));
                    }
                }
                Due::End(_) => {
                    let step = match this.direction.held() {
                        0 => Step::Read,
                        _ => Step::Write,
                    };
                    let error = io::ErrorKind::TimedOut.into();
                    return Poll::Ready(this.finish(Some((step, error))));
                }
            }
        }
    }
}

impl<R, W> Unpin for Running<R, W> {}

impl<R, W> Running<R, W> {
    fn stop_gathering(&mut self) {
        if let Some((reader, _)) = &self.streams {
            self.direction.stop_gathering(reader, Finder::by_type());
        }
    }

    /// Resets an owned writer that was to be shut down: its close alone would look like an end in order.
    fn spoil_end(&self) {
        let finder = Finder::by_type();
        if let (Some((_, writer)), true) = (&self.streams, self.shutdown) {
            if finder.owns(writer) {
                finder.reset_on_close(writer);
            }
        }
    }
}

impl<R, W> Drop for Running<R, W> {
    fn drop(&mut self) {
        self.stop_gathering();
        let limit_is_reached = self.left == 0 || self.left == u64::MAX;
        if self.direction.is_cut_short() || !limit_is_reached {
            self.spoil_end();
        }
    }
}

/// Deadlines without a half-close, which a transfer does not have.
fn deadlines(idle: Option<Duration>) -> Deadlines {
    Deadlines::new(HalfClose::Propagate, idle, None)
}
