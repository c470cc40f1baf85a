//! `stats`: what the process holds, and how each byte was moved. One test runs at a time, since all of them count.

mod support;

use std::{
    sync::{Barrier, Mutex},
    thread,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_evbuffer::{EvBuffer, Stats, relay, stats};

const BLOCK: usize = 16 << 10;

/// Runs `test` on a thread that has ended, with its pool, before the next test begins.
fn alone(test: impl FnOnce() + Send + 'static) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    thread::spawn(test).join().unwrap();
}

fn alone_async(test: impl Future<Output = ()> + Send + 'static) {
    alone(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(test);
    });
}

/// Returns by how much the totals grew between two readings: spliced, copied, sent from files.
fn moved(before: Stats, now: Stats) -> [u64; 3] {
    [
        now.bytes_spliced - before.bytes_spliced,
        now.bytes_copied - before.bytes_copied,
        now.bytes_sent_from_files - before.bytes_sent_from_files,
    ]
}

#[test]
fn blocks_are_live_until_their_last_segment_and_then_pooled() {
    alone(|| {
        let before = stats();
        let buffer = EvBuffer::from(&[7; BLOCK][..]);
        let live = stats();
        assert_eq!(live.segments_live, before.segments_live + 1);
        assert_eq!(live.bytes_live, before.bytes_live + BLOCK);
        assert_eq!(live.bytes_pooled, before.bytes_pooled);

        let mut shares = EvBuffer::new();
        shares.add_buffer_reference(&buffer).unwrap();
        drop(buffer);
        assert_eq!(stats(), live, "shared memory counts once");
        drop(shares);
        let pooled = stats();
        let kept = if cfg!(evbuffer_no_pool) { 0 } else { BLOCK };
        assert_eq!(pooled.segments_live, before.segments_live);
        assert_eq!(pooled.bytes_live, before.bytes_live);
        assert_eq!(pooled.bytes_pooled, before.bytes_pooled + kept);

        let reused = EvBuffer::from(&[7; BLOCK][..]);
        assert_eq!(stats(), live, "a block from the pool is live again");
        // More than a pool keeps.
        drop((
            reused,
            [0; 100].map(|byte| EvBuffer::from(&[byte; BLOCK][..])),
        ));
        assert_eq!(stats().bytes_live, before.bytes_live);
        assert!(stats().bytes_pooled <= before.bytes_pooled + 40 * 1024);
    });
}

#[test]
fn blocks_of_many_threads_add_up_and_end_with_them() {
    /// More than there are counters in one piece.
    const THREADS: usize = 80;
    static ALL: Barrier = Barrier::new(THREADS + 1);

    alone(|| {
        let before = stats();
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                thread::spawn(|| {
                    drop(EvBuffer::from(&[1; BLOCK][..]));
                    let _buffer = EvBuffer::from(&[1; 4096][..]);
                    ALL.wait();
                    ALL.wait();
                })
            })
            .collect();
        ALL.wait();
        let now = stats();
        assert_eq!(now.segments_live, before.segments_live + THREADS);
        assert_eq!(now.bytes_live, before.bytes_live + THREADS * 4096);
        if !cfg!(evbuffer_no_pool) {
            assert_eq!(now.bytes_pooled, before.bytes_pooled + THREADS * BLOCK);
        }
        ALL.wait();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(stats(), before, "the pools have ended with their threads");
    });
}

#[test]
fn what_a_relay_writes_to_other_streams_is_copied() {
    alone_async(async {
        let before = stats();
        let ((mut left, a), (b, mut right)) = (tokio::io::duplex(1000), tokio::io::duplex(1000));
        let relaying = tokio::spawn(relay(a, b));
        let mut received = vec![0; 100_000];
        let (sent, read) = tokio::join!(
            left.write_all(&[3; 100_000]),
            right.read_exact(&mut received)
        );
        sent.unwrap();
        read.unwrap();
        drop((left, right));
        relaying.await.unwrap().unwrap();
        assert_eq!(moved(before, stats()), [0, 100_000, 0]);
    });
}

#[cfg(all(feature = "net", target_os = "linux"))]
#[test]
fn each_byte_counts_as_spliced_copied_or_sent_from_a_file() {
    use support::{
        data::{pattern, temp_file},
        net::tcp_pair,
    };
    use tokio_evbuffer::{
        Relay,
        buffer::FileSegment,
        relay::{max_pipes, set_max_pipes},
    };

    const BULK: usize = 40 << 20;
    const FILE: usize = 1_000_000;

    alone_async(async {
        let usual = max_pipes();
        for pipes in [usual, 0] {
            set_max_pipes(pipes);
            let before = stats();
            let ((mut left, a), (b, mut right)) = (tcp_pair().await, tcp_pair().await);
            let mut initial = EvBuffer::from(&b"head"[..]);
            let file = FileSegment::new(temp_file(&pattern(FILE)), ..).unwrap();
            initial.add_file(file).unwrap();
            let relaying = tokio::spawn(Relay::new(a, b).initial(initial, EvBuffer::new()).run());
            let mut in_use = 0;
            let send = async {
                left.write_all(&vec![5; BULK]).await.unwrap();
                left.shutdown().await.unwrap();
            };
            let receive = async {
                let (mut room, mut received) = (vec![0; 1 << 20], 0);
                loop {
                    match right.read(&mut room).await.unwrap() {
                        0 => break received,
                        n => received += n,
                    }
                    // While the client does not read, the pipe holds what its socket does not take.
                    while pipes > 0 && in_use == 0 && received > BULK / 2 {
                        if stats().pipes_refused > before.pipes_refused {
                            break;
                        }
                        tokio::task::yield_now().await;
                        in_use = stats().pipes_in_use;
                    }
                    in_use = in_use.max(stats().pipes_in_use);
                }
            };
            let ((), received) = tokio::join!(send, receive);
            assert_eq!(received, 4 + FILE + BULK);
            drop((left, right));
            relaying.await.unwrap().unwrap();

            let now = stats();
            let [spliced, copied, from_file] = moved(before, now);
            assert_eq!(spliced + copied, (4 + BULK) as u64);
            assert_eq!(from_file, FILE as u64);
            assert_eq!(now.pipes_in_use, 0);
            if pipes == 0 {
                assert_eq!((spliced, in_use), (0, 0));
                assert!(now.pipes_refused > before.pipes_refused);
            } else if now.pipes_refused == before.pipes_refused {
                assert!(spliced > 0 && in_use == 1, "{spliced} spliced");
            }
        }
        set_max_pipes(usual);
    });
}

/// Two transfers between the same sockets, one in each direction.
#[cfg(all(target_os = "linux", feature = "net"))]
#[test]
fn bulk_between_halves_of_sockets_is_spliced() {
    use crate::support::net::tcp_pair;
    use tokio_evbuffer::{Prefixed, relay::copy_exact};

    const BULK: usize = 40 << 20;

    alone_async(async {
        let before = stats();
        let ((left, a), (b, right)) = (tcp_pair().await, tcp_pair().await);
        let (a_reading, mut a_writing) = a.into_split();
        let (b_reading, mut b_writing) = b.into_split();
        let mut a_reading = Prefixed::new(a_reading, EvBuffer::from("head"));
        let mut b_reading = Prefixed::new(b_reading, EvBuffer::new());
        let moving = async {
            tokio::try_join!(
                copy_exact(&mut a_reading, &mut b_writing, (4 + BULK) as u64),
                copy_exact(&mut b_reading, &mut a_writing, BULK as u64),
            )
            .unwrap();
        };
        let data = vec![5; BULK];
        let exchange = |stream: tokio::net::TcpStream, expected| {
            let (mut reading, mut writing) = stream.into_split();
            let data = &data;
            async move {
                let mut received = vec![0; expected];
                let receive = reading.read_exact(&mut received);
                tokio::try_join!(writing.write_all(data), receive).unwrap();
                received
            }
        };
        let ((), to_left, to_right) =
            tokio::join!(moving, exchange(left, BULK), exchange(right, 4 + BULK));
        assert!(to_left == data && to_right == [b"head", &data[..]].concat());

        let now = stats();
        let [spliced, copied, _] = moved(before, now);
        assert_eq!(spliced + copied, (4 + 2 * BULK) as u64);
        if now.pipes_refused == before.pipes_refused {
            assert!(spliced > BULK as u64, "{spliced} spliced");
        }
    });
}

/// The flow waits for its limit repeatedly, also while the relay looks for stalled flows.
#[cfg(all(target_os = "linux", feature = "net"))]
#[test]
fn a_flow_that_a_rate_limit_holds_up_stays_spliced() {
    use crate::support::net::tcp_pair;
    use tokio_evbuffer::{Relay, limits::RateLimit};

    const BULK: usize = 8 << 20;

    alone_async(async {
        let before = stats();
        let ((mut left, a), (b, mut right)) = (tcp_pair().await, tcp_pair().await);
        let limit = RateLimit::both(16 << 20)
            .unwrap()
            .and_burst(1 << 20)
            .unwrap();
        let relaying = tokio::spawn(Relay::new(a, b).rate_limit(limit).run());
        let (data, mut received) = (vec![5; BULK], vec![0; BULK]);
        tokio::try_join!(left.write_all(&data), right.read_exact(&mut received)).unwrap();
        drop((left, right));
        relaying.await.unwrap().unwrap();

        let now = stats();
        let [spliced, copied, _] = moved(before, now);
        assert_eq!(spliced + copied, BULK as u64);
        if now.pipes_refused == before.pipes_refused {
            assert!(spliced > BULK as u64 / 2, "{spliced} spliced");
        }
    });
}
