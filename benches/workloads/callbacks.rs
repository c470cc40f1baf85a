//! Buffers that notify a callback of their changes.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_evbuffer::{DeferredQueue, SharedEvBuffer};

#[cfg(libevent)]
use super::workload::LIBEVENT;
use super::workload::{OURS, Run, Workload, cpu_time, time};

/// Changes for each run of a deferred callback.
const MERGED: usize = 64;
const DATA: [u8; 64] = [7; 64];

/// Inline and deferred callbacks. A shared buffer has a lock, so it is compared with an evbuffer that has one; evbuffer
/// without a lock has separate rows.
pub(super) fn workloads() -> Vec<Workload> {
    vec![
        Workload::new(
            "add 64 B, drain, inline callback, locked",
            vec![
                #[cfg(libevent)]
                (LIBEVENT, c::inline::<true> as Run),
                (OURS, inline as Run),
            ],
        ),
        #[cfg(libevent)]
        Workload::new(
            "add 64 B, drain, inline callback, not locked",
            vec![(LIBEVENT, c::inline::<false> as Run)],
        ),
        Workload::new(
            "add 64 B, deferred callback, one by one, locked",
            vec![
                #[cfg(libevent)]
                (LIBEVENT, c::deferred::<1, true> as Run),
                (OURS, deferred::<1> as Run),
            ],
        ),
        #[cfg(libevent)]
        Workload::new(
            "add 64 B, deferred callback, one by one, not locked",
            vec![(LIBEVENT, c::deferred::<1, false> as Run)],
        ),
        Workload::new(
            "add 64 B, deferred callback, merged by 64, locked",
            vec![
                #[cfg(libevent)]
                (LIBEVENT, c::deferred::<MERGED, true> as Run),
                (OURS, deferred::<MERGED> as Run),
            ],
        ),
        #[cfg(libevent)]
        Workload::new(
            "add 64 B, deferred callback, merged by 64, not locked",
            vec![(LIBEVENT, c::deferred::<MERGED, false> as Run)],
        ),
    ]
}

fn observed(buffer: &SharedEvBuffer, is_inline: bool) -> Arc<AtomicU64> {
    let counted = Arc::new(AtomicU64::new(0));
    let count = counted.clone();
    let callback = move |_: &SharedEvBuffer, change: tokio_evbuffer::shared::Change| {
        count.fetch_add(change.added, Ordering::Relaxed);
    };
    if is_inline {
        buffer.on_change_inline(callback)
    } else {
        buffer.on_change(callback)
    }
    .detach();
    counted
}

fn inline(n: u64) -> Duration {
    let buffer = SharedEvBuffer::new();
    let counted = observed(&buffer, true);
    let took = time(n, || {
        buffer.add(black_box(&DATA)).expect("no limit is set");
        buffer.drain(DATA.len()).expect("nothing is frozen");
    });
    assert_eq!(counted.load(Ordering::Relaxed), n * DATA.len() as u64);
    took
}

/// `n` changes, with a run of the queue after each `EACH` of them.
pub(super) fn deferred<const EACH: usize>(n: u64) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (buffer, queue) = (SharedEvBuffer::new(), DeferredQueue::current());
        let counted = observed(&buffer, false);
        let rounds = n.div_ceil(EACH as u64);
        let began = cpu_time();
        for _ in 0..rounds {
            for _ in 0..EACH {
                buffer.add(black_box(&DATA)).expect("no limit is set");
            }
            queue.drained().await;
            buffer.lock().clear().expect("nothing is frozen");
        }
        queue.drained().await;
        let took = cpu_time() - began;
        let added = rounds * EACH as u64;
        assert_eq!(counted.load(Ordering::Relaxed), added * DATA.len() as u64);
        took.mul_f64(n as f64 / added as f64)
    })
}

#[cfg(libevent)]
mod c {
    use std::{hint::black_box, time::Duration};

    use super::{DATA, time};
    use crate::libevent::{Locking, Observed};

    const WORKS: &str = "libevent does what the workload asks for";

    fn locking(on: bool) -> Locking {
        if on { Locking::On } else { Locking::Off }
    }

    pub(super) fn inline<const LOCKED: bool>(n: u64) -> Duration {
        let mut observed = Observed::inline(locking(LOCKED));
        let took = time(n, || {
            observed.buffer().add(black_box(&DATA)).expect(WORKS);
            observed.buffer().drain(DATA.len()).expect(WORKS);
        });
        assert_eq!(observed.counted(), n * DATA.len() as u64);
        took
    }

    pub(super) fn deferred<const EACH: usize, const LOCKED: bool>(n: u64) -> Duration {
        let mut observed = Observed::deferred(locking(LOCKED));
        let rounds = n.div_ceil(EACH as u64);
        let took = time(rounds, || {
            for _ in 0..EACH {
                observed.buffer().add(black_box(&DATA)).expect(WORKS);
            }
            observed.run();
            let len = observed.buffer().len();
            observed.buffer().drain(len).expect(WORKS);
        });
        observed.run();
        let added = rounds * EACH as u64;
        assert_eq!(observed.counted(), added * DATA.len() as u64);
        took.mul_f64(n as f64 / added as f64)
    }
}
