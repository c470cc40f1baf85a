//! A frozen end refuses its own changes, a limit refuses what exceeds it, and a refused change changes nothing.

use std::io::{self, IoSlice, Read, Write};

use bytes::{Buf, BufMut};
use tokio_evbuffer::{
    BufferError, EolStyle, EvBuffer,
    buffer::{COPY_THRESHOLD, End, FileSegment, Result},
};

type Change = fn(&mut EvBuffer, &mut EvBuffer) -> Result<()>;

const LINE: &[u8] = b"a line\r\nand more";

/// Changes at the back, of at least one byte. The second buffer holds bytes to move.
const AT_THE_BACK: &[(&str, Change)] = &[
    ("add", |b, _| b.add(b"x")),
    ("add_vectored", |b, _| {
        b.add_vectored(&[IoSlice::new(b"x")]).map(drop)
    }),
    ("add_reference", |b, _| b.add_reference("x")),
    ("add_owner", |b, _| b.add_owner([1, 2, 3])),
    ("add_file", |b, _| b.add_file(one_byte_of_a_file())),
    ("add_buffer", |b, other| b.add_buffer(other).map(drop)),
    ("remove_buffer", |b, other| {
        other.remove_buffer(b, 1).map(drop)
    }),
    ("add_buffer_reference", |b, other| {
        b.add_buffer_reference(other).map(drop)
    }),
    ("reserve", |b, _| b.reserve(1).map(drop)),
    ("expand", |b, _| b.expand(1)),
];

/// Changes at the front.
const AT_THE_FRONT: &[(&str, Change)] = &[
    ("prepend", |b, _| b.prepend(b"x")),
    ("prepend_reference", |b, _| b.prepend_reference("x")),
    ("prepend_buffer", |b, other| {
        b.prepend_buffer(other).map(drop)
    }),
    ("drain", |b, _| b.drain(1).map(drop)),
    ("clear", |b, _| b.clear().map(drop)),
    ("remove", |b, _| b.remove(&mut [0; 4]).map(drop)),
    ("take_bytes", |b, _| b.take_bytes(1).map(drop)),
    ("readln", |b, _| b.readln(EolStyle::Crlf).map(drop)),
    ("remove_buffer", |b, other| {
        b.remove_buffer(other, 1).map(drop)
    }),
    ("add_buffer", |b, other| other.add_buffer(b).map(drop)),
];

fn one_byte_of_a_file() -> FileSegment {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"x").unwrap();
    FileSegment::new(file, ..).unwrap()
}

fn filled() -> [EvBuffer; 2] {
    [EvBuffer::from(LINE), EvBuffer::from(&b"other"[..])]
}

#[test]
fn a_frozen_end_refuses_its_own_changes_only() {
    for (end, refused, allowed) in [
        (End::Back, AT_THE_BACK, AT_THE_FRONT),
        (End::Front, AT_THE_FRONT, AT_THE_BACK),
    ] {
        for (name, change) in refused {
            let [mut buffer, mut other] = filled();
            buffer.freeze(end);
            let outcome = change(&mut buffer, &mut other);
            assert_eq!(outcome, Err(BufferError::Frozen(end)), "{name}");
            assert!(buffer == LINE && other == b"other"[..], "{name}");
            buffer.unfreeze(end);
            assert_eq!(change(&mut buffer, &mut other), Ok(()), "{name} unfrozen");
        }
        for (name, change) in allowed {
            let [mut buffer, mut other] = filled();
            buffer.freeze(end);
            assert_eq!(change(&mut buffer, &mut other), Ok(()), "{name}");
        }
    }
}

#[test]
fn a_frozen_buffer_can_be_read() {
    let [mut buffer, mut other] = filled();
    buffer.freeze(End::Front);
    buffer.freeze(End::Back);
    let mut out = [0; 6];
    assert_eq!(buffer.copyout(&mut out), Ok(6));
    assert_eq!(buffer.copyout_from(2, &mut out), Ok(6));
    assert_eq!(buffer.pullup(6), Some(&b"a line"[..]));
    assert_eq!(buffer.search(b"more", ..), Some(12));
    assert_eq!(buffer.search_eol(0, EolStyle::Lf).unwrap().at, 7);
    assert_eq!(buffer.peek(0, &mut [IoSlice::new(&[])]), 1);
    assert!(buffer.starts_with(b"a line"));
    // Removing zero bytes succeeds.
    assert_eq!(other.add_buffer_reference(&buffer), Ok(LINE.len()));
    assert_eq!(buffer, LINE);
}

#[test]
fn moving_zero_bytes_succeeds_if_frozen_or_full() {
    let mut buffer = EvBuffer::from(LINE);
    let mut empty = EvBuffer::new();
    buffer.set_max_len(Some(1));
    for end in [End::Front, End::Back] {
        buffer.freeze(end);
        empty.freeze(end);
    }
    assert_eq!(buffer.add(b""), Ok(()));
    assert_eq!(buffer.prepend(b""), Ok(()));
    assert_eq!(buffer.add_reference(""), Ok(()));
    assert_eq!(buffer.add_vectored(&[]), Ok(0));
    assert_eq!(buffer.add_buffer(&mut empty), Ok(0));
    assert_eq!(buffer.prepend_buffer(&mut empty), Ok(0));
    assert_eq!(buffer.remove_buffer(&mut empty, 0), Ok(0));
    assert_eq!(buffer.drain(0), Ok(0));
    assert_eq!(empty.drain(1), Ok(0));
    assert_eq!(empty.readln(EolStyle::Lf), Ok(None));
    assert_eq!(buffer.expand(0), Ok(()));
    assert_eq!(buffer.read_from(&mut io::empty(), 0).unwrap(), 0);
    assert_eq!(empty.write_to(&mut io::sink(), 1).unwrap(), 0);
    assert_eq!(buffer, LINE);
}

#[test]
fn an_empty_reservation_respects_frozen_ends_and_the_limit() {
    for forbid in [(|b| b.freeze(End::Back)) as fn(&mut EvBuffer), |b| {
        b.set_max_len(Some(LINE.len()))
    }] {
        let mut buffer = EvBuffer::with_capacity(100);
        buffer.add(LINE).unwrap();
        forbid(&mut buffer);
        let mut room = buffer.reserve(0).unwrap();
        assert_eq!(room.capacity(), 0);
        assert_eq!(room.slices_mut().count(), 0);
        assert_eq!(room.put(b"x"), 0);
        assert!(room.commit(1).is_err());
        assert_eq!(buffer, LINE);
    }
}

#[test]
fn a_full_buffer_refuses_bytes_at_both_ends() {
    let full = Err(BufferError::Full {
        max_len: LINE.len(),
    });
    for (name, change) in AT_THE_BACK.iter().chain(&AT_THE_FRONT[..3]) {
        let [mut buffer, mut other] = filled();
        buffer.set_max_len(Some(LINE.len()));
        assert_eq!(change(&mut buffer, &mut other), full, "{name}");
        assert!(buffer == LINE && other == b"other"[..], "{name}");
        assert_eq!(buffer.remaining_mut(), 0);
    }
}

#[test]
fn data_that_does_not_fit_is_refused_whole() {
    let len = 2 * COPY_THRESHOLD;
    let mut src = EvBuffer::from(vec![1; len]);
    src.add(b"more").unwrap();
    let mut dst = EvBuffer::from(LINE);
    let max_len = LINE.len() + len;
    dst.set_max_len(Some(max_len));
    assert_eq!(dst.add_buffer(&mut src), Err(BufferError::Full { max_len }));
    let moved = src.remove_buffer(&mut dst, len + 1);
    assert_eq!(moved, Err(BufferError::Full { max_len }));
    assert_eq!((src.len(), dst.len()), (len + 4, LINE.len()));
    assert_eq!(src.remove_buffer(&mut dst, len), Ok(len));
    assert_eq!((src.len(), dst.len()), (4, max_len));
}

#[test]
fn a_limit_below_the_length_removes_nothing() {
    let mut buffer = EvBuffer::from(LINE);
    buffer.set_max_len(Some(3));
    assert_eq!(buffer.max_len(), Some(3));
    assert_eq!(buffer, LINE);
    assert!(buffer.add(b"x").is_err());
    buffer.drain(LINE.len() - 2).unwrap();
    assert_eq!(buffer.add(b"x"), Ok(()));
    buffer.set_max_len(None);
    assert_eq!(buffer.add(LINE), Ok(()));
}

#[test]
fn a_reservation_offers_at_most_the_room_below_the_limit() {
    let mut buffer = EvBuffer::from(LINE);
    buffer.set_max_len(Some(LINE.len() + 10));
    let mut room = buffer.reserve(3).unwrap();
    assert!((3..=10).contains(&room.capacity()));
    assert_eq!(room.put(&[7; 100]), room.capacity());
    assert!(buffer.reserve(11).is_err());
}

#[test]
fn a_refused_stream_operation_has_a_fitting_error_kind() {
    let mut buffer = EvBuffer::from(LINE);
    buffer.freeze(End::Front);
    let kind = |result: io::Result<usize>| result.unwrap_err().kind();
    assert_eq!(kind(buffer.read(&mut [0])), io::ErrorKind::PermissionDenied);
    let written = buffer.write_to(&mut io::sink(), 1);
    assert_eq!(kind(written), io::ErrorKind::PermissionDenied);
    buffer.set_max_len(Some(1));
    assert_eq!(kind(buffer.write(b"x")), io::ErrorKind::StorageFull);
    // A read takes only what there is room for.
    let mut source = &b"abc"[..];
    let read = buffer.read_from(&mut source, 3);
    assert_eq!(kind(read), io::ErrorKind::StorageFull);
    assert_eq!(source.remaining(), 3);
    buffer.freeze(End::Back);
    assert_eq!(kind(buffer.write(b"x")), io::ErrorKind::PermissionDenied);
}
