//! `BufferEvent`s on several threads: no byte and no wake-up is lost.

#![cfg(feature = "net")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_evbuffer::{
    BufferEvent, DeferredQueue, EolStyle, Watermarks,
    bufferevent::{Direction, Side},
};

use crate::support::{
    net::tcp_pair,
    tasks::{HANG, until},
};

/// How long tests repeat what threads do by chance.
const TRYING: Duration = Duration::from_secs(3);

fn readers_and_adders(near: TcpStream) {
    let bev = BufferEvent::new(near);
    tokio::spawn(async move {
        let has_line = |input: &tokio_evbuffer::EvBuffer| input.search(b"\n", ..).is_some();
        while bev.input().wait_for(has_line).await.is_ok() {
            while let Some(line) = bev.input().readln(EolStyle::Lf).unwrap() {
                bev.output().add(&line).unwrap();
                bev.output().add(b"\n").unwrap();
            }
        }
        bev.close().await.unwrap();
    });
}

fn with_stream_traits(near: TcpStream) {
    let (mut read, mut write) = BufferEvent::new(near).split();
    tokio::spawn(async move {
        tokio::io::copy_buf(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
}

fn with_callbacks(near: TcpStream, queue: DeferredQueue) {
    BufferEvent::builder()
        .defer_to(queue)
        .on_read(|bev| {
            bev.input().move_to(bev.output(), usize::MAX).unwrap();
        })
        .on_event(|bev, _| bev.output().close())
        .spawn(near)
        .detach();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_line_is_answered_in_order() {
    let queue = DeferredQueue::spawn_on(&tokio::runtime::Handle::current());
    let mut clients = JoinSet::new();
    for i in 0..24 {
        let (near, far) = tcp_pair().await;
        match i % 3 {
            0 => readers_and_adders(near),
            1 => with_stream_traits(near),
            _ => with_callbacks(near, queue.clone()),
        }
        clients.spawn(async move {
            let (read, mut write) = far.into_split();
            let mut lines = tokio::io::BufReader::new(read).lines();
            for depth in [1, 2, 32, 1, 500] {
                for turn in 0..30 {
                    let batch: String = (0..depth).map(|n| format!("{i} {turn} {n}\n")).collect();
                    write.write_all(batch.as_bytes()).await.unwrap();
                    for n in 0..depth {
                        let line = lines.next_line().await.unwrap().unwrap();
                        assert_eq!(line, format!("{i} {turn} {n}"));
                    }
                }
            }
            drop(write);
            assert_eq!(lines.next_line().await.unwrap(), None);
        });
    }
    let all = async { while clients.join_next().await.transpose().unwrap().is_some() {} };
    timeout(HANG, all)
        .await
        .expect("no progress: a wake-up was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_many_tasks_is_woken_when_its_bytes_were_sent() {
    let (near, mut far) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    let mut adders = JoinSet::new();
    for i in 0..8_u8 {
        let bev = bev.clone();
        adders.spawn(async move {
            for n in 0..200 {
                bev.output().add(&vec![i; 1 + n * 7 % 300]).unwrap();
                if n % 3 == 0 {
                    bev.flush().await.unwrap();
                } else {
                    let mark = bev.output().mark();
                    bev.output().drained_to(mark).await.unwrap();
                }
            }
        });
    }
    let expected: usize = 8 * (0..200).map(|n| 1 + n * 7 % 300).sum::<usize>();
    let all = async {
        let mut got = vec![0; expected];
        far.read_exact(&mut got).await.unwrap();
        while adders.join_next().await.transpose().unwrap().is_some() {}
    };
    timeout(HANG, all)
        .await
        .expect("no progress: a wake-up was lost");
    assert_eq!(bev.metrics().bytes_out, expected as u64);
}

/// Switching directions, watermarks and timeouts while bytes move delays them, and loses none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn constant_changes_of_all_settings_stall_nothing() {
    const BYTES: usize = 1 << 20;
    let (a, b) = BufferEvent::pair();
    let done = Arc::new(AtomicBool::new(false));
    let mut changers = JoinSet::new();
    for bev in [a.clone(), b.clone()] {
        let done = Arc::clone(&done);
        changers.spawn(async move {
            for i in 0.. {
                if done.load(SeqCst) {
                    return;
                }
                let direction = [Direction::Read, Direction::Write][i % 2];
                bev.disable(direction);
                let marks = Watermarks::with_high(100 + i * 37 % 5000).unwrap();
                bev.set_watermarks([Side::Input, Side::Output][i / 2 % 2], marks);
                bev.set_timeouts(Some(HANG), (i % 3 > 0).then_some(HANG));
                tokio::task::yield_now().await;
                bev.enable(direction);
                tokio::task::yield_now().await;
            }
        });
    }
    let sum = Arc::new(AtomicUsize::new(0));
    let ((mut read_a, mut write_a), (mut read_b, mut write_b)) = (a.split(), b.split());
    let all = async {
        let send = async {
            let data: Vec<u8> = (0..BYTES).map(|i| (i * 7 + i / 251) as u8).collect();
            write_a.write_all(&data).await.unwrap();
            write_a.shutdown().await.unwrap();
            data
        };
        let echo = async {
            tokio::io::copy_buf(&mut read_b, &mut write_b)
                .await
                .unwrap();
            write_b.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let receive = async {
            sum.store(read_a.read_to_end(&mut got).await.unwrap(), SeqCst);
        };
        let (data, (), ()) = tokio::join!(send, echo, receive);
        assert!(got == data);
    };
    let outcome = timeout(HANG, all).await;
    done.store(true, SeqCst);
    while changers.join_next().await.transpose().unwrap().is_some() {}
    outcome.unwrap_or_else(|_| panic!("no progress: {read_a:?} {read_b:?}"));
    assert_eq!(sum.load(SeqCst), BYTES);
}

/// The queue is never idle, so that triggers arrive during runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_trigger_is_lost() {
    let (near, _far) = tokio::io::duplex(1);
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let bev = BufferEvent::builder()
        .on_read(move |_| {
            count.fetch_add(1, SeqCst);
        })
        .on_write(|bev| bev.trigger(Direction::Write))
        .spawn(near);
    bev.trigger(Direction::Write);
    let all = tokio::spawn(async move {
        let start = Instant::now();
        for _ in 0..20_000 {
            let before = called.load(SeqCst);
            bev.trigger(Direction::Read);
            until("the callback runs", || called.load(SeqCst) > before).await;
            // Each run takes many milliseconds if threads wait for a processor.
            if start.elapsed() > TRYING {
                break;
            }
        }
    });
    all.await.unwrap();
}

/// One of the two gets the stream, and the other one an error, also if the upgrade ends while `into_inner` begins.
#[test]
fn an_upgrade_and_into_inner_of_two_threads_exclude_each_other() {
    use std::sync::Barrier;

    use tokio::io::{BufStream, DuplexStream, duplex};
    use tokio_evbuffer::Prefixed;

    let start = Instant::now();
    let runtime = two_workers();
    for _ in 0..2_000 {
        let _entered = runtime.enter();
        let (near, _far) = duplex(64);
        let bev = BufferEvent::new(near);
        let other = bev.clone();
        let barrier = Arc::new(Barrier::new(2));
        let begun = Arc::clone(&barrier);
        let handle = runtime.handle().clone();
        let taking = std::thread::spawn(move || {
            begun.wait();
            handle.block_on(other.into_inner::<DuplexStream>()).is_ok()
        });
        let upgraded = runtime.block_on(bev.upgrade(|plain: Prefixed<DuplexStream>| async move {
            barrier.wait();
            Ok(BufStream::new(plain))
        }));
        let taken = taking.join().expect("no panic");
        assert_ne!(taken, upgraded.is_ok());
        if start.elapsed() > TRYING {
            break;
        }
    }
}

/// An upgrade that is dropped while the task gives up the stream has no effect or ends the connection.
#[test]
fn an_upgrade_that_is_dropped_at_any_moment_leaves_no_connection_that_does_not_end() {
    use std::{
        future::{pending, poll_fn},
        task::Poll,
    };

    use tokio::io::{DuplexStream, duplex};
    use tokio_evbuffer::Prefixed;

    let start = Instant::now();
    let runtime = two_workers();
    for spins in 0..20_000_u32 {
        let ended = runtime.block_on(async {
            let (near, _far) = duplex(64);
            let bev = BufferEvent::builder()
                .close_wait(Duration::ZERO)
                .spawn(near);
            {
                let mut upgrade =
                    std::pin::pin!(bev.upgrade(|_: Prefixed<DuplexStream>| async move {
                        pending::<std::io::Result<DuplexStream>>().await
                    }));
                let first = poll_fn(|cx| Poll::Ready(upgrade.as_mut().poll(cx).is_pending())).await;
                assert!(first);
                for _ in 0..spins % 2_000 {
                    std::hint::spin_loop();
                }
            }
            timeout(HANG, bev.close()).await
        });
        assert!(ended.is_ok(), "the connection does not end");
        if start.elapsed() > TRYING {
            break;
        }
    }
}

fn two_workers() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
