//! `Transfer`, `copy` and `copy_exact`: one direction, up to the end or up to a limit.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, timeout},
};
use tokio_evbuffer::{
    EvBuffer, Prefixed, Transfer, copy,
    limits::RateLimit,
    relay::{Step, TransferCounters, TransferError, copy_exact},
};
use tokio_test::{assert_pending, task};

/// A reader and writer that moves `piece` bytes at a time, each operation after a `Pending`.
#[derive(Default)]
struct Slow {
    input: Vec<u8>,
    output: Arc<Mutex<Vec<u8>>>,
    piece: usize,
    waited: [bool; 3],
    read_error: Option<io::ErrorKind>,
    write_error: Option<io::ErrorKind>,
    interrupts: bool,
    flushed: usize,
    is_shut_down: bool,
}

impl Slow {
    fn reader(input: &[u8], piece: usize) -> Self {
        Self {
            input: input.to_vec(),
            piece,
            ..Self::default()
        }
    }

    fn writer(piece: usize) -> Self {
        Self::reader(b"", piece)
    }

    fn written(&self) -> Vec<u8> {
        self.output.lock().unwrap().clone()
    }

    fn poll_wait(&mut self, which: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waited[which] = !self.waited[which];
        if !self.waited[which] {
            return Poll::Ready(Ok(()));
        }
        if self.interrupts {
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_wait(0, cx))?;
        if let (true, Some(kind)) = (self.input.is_empty(), self.read_error) {
            return Poll::Ready(Err(kind.into()));
        }
        let n = self.piece.min(self.input.len()).min(buf.remaining());
        buf.put_slice(&self.input.drain(..n).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_wait(1, cx))?;
        if let Some(kind) = self.write_error {
            return Poll::Ready(Err(kind.into()));
        }
        let n = self.piece.min(buf.len());
        self.output.lock().unwrap().extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_wait(2, cx))?;
        self.flushed = self.written().len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

const DATA: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

#[tokio::test]
async fn copy_moves_everything_and_flushes_without_a_shutdown() {
    for piece in [1, 5, 100] {
        for interrupts in [false, true] {
            let mut reader = Slow::reader(DATA, piece);
            let mut writer = Slow::writer(3);
            (reader.interrupts, writer.interrupts) = (interrupts, interrupts);
            assert_eq!(copy(&mut reader, &mut writer).await.unwrap(), 36);
            assert_eq!(writer.written(), DATA);
            assert_eq!((writer.flushed, writer.is_shut_down), (36, false));
        }
    }
    assert_eq!(
        copy(&mut tokio::io::empty(), &mut tokio::io::sink())
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn every_limit_leaves_the_rest_in_the_reader() {
    for limit in 0..=DATA.len() {
        for piece in [1, 7, 100] {
            let mut reader = Slow::reader(DATA, piece);
            let mut writer = Slow::writer(2);
            copy_exact(&mut reader, &mut writer, limit as u64)
                .await
                .unwrap();
            assert_eq!(writer.written(), &DATA[..limit]);
            assert_eq!(reader.input, &DATA[limit..]);
            assert_eq!(writer.flushed, limit);
        }
    }
}

#[tokio::test]
async fn an_end_before_the_limit_is_an_error_with_the_count() {
    let mut writer = Slow::writer(2);
    let error = copy_exact(&mut { DATA }, &mut writer, 100)
        .await
        .unwrap_err();
    assert_eq!((error.bytes, error.step), (36, Step::Read));
    assert_eq!(error.error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(writer.flushed, 36, "the bytes before the end are delivered");
    assert_eq!(
        error.to_string(),
        "transfer failed reading from the reader after 36 bytes"
    );
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let inner = error.get_ref().unwrap().downcast_ref::<TransferError>();
    assert_eq!(inner.unwrap().bytes, 36);

    let mut writer = Slow::writer(2);
    let cut = Transfer::new(DATA, &mut writer).limit(37).shutdown(true);
    cut.run().await.unwrap_err();
    assert!(!writer.is_shut_down, "a cut is not passed on as an end");
}

#[tokio::test]
async fn a_shutdown_follows_the_last_byte_if_requested() {
    for limit in [u64::MAX, 0, 5, 36] {
        let mut writer = Slow::writer(4);
        let transfer = Transfer::new(DATA, &mut writer).limit(limit).shutdown(true);
        let bytes = transfer.run().await.unwrap();
        assert_eq!(bytes, limit.min(36));
        assert!(writer.is_shut_down);
    }
}

#[tokio::test]
async fn initial_bytes_come_first_and_count() {
    let initial = || EvBuffer::from(&b"first"[..]);
    for (limit, expected) in [(0, ""), (3, "fir"), (5, "first"), (7, "first01")] {
        let (mut reader, mut writer) = (DATA, Slow::writer(2));
        let transfer = Transfer::new(&mut reader, &mut writer)
            .initial(initial())
            .limit(limit);
        assert_eq!(transfer.run().await.unwrap(), limit);
        assert_eq!(writer.written(), expected.as_bytes());
        assert_eq!(reader, &DATA[(limit as usize).saturating_sub(5)..]);
    }
    let mut frozen = initial();
    frozen.set_max_len(Some(5));
    frozen.freeze(tokio_evbuffer::buffer::End::Front);
    frozen.freeze(tokio_evbuffer::buffer::End::Back);
    let mut writer = Slow::writer(9);
    let transfer = Transfer::new(&b"x"[..], &mut writer).initial(frozen);
    assert_eq!(transfer.run().await.unwrap(), 6);
}

#[tokio::test]
async fn the_rest_of_a_prefix_stays_in_front_of_its_stream() {
    for limit in 0..=9 {
        let mut reader = Prefixed::new(&b"6789"[..], EvBuffer::from(&b"012345"[..]));
        let mut writer = Vec::new();
        copy_exact(&mut reader, &mut writer, limit).await.unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        writer.extend_from_slice(&rest);
        assert_eq!(writer, b"0123456789", "limit {limit}");
    }
}

#[tokio::test]
async fn a_failed_read_still_delivers_what_was_read() {
    let mut reader = Slow::reader(DATA, 9);
    reader.read_error = Some(io::ErrorKind::ConnectionReset);
    let mut writer = Slow::writer(1);
    let error = Transfer::new(&mut reader, &mut writer)
        .run()
        .await
        .unwrap_err();
    assert_eq!((error.bytes, error.step), (36, Step::Read));
    assert_eq!(error.error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(writer.flushed, 36);
}

#[tokio::test]
async fn a_failed_write_ends_the_transfer() {
    let mut writer = Slow::writer(1);
    writer.write_error = Some(io::ErrorKind::BrokenPipe);
    let error = Transfer::new(DATA, &mut writer).run().await.unwrap_err();
    assert_eq!((error.bytes, error.step), (0, Step::Write));
    assert_eq!(
        copy(&mut { DATA }, &mut writer).await.unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

/// The future is dropped at each of its await points: nothing beyond the count of held bytes is lost.
#[test]
fn a_dropped_transfer_loses_what_the_counters_say() {
    for polls in 0..60 {
        let mut reader = Slow::reader(DATA, 5);
        let mut writer = Slow::writer(2);
        let counters = Arc::new(TransferCounters::default());
        let transfer = Transfer::new(&mut reader, &mut writer)
            .limit(30)
            .counters(counters.clone());
        let mut transfer = task::spawn(transfer.run());
        let mut done = false;
        for _ in 0..polls {
            done = transfer.poll().is_ready();
            if done {
                break;
            }
        }
        drop(transfer);
        let (read, written) = (counters.read() as usize, counters.written() as usize);
        assert_eq!(reader.input, &DATA[read..], "{polls} polls");
        assert_eq!(writer.written(), &DATA[..written]);
        assert_eq!(counters.held() as usize, read - written);
        assert!(!done || written == 30);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_transfer_times_out_where_it_waits() {
    let second = Duration::from_secs(1);
    let (mut far, mut near) = tokio::io::duplex(4);
    let start = Instant::now();
    let error = Transfer::new(&mut near, tokio::io::sink())
        .idle_timeout(second)
        .run()
        .await
        .unwrap_err();
    assert_eq!(
        (error.step, error.error.kind()),
        (Step::Read, io::ErrorKind::TimedOut)
    );
    assert_eq!(start.elapsed(), second);

    let error = Transfer::new(DATA, &mut far)
        .idle_timeout(second)
        .run()
        .await
        .unwrap_err();
    assert_eq!((error.bytes, error.step), (4, Step::Write));

    let zero = Transfer::new(tokio::io::empty(), tokio::io::sink()).idle_timeout(Duration::ZERO);
    assert_eq!(zero.run().await.unwrap(), 0);
    let never = Transfer::new(DATA, tokio::io::sink()).idle_timeout(Duration::MAX);
    assert_eq!(never.run().await.unwrap(), 36);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_and_its_pauses_do_not_count_as_idle() {
    for limit in [
        RateLimit::read(1000),
        RateLimit::write(1000),
        RateLimit::both(1000),
    ] {
        let start = Instant::now();
        let transfer = Transfer::new(tokio::io::repeat(1), tokio::io::sink())
            .limit(11_000)
            .rate_limit(limit.unwrap())
            .idle_timeout(Duration::from_millis(1));
        assert_eq!(transfer.run().await.unwrap(), 11_000);
        let took = start.elapsed().as_secs_f64();
        assert!((took - 10.0).abs() < 0.2, "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_transfer_does_not_wait_for_a_stuck_writer() {
    let (_far, mut near) = tokio::io::duplex(4);
    let mut reader = Slow::reader(DATA, 100);
    reader.read_error = Some(io::ErrorKind::ConnectionReset);
    let failed = timeout(
        Duration::from_secs(31),
        Transfer::new(&mut reader, &mut near).run(),
    );
    let error = failed.await.unwrap().unwrap_err();
    assert_eq!(error.error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(error.bytes, 4);
}

/// A reader that is always ready lets other tasks run.
#[tokio::test]
async fn an_endless_transfer_yields() {
    let mut endless = task::spawn(copy_of_repeat());
    assert_pending!(endless.poll());
}

async fn copy_of_repeat() {
    let _ = copy(&mut tokio::io::repeat(1), &mut tokio::io::sink()).await;
}

#[cfg(feature = "net")]
mod sockets {
    use tokio::{io::AsyncWriteExt, net::TcpStream};

    use super::*;
    use crate::support::net::tcp_pair;

    const BULK: usize = 8 << 20;

    fn bulk() -> Vec<u8> {
        (0..BULK as u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    }

    /// Sends `data` into a transfer with this limit; returns what came out and what was left.
    async fn through(data: &[u8], limit: u64, prefix: usize) -> (Vec<u8>, Vec<u8>) {
        let ((mut source, from), (mut to, mut sink)) = (tcp_pair().await, tcp_pair().await);
        let (prefix, rest) = data.split_at(prefix);
        let sending = async {
            source.write_all(rest).await.unwrap();
            source.shutdown().await.unwrap();
        };
        let mut from = Prefixed::new(from, EvBuffer::from(prefix));
        let moving = async {
            copy_exact(&mut from, &mut to, limit).await.unwrap();
            to.shutdown().await.unwrap();
            let mut left = Vec::new();
            from.read_to_end(&mut left).await.unwrap();
            left
        };
        let receiving = async {
            let mut received = Vec::new();
            sink.read_to_end(&mut received).await.unwrap();
            received
        };
        let ((), left, received) = tokio::join!(sending, moving, receiving);
        (received, left)
    }

    #[tokio::test]
    async fn bulk_between_sockets_stops_at_the_very_byte() {
        let data = bulk();
        for limit in [0, 1, 100_000, (2 << 20) + 7, BULK - 1, BULK] {
            for prefix in [0, 1000] {
                let (received, left) = through(&data, limit as u64, prefix).await;
                assert!(
                    received == data[..limit],
                    "{limit}: {} received",
                    received.len()
                );
                assert!(left == data[limit..], "{limit}: {} left", left.len());
            }
        }
    }

    #[tokio::test]
    async fn a_file_is_sent() {
        use std::io::Write;
        use tokio_evbuffer::buffer::FileSegment;

        let data = bulk();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&data).unwrap();
        let (mut to, mut sink) = tcp_pair().await;
        let sending = async {
            let mut initial = EvBuffer::new();
            initial
                .add_file(FileSegment::new(file, 5..).unwrap())
                .unwrap();
            let transfer = Transfer::new(tokio::io::empty(), &mut to).initial(initial);
            let sent = transfer.limit(BULK as u64 - 9).run().await.unwrap();
            to.shutdown().await.unwrap();
            sent
        };
        let receiving = async {
            let mut received = Vec::new();
            sink.read_to_end(&mut received).await.unwrap();
            received
        };
        let (sent, received) = tokio::join!(sending, receiving);
        assert_eq!(sent, BULK as u64 - 9);
        assert!(received == data[5..BULK - 4]);
    }

    #[tokio::test]
    async fn an_owned_writer_is_reset_after_a_cut_that_would_look_complete() {
        let (to, mut sink) = tcp_pair().await;
        let cut = Transfer::new(&b"half"[..], to).limit(8).shutdown(true);
        cut.run().await.unwrap_err();
        let mut received = Vec::new();
        let end = sink.read_to_end(&mut received).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let (to, mut sink) = tcp_pair().await;
        let whole = Transfer::new(&b"whole"[..], to).limit(5).shutdown(true);
        whole.run().await.unwrap();
        assert_eq!(sink.read_to_end(&mut received).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn an_owned_writer_is_reset_if_the_future_is_dropped_before_the_end() {
        let end = async |mut sink: TcpStream| sink.read_to_end(&mut Vec::new()).await;

        let ((mut source, from), (to, sink)) = (tokio::io::duplex(64), tcp_pair().await);
        source.write_all(b"half").await.unwrap();
        let mut cut = task::spawn(Transfer::new(from, to).limit(8).shutdown(true).run());
        assert_pending!(cut.poll());
        drop(cut);
        assert_eq!(
            end(sink).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );

        let (to, sink) = tcp_pair().await;
        let held = Transfer::new(tokio::io::empty(), to).initial(EvBuffer::from("held"));
        drop(held.shutdown(true).run());
        assert_eq!(
            end(sink).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );

        let ((_source, from), (to, sink)) = (tokio::io::duplex(64), tcp_pair().await);
        drop(Transfer::new(from, to).shutdown(true).run());
        assert_eq!(end(sink).await.unwrap(), 0, "nothing is missing");
    }

    #[tokio::test]
    async fn a_limited_bulk_transfer_keeps_its_rate() {
        let ((mut source, mut from), (mut to, mut sink)) = (tcp_pair().await, tcp_pair().await);
        let limit = RateLimit::read(40 << 20)
            .unwrap()
            .and_burst(1 << 20)
            .unwrap();
        let start = std::time::Instant::now();
        let transfer = Transfer::new(&mut from, &mut to)
            .limit(BULK as u64)
            .rate_limit(limit);
        let data = bulk();
        let mut received = vec![0; BULK];
        let (sent, moved, read) = tokio::join!(
            source.write_all(&data),
            transfer.run(),
            sink.read_exact(&mut received)
        );
        sent.unwrap();
        read.unwrap();
        assert_eq!(moved.unwrap(), BULK as u64);
        assert!(received == data);
        assert!(
            start.elapsed() >= Duration::from_millis(170),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test]
    async fn a_transfer_of_two_sockets_is_small() {
        let (from, to): (TcpStream, TcpStream) = tcp_pair().await;
        let size = size_of_val(&Transfer::new(from, to).run());
        assert!(size <= 400, "{size}");
    }
}
