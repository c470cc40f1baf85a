//! Upper bounds for reads and adds: per call, and by the limit of the buffer.

use std::{
    io::Read,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_evbuffer::{BufferError, EvBuffer, buffer::End};

/// An endless stream.
struct Endless;

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        out.fill(b'.');
        Ok(out.len())
    }
}

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let n = out.remaining();
        out.put_slice(&vec![b'.'; n]);
        Poll::Ready(Ok(()))
    }
}

/// The first read of a buffer fills a new block, which may be larger than the maximum of the read.
#[test]
fn one_read_adds_at_most_its_maximum() {
    for max in [1, 2, 63, 65, 511, 1000, 4097, 16_385, 70_000] {
        for before in [0, 1, 63, 64, 100, 16_384] {
            let data = vec![b'-'; before];
            let mut buffer = EvBuffer::from(data.as_slice());
            let read = buffer.read_from(&mut Endless, max).unwrap();
            assert!((1..=max).contains(&read), "{read} of at most {max}");
            assert_eq!(buffer.len(), before + read);

            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(read) = buffer.poll_read_from(&mut cx, Pin::new(&mut Endless), max)
            else {
                panic!("an endless stream has something to give");
            };
            assert!((1..=max).contains(read.as_ref().unwrap()), "{read:?}");
        }
    }
}

#[test]
fn a_read_stops_exactly_at_the_limit() {
    let mut buffer = EvBuffer::new();
    buffer.set_max_len(Some(100));
    buffer.add(b"ten bytes.").unwrap();
    let mut read = 0;
    while read < 90 {
        read += buffer.read_from(&mut Endless, usize::MAX).unwrap();
    }
    assert_eq!(buffer.len(), 100);
    let error = buffer.read_from(&mut Endless, 1).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

/// A move checks freezes before limits, on both sides.
#[test]
fn a_frozen_source_is_reported_before_a_full_destination() {
    let mut source = EvBuffer::from(&b"source"[..]);
    source.freeze(End::Front);
    let mut full = EvBuffer::from(&b"full"[..]);
    full.set_max_len(Some(4));
    let frozen = Err(BufferError::Frozen(End::Front));
    assert_eq!(full.add_buffer(&mut source), frozen);
    assert_eq!(full.prepend_buffer(&mut source), frozen);
    assert_eq!(source.remove_buffer(&mut full, 2), frozen);
    assert!(source == b"source"[..] && full == b"full"[..]);
}
