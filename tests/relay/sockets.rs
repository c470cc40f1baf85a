//! A relay between real sockets.

#![cfg(feature = "net")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_evbuffer::{
    EvBuffer, Relay,
    buffer::FileSegment,
    copy_bidirectional, relay,
    relay::{OnError, Peer, RelayEnd, RelayStream, Splice, Step},
};

use crate::support::{
    data::random_bytes,
    net::tcp_pair,
    tasks::{soon, yield_many},
};

/// Sends `data` from one side and returns what comes back, while the other side does the same.
async fn exchange<S: RelayStream>(stream: S, data: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    let (mut read, mut write) = tokio::io::split(stream);
    let send = async {
        for piece in data.chunks(piece) {
            write.write_all(piece).await?;
        }
        write.shutdown().await
    };
    let mut received = Vec::new();
    let (sent, read) = tokio::join!(send, read.read_to_end(&mut received));
    sent?;
    read?;
    Ok(received)
}

/// Both sides send megabytes at once, in pieces of several sizes.
async fn check_bulk<S, F>(client: S, server: S, relaying: F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = (u64, u64)>,
{
    let (up, down) = (random_bytes(3_000_000, 1), random_bytes(2_000_001, 2));
    let (counts, at_server, at_client) = tokio::join!(
        relaying,
        exchange(server, &down, 100_000),
        exchange(client, &up, 1_777),
    );
    assert_eq!(counts, (3_000_000, 2_000_001));
    assert!(at_server.unwrap() == up && at_client.unwrap() == down);
}

#[tokio::test]
async fn bulk_passes_both_ways_over_tcp_by_value() {
    let ((client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = async {
        let summary = relay(a, b).await.unwrap();
        assert_eq!(summary.reason, RelayEnd::Eof);
        (summary.a_to_b, summary.b_to_a)
    };
    check_bulk(client, server, relaying).await;
}

#[tokio::test]
async fn bulk_passes_both_ways_over_tcp_by_reference() {
    let ((client, mut a), (server, mut b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = async { copy_bidirectional(&mut a, &mut b).await.unwrap() };
    check_bulk(client, server, relaying).await;
}

#[tokio::test]
async fn bulk_passes_with_a_small_buffer() {
    let ((client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = async {
        let summary = Relay::new(a, b).buffer(5_000).run().await.unwrap();
        (summary.a_to_b, summary.b_to_a)
    };
    check_bulk(client, server, relaying).await;
}

#[cfg(unix)]
#[tokio::test]
async fn bulk_passes_both_ways_over_unix_sockets() {
    use tokio::net::UnixStream;
    let (client, a) = UnixStream::pair().unwrap();
    let (server, b) = UnixStream::pair().unwrap();
    let relaying = async {
        let summary = relay(a, b).await.unwrap();
        (summary.a_to_b, summary.b_to_a)
    };
    check_bulk(client, server, relaying).await;
}

#[tokio::test]
async fn bulk_passes_between_a_socket_and_memory() {
    let (client, a) = tcp_pair().await;
    let (server, b) = tokio::io::duplex(4096);
    let (up, down) = (random_bytes(300_000, 1), random_bytes(200_000, 2));
    let (summary, at_server, at_client) = tokio::join!(
        relay(a, b),
        exchange(server, &down, 100_000),
        exchange(client, &up, 1_777),
    );
    assert_eq!(summary.unwrap().reason, RelayEnd::Eof);
    assert!(at_server.unwrap() == up && at_client.unwrap() == down);
}

/// A wrapper whose own reads and writes must not be used, since its socket was named.
struct Sealed(TcpStream);

impl AsyncRead for Sealed {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        panic!("the socket is read directly")
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        panic!("the socket is written directly")
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn the_named_socket_is_used_instead_of_its_wrapper() {
    let ((client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = async {
        let relay = Relay::new(Sealed(a), b).sockets(|a| Some((&a.0).into()), |_| None);
        let summary = relay.run().await.unwrap();
        (summary.a_to_b, summary.b_to_a)
    };
    check_bulk(client, server, relaying).await;
}

#[tokio::test]
async fn initial_bytes_may_be_in_a_file() {
    use std::io::Write;
    let content = random_bytes(200_000, 5);
    let path = std::env::temp_dir().join(format!("relay-initial-{}", std::process::id()));
    std::fs::File::create(&path)
        .unwrap()
        .write_all(&content)
        .unwrap();
    let mut from_a = EvBuffer::from(&b"head"[..]);
    from_a.add_file(FileSegment::open(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();

    let ((client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    drop(client);
    let relay = Relay::new(a, b).initial(from_a, EvBuffer::new());
    let mut received = Vec::new();
    let read = async {
        server.read_to_end(&mut received).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let (summary, ()) = tokio::join!(relay.run(), read);
    assert_eq!(summary.unwrap().a_to_b, 200_004);
    assert!(received[..4] == *b"head" && received[4..] == content);
}

/// Closes `stream` with a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// A truncated answer must not look complete.
#[tokio::test]
async fn a_reset_on_one_side_is_a_reset_on_the_other_after_what_was_sent() {
    for swapped in [false, true] {
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        let (a, b) = if swapped { (b, a) } else { (a, b) };
        let relaying = tokio::spawn(relay(a, b));
        server.write_all(b"half an ans").await.unwrap();
        let mut received = [0; 11];
        client.read_exact(&mut received).await.unwrap();
        reset(server);

        let error = client.read(&mut received).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let failed = relaying.await.unwrap().unwrap_err();
        let peer = if swapped { Peer::A } else { Peer::B };
        assert_eq!((failed.peer, failed.step), (peer, Step::Read));
        assert_eq!(failed.summary.a_to_b + failed.summary.b_to_a, 11);
    }
}

/// The owned half of a socket that writes ends its stream in order when it is dropped.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_pair_of_owned_halves_is_reset_before_it_is_dropped() {
    use tokio::io::join;

    for stopped in [false, true] {
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        let (a, b) = (a.into_split(), b.into_split());
        let relay = Relay::new(join(a.0, a.1), join(b.0, b.1)).sockets(
            |a| Some(a.reader().as_ref().into()),
            |b| Some(b.reader().as_ref().into()),
        );
        let relaying = tokio::spawn(relay.run());
        server.write_all(b"half an ans").await.unwrap();
        let mut received = [0; 11];
        client.read_exact(&mut received).await.unwrap();
        if stopped {
            // The relay is dropped while the client does not read all that the server sends.
            let flood = [1; 64 << 10];
            let full = tokio::time::timeout(Duration::from_millis(100), async {
                while server.write_all(&flood).await.is_ok() {}
            });
            assert!(full.await.is_err());
            relaying.abort();
        } else {
            reset(server);
            relaying.await.unwrap().unwrap_err();
        }
        let mut rest = vec![0; 1 << 20];
        let error = loop {
            match client.read(&mut rest).await {
                Ok(0) => panic!("an end that looks complete"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_function_finds_unix_sockets_and_their_halves() {
    use tokio::{io::join, net::UnixStream};

    let ((client, a), (server, b)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let (a, b) = (a.into_split(), b.into_split());
    let relaying = async {
        let relay = Relay::new(join(a.0, a.1), join(b.0, b.1)).sockets(
            |a| Some(a.reader().as_ref().into()),
            |b| Some(b.reader().as_ref().into()),
        );
        let summary = relay.run().await.unwrap();
        (summary.a_to_b, summary.b_to_a)
    };
    check_bulk(client, server, relaying).await;
}

#[tokio::test]
async fn with_fin_a_reset_on_one_side_is_an_end_on_the_other() {
    let ((mut client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = tokio::spawn(Relay::new(a, b).on_error(OnError::Fin).run());
    reset(server);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    relaying.await.unwrap().unwrap_err();
}

/// The healthy side has sent and received everything, so it is not reset.
#[tokio::test]
async fn an_answer_complete_before_the_error_ends_in_order() {
    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = tokio::spawn(relay(a, b));
    server.write_all(b"too large").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    reset(server);
    // The reset may arrive before or after each write; the relay fails at one of them.
    while !relaying.is_finished() {
        let _ = client.write_all(b"more and more").await;
        tokio::task::yield_now().await;
    }
    let failed = relaying.await.unwrap().unwrap_err();
    assert_eq!(failed.peer, Peer::B);
    assert_eq!(answer, "too large");
}

/// One connection that always has more data must not block other tasks of its thread.
#[tokio::test]
async fn a_bulk_relay_does_not_starve_other_tasks() {
    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    let relaying = tokio::spawn(relay(a, b));
    let sending = tokio::spawn(async move { while client.write_all(&[0; 65536]).await.is_ok() {} });
    let receiving = tokio::spawn(async move {
        let mut sink = vec![0; 65536];
        while server.read(&mut sink).await.is_ok() {}
    });
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    relaying.abort();
    sending.abort();
    receiving.abort();
}

/// With a source and a sink that are always ready, only the bound on one poll lets other tasks run.
#[tokio::test]
async fn an_endless_stream_does_not_starve_other_tasks() {
    let endless = || tokio::io::join(tokio::io::repeat(7), tokio::io::sink());
    let relaying = tokio::spawn(relay(endless(), endless()));
    yield_many().await;
    relaying.abort();
    assert!(relaying.await.unwrap_err().is_cancelled());
}

/// Readiness that is not cleared would make the relay spin; readiness cleared too early would make it hang.
#[tokio::test]
async fn an_idle_relay_is_not_polled_and_a_message_takes_few_polls() {
    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    let polls = Arc::new(AtomicUsize::new(0));
    let counting = polls.clone();
    let relaying = tokio::spawn(async move {
        let mut relay = std::pin::pin!(relay(a, b));
        std::future::poll_fn(|cx| {
            counting.fetch_add(1, Relaxed);
            relay.as_mut().poll(cx)
        })
        .await
    });
    for round in 0..100 {
        client.write_all(&[round; 64]).await.unwrap();
        server.read_exact(&mut [0; 64]).await.unwrap();
        server.write_all(&[round; 64]).await.unwrap();
        client.read_exact(&mut [0; 64]).await.unwrap();
    }
    // One for each direction of each round, and a few at the start until the sockets are known to be writable.
    let busy = polls.load(Relaxed);
    assert!(busy <= 210, "{busy} polls for 200 messages");
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(
        polls.load(Relaxed) <= busy + 1,
        "it is polled while nothing happens"
    );
    relaying.abort();
}

/// Only the direction that was woken is polled, but both know the waker of the new task.
#[tokio::test]
async fn a_relay_that_moves_to_another_task_is_woken_by_either_side() {
    for from_server in [false, true] {
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        let mut relay = Box::pin(relay(a, b));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..5 {
            assert!(relay.as_mut().poll(&mut cx).is_pending());
            tokio::task::yield_now().await;
        }
        let relaying = tokio::spawn(relay);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        let (from, to) = match from_server {
            true => (&mut server, &mut client),
            false => (&mut client, &mut server),
        };
        from.write_all(b"awake").await.unwrap();
        let mut received = [0; 5];
        let arrives = tokio::time::timeout(Duration::from_secs(60), to.read_exact(&mut received));
        arrives.await.unwrap().unwrap();
        assert_eq!(&received, b"awake");
        relaying.abort();
    }
}

/// The runtime of a socket is gone while a relay in another one waits for it.
#[test]
fn a_relay_ends_when_the_runtime_of_one_side_is_gone() {
    let build = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    for gone in [Peer::A, Peer::B] {
        let (here, there) = (build(), build());
        let ((_client, mut a), (_server, mut b)) =
            here.block_on(async { (tcp_pair().await, tcp_pair().await) });
        let other = there.block_on(tcp_pair());
        match gone {
            Peer::A => a = other.1,
            Peer::B => b = other.1,
        }
        let relaying = here.spawn(relay(a, b));
        here.block_on(async {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
        });
        drop(there);
        let ended =
            here.block_on(async { tokio::time::timeout(Duration::from_secs(60), relaying).await });
        assert_eq!(ended.unwrap().unwrap().unwrap_err().peer, gone);
    }
}

/// The short read at the mark clears the readiness; the next byte, or the end, brings the rest.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn bytes_behind_an_urgent_mark_arrive_with_the_next_byte_or_the_end() {
    let ((client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    client.set_nodelay(true).unwrap();
    let socket = socket2::SockRef::from(&client);
    socket.send(b"before").unwrap();
    socket.send_out_of_band(b"!").unwrap();
    socket.send(b"behind").unwrap();
    let relaying = tokio::spawn(relay(a, b));
    let mut received = [0; 6];
    server.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"before");
    drop(client);
    let mut rest = String::new();
    server.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "behind");
    drop(server);
    relaying.await.unwrap().unwrap();
}

/// A read from a Unix socket stops behind a message that passes descriptors. What follows it must not wait for the next
/// byte.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn bytes_behind_passed_descriptors_arrive_at_once() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::{io::IoSlice, mem::MaybeUninit, os::fd::AsFd};
    use tokio::net::UnixStream;

    for splice in [Splice::Auto, Splice::Never] {
        let ((client, a), (mut server, b)) = (UnixStream::pair().unwrap(), tcp_pair().await);
        let file = tempfile::tempfile().unwrap();
        let files = [file.as_fd()];
        for piece in [b"before", b"middle"] {
            let mut space = [MaybeUninit::uninit(); 64];
            let mut passed = SendAncillaryBuffer::new(&mut space);
            assert!(passed.push(SendAncillaryMessage::ScmRights(&files)));
            let slices = [IoSlice::new(piece)];
            sendmsg(&client, &slices, &mut passed, SendFlags::empty()).unwrap();
        }
        socket2::SockRef::from(&client).send(b"behind").unwrap();
        let relaying = tokio::spawn(Relay::new(a, b).splice(splice).run());
        let mut received = [0; 18];
        let receive = server.read_exact(&mut received);
        soon("nothing is held back", receive).await.unwrap();
        assert_eq!(&received, b"beforemiddlebehind");
        drop((client, server));
        relaying.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_futures_are_small_and_send() {
    fn is_send<T: Send>(_: &T) {}
    let ((_client, a), (_server, b)) = (tcp_pair().await, tcp_pair().await);
    let future = relay(a, b);
    is_send(&future);
    assert!(size_of_val(&future) <= 552, "{}", size_of_val(&future));

    let ((_client, mut a), (_server, mut b)) = (tcp_pair().await, tcp_pair().await);
    is_send(&copy_bidirectional(&mut a, &mut b));
    let future = Relay::new(a, b).idle_timeout(Duration::from_secs(1)).run();
    assert!(size_of_val(&future) <= 552, "{}", size_of_val(&future));
}
