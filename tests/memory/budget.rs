//! A memory budget under attack: many slow readers of fast sources.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{JoinSet, yield_now},
};
use tokio_evbuffer::{BufferEvent, limits::MemoryBudget};

use crate::heap::in_use_here;

const READERS: usize = 10_000;
const BUDGET: usize = 8 << 20;
/// The bytes of each connection: together many times the budget.
const LEN: usize = 12_000;
/// What a slow reader takes at once.
const PIECE: usize = 1_500;

/// Opens all sources, or all sinks, at the same time.
struct Gate {
    is_open: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            is_open: AtomicBool::new(false),
            // Allocated now, so that it does not count as memory of the connections.
            waiting: Mutex::new(Vec::with_capacity(READERS)),
        }
    }
}

impl Gate {
    fn open(&self) {
        self.is_open.store(true, Relaxed);
        for waker in self.waiting.lock().unwrap().drain(..) {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_open.load(Relaxed) {
            return Poll::Ready(());
        }
        self.waiting.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    }
}

#[derive(Default)]
struct Gates {
    sources: Gate,
    sinks: Gate,
    delivered: AtomicUsize,
}

/// A source that is always ready, and a sink that takes a little in every other poll.
struct SlowReader {
    gates: Arc<Gates>,
    left: usize,
    waits: bool,
}

impl AsyncRead for SlowReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.gates.sources.poll(cx));
        let n = self.left.min(buf.remaining());
        self.left -= n;
        buf.put_slice(&vec![7; n]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SlowReader {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.gates.sinks.poll(cx));
        self.waits = !self.waits;
        if self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = buf.len().min(PIECE);
        self.gates.delivered.fetch_add(n, Relaxed);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Sends everything back, without waiting for the peer to read it: only the budget bounds the memory.
async fn echo(bev: BufferEvent) {
    while bev.input().readable(1).await.is_ok() {
        bev.input().move_to(bev.output(), usize::MAX).unwrap();
    }
    bev.close().await.unwrap();
}

/// Lets every task run a few times: the runtime polls 61 of them between two polls of the test.
async fn yield_to_readers() {
    for _ in 0..READERS / 10 {
        yield_now().await;
    }
}

#[tokio::test]
async fn ten_thousand_slow_readers_stay_within_the_budget_and_all_are_served() {
    let budget = MemoryBudget::new(BUDGET);
    let gates = Arc::new(Gates::default());
    let mut tasks = JoinSet::new();
    for _ in 0..READERS {
        let stream = SlowReader {
            gates: Arc::clone(&gates),
            left: LEN,
            waits: false,
        };
        tasks.spawn(echo(BufferEvent::builder().budget(&budget).spawn(stream)));
    }
    yield_to_readers().await;
    assert_eq!(budget.used(), 0, "an idle connection holds nothing");

    let base = in_use_here();
    let mut most = 0;
    let mut check = || {
        most = most.max(in_use_here() - base);
        let bound = BUDGET as isize * 21 / 20;
        assert!(most <= bound, "{most} bytes in use, budget {BUDGET}");
    };
    gates.sources.open();
    for _ in 0..3 {
        yield_to_readers().await;
        check();
    }
    assert!(budget.used() > BUDGET / 2, "the sources are faster");
    assert_eq!(budget.largest(3).len(), 3);

    gates.sinks.open();
    while gates.delivered.load(Relaxed) < READERS * LEN {
        yield_now().await;
        check();
    }
    while tasks.join_next().await.is_some() {}
    assert_eq!(gates.delivered.load(Relaxed), READERS * LEN);
    assert_eq!(budget.used(), 0);
}
