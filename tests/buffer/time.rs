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
    now() - began
}

/// Asserts that `4 * n` takes about 4 times as long as `n`. A quadratic cost takes 16 times as long.
fn assert_linear(name: &str, n: usize, f: impl Fn(usize)) {
    f(n / 8);
    let best = |n| (0..3).map(|_| time(|| f(n))).min().unwrap();
    let (one, four) = (best(n), best(4 * n));
    let ratio = four.as_secs_f64() / one.as_secs_f64();
    assert!(
        ratio < 9.0,
        "{name}: {ratio:.1} times as long for 4 times as much"
    );
}

#[test]
fn taking_over_borders_costs_by_what_is_taken() {
    let piece = Bytes::from_static(b"0123456789");
    assert_linear("take_bytes(15) of pieces of 10", 10_000, |n| {
        let mut buffer: EvBuffer = (0..n).map(|_| piece.clone()).collect();
        while !buffer.is_empty() {
            buffer.take_bytes(15).unwrap();
        }
    });
}

#[test]
fn lines_over_borders_cost_by_their_length() {
    let piece = Bytes::from_static(b"o\nzzzzz tw");
    assert_linear("readln of lines over borders", 10_000, |n| {
        let mut buffer: EvBuffer = (0..n).map(|_| piece.clone()).collect();
        while buffer.readln(EolStyle::Lf).unwrap().is_some() {}
    });
}

#[test]
fn prepending_buffers_costs_by_the_source() {
    let piece = Bytes::from_static(&[7; 600]);
    assert_linear("prepend_buffer of one segment", 10_000, |n| {
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
    assert_linear("readln after each piece of a line", 10_000, |n| {
        let mut buffer = EvBuffer::new();
        for _ in 0..n {
            buffer.add_reference(piece.clone()).unwrap();
            assert_eq!(buffer.readln(EolStyle::Lf), Ok(None));
        }
    });
}

/// Packing happens only after a constant share of the data has changed.
#[test]
fn packing_costs_by_the_data() {
    assert_linear("reserve 1 MiB, commit 1, add_reference of 1", 5_000, |n| {
        let mut buffer = EvBuffer::new();
        for _ in 0..n {
            buffer.reserve(1 << 20).unwrap().commit(1).unwrap();
            buffer.add_reference(&b"r"[..]).unwrap();
        }
    });
}

/// Partial matches are everywhere, and each match spans many pieces.
#[test]
fn a_long_needle_over_many_short_pieces_is_found_soon() {
    let needle = b"--------------------------d74496d66958873e0123456789abcdefghijklmnop";
    let mut data = b"-".repeat(1 << 20);
    data.extend_from_slice(needle);
    let at = EvBuffer::from(data.clone()).search(needle, ..);
    assert!(at.is_some());
    let data = Bytes::from(data);
    for piece in [1, 16, 512, 4096] {
        let mut buffer = EvBuffer::new();
        for from in (0..data.len()).step_by(piece) {
            let piece = data.slice(from..data.len().min(from + piece));
            buffer.add_reference(piece).unwrap();
        }
        let spent = time(|| assert_eq!(buffer.search(needle, ..), at));
        assert!(
            spent < Duration::from_secs(5),
            "{spent:?} in pieces of {piece}"
        );
    }
}
