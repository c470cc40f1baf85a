//! Workloads of buffers. Preparations are not timed.

use std::{collections::VecDeque, hint::black_box, io::IoSlice, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio_evbuffer::EvBuffer;

use super::{
    buffers::{Copyout, Foreign, Link, Move, Prepend, Pullup, Queue, Reserve, Search},
    workload::{Run, Workload, time},
};
#[cfg(libevent)]
use crate::libevent::Evbuffer;

/// Runs `$run` on libevent's buffer, on ours, and on the given ones. `$kind` is the trait that has their names.
macro_rules! on {
    ($kind:ident, $run:ident, $($other:ty),*) => {{
        vec![
            #[cfg(libevent)]
            (<Evbuffer as $kind>::NAME, $run::<Evbuffer> as Run),
            (<EvBuffer as $kind>::NAME, $run::<EvBuffer> as Run),
            $((<$other as $kind>::NAME, $run::<$other> as Run),)*
        ]
    }};
}

/// All of them, in the order of the table.
pub(super) fn workloads() -> Vec<Workload> {
    type Chain = VecDeque<Bytes>;
    type Ring = VecDeque<u8>;
    vec![
        Workload::new("create + drop, empty", on!(Queue, create, BytesMut, Ring)),
        Workload::new(
            "append 16 B, to 64 KiB, then drain",
            on!(Queue, append_16, BytesMut, Ring),
        ),
        Workload::new(
            "append 64 B, to 64 KiB, then drain",
            on!(Queue, append_64, BytesMut, Ring),
        ),
        Workload::new(
            "append 4096 B to a fresh buffer",
            on!(Queue, append_fresh, BytesMut, Ring),
        ),
        Workload::new("FIFO 1 KiB, add + remove", on!(Queue, fifo, BytesMut, Ring)),
        Workload::new(
            "FIFO 16 KiB, add + drain",
            on!(Queue, fifo_drained, BytesMut, Ring),
        ),
        Workload::new(
            "frames of 1460 B, 44 in, 44 out",
            on!(Queue, frames, BytesMut, Ring),
        ),
        Workload::new(
            "prepend 8 B to 1 KiB, room in front",
            on!(Queue, prepend, BytesMut, Ring),
        ),
        Workload::new(
            "message of 1 KiB, header of 8 B put before it",
            on!(Queue, prepend_header, BytesMut, Ring),
        ),
        Workload::new(
            "move 1 MiB into an empty buffer",
            on!(Move, move_all, BytesMut, Chain),
        ),
        Workload::new(
            "move 1 MiB onto 100 B",
            on!(Move, move_onto, BytesMut, Chain),
        ),
        Workload::new(
            "add 16 KiB, move 15,000 B of it, drop both",
            on!(Move, move_some, BytesMut, Chain),
        ),
        Workload::new("copyout 64 B of 4 KiB", on!(Queue, copyout, BytesMut)),
        Workload::new("pullup 8 KiB of two references", on!(Move, pullup,)),
        Workload::new(
            "search CRLF in 1 MiB without CR",
            on!(Queue, search, BytesMut),
        ),
        Workload::new(
            "search CRLF in 1 MiB, a CR every 64 B",
            on!(Queue, search_decoys, BytesMut),
        ),
        Workload::new("readln, lines of 40 B", on!(Queue, readln, BytesMut)),
        Workload::new("add reference to 4 KiB, drain", on!(Move, reference, Chain)),
        Workload::new(
            "reserve 4 KiB, commit, drain",
            on!(Queue, reserve_commit, BytesMut),
        ),
        Workload::new("peek at 64 KiB in 16 pieces", on!(Move, peek, Chain)),
        Workload::new(
            "message of 64 B: create, add, remove, drop",
            on!(Queue, message, BytesMut, Ring),
        ),
    ]
}

/// Heap bytes that each buffer holds for 100 bytes of data, without the buffer's own struct. `heap_bytes` returns how many
/// the process uses.
pub fn heap_of_100_bytes(heap_bytes: fn() -> u64) -> Vec<(&'static str, f64)> {
    vec![
        #[cfg(libevent)]
        (<Evbuffer as Queue>::NAME, held::<Evbuffer>(heap_bytes)),
        (<EvBuffer as Queue>::NAME, held::<EvBuffer>(heap_bytes)),
        (<BytesMut as Queue>::NAME, held::<BytesMut>(heap_bytes)),
        (
            <VecDeque<u8> as Queue>::NAME,
            held::<VecDeque<u8>>(heap_bytes),
        ),
    ]
}

fn held<Q: Queue>(heap_bytes: fn() -> u64) -> f64 {
    const COUNT: usize = 4_000;
    let mut buffers: Vec<Q> = Vec::with_capacity(COUNT);
    let before = heap_bytes();
    for _ in 0..COUNT {
        let mut buffer = Q::default();
        buffer.add(&[7; 100]);
        buffers.push(buffer);
    }
    let after = heap_bytes();
    black_box(&buffers);
    after.saturating_sub(before) as f64 / COUNT as f64
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn create<Q: Queue>(n: u64) -> Duration {
    time(n, || drop(black_box(Q::default())))
}

fn append_16<Q: Queue>(n: u64) -> Duration {
    append::<Q, 16>(n)
}

fn append_64<Q: Queue>(n: u64) -> Duration {
    append::<Q, 64>(n)
}

fn append<Q: Queue, const LEN: usize>(n: u64) -> Duration {
    let data = [7; LEN];
    let (mut buffer, mut len) = (Q::default(), 0);
    time(n, || {
        buffer.add(black_box(&data));
        len += LEN;
        if len == 64 * KIB {
            black_box(&mut buffer).drain(len);
            len = 0;
        }
    })
}

/// Bytes to copy from, at another offset in the page each time. A copy is slow if source and target have the same offset,
/// and the result must not depend on where the allocator puts the target.
struct Source {
    memory: Vec<u8>,
    at: usize,
}

impl Source {
    const PAGE: usize = 4 * KIB;

    fn new(len: usize) -> Self {
        Self {
            memory: vec![7; len + Self::PAGE],
            at: 0,
        }
    }

    #[inline]
    fn next(&mut self) -> &[u8] {
        self.at = (self.at + 64) % Self::PAGE;
        black_box(&self.memory[self.at..][..self.memory.len() - Self::PAGE])
    }
}

fn append_fresh<Q: Queue>(n: u64) -> Duration {
    let mut data = Source::new(4 * KIB);
    time(n, || {
        let mut buffer = Q::default();
        buffer.add(data.next());
        black_box(&buffer);
    })
}

fn fifo<Q: Queue>(n: u64) -> Duration {
    let (mut data, mut out) = (Source::new(KIB), [0; KIB]);
    let mut buffer = Q::default();
    time(n, || {
        buffer.add(data.next());
        buffer.remove(black_box(&mut out));
    })
}

fn fifo_drained<Q: Queue>(n: u64) -> Duration {
    let mut data = Source::new(16 * KIB);
    let mut buffer = Q::default();
    time(n, || {
        buffer.add(data.next());
        black_box(&mut buffer).drain(16 * KIB);
    })
}

/// Counts frames: `n` is rounded up to whole rounds of 44.
fn frames<Q: Queue>(n: u64) -> Duration {
    const FRAMES: u64 = 44;
    let (mut data, mut out) = (Source::new(1460), [0; 1460]);
    let mut buffer = Q::default();
    let rounds = n.div_ceil(FRAMES);
    let took = time(rounds, || {
        for _ in 0..FRAMES {
            buffer.add(data.next());
        }
        for _ in 0..FRAMES {
            buffer.remove(black_box(&mut out));
        }
    });
    per(took, n, rounds * FRAMES)
}

fn prepend<Q: Prepend>(n: u64) -> Duration {
    let mut buffer = Q::default();
    buffer.add(&[7; KIB]);
    buffer.drain(8);
    time(n, || {
        buffer.prepend(black_box(&[8; 8]));
        black_box(&mut buffer).drain(8);
    })
}

fn prepend_header<Q: Prepend>(n: u64) -> Duration {
    let (mut body, mut out) = (Source::new(KIB), [0; KIB + 8]);
    let mut buffer = Q::default();
    time(n, || {
        buffer.add(body.next());
        buffer.prepend(black_box(&[8; 8]));
        buffer.remove(black_box(&mut out));
    })
}

fn mebibyte<M: Move>() -> M {
    let (piece, mut buffer) = (vec![7; 16 * KIB], M::default());
    for _ in 0..MIB / piece.len() {
        buffer.add_piece(&piece);
    }
    buffer
}

/// Moves there and back, so that no buffer is created in between.
fn move_all<M: Move>(n: u64) -> Duration {
    let (mut a, mut b) = (mebibyte::<M>(), M::default());
    let took = time(n.div_ceil(2), || {
        b.add_all(black_box(&mut a));
        a.add_all(black_box(&mut b));
    });
    per(took, n, 2 * n.div_ceil(2))
}

fn move_onto<M: Move>(n: u64) -> Duration {
    let head = [7; 100];
    let (mut a, mut b) = (mebibyte::<M>(), M::default());
    let onto_a_few = |from: &mut M, to: &mut M| {
        to.add_piece(black_box(&head));
        to.add_all(black_box(from));
        to.drain_front(head.len());
    };
    let took = time(n.div_ceil(2), || {
        onto_a_few(&mut a, &mut b);
        onto_a_few(&mut b, &mut a);
    });
    per(took, n, 2 * n.div_ceil(2))
}

fn move_some<M: Move>(n: u64) -> Duration {
    let mut data = Source::new(16 * KIB);
    time(n, || {
        let (mut a, mut b) = (M::default(), M::default());
        a.add_piece(data.next());
        a.move_some(&mut b, 15_000);
        black_box((&a, &b));
    })
}

fn copyout<C: Copyout>(n: u64) -> Duration {
    let mut out = [0; 64];
    let mut buffer = C::default();
    buffer.add(&[7; 4 * KIB]);
    time(n, || black_box(&mut buffer).copyout(black_box(&mut out)))
}

/// The same memory for Rust and for C, from `at` on.
fn foreign(at: usize) -> Foreign {
    static MEMORY: [u8; 4 * KIB + Source::PAGE] = [7; 4 * KIB + Source::PAGE];
    let slice = &MEMORY[at..][..4 * KIB];
    Foreign {
        bytes: Bytes::from_owner(slice),
        slice,
    }
}

fn pullup<P: Pullup>(n: u64) -> Duration {
    let halves: Vec<_> = (0..Source::PAGE).step_by(64).map(foreign).collect();
    let mut halves = halves.iter().cycle();
    let mut buffer = P::default();
    time(n, || {
        let half = halves.next().expect("endless");
        buffer.link(half);
        buffer.link(half);
        black_box(buffer.pullup(8 * KIB));
        buffer.drain_front(8 * KIB);
    })
}

fn searched<S: Search>(n: u64, piece: &[u8]) -> Duration {
    let mut buffer = S::default();
    for _ in 0..MIB / piece.len() {
        buffer.add(piece);
    }
    time(n, || {
        assert_eq!(black_box(&mut buffer).find(black_box(b"\r\n")), None)
    })
}

fn search<S: Search>(n: u64) -> Duration {
    searched::<S>(n, &[b'x'; 16 * KIB])
}

fn search_decoys<S: Search>(n: u64) -> Duration {
    let mut piece = [b'x'; 16 * KIB];
    piece.iter_mut().step_by(64).for_each(|byte| *byte = b'\r');
    searched::<S>(n, &piece)
}

/// Counts lines: `n` is rounded up to whole buffers of 1,000.
fn readln<S: Search>(n: u64) -> Duration {
    const LINES: u64 = 1_000;
    let text = [[b'x'; 39].as_slice(), b"\n"]
        .concat()
        .repeat(LINES as usize);
    let mut buffer = S::default();
    let rounds = n.div_ceil(LINES);
    let took = time(rounds, || {
        buffer.add(black_box(&text));
        for _ in 0..LINES {
            black_box(buffer.line());
        }
    });
    per(took, n, rounds * LINES)
}

fn reference<L: Link>(n: u64) -> Duration {
    let foreign = foreign(0);
    let mut buffer = L::default();
    time(n, || {
        buffer.link(black_box(&foreign));
        black_box(&mut buffer).drain_front(4 * KIB);
    })
}

fn reserve_commit<R: Reserve>(n: u64) -> Duration {
    let mut buffer = R::default();
    buffer.add(&[7; 4 * KIB]);
    buffer.drain(4 * KIB);
    time(n, || {
        buffer.reserve_commit(black_box(4 * KIB));
        black_box(&mut buffer).drain(4 * KIB);
    })
}

fn peek<L: Link>(n: u64) -> Duration {
    const PIECES: usize = 16;
    let foreign = foreign(0);
    let mut buffer = L::default();
    for _ in 0..PIECES {
        buffer.link(&foreign);
    }
    time(n, || {
        let mut out = [IoSlice::new(&[]); PIECES];
        assert_eq!(black_box(&buffer).peek(&mut out), PIECES);
        black_box(&out);
    })
}

fn message<Q: Queue>(n: u64) -> Duration {
    let (data, mut out) = ([7; 64], [0; 64]);
    time(n, || {
        let mut buffer = Q::default();
        buffer.add(black_box(&data));
        buffer.remove(black_box(&mut out));
    })
}

/// Returns the share of `n` calls of the time `took` of `done` calls.
fn per(took: Duration, n: u64, done: u64) -> Duration {
    took.mul_f64(n as f64 / done as f64)
}
