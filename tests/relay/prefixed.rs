//! `Prefixed`: bytes in front of a stream, and looking at what comes without consuming it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_evbuffer::{EvBuffer, Prefixed, relay::PeekError};
use tokio_test::{assert_pending, task};

/// A stream that gives `pieces` one read at a time, each after a `Pending`, and then an error or its end.
struct Pieces {
    pieces: Vec<Vec<u8>>,
    error: Option<io::ErrorKind>,
    interrupts: bool,
    waited: bool,
}

impl Pieces {
    fn of(data: &[u8], piece: usize) -> Self {
        Self {
            pieces: data.chunks(piece).rev().map(<[u8]>::to_vec).collect(),
            error: None,
            interrupts: false,
            waited: false,
        }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.waited = !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return match self.interrupts {
                true => Poll::Ready(Err(io::ErrorKind::Interrupted.into())),
                false => Poll::Pending,
            };
        }
        let Some(mut piece) = self.pieces.pop() else {
            return Poll::Ready(self.error.map_or(Ok(()), |kind| Err(kind.into())));
        };
        let n = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..n]);
        piece.drain(..n);
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
        Poll::Ready(Ok(()))
    }
}

const TEXT: &[u8] = b"GET / HTTP/1.1\r\nHost: example\r\n\r\nbody";

#[tokio::test]
async fn every_split_between_prefix_and_stream_reads_the_same() {
    for split in 0..=TEXT.len() {
        for piece in [1, 3, TEXT.len()] {
            let prefix = EvBuffer::from(&TEXT[..split]);
            let mut stream = Prefixed::new(Pieces::of(&TEXT[split..], piece), prefix);
            assert_eq!(stream.peek(5).await.unwrap(), &TEXT[..5]);
            assert_eq!(stream.peek_until(b"\r\n\r\n", 100).await.unwrap(), Some(33));
            assert_eq!(stream.peek(0).await.unwrap(), b"");
            let mut method = [0; 4];
            stream.read_exact(&mut method).await.unwrap();
            assert_eq!(&method, b"GET ");
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            assert_eq!(line, "/ HTTP/1.1\r\n");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, TEXT[16..]);
            assert_eq!(
                stream.prefix().capacity(),
                0,
                "an empty prefix holds no memory"
            );
        }
    }
}

#[tokio::test]
async fn a_peek_is_short_only_at_the_end_of_the_stream() {
    let mut stream = Prefixed::new(Pieces::of(b"abc", 1), EvBuffer::new());
    assert_eq!(stream.peek(9).await.unwrap(), b"abc");
    assert_eq!(stream.peek(usize::MAX).await.unwrap(), b"abc");
    assert_eq!(stream.peek_until(b"d", 9).await.unwrap(), None);
    assert_eq!(stream.peek_until(b"", 0).await.unwrap(), Some(0));
    let (_, prefix) = stream.into_parts();
    assert_eq!(prefix, b"abc"[..]);
}

#[tokio::test]
async fn a_search_ends_at_its_bound() {
    let too_long = |result| matches!(result, Err(PeekError::TooLong { max: 10 }));
    for piece in [1, 4, 20] {
        let new = || Prefixed::new(Pieces::of(b"0123456789\r\n", piece), EvBuffer::new());
        assert!(too_long(new().peek_until(b"\r\n", 10).await));
        assert!(too_long(new().peek_until(b"9\r", 10).await));
        assert_eq!(new().peek_until(b"89", 10).await.unwrap(), Some(10));
        assert_eq!(new().peek_until(b"\r\n", 12).await.unwrap(), Some(12));
        // A needle that can never fit is refused at once.
        assert!(too_long(new().peek_until(b"01234567890", 10).await));
        // A longer prefix does not move the bound.
        let mut full = Prefixed::new(tokio::io::empty(), EvBuffer::from(&b"0123456789\r\n"[..]));
        assert!(too_long(full.peek_until(b"\r\n", 10).await));
        assert_eq!(full.prefix().len(), 12);
    }
    let error = io::Error::from(PeekError::TooLong { max: 7 });
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains('7'));
}

#[tokio::test]
async fn an_error_keeps_what_was_read() {
    let failing = || {
        let mut pieces = Pieces::of(b"abc", 2);
        pieces.error = Some(io::ErrorKind::ConnectionReset);
        Prefixed::new(pieces, EvBuffer::new())
    };
    let mut stream = failing();
    let error = stream.peek(4).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(stream.peek(3).await.unwrap(), b"abc");

    let mut stream = failing();
    let error = io::Error::from(stream.peek_until(b"d", 10).await.unwrap_err());
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(*stream.prefix(), b"abc"[..]);
}

#[tokio::test]
async fn an_interrupted_read_is_tried_again() {
    let mut pieces = Pieces::of(TEXT, 1);
    pieces.interrupts = true;
    let mut stream = Prefixed::new(pieces, EvBuffer::new());
    assert_eq!(stream.peek(5).await.unwrap(), &TEXT[..5]);
}

/// Each future is dropped at each of its await points, and the next one begins with what was read.
#[test]
fn a_dropped_peek_loses_nothing() {
    for polls in 0..=12 {
        let mut stream = Prefixed::new(Pieces::of(b"123456\n", 1), EvBuffer::new());
        {
            let mut peek = task::spawn(stream.peek(6));
            for _ in 0..polls.min(6) {
                assert_pending!(peek.poll());
            }
        }
        {
            let mut until = task::spawn(stream.peek_until(b"\n", 10));
            for _ in 0..polls {
                if until.poll().is_ready() {
                    break;
                }
            }
        }
        let mut whole = task::spawn(stream.peek(7));
        let whole = loop {
            if let Poll::Ready(whole) = whole.poll() {
                break whole.unwrap().to_vec();
            }
        };
        assert_eq!(whole, b"123456\n");
    }
}

#[tokio::test]
async fn writing_goes_to_the_stream_and_is_vectored_if_that_is() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = Prefixed::new(near, EvBuffer::from(&b"in front"[..]));
    assert!(stream.is_write_vectored());
    let slices = [io::IoSlice::new(b"to the "), io::IoSlice::new(b"peer")];
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 11);
    stream.flush().await.unwrap();
    stream.shutdown().await.unwrap();
    let mut received = String::new();
    far.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "to the peer");
    assert_eq!(*stream.prefix(), b"in front"[..]);
}

#[test]
fn a_pending_read_leaves_no_memory() {
    let (near, _far) = tokio::io::duplex(64);
    let mut stream = Prefixed::new(near, EvBuffer::with_capacity(1000));
    assert_eq!(stream.prefix().capacity(), 0);
    assert_pending!(task::spawn(stream.peek(100)).poll());
    assert_pending!(task::spawn(stream.fill_buf()).poll());
    assert_eq!(stream.prefix().capacity(), 0);
}

#[tokio::test]
async fn a_frozen_and_limited_prefix_is_read_all_the_same() {
    use tokio_evbuffer::buffer::End;
    let mut prefix = EvBuffer::from(&b"ab"[..]);
    prefix.set_max_len(Some(2));
    prefix.freeze(End::Front);
    prefix.freeze(End::Back);
    let mut stream = Prefixed::new(&b"cd"[..], prefix);
    assert_eq!(stream.peek(4).await.unwrap(), b"abcd");
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "abcd");
}

#[cfg(feature = "net")]
mod sockets {
    use tokio_evbuffer::{Relay, copy_bidirectional};

    use super::*;
    use crate::support::net::tcp_pair;

    #[tokio::test]
    async fn a_relay_sends_the_prefix_first_on_both_sides() {
        for swapped in [false, true] {
            let ((mut left, a), (mut right, b)) = (tcp_pair().await, tcp_pair().await);
            left.write_all(b" world").await.unwrap();
            left.shutdown().await.unwrap();
            right.shutdown().await.unwrap();
            let a = Prefixed::new(a, EvBuffer::from(&b"hello"[..]));
            let (a_to_b, b_to_a) = match swapped {
                false => {
                    let summary = Relay::new(a, b).run().await.unwrap();
                    (summary.a_to_b, summary.b_to_a)
                }
                true => {
                    let summary = Relay::new(b, a).run().await.unwrap();
                    (summary.b_to_a, summary.a_to_b)
                }
            };
            assert_eq!((a_to_b, b_to_a), (11, 0));
            let mut received = String::new();
            right.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "hello world");
        }
    }

    #[tokio::test]
    async fn copy_bidirectional_takes_the_prefix_of_a_borrowed_stream() {
        let ((mut left, a), (mut right, mut b)) = (tcp_pair().await, tcp_pair().await);
        left.shutdown().await.unwrap();
        right.shutdown().await.unwrap();
        let mut a = Prefixed::new(a, EvBuffer::from(&b"hello"[..]));
        let copied = copy_bidirectional(&mut a, &mut b).await.unwrap();
        assert_eq!(copied, (5, 0));
        let mut received = String::new();
        right.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "hello");
    }
}
