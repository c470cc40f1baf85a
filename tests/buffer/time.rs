//! Costs that must be linear: of operations that gather, search, prepend and pack.

use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tokio_evbuffer::{EolStyle, EvBuffer};

/// Returns the processor time that this thread spends in `f`. Other processes do not count.
fn time(f: impl FnOnce()) -> Duration {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let began = now();
    f();
    now().saturating_sub(began)
}

/// How many times as much the large run does, and how often the small run is done for one large run.
const SCALE: usize = 64;

/// How much longer the large run may take than `SCALE` small runs. Linear costs give 1, and 2 to 3 once the data no longer
/// fits in the caches; quadratic costs give 64.
const FACTOR_MAX: u32 = 16;

/// The coarsest clock of processor time that a system may have.
const CLOCK_TICK: Duration = Duration::from_millis(10);

const ROUNDS: usize = 10;

/// Asserts that one run over `SCALE * n` takes about as long as `SCALE` runs over `n`.
///
/// Compares the shortest times of several rounds. So a run that something else held up does not count.
fn assert_linear(name: &str, n: usize, f: impl Fn(usize)) {
    let (mut small, mut large) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        small = small.min(time(|| (0..SCALE).for_each(|_| f(n))));
        large = large.min(time(|| f(SCALE * n)));
        if large <= small * FACTOR_MAX + CLOCK_TICK {
            return;
        }
    }
    panic!("{name}: {large:?} for {SCALE} times as much as what takes {small:?} {SCALE} times");
}

#[test]
fn taking_over_borders_costs_by_what_is_taken() {
    let piece = Bytes::from_static(b"0123456789");
    assert_linear("take_bytes(15) of pieces of 10", 1_000, |n| {
        let mut buffer: EvBuffer = (0..n).map(|_| piece.clone()).collect();
        while !buffer.is_empty() {
            buffer.take_bytes(15).unwrap();
        }
    });
}

#[test]
fn lines_over_borders_cost_by_their_length() {
    let piece = Bytes::from_static(b"o\nzzzzz tw");
    assert_linear("readln of lines over borders", 1_000, |n| {
        let mut buffer: EvBuffer = (0..n).map(|_| piece.clone()).collect();
        while buffer.readln(EolStyle::Lf).unwrap().is_some() {}
    });
}

#[test]
fn prepending_buffers_costs_by_the_source() {
    let piece = Bytes::from_static(&[7; 600]);
    assert_linear("prepend_buffer of one segment", 1_000, |n| {
        let mut buffer = EvBuffer::new();
        for _ in 0..n {
            buffer.prepend_buffer(&mut piece.clone().into()).unwrap();
        }
    });
}

/// Bytes that were searched for an end of line are not searched again.
#[test]
fn a_line_that_comes_in_pieces_costs_by_its_length() {
    let piece = Bytes::from_static(b"0123456789");
    assert_linear("readln after each piece of a line", 1_000, |n| {
        let mut buffer = EvBuffer::new();
        for _ in 0..n {
            buffer.add_reference(piece.clone()).unwrap();
            assert_eq!(buffer.readln(EolStyle::Lf), Ok(None));
        }
    });
}

/// Partial matches are everywhere, and each match spans many pieces.
#[test]
fn a_long_needle_over_many_short_pieces_costs_by_the_data() {
    let needle = b"--------------------------d74496d66958873e0123456789abcdefghijklmnop";
    for piece in [1, 16, 512, 4096] {
        assert_linear(&format!("search in pieces of {piece}"), 8192, |n| {
            let data = Bytes::from([&b"-".repeat(n)[..], needle].concat());
            let mut buffer = EvBuffer::new();
            for from in (0..data.len()).step_by(piece) {
                let piece = data.slice(from..data.len().min(from + piece));
                buffer.add_reference(piece).unwrap();
            }
            assert_eq!(buffer.search(needle, ..), Some(n));
        });
    }
}
