//! User code that a buffer calls: drops of owners, writers that lie, texts that do not fit.

use std::{
    fmt::{self, Write as _},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio_evbuffer::{EvBuffer, SharedEvBuffer};

use crate::support::{data::Owner, faulty_stream::Exchanging, tasks::in_time};

/// Calls `edit` with a shared buffer and a buffer of one short segment, whose drop uses the shared one.
fn owner_is_dropped_after_the_lock(edit: impl FnOnce(&SharedEvBuffer, EvBuffer) + Send + 'static) {
    in_time(move || {
        let shared = SharedEvBuffer::new();
        let used = shared.clone();
        let mut small = EvBuffer::new();
        let owner = Owner::new("small", move || {
            let _ = used.len();
        });
        small.add_owner(owner).unwrap();
        edit(&shared, small);
    });
}

#[test]
fn no_owner_is_dropped_under_the_lock_when_a_small_buffer_is_added() {
    owner_is_dropped_after_the_lock(|shared, mut small| {
        shared.add_buffer(&mut small).unwrap();
    });
}

#[test]
fn no_owner_is_dropped_under_the_lock_when_a_small_buffer_is_prepended() {
    owner_is_dropped_after_the_lock(|shared, mut small| {
        shared.lock().prepend_buffer(&mut small).unwrap();
    });
}

#[test]
fn no_owner_is_dropped_under_the_lock_when_a_part_of_a_buffer_is_moved() {
    owner_is_dropped_after_the_lock(|shared, mut small| {
        small.add_reference("and more").unwrap();
        small.remove_buffer(&mut shared.lock(), 5).unwrap();
    });
}

/// `pullup` changes no byte, even if the owner of a gathered segment panics.
#[test]
fn pulling_up_loses_no_bytes_when_the_drop_of_an_owner_panics() {
    let mut buffer = EvBuffer::new();
    buffer.add_reference("aaaa").unwrap();
    let panics = Owner::new("bbbb", || panic!("on purpose"));
    buffer.add_owner(panics).unwrap();
    buffer.add_reference("cccc").unwrap();
    let pulled = catch_unwind(AssertUnwindSafe(|| buffer.pullup(12).map(<[u8]>::to_vec)));
    assert!(pulled.is_err());
    let left = buffer.chunks().flatten().copied().collect::<Vec<_>>();
    assert!(left.starts_with(b"aaaa"), "bytes of others are lost");
}

/// A formatted text is added completely or not at all, although it is formatted in parts.
#[test]
fn a_formatted_text_that_does_not_fit_is_not_added_in_part() {
    let mut buffer = EvBuffer::new();
    buffer.set_max_len(Some(8));
    let (first, second) = (std::hint::black_box(1234), std::hint::black_box(12345678));
    assert!(write!(buffer, "{first}-{second}").is_err());
    assert!(buffer.is_empty());
}

/// The parts after one that did not fit must not be added alone.
#[test]
fn a_display_that_ignores_an_error_or_panics_adds_nothing() {
    struct Careless {
        panics: bool,
    }
    impl fmt::Display for Careless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let _ = f.write_str("fits");
            let _ = f.write_str("does not fit");
            let _ = f.write_str("fits");
            assert!(!self.panics, "on purpose");
            Ok(())
        }
    }
    for panics in [false, true] {
        let mut buffer = EvBuffer::from("head");
        buffer.set_max_len(Some(12));
        let text = Careless { panics };
        let added = catch_unwind(AssertUnwindSafe(|| write!(buffer, "{text}")));
        assert_eq!(added.is_err(), panics);
        assert!(added.is_err() || added.is_ok_and(|added| added.is_err()));
        assert_eq!(buffer, "head");
    }
}

/// A writer that claims to have written more than it was given.
struct LyingWriter {
    given: usize,
    vectored: bool,
}

impl io::Write for LyingWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.given += data.len();
        Ok(usize::MAX)
    }
    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.given += slices.iter().map(|slice| slice.len()).sum::<usize>();
        Ok(usize::MAX)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncWrite for LyingWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Write::write(self.get_mut(), data))
    }
    fn is_write_vectored(&self) -> bool {
        self.vectored
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes that a writer was never given stay in the buffer.
#[test]
fn a_lying_writer_takes_no_more_than_it_was_given() {
    let of_100 = || -> EvBuffer {
        (0..100)
            .map(|_| Bytes::from_static(b"0123456789"))
            .collect()
    };
    let mut writer = LyingWriter {
        given: 0,
        vectored: true,
    };
    let mut buffer = of_100();
    let written = buffer.write_to(&mut writer, usize::MAX).unwrap();
    let by_write = written <= writer.given;
    let mut writer = LyingWriter {
        given: 0,
        vectored: false,
    };
    let mut buffer = of_100();
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(written)) = buffer.poll_write_to(cx, Pin::new(&mut writer), usize::MAX)
    else {
        unreachable!()
    };
    assert!(by_write && written <= writer.given);
}

/// A reader that claims to have read more than it had room for.
struct LyingReader;

impl io::Read for LyingReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        room[0] = b'!';
        Ok(usize::MAX)
    }
}

/// The bytes that it did not write are zeros, and no data of an earlier buffer.
#[test]
fn a_lying_reader_adds_no_more_than_it_was_given_room_for() {
    drop(EvBuffer::from(&[0xaa; 4096][..]));
    for max in [1, 100, 16 * 1024] {
        let mut buffer = EvBuffer::from(&b"before"[..]);
        let read = buffer.read_from(&mut LyingReader, max).unwrap();
        assert!(0 < read && read <= max);
        let mut expected = b"before".to_vec();
        expected.push(b'!');
        expected.resize(6 + read, 0);
        assert_eq!(buffer, expected);
    }
}

#[test]
fn a_stream_that_exchanges_the_buffer_is_an_error_and_adds_nothing() {
    let cx = &mut Context::from_waker(Waker::noop());
    for before in [&b""[..], b"before"] {
        let mut buffer = EvBuffer::from(before);
        let Poll::Ready(Err(error)) = buffer.poll_read_from(cx, Pin::new(&mut Exchanging), 1000)
        else {
            panic!("the stream was trusted")
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(buffer, before);
        // The buffer is usable afterwards.
        let read = buffer.poll_read_from(cx, Pin::new(&mut &b" after"[..]), 1000);
        assert!(matches!(read, Poll::Ready(Ok(6))));
        assert_eq!(buffer, [before, b" after"].concat());
    }
}
