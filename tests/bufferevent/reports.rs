//! Faults that users of other projects reported about buffered connections, tried on `BufferEvent`. Each test cites a report.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    BufferEvent, EolStyle, EvBuffer, Event, Watermarks,
    bufferevent::{Callbacks, Direction, Side},
    pipe,
    shared::{Crossing, WaitError},
};

use crate::support::{
    data::leak,
    net::{SilentPort, tcp_pair},
    tasks::{HANG, soon},
    wrapped::Wrapped,
};

/// libevent/libevent#435, #875, libp2p/rust-libp2p#5469, steffengy/tiberius#46: a socket that the library connects uses Nagle's
/// algorithm, and the program cannot change that. Head and body of a request are two writes here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_and_body_of_a_request_do_not_wait_for_a_delayed_ack() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    const REQUESTS: usize = 60;
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 300];
        for _ in 0..REQUESTS {
            client.read_exact(&mut request).unwrap();
            client.write_all(b"ok").unwrap();
        }
    });
    let bev = BufferEvent::builder().connect(addr);
    assert!(matches!(bev.next_event().await, Some(Event::Connected)));
    let nodelay = bev.with_stream(|tcp: &TcpStream| tcp.nodelay());
    assert!(nodelay.unwrap().unwrap());
    for _ in 0..REQUESTS {
        bev.output().add(&[1; 100]).unwrap();
        bev.flush().await.unwrap();
        bev.output().add(&[2; 200]).unwrap();
        bev.flush().await.unwrap();
        soon("the answer", bev.input().readable(2)).await.unwrap();
        bev.input().drain(2).unwrap();
    }
    server.join().unwrap();
}

/// scylladb/seastar#1325, libevent/libevent#321, ZoeyVid/NPMplus#3630: a server refuses while its client still sends, and closes; the
/// reset for what it did not read destroys the answer. `close` and the drop of the last handle are compared.
fn refuse_an_upload(by_drop: bool) -> (usize, String, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (client_has_ended, wait_for_client) = tokio::sync::oneshot::channel();
    let (addr, serving) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // The client may be slow to end its side.
            let bev = BufferEvent::builder().close_wait(HANG).spawn(stream);
            bev.input().readable(10_000).await.unwrap();
            bev.output().add(&vec![b'4'; 300_000]).unwrap();
            if by_drop {
                drop(bev);
            } else {
                bev.close().await.unwrap();
            }
            // Until then the delivery needs the runtime.
            let _ = wait_for_client.await;
        });
        (addr, serving)
    });
    let mut client = std::net::TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(HANG)).unwrap();
    let piece = vec![1; 16 << 10];
    let mut upload = String::from("all of it");
    for at in 0..64 {
        if let Err(error) = client.write_all(&piece) {
            upload = format!("{:?}", error.kind());
            break;
        }
        if at == 0 {
            // The refusal has arrived, and the rest of the upload comes after it.
            client.peek(&mut [0]).unwrap();
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Write);
    let (mut got, mut room) = (0, [0; 4096]);
    let end = loop {
        match client.read(&mut room) {
            Ok(0) => break "end of stream".to_owned(),
            Ok(n) => got += n,
            Err(error) => break format!("{:?}", error.kind()),
        }
    };
    drop(client);
    let _ = client_has_ended.send(());
    runtime.block_on(async { serving.await.unwrap() });
    (got, end, upload)
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends_by_close() {
    let (got, end, _) = refuse_an_upload(false);
    assert_eq!((got, &*end), (300_000, "end of stream"));
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends_by_drop() {
    let (got, end, _) = refuse_an_upload(true);
    assert_eq!((got, &*end), (300_000, "end of stream"));
}

/// libevent/libevent#1872, #294, #1112: connections that the peer has reset are never released. The server has a read callback
/// only.
#[tokio::test]
async fn a_detached_connection_that_was_reset_is_dropped() {
    let (mut far, near) = tcp_pair().await;
    let (in_stream, dropped) = oneshot::channel::<()>();
    BufferEvent::builder()
        .on_read(|bev| {
            let input = bev.input().take_bytes(usize::MAX).unwrap();
            let _ = bev.output().add_reference(input);
        })
        .spawn_detached(Wrapped(near, in_stream));
    far.write_all(b"echo").await.unwrap();
    far.read_exact(&mut [0; 4]).await.unwrap();
    far.set_zero_linger().unwrap();
    drop(far);
    soon("the drop of the stream", dropped).await.unwrap_err();
}

/// haproxy/haproxy#1863: the peer accepts, says something and hangs up at once, so that the first check of the connection already
/// shows its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_writes_and_closes_at_once_is_connected_read_and_ended() {
    for _ in 0..50 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.write_all(b"421 too busy\r\n").unwrap();
        });
        let bev = BufferEvent::builder().connect(addr);
        peer.join().unwrap();
        let mut events = Vec::new();
        for _ in 0..2 {
            events.push(soon("an event", bev.next_event()).await.unwrap());
        }
        assert!(
            matches!(events[..], [Event::Connected, Event::Eof]),
            "{events:?}"
        );
        assert_eq!(
            bev.input().readln(EolStyle::Crlf).unwrap().unwrap(),
            "421 too busy"
        );
    }
}

/// libevent/libevent#715: the read timeout ends a connection on which a long answer is being written, because the client has
/// nothing to say meanwhile.
#[tokio::test(start_paused = true)]
async fn idle_timeout_lets_a_long_answer_pass_and_read_timeout_is_about_reading() {
    let (mut far, near) = duplex(64 << 10);
    let bev = BufferEvent::builder()
        .read_timeout(Duration::from_millis(300))
        .idle_timeout(Duration::from_millis(300))
        .spawn(near);
    let reading = tokio::spawn(async move {
        let (mut got, mut room) = (0, vec![0; 64 << 10]);
        while got < 4 << 20 {
            got += far.read(&mut room).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        far
    });
    let sending = async {
        for _ in 0..64 {
            bev.output().add(&vec![1; 64 << 10]).unwrap();
            bev.flush().await.unwrap();
        }
    };
    soon("the answer", sending).await;
    let far = soon("the client", reading).await.unwrap();
    let first = timeout(Duration::from_millis(10), bev.next_event()).await;
    let second = timeout(Duration::from_millis(10), bev.next_event()).await;
    drop(far);
    assert!(matches!(first, Err(_) | Ok(Some(Event::ReadTimeout))));
    assert!(second.is_err());
}

/// dotnet/runtime#66645: a wait for more bytes than arrive could neither end nor be given up.
#[tokio::test]
async fn a_wait_for_bytes_that_do_not_come_can_be_given_up_and_ends_with_the_stream() {
    let (mut far, near) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    far.write_all(&[1; 12]).await.unwrap();
    let given_up = timeout(Duration::from_millis(100), bev.input().readable(30))
        .await
        .is_err();
    let waiting = {
        let input = bev.input().clone();
        tokio::spawn(async move { input.readable(30).await })
    };
    sleep(Duration::from_millis(20)).await;
    far.shutdown().await.unwrap();
    let ended = soon("the end", waiting).await.unwrap();
    assert!(given_up && ended == Err(WaitError::Closed));
    assert_eq!(bev.input().len(), 12);
}

/// libevent/libevent#1809: a read callback switches reading off and removes itself, and is called again.
#[tokio::test]
async fn a_callback_that_removes_itself_is_not_called_again() {
    for replace in [true, false] {
        let (mut far, near) = tcp_pair().await;
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let _bev = BufferEvent::builder()
            .on_read(move |bev| {
                count.fetch_add(1, SeqCst);
                bev.disable(Direction::Read);
                if replace {
                    bev.set_callbacks(Callbacks::new());
                }
            })
            .spawn(near);
        for _ in 0..20 {
            far.write_all(&[1; 3000]).await.unwrap();
            sleep(Duration::from_millis(2)).await;
        }
        sleep(Duration::from_millis(100)).await;
        assert!(calls.load(SeqCst) <= if replace { 1 } else { 2 });
    }
}

/// droe/sslsplit#109: a proxy of two bufferevents switches reading off when the output of the other side is long, and never on
/// again, because the callback that should do so ran too early or saw an empty output.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_callbacks_does_not_stall() {
    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    let watermarks = Watermarks::new(8 << 10, 32 << 10).unwrap();
    let peak = Arc::new(AtomicUsize::new(0));
    let other: [Arc<Mutex<Option<BufferEvent>>>; 2] = Default::default();
    let side = |stream: TcpStream, i: usize| {
        let (to, from) = (Arc::clone(&other[1 - i]), Arc::clone(&other[1 - i]));
        let ending = Arc::clone(&other[1 - i]);
        let peak = Arc::clone(&peak);
        BufferEvent::builder()
            .write_watermarks(watermarks)
            .on_read(move |bev| {
                let Some(to) = to.lock().unwrap().clone() else {
                    return;
                };
                let _ = bev.input().move_to(to.output(), usize::MAX);
                peak.fetch_max(to.output().len(), SeqCst);
                if to.output().len() >= 32 << 10 {
                    bev.disable(Direction::Read);
                    // It may have fallen meanwhile.
                    if to.output().len() <= 8 << 10 {
                        bev.enable(Direction::Read);
                    }
                }
            })
            .on_write(move |_| {
                if let Some(from) = from.lock().unwrap().clone() {
                    from.enable(Direction::Read);
                }
            })
            .on_event(move |_, event| {
                if matches!(event, Event::Eof | Event::ReadError(_)) {
                    if let Some(to) = ending.lock().unwrap().clone() {
                        to.output().close();
                    }
                }
            })
            .spawn(stream)
    };
    let (a, b) = (side(a, 0), side(b, 1));
    *other[0].lock().unwrap() = Some(a.clone());
    *other[1].lock().unwrap() = Some(b.clone());
    a.trigger(Direction::Read);
    b.trigger(Direction::Read);
    const LEN: usize = 24 << 20;
    let sending = tokio::spawn(async move {
        client.write_all(&vec![8; LEN]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        back.len()
    });
    let receiving = tokio::spawn(async move {
        let (mut got, mut room, mut n) = (0, vec![0; 100_000], 1);
        while n > 0 {
            n = server.read(&mut room).await.unwrap();
            got += n;
            if got % 7 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        server.write_all(&vec![9; 1 << 20]).await.unwrap();
        server.shutdown().await.unwrap();
        got
    });
    let (got, back) = soon("both", async {
        (receiving.await.unwrap(), sending.await.unwrap())
    })
    .await;
    assert_eq!((got, back), (LEN, 1 << 20));
    for slot in &other {
        slot.lock().unwrap().take();
    }
}

/// nmathewson/libevent_obsolete#105: switching a direction off from another thread than that of the callbacks deadlocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directions_are_switched_from_other_threads_while_callbacks_run() {
    let (mut far, near) = tcp_pair().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let bev = BufferEvent::builder()
        .on_read(move |bev| {
            count.fetch_add(bev.input().drain(usize::MAX).unwrap(), SeqCst);
            bev.enable(Direction::Write);
        })
        .spawn(near);
    let stop = Arc::new(AtomicBool::new(false));
    let switching: Vec<_> = (0..2)
        .map(|_| {
            let (bev, stop) = (bev.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                loop {
                    bev.disable(Direction::Read);
                    bev.set_timeouts(None, None);
                    bev.enable(Direction::Read);
                    if stop.load(SeqCst) {
                        return;
                    }
                }
            })
        })
        .collect();
    soon("the bytes", far.write_all(&vec![1; 4 << 20]))
        .await
        .unwrap();
    stop.store(true, SeqCst);
    for thread in switching {
        thread.join().unwrap();
    }
    let all = async {
        while seen.load(SeqCst) < 4 << 20 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the callbacks", all).await;
    assert_eq!(seen.load(SeqCst), 4 << 20);
}

/// lancaster-university/codal-core#80, dotnet/corefx#30689: a wait for a delimiter never ends if the buffer is full without
/// it.
#[tokio::test]
async fn a_wait_for_a_line_above_the_high_watermark_ends() {
    let (mut far, near) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    let sending = tokio::spawn(async move {
        let _ = far.write_all(&vec![b'x'; 400_000]).await;
        far
    });
    let has_line = |input: &EvBuffer| input.search_eol(0, EolStyle::Crlf).is_some();
    // Reading has stopped at the high watermark.
    let waited = soon("a line", bev.input().wait_for(has_line)).await;
    sending.abort();
    assert!(waited.is_err());
}

/// libevent/libevent#263 (RFC 6555/8305), oven-sh/bun#11859, irssi/irssi#641: of two addresses the first drops what is sent to it
/// (as IPv6 does on a broken network); the second answers at once.
#[tokio::test]
async fn a_first_address_that_does_not_answer_does_not_keep_the_second_from_being_tried() {
    let silent = SilentPort::new().await;
    let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addrs = [silent.addr(), good.local_addr().unwrap()];
    let bev = BufferEvent::builder()
        .connect_timeout(2 * HANG)
        .connect(&*leak(addrs) as &[_]);
    let event = soon("the connection", bev.next_event()).await;
    assert!(matches!(event, Some(Event::Connected)));
}

/// tokio-rs/tokio#6914, #3756: half of an in-memory pipe is dropped, and the other half, which waits, is never woken.
#[tokio::test]
async fn a_dropped_half_wakes_the_other() {
    let (mut writer, reader) = pipe(Watermarks::with_high(64).unwrap());
    let writing = tokio::spawn(async move { writer.write_all(&[1; 1024]).await });
    sleep(Duration::from_millis(20)).await;
    drop(reader);
    let written = soon("the writer", writing).await.unwrap();

    let (writer, mut reader) = pipe(Watermarks::with_high(64).unwrap());
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await
    });
    sleep(Duration::from_millis(20)).await;
    drop(writer);
    let read = soon("the reader", reading).await.unwrap();

    // A pair of BufferEvents, with a waiting task on each half.
    let (a, b) = BufferEvent::pair();
    let (read_half, mut write_half) = b.split();
    let full = tokio::spawn(async move { write_half.write_all(&vec![1; 2 << 20]).await });
    let empty = tokio::spawn(async move {
        let (mut read_half, mut got) = (read_half, Vec::new());
        read_half.read_to_end(&mut got).await
    });
    sleep(Duration::from_millis(20)).await;
    a.abort();
    let pair = (
        soon("write half", full).await.unwrap(),
        soon("read half", empty).await.unwrap(),
    );
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(read.unwrap(), 0);
    assert!(pair.0.is_err());
}

/// tokio-rs/tokio#7441: blocking code that reads an asynchronous stream by `Handle::block_on`, in a current-thread runtime.
#[test]
fn blocking_code_reads_through_a_current_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let got = runtime.block_on(async {
        let (mut far, near) = tcp_pair().await;
        let mut bev = BufferEvent::new(near);
        let handle = tokio::runtime::Handle::current();
        let blocking = tokio::task::spawn_blocking(move || {
            let mut got = vec![0; 300_000];
            for piece in got.chunks_mut(1000) {
                handle.block_on(bev.read_exact(piece)).unwrap();
                handle.block_on(bev.write_all(&piece[..1])).unwrap();
            }
            handle.block_on(bev.shutdown()).unwrap();
            got.len()
        });
        let (mut read, mut write) = far.split();
        let mut back = Vec::new();
        let (sent, received) = soon("both", async {
            tokio::join!(write.write_all(&[5; 300_000]), read.read_to_end(&mut back))
        })
        .await;
        sent.unwrap();
        assert_eq!(received.unwrap(), 300);
        soon("the blocking task", blocking).await.unwrap()
    });
    assert_eq!(got, 300_000);
}

/// temper-mc/temper#38, majiayu000/harness#1996: one slow reader of a broadcast makes the memory of the server grow without bound.
/// The overflow watermark, which is reported inline, bounds it.
#[tokio::test]
async fn a_slow_reader_of_a_broadcast_can_be_dropped_at_a_bound() {
    let (far, near) = tcp_pair().await;
    let watermarks = Watermarks::new(1 << 10, 64 << 10)
        .unwrap()
        .and_overflow(1 << 20)
        .unwrap();
    let bev = BufferEvent::builder()
        .write_watermarks(watermarks)
        .on_watermark(|bev, side, crossing| {
            if let (Side::Output, Crossing::Overflow { .. }) = (side, crossing) {
                bev.abort();
            }
        })
        .spawn(near);
    let mut sent = 0;
    while bev.output().add(&[7; 10_000]).is_ok() {
        sent += 10_000;
        assert!(sent < 64 << 20, "nothing bounds the output");
        tokio::task::yield_now().await;
    }
    let summary = soon("the end", bev.closed()).await;
    drop(far);
    assert!(summary.unsent <= (1 << 20) + 20_000, "{summary:?}");
}

/// envoyproxy/envoy#28817 (`detectEarlyCloseWhenReadDisabled`), cfal/tobaru#9: a reset is not noticed while reading is paused by the
/// high watermark or by the user.
#[tokio::test]
async fn a_reset_is_reported_while_reading_is_paused() {
    let mut reported = Vec::new();
    for kind in ["high mark", "disabled"] {
        let (mut far, near) = tcp_pair().await;
        let bev = BufferEvent::builder()
            .read_watermarks(Watermarks::new(100, 1000).unwrap())
            .spawn(near);
        if kind == "disabled" {
            bev.disable(Direction::Read);
        }
        far.write_all(&[1; 5000]).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        far.set_zero_linger().unwrap();
        drop(far);
        let event = soon("the reset", bev.next_event()).await;
        reported.push((kind, format!("{event:?}")));
    }
    assert!(
        reported.iter().all(|(_, event)| event.contains("Error")),
        "{reported:?}"
    );
}
