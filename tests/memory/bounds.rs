//! Bounds of the memory of an `EvBuffer`: at most four times the data plus 64 KiB.

use std::io::Write;

use bytes::Bytes;
use tokio_evbuffer::{EolStyle, EvBuffer, buffer::FileSegment};

use crate::heap::{self, KEPT_MAX, held_by};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Small pieces at the end of large blocks are copied out when another buffer is linked behind them.
#[test]
fn pieces_before_a_moved_buffer_do_not_keep_their_blocks() {
    type Add = fn(&mut EvBuffer);
    let ways: [(&str, Add); 2] = [
        ("reserve 16 KiB, commit 100, add_buffer of 600", |buffer| {
            let mut room = buffer.reserve(16 * KIB).unwrap();
            room.put(&[7; 100]);
            room.commit(100).unwrap();
            buffer
                .add_buffer(&mut EvBuffer::from(&[8; 600][..]))
                .unwrap();
        }),
        ("expand 1 MiB, add 100, add_buffer of 600", |buffer| {
            buffer.expand(MIB).unwrap();
            buffer.add(&[7; 100]).unwrap();
            buffer
                .add_buffer(&mut EvBuffer::from(&[8; 600][..]))
                .unwrap();
        }),
    ];
    let mut wrong = Vec::new();
    for (name, add) in ways {
        let (buffer, held) = held_by(|| {
            let mut buffer = EvBuffer::new();
            (0..200).for_each(|_| add(&mut buffer));
            buffer.shrink_to_fit();
            buffer
        });
        let most = 2 * buffer.len() + 32 * KIB + 80 * buffer.segments() + KEPT_MAX;
        if held > most {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Buffers that were filled by reads and queued whole hold little more than their data.
#[test]
fn reads_that_are_queued_whole_hold_at_most_a_few_times_their_length() {
    let mut sizes = [600_usize, 9 * KIB].into_iter().cycle();
    let (queue, held) = held_by(|| {
        let mut queue = EvBuffer::new();
        for _ in 0..200 {
            let n = sizes.next().unwrap();
            // A read of up to 16 KiB makes a block of 16 KiB, of which `n` bytes are filled.
            let mut read = EvBuffer::new();
            let data = vec![7; n];
            read.read_from(&mut &data[..], 16 * KIB).unwrap();
            queue.add_buffer(&mut read).unwrap();
        }
        queue
    });
    let most = 3 * queue.len() / 2 + 32 * KIB + 80 * queue.segments() + KEPT_MAX;
    assert!(held <= most);
}

/// Small pieces that are moved out of large blocks are copied.
#[test]
fn the_heads_of_large_blocks_do_not_hold_the_blocks() {
    let (kept, held) = held_by(|| {
        let mut kept = EvBuffer::new();
        for _ in 0..64 {
            let mut frame = EvBuffer::from(&vec![7; MIB][..]);
            frame.remove_buffer(&mut kept, 600).unwrap();
        }
        kept
    });
    assert!(held <= 4 * kept.len() + KEPT_MAX);
}

/// A partial line that is left of a large block is copied out of it.
#[test]
fn a_partial_line_does_not_hold_the_block_of_those_before_it() {
    let (mut input, held) = held_by(|| {
        let mut input = EvBuffer::new();
        let mut data = b"0123456789abcdef\n".repeat(256 * KIB / 17);
        data.extend(b"par");
        input.expand(256 * KIB).unwrap();
        input.add(&data).unwrap();
        while input.readln(EolStyle::Lf).unwrap().is_some() {}
        input.shrink_to_fit();
        input.add(b"tial").unwrap();
        input
    });
    assert_eq!(input.pullup(7), Some(&b"partial"[..]));
    assert!(held <= 16 * KIB + KEPT_MAX, "{held}");
}

/// Linking a range of a file takes no memory in proportion to its length.
#[test]
fn a_range_of_a_large_file_takes_no_memory_before_it_is_read() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(64 << 30).unwrap(); // sparse: it takes no space on the disk
    let segment = FileSegment::new(file, ..).unwrap();
    let (_buffer, held) = held_by(|| {
        let mut buffer = EvBuffer::new();
        buffer.add_file(segment).unwrap();
        buffer
    });
    assert!(held <= 64 * KIB, "{held}");
}

/// Gathering bytes of several segments does not touch what lies behind them.
#[test]
fn taking_a_few_bytes_over_a_border_loads_no_file_behind_them() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![b'.'; 16 * MIB]).unwrap();
    let segment = FileSegment::new(file, ..).unwrap();
    let with_file = || {
        let mut buffer = EvBuffer::new();
        buffer.add_reference("HTTP/1.1 200").unwrap();
        buffer.add_reference(" OK\r\n").unwrap();
        buffer.add_file(segment.clone()).unwrap();
        buffer
    };
    let mut wrong = Vec::new();
    let mut taken = with_file();
    let (_, held) = held_by(|| taken.take_bytes(14).unwrap());
    if held > 256 * KIB {
        wrong.push("take_bytes");
    }
    let mut line = with_file();
    let (_, held) = held_by(|| line.readln(EolStyle::Crlf).unwrap().unwrap());
    if held > 256 * KIB {
        wrong.push("readln");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// An operation on the bytes behind a range of a file does not load it.
#[test]
fn looking_behind_a_file_loads_nothing_before_the_position() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![b'.'; 16 * MIB]).unwrap();
    let mut buffer = EvBuffer::new();
    buffer
        .add_file(FileSegment::new(file, ..).unwrap())
        .unwrap();
    buffer.add(b"trailer").unwrap();
    let (_, held) = held_by(|| {
        let mut out = [0; 7];
        assert_eq!(buffer.copyout_from(16 * MIB, &mut out), Ok(7));
        assert_eq!(&out, b"trailer");
    });
    assert!(held <= 256 * KIB, "{held}");
}

/// The list of segments becomes smaller with the chain.
#[test]
fn the_list_of_a_chain_that_was_long_is_released() {
    let byte = Bytes::from_static(b"x");
    let (mut buffer, _) = held_by(EvBuffer::new);
    let (_, held) = held_by(|| {
        for _ in 0..1_000_000 {
            buffer.add_reference(byte.clone()).unwrap();
        }
        buffer.drain(999_999).unwrap();
        for _ in 0..1000 {
            buffer.add_reference(byte.clone()).unwrap();
            buffer.drain(1).unwrap();
        }
    });
    assert!(held <= 64 * KIB, "{held}");
}

/// Room that was asked for is kept while bytes are drained.
#[test]
fn expanded_room_is_kept_while_bytes_are_drained() {
    let mut buffer = EvBuffer::new();
    buffer.expand(100_000).unwrap();
    buffer.add(&[7; 1_000]).unwrap();
    buffer.drain(500).unwrap();
    let before = heap::allocations_here();
    buffer.add(&[8; 99_000]).unwrap();
    let asked = heap::allocations_here() - before;
    assert_eq!((asked, buffer.segments()), (0, 1));
}

/// One segment holds at most 1 GiB, and `expand` of more is not refused.
#[test]
fn expand_accepts_sizes_that_add_accepts() {
    let mut buffer = EvBuffer::new();
    assert_eq!(buffer.expand((1 << 30) + 1), Ok(()));
}
