//! Transfers, relays and joins that are dropped, or stopped, at each of their await points.

use std::{cell::Cell, future::poll_fn, sync::Arc, task::Poll};

use tokio_evbuffer::{
    BufferEvent, EvBuffer, Relay, Transfer, copy,
    relay::{RelayCounters, RelayOutcome, RelayParts, TransferCounters, copy_exact},
};

use crate::support::{
    cancel::{at_each_await_point, poll_times},
    data::pattern,
    faulty_stream::{Faults, FaultyStream, Observed},
    sim::Sim,
    tasks::yield_many,
};

/// Reads and writes move a few bytes, and wait half of the time.
const FAULTS: Faults = Faults {
    piece: 5,
    pending: 2,
    interrupted: 7,
    ..Faults::NONE
};

/// Two streams that behave the same each time.
fn streams(from_a: &[u8], from_b: &[u8]) -> (impl Drop + use<>, FaultyStream, FaultyStream) {
    let sim = Sim::new(17);
    let a = FaultyStream::new(&sim, 0, from_a, FAULTS);
    let b = FaultyStream::new(&sim, 1, from_b, FAULTS);
    (sim.drive(), a, b)
}

/// Checks that what `sink` got is the start of `data`, and that at most `held` bytes were read from `source` beyond it.
/// Returns the numbers of bytes written and read.
fn check(data: &[u8], source: &Observed, sink: &Observed, held: usize) -> (usize, usize) {
    let (written, read) = (sink.written.len(), source.read);
    assert_eq!(sink.written, &data[..written]);
    assert!(
        written <= read && read - written <= held,
        "{read} {written}"
    );
    (written, read)
}

#[tokio::test]
async fn a_dropped_transfer_loses_no_more_than_its_counters_say() {
    const LIMIT: usize = 60;
    let data = pattern(80);
    at_each_await_point(async |polls| {
        let (_driver, mut reader, mut writer) = streams(&data, b"");
        let (source, sink) = (reader.seen(), writer.seen());
        let counters = Arc::new(TransferCounters::default());
        let transfer = Transfer::new(&mut reader, &mut writer)
            .limit(LIMIT as u64)
            .counters(Arc::clone(&counters));
        let done = poll_times(transfer.run(), polls).await;

        let held = counters.held() as usize;
        let (written, read) = check(&data, &source(), &sink(), held);
        assert_eq!(counters.written() as usize, written);
        assert_eq!(counters.read() as usize, read);
        assert!(read <= LIMIT);
        // The next one continues with the next byte.
        let rest = copy(&mut reader, &mut writer).await.unwrap();
        assert_eq!(rest as usize, data.len() - read);
        assert_eq!(&sink().written[written..], &data[read..]);
        done.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_dropped_copy_leaves_the_rest_in_the_reader() {
    let data = pattern(80);
    for exact in [false, true] {
        let most = if exact { 60 } else { data.len() };
        at_each_await_point(async |polls| {
            let (_driver, mut reader, mut writer) = streams(&data, b"");
            let (source, sink) = (reader.seen(), writer.seen());
            let done = match exact {
                true => poll_times(copy_exact(&mut reader, &mut writer, 60), polls)
                    .await
                    .map(|result| result.unwrap()),
                false => poll_times(copy(&mut reader, &mut writer), polls)
                    .await
                    .map(|result| assert_eq!(result.unwrap(), 80)),
            };
            let (written, read) = check(&data, &source(), &sink(), most);
            assert!(read <= most);
            assert!(done.is_none() || (written == most && sink().flushed == most));
            copy(&mut reader, &mut writer).await.unwrap();
            assert_eq!(&sink().written[written..], &data[read..]);
            done.is_some()
        })
        .await;
    }
}

/// Data in both directions, which are swapped in the second round.
fn both_ways() -> [[Vec<u8>; 2]; 2] {
    let (long, short) = (pattern(90), pattern(31));
    [[long.clone(), short.clone()], [short, long]]
}

#[tokio::test]
async fn a_relay_that_is_stopped_at_any_await_point_loses_nothing() {
    for [from_a, from_b] in both_ways() {
        at_each_await_point(async |polls| {
            let (_driver, a, b) = streams(&from_a, &from_b);
            let (at_a, at_b) = (a.seen(), b.seen());
            let polled = Cell::new(0);
            let stop = poll_fn(|_| match polled.replace(polled.get() + 1) >= polls {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let outcome = Relay::new(a, b).run_until(stop).await.unwrap();
            let parts = match outcome {
                RelayOutcome::Stopped(parts) => parts,
                RelayOutcome::Ended(summary) => {
                    assert_eq!(summary.a_to_b as usize, from_a.len());
                    assert_eq!(summary.b_to_a as usize, from_b.len());
                    assert!(at_b().written == from_a && at_a().written == from_b);
                    return true;
                }
                other => panic!("{other:?}"),
            };
            let RelayParts {
                a,
                b,
                to_a,
                to_b,
                summary,
                ..
            } = parts;
            let (to_right, read) = check(&from_a, &at_a(), &at_b(), to_b.len());
            assert_eq!(summary.a_to_b as usize, to_right);
            assert_eq!(to_b, from_a[to_right..read]);
            let (to_left, read) = check(&from_b, &at_b(), &at_a(), to_a.len());
            assert_eq!(summary.b_to_a as usize, to_left);
            assert_eq!(to_a, from_b[to_left..read]);
            // Another relay continues with the parts.
            Relay::new(a, b).initial(to_b, to_a).run().await.unwrap();
            assert!(at_b().written == from_a && at_a().written == from_b);
            false
        })
        .await;
    }
}

#[tokio::test]
async fn a_dropped_relay_has_counted_what_it_delivered() {
    const BUFFER: usize = 16;
    for [from_a, from_b] in both_ways() {
        at_each_await_point(async |polls| {
            let (_driver, mut a, mut b) = streams(&from_a, &from_b);
            let (at_a, at_b) = (a.seen(), b.seen());
            let counters = Arc::new(RelayCounters::default());
            let relay = Relay::new(&mut a, &mut b)
                .buffer(BUFFER)
                .counters(Arc::clone(&counters))
                .run_until(std::future::pending());
            let done = poll_times(relay, polls).await;
            let (written, _) = check(&from_a, &at_a(), &at_b(), BUFFER);
            assert_eq!(counters.a_to_b() as usize, written);
            let (written, _) = check(&from_b, &at_b(), &at_a(), BUFFER);
            assert_eq!(counters.b_to_a() as usize, written);
            done.is_some()
        })
        .await;
    }
}

/// The bytes of `from` that the connections hold, behind what was written.
fn in_transit(written: &Observed, output: &BufferEvent, input: &BufferEvent) -> Vec<u8> {
    let mut bytes = written.written.clone();
    bytes.extend(output.output().to_vec());
    bytes.extend(input.input().to_vec());
    bytes
}

#[tokio::test]
async fn a_dropped_join_leaves_every_byte_in_the_buffers() {
    for [from_a, from_b] in both_ways() {
        at_each_await_point(async |polls| {
            let (_driver, a, b) = streams(&from_a, &from_b);
            let (at_a, at_b) = (a.seen(), b.seen());
            let (a, b) = (BufferEvent::new(a), BufferEvent::new(b));
            let joined = BufferEvent::join(a.clone(), b.clone());
            let done = poll_times(joined, polls).await;
            assert_eq!(in_transit(&at_b(), &b, &a), from_a[..at_a().read]);
            assert_eq!(in_transit(&at_a(), &a, &b), from_b[..at_b().read]);
            if done.is_some() {
                assert!(at_b().written == from_a && at_a().written == from_b);
                return true;
            }
            // The connections are still usable, and another join continues.
            yield_many().await;
            let mut held = EvBuffer::new();
            a.input().remove_buffer(&mut held, usize::MAX).unwrap();
            b.output().add_buffer(&mut held).unwrap();
            BufferEvent::join(b, a).await.unwrap();
            assert!(at_b().written == from_a && at_a().written == from_b);
            false
        })
        .await;
    }
}
