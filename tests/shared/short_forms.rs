//! Each short form of `SharedEvBuffer` does what the method of `EvBuffer` with its name does.

use std::io::{IoSlice, Write as _};

use bytes::Bytes;
use tokio_evbuffer::{
    BufferError, EolStyle, EvBuffer, SharedEvBuffer, Watermarks,
    buffer::{End, FileSegment, LineError},
    limits::MemoryBudget,
};

use crate::support::data::shared_with;

#[test]
fn the_short_forms_that_add() {
    let buffer = SharedEvBuffer::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"from a file").unwrap();
    let lent = EvBuffer::from(&b"lent"[..]);

    let pieces = [IoSlice::new(b"in "), IoSlice::new(b"pieces")];
    assert_eq!(buffer.add_vectored(&pieces), Ok(9));
    buffer.add_owner("owned".to_owned()).unwrap();
    buffer
        .add_file(FileSegment::new(file, 5..11).unwrap())
        .unwrap();
    assert_eq!(buffer.add_buffer_reference(&lent), Ok(4));
    assert_eq!(buffer.add_shared(&lent.share()), Ok(4));
    assert_eq!(buffer.to_vec(), b"in piecesowneda filelentlent");

    let mut front = EvBuffer::from(&b"front, "[..]);
    assert_eq!(buffer.prepend_buffer(&mut front), Ok(7));
    assert!(front.is_empty());
    buffer
        .prepend_reference(Bytes::from_static(b"first, "))
        .unwrap();
    buffer.write_at(7, b"FRONT").unwrap();
    assert!(buffer.starts_with(b"first, FRONT, in pieces"));

    let buffer = SharedEvBuffer::new();
    assert_eq!(buffer.read_from(&mut &b"read"[..], 3).unwrap(), 3);
    assert_eq!(buffer.to_vec(), b"rea");
}

#[test]
fn the_short_forms_that_remove() {
    let buffer = shared_with(b"a line\nanother\nthird\nrest");
    let refused = Err(LineError::TooLong { max: 5 });
    assert_eq!(buffer.readln_max(EolStyle::Lf, 5), refused);
    let line = buffer.readln_max(EolStyle::Lf, 6).unwrap();
    assert_eq!(line.as_deref(), Some(&b"a line"[..]));
    let mut lines = Vec::new();
    let count = buffer.read_lines(EolStyle::Lf, |line| lines.push(line.to_vec()));
    assert_eq!(count, Ok(2));
    assert_eq!(lines, [&b"another"[..], b"third"]);

    let buffer = shared_with(b"0123456789");
    assert!(buffer.split_off(8).unwrap() == b"89"[..]);
    buffer.truncate(5).unwrap();
    let mut written = Vec::new();
    assert_eq!(buffer.write_to(&mut written, 3).unwrap(), 3);
    assert_eq!(
        (&written[..], buffer.to_vec()),
        (&b"012"[..], b"34".to_vec())
    );
}

#[test]
fn the_short_forms_that_look() {
    let buffer = shared_with(b"one two one");
    buffer.add_reference(vec![b'x'; 1000]).unwrap();
    assert_eq!(buffer.segments(), 2);
    let mut out = [0; 3];
    assert_eq!((buffer.copyout_from(4, &mut out), &out), (Ok(3), b"two"));
    assert_eq!(buffer.search(b"one", 1..), Some(8));
    assert_eq!(buffer.rsearch(b"one", ..10), Some(0));
    assert_eq!(buffer.search_any(b"wt", 0), Some(4));
    assert_eq!(buffer.search_eol(0, EolStyle::Lf), None);
    let eol = shared_with(b"line\r\n")
        .search_eol(0, EolStyle::Crlf)
        .unwrap();
    assert_eq!((eol.at, eol.len), (4, 2));
    assert_eq!((buffer.get(4), buffer.get(1011)), (Some(b't'), None));
    assert!(buffer.starts_with(b"one t") && !buffer.starts_with(b"two"));
    assert!(buffer.ends_with(b"xx") && !buffer.ends_with(b"two"));
}

#[test]
fn the_short_forms_that_set() {
    let buffer = shared_with(b"abc");
    buffer.expand(100_000).unwrap();
    assert!(buffer.capacity() >= 100_003);
    buffer.shrink_to_fit();
    assert!(buffer.capacity() < 100_000);

    buffer.freeze(End::Front);
    assert!(buffer.is_frozen(End::Front) && !buffer.is_frozen(End::Back));
    assert_eq!(buffer.drain(1), Err(BufferError::Frozen(End::Front)));
    buffer.unfreeze(End::Front);
    assert!(!buffer.is_frozen(End::Front));
    assert_eq!(buffer.drain(1), Ok(1));

    assert_eq!(buffer.max_len(), None);
    buffer.set_max_len(Some(7));
    assert_eq!(buffer.max_len(), Some(7));
}

#[test]
fn handles_know_their_buffer_and_whether_it_is_locked() {
    let buffer = SharedEvBuffer::new();
    assert!(buffer.ptr_eq(&buffer.clone()) && !buffer.ptr_eq(&SharedEvBuffer::new()));
    let guard = buffer.lock();
    assert!(buffer.try_lock().is_none());
    drop(guard);
    assert!(buffer.try_lock().is_some_and(|guard| guard.is_empty()));
}

#[test]
fn a_move_up_to_the_high_watermark_stops_there() {
    let (from, to) = (shared_with(&[1; 20]), SharedEvBuffer::new());
    to.set_watermarks(Watermarks::new(2, 8).unwrap());
    assert_eq!(from.move_up_to_high(&to), Ok(8));
    assert_eq!((from.len(), to.len()), (12, 8));
    assert_eq!(from.move_up_to_high(&to), Ok(0));
    to.close();
    assert_eq!(from.move_up_to_high(&to), Err(BufferError::Closed));
}

#[test]
fn the_memory_of_a_buffer_counts_for_its_budget() {
    let budget = MemoryBudget::new(1 << 20);
    assert_eq!(budget.limit(), 1 << 20);
    let buffer = SharedEvBuffer::new();
    buffer.set_budget(&budget);
    buffer.add_reference(vec![7; 5000]).unwrap();
    assert_eq!(budget.used(), 5000);
    buffer.drain(5000).unwrap();
    assert_eq!(budget.used(), 0);
}
