//! File ranges in a buffer: loaded when their bytes are needed, never silently short.

use std::{
    io::{self, BufRead, Read, Seek, SeekFrom, Write},
    sync::{Arc, Mutex},
};

use bytes::Buf;
use tokio_evbuffer::{
    BufferError, EolStyle, EvBuffer, SharedEvBuffer,
    buffer::{End, FileSegment},
};

use crate::support::{
    data::{pattern, temp_file},
    tasks::in_time,
};

/// Returns a segment of a file that was truncated to `len` bytes afterwards.
fn cut_file(data: &[u8], len: u64) -> FileSegment {
    let file = temp_file(data);
    let segment = FileSegment::new(file.clone(), ..).unwrap();
    file.set_len(len).unwrap();
    segment
}

#[test]
fn a_range_is_checked_against_the_file_when_created() {
    let file = temp_file(b"0123456789");
    assert_eq!(FileSegment::new(file.clone(), 4..).unwrap().len(), 6);
    for bad in [11..12, 0..11, 5..u64::MAX] {
        let error = FileSegment::new(file.clone(), bad).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = FileSegment::new(file.clone(), 5..4);
    assert!(reversed.is_err());
    let segment = FileSegment::new(file, 2..8).unwrap();
    assert!(segment.slice(..7).is_err());
    assert!(segment.slice(..=u64::MAX).is_err());
    assert_eq!(segment.slice(1..=2).unwrap().len(), 2);
}

#[test]
fn every_read_method_returns_the_bytes_of_the_range() {
    let data = pattern(600_000);
    let segment = FileSegment::new(temp_file(&data), 100..).unwrap();
    let with_file = || {
        let mut buffer = EvBuffer::from(&b"head"[..]);
        buffer.add_file(segment.clone()).unwrap();
        buffer.add(b"tail").unwrap();
        buffer
    };
    let all = [b"head", &data[100..], b"tail"].concat();

    assert_eq!(with_file(), all);
    assert_eq!(with_file().pullup(all.len()).unwrap(), all);
    assert_eq!(with_file().take_bytes(usize::MAX).unwrap(), all);
    assert_eq!(with_file().search(b"tail", ..), Some(all.len() - 4));
    let mut out = Vec::new();
    with_file().read_to_end(&mut out).unwrap();
    assert_eq!(out, all);
    let mut by_buf = with_file();
    assert_eq!(by_buf.copy_to_bytes(all.len()), all);

    let mut whole = with_file();
    whole.drain(300_000).unwrap();
    let mut part = EvBuffer::new();
    whole.remove_buffer(&mut part, 100_000).unwrap();
    let mut shared = EvBuffer::new();
    shared.add_buffer_reference(&part).unwrap();
    assert_eq!(shared, all[300_000..400_000]);
    assert_eq!(part, all[300_000..400_000]);
    assert_eq!(whole, all[400_000..]);
    let mut written = Vec::new();
    while !whole.is_empty() {
        whole.write_to(&mut written, usize::MAX).unwrap();
    }
    assert_eq!(written, all[400_000..]);
}

#[test]
fn a_range_takes_no_memory_before_it_is_read() {
    let mut buffer = EvBuffer::new();
    buffer
        .add_file(FileSegment::new(temp_file(&pattern(1 << 20)), ..).unwrap())
        .unwrap();
    assert_eq!((buffer.len(), buffer.capacity()), (1 << 20, 0));
    buffer.copyout(&mut [0]).unwrap();
    assert_eq!(buffer.capacity(), 256 * 1024, "one piece was loaded");
}

#[test]
fn an_empty_range_adds_no_segment() {
    let mut buffer = EvBuffer::new();
    buffer
        .add_file(FileSegment::new(temp_file(b""), ..).unwrap())
        .unwrap();
    assert_eq!((buffer.len(), buffer.segments()), (0, 0));
}

#[test]
fn a_truncated_file_is_an_error_and_the_range_stays() {
    let short = BufferError::File(io::ErrorKind::UnexpectedEof);
    let mut buffer = EvBuffer::from(&b"head"[..]);
    buffer.add_file(cut_file(&pattern(1000), 999)).unwrap();
    buffer.add(b"\n").unwrap();
    let len = buffer.len();

    assert_eq!(buffer.remove(&mut vec![0; len]), Err(short));
    assert_eq!(buffer.copyout(&mut [0; 5]), Err(short));
    assert_eq!(
        buffer.copyout(&mut [0; 4]),
        Ok(4),
        "what lies before it can be had"
    );
    assert_eq!(buffer.copyout_from(5, &mut [0; 1]), Err(short));
    assert_eq!(buffer.take_bytes(5), Err(short));
    assert_eq!(buffer.readln(EolStyle::Lf), Err(short));
    assert_eq!(buffer.pullup(5), None);
    assert_eq!(
        buffer.chunks().collect::<Vec<_>>(),
        [b"head"],
        "nothing behind it is shown"
    );
    assert_eq!(buffer.search(b"\n", ..), None);
    assert_eq!(buffer.len(), len);

    buffer.drain(4).unwrap();
    let written = buffer.write_to(&mut Vec::new(), usize::MAX).unwrap_err();
    assert_eq!(written.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(
        buffer.fill_buf().unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
    assert_eq!(buffer.drain(1000), Ok(1000), "it can be dropped unread");
    assert_eq!(buffer, b"\n"[..]);
}

#[test]
fn a_range_that_cannot_be_loaded_equals_no_buffer() {
    let mut short = EvBuffer::from(&b"head"[..]);
    short.add_file(cut_file(b"abc", 0)).unwrap();
    let whole = EvBuffer::from(&b"headabc"[..]);
    assert_ne!(short, whole);
    assert_ne!(whole, short);
    assert_ne!(short, b"headabc"[..]);
}

#[tokio::test]
async fn an_async_read_loads_no_more_than_it_returns() {
    let mut buffer = EvBuffer::from(&b"head"[..]);
    buffer
        .add_file(FileSegment::new(temp_file(&pattern(1000)), ..).unwrap())
        .unwrap();
    let before = buffer.capacity();
    let mut out = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut buffer, &mut out)
        .await
        .unwrap();
    assert_eq!(&out, b"head");
    assert!(buffer.capacity() <= before, "{}", buffer.capacity());
}

#[test]
#[should_panic(expected = "cannot be loaded")]
fn buf_chunk_panics_instead_of_returning_an_empty_slice() {
    let mut buffer = EvBuffer::new();
    buffer.add_file(cut_file(b"abc", 0)).unwrap();
    buffer.chunk();
}

#[test]
fn the_limit_applies_to_files() {
    let mut buffer = EvBuffer::new();
    buffer.set_max_len(Some(9));
    let segment = FileSegment::new(temp_file(b"0123456789"), ..).unwrap();
    assert_eq!(
        buffer.add_file(segment.clone()),
        Err(BufferError::Full { max_len: 9 })
    );
    buffer.add_file(segment.slice(1..).unwrap()).unwrap();
    assert_eq!(buffer, b"123456789"[..]);
}

#[test]
fn short_file_ranges_move_without_a_read() {
    let mut buffer = EvBuffer::new();
    buffer.add_file(cut_file(b"abc", 0)).unwrap();
    let mut other = EvBuffer::new();
    assert_eq!(buffer.remove_buffer(&mut other, 2), Ok(2));
    assert_eq!(buffer.add_buffer(&mut other), Ok(2));
    assert_eq!(other.prepend_buffer(&mut buffer), Ok(3));
    assert_eq!(buffer.add_buffer_reference(&other), Ok(3));
    assert_eq!(buffer.len(), 3);
}

/// The position of the file's own cursor does not matter.
#[test]
fn a_range_of_a_file_behind_other_bytes_is_that_range() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"abcdefghij").unwrap();
    file.seek(SeekFrom::Start(3)).unwrap();
    let segment = FileSegment::new(file, 4..).unwrap();

    let mut buffer = EvBuffer::from(&b"0123456789"[..]);
    buffer.add_file(segment).unwrap();
    buffer.add(b"!").unwrap();
    assert_eq!(buffer.len(), 17);
    assert_eq!(buffer.search(b"9ef", ..), Some(9));
    let mut out = String::new();
    Read::read_to_string(&mut buffer, &mut out).unwrap();
    assert_eq!(out, "0123456789efghij!");
}

#[test]
fn a_refused_range_closes_its_file_once_and_leaves_its_clones_usable() {
    let file = temp_file(b"0123456789");
    let segment = FileSegment::new(file.clone(), ..).unwrap();
    let mut frozen = EvBuffer::new();
    frozen.freeze(End::Back);
    for _ in 0..100 {
        assert!(frozen.add_file(segment.clone()).is_err());
        let another = temp_file(b"x");
        let handle = Arc::downgrade(&another);
        let segment = FileSegment::new(another, ..).unwrap();
        assert!(frozen.add_file(segment).is_err());
        assert!(handle.upgrade().is_none());
    }
    assert_eq!(Arc::strong_count(&file), 2);
    frozen.unfreeze(End::Back);
    frozen.add_file(segment).unwrap();
    assert_eq!(frozen, b"0123456789"[..]);
}

/// References are the segment, its clones and slices, and its ranges in buffers.
#[test]
fn hooks_run_once_when_the_last_reference_to_a_file_is_gone() {
    let called = Arc::new(Mutex::new(Vec::new()));
    let hook = |name| {
        let called = called.clone();
        move || called.lock().unwrap().push(name)
    };
    let called = || called.lock().unwrap().clone();
    let segment = FileSegment::new(temp_file(b"0123456789"), ..).unwrap();
    let hooked = segment.clone().on_release(hook("first"));
    let hooked = hooked.on_release(hook("second"));
    let slice = hooked.slice(2..4).unwrap();
    let mut buffer = EvBuffer::new();
    buffer.add_file(hooked.clone()).unwrap();
    buffer.add_file(slice.clone()).unwrap();
    drop((hooked, slice));
    let mut back = buffer.split_off(5).unwrap();
    buffer.clear().unwrap();
    assert!(called().is_empty());
    back.clear().unwrap();
    assert_eq!(called(), ["second", "first"]);
    drop(segment);
    assert_eq!(called().len(), 2, "a segment without a hook");
}

#[test]
fn a_hook_of_a_file_runs_after_the_lock_of_a_shared_buffer() {
    in_time(|| {
        let shared = SharedEvBuffer::new();
        let (user, ran) = (shared.clone(), Arc::new(()));
        let kept = ran.clone();
        let segment = FileSegment::new(temp_file(b"0123456789"), ..).unwrap();
        let segment = segment.on_release(move || {
            user.add("hook").unwrap();
            drop(kept);
        });
        shared.add_file(segment).unwrap();
        shared.drain(10).unwrap();
        assert_eq!((shared.len(), Arc::strong_count(&ran)), (4, 1));
    });
}

/// Asserts that `buffer` holds `bytes`, and no more memory than [`EvBuffer::capacity`] promises.
fn check(buffer: &EvBuffer, bytes: &[u8]) {
    assert!(*buffer == bytes);
    let (capacity, len) = (buffer.capacity(), buffer.len());
    assert!(capacity <= 4 * len + 64 * 1024, "{capacity} for {len}");
}

/// A loaded piece is held as a whole, so it must not outlive most of its bytes.
#[test]
fn what_is_left_of_a_loaded_range_keeps_little_memory() {
    let data = pattern(600_000);
    let segment = FileSegment::new(temp_file(&data), ..).unwrap();
    let all = [b"head", &data[..]].concat();
    let loaded = || {
        let mut buffer = EvBuffer::from("head");
        buffer.add_file(segment.clone()).unwrap();
        check(&buffer, &all);
        buffer
    };
    // Cut in each piece, and beside the borders of the pieces.
    for cut in [
        5, 1000, 262_140, 262_148, 262_150, 524_292, 524_300, 600_000,
    ] {
        let mut buffer = loaded();
        buffer.truncate(cut).unwrap();
        check(&buffer, &all[..cut]);

        let mut buffer = loaded();
        let mut back = buffer.split_off(cut).unwrap();
        check(&buffer, &all[..cut]);
        check(&back, &all[cut..]);
        back.prepend("before").unwrap();
        back.truncate(100).unwrap();
        check(
            &back,
            &[b"before", &all[cut..]].concat()[..100.min(back.len())],
        );

        let mut buffer = loaded();
        buffer.drain(cut).unwrap();
        check(&buffer, &all[cut..]);
        let mut moved = EvBuffer::from("moved ");
        moved.add_buffer(&mut buffer).unwrap();
        moved.truncate(20).unwrap();
        check(&moved, &[b"moved ", &all[cut..]].concat()[..moved.len()]);
    }
}

#[test]
fn a_range_that_was_shortened_loads_only_what_is_left() {
    let data = pattern(600_000);
    let segment = FileSegment::new(temp_file(&data), ..).unwrap();
    for (from, to) in [
        (0, 10),
        (262_100, 262_110),
        (262_140, 262_150),
        (599_990, 600_000),
    ] {
        for truncates_first in [false, true] {
            let mut buffer = EvBuffer::new();
            buffer.add_file(segment.clone()).unwrap();
            if truncates_first {
                buffer.truncate(to).unwrap();
            }
            buffer.drain(from).unwrap();
            buffer.truncate(to - from).unwrap();
            check(&buffer, &data[from..to]);
        }
    }
}

/// Each of them may keep a piece while it is at the front of its buffer.
#[test]
fn many_rests_of_loaded_ranges_keep_little_memory_together() {
    const REST: usize = 600; // longer than what is copied
    let data = pattern(16_000);
    let segment = FileSegment::new(temp_file(&data), ..).unwrap();
    let rest = || {
        let mut buffer = EvBuffer::new();
        buffer.add_file(segment.clone()).unwrap();
        check(&buffer, &data);
        buffer.drain(data.len() - REST).unwrap();
        buffer
    };
    let mut moved = EvBuffer::new();
    let mut prepended = EvBuffer::new();
    let mut shared = EvBuffer::new();
    for _ in 0..100 {
        moved.add_buffer(&mut rest()).unwrap();
        prepended.prepend_buffer(&mut rest()).unwrap();
        shared.add_buffer_reference(&rest()).unwrap();
        let mut pair = rest();
        pair.add_file(segment.clone()).unwrap();
        pair.remove_buffer(&mut moved, REST).unwrap();
    }
    check(&moved, &data[data.len() - REST..].repeat(200));
    check(&prepended, &data[data.len() - REST..].repeat(100));
    check(&shared, &data[data.len() - REST..].repeat(100));
}
