//! Order and contents after mixed operations: the cases of libevent's own tests, and the defects found in it.

use std::{
    fmt::Write as _,
    io::{self, IoSlice},
};

use bytes::Bytes;
use tokio_evbuffer::{EvBuffer, buffer::COPY_THRESHOLD};

use crate::support::data::pattern;

/// Returns a buffer with one segment for each piece.
fn of_segments(pieces: &[&'static str]) -> EvBuffer {
    pieces
        .iter()
        .map(|piece| Bytes::from_static(piece.as_bytes()))
        .collect()
}

/// Returns an empty buffer with spare room.
fn spare() -> EvBuffer {
    EvBuffer::with_capacity(1000)
}

#[test]
fn operations_mix() {
    let mut one = EvBuffer::new();
    let mut two = EvBuffer::new();
    write!(one, "hello/{}", 1).unwrap();
    assert_eq!(one, b"hello/1"[..]);
    one.add(b"hello").unwrap();
    two.add(b"goodbye").unwrap();
    two.add_buffer(&mut one).unwrap();
    assert!(one.is_empty());
    assert_eq!(two, b"goodbyehello/1hello"[..]);
    two.prepend(b"!").unwrap();
    assert_eq!(two.remove_buffer(&mut one, 8), Ok(8));
    assert!(one == b"!goodbye"[..] && two == b"hello/1hello"[..]);
    let room = one.reserve(100).unwrap();
    room.commit(0).unwrap();
    let mut room = one.reserve(100).unwrap();
    room.put(b" and more");
    room.commit(4).unwrap();
    assert_eq!(one.pullup(12), Some(&b"!goodbye and"[..]));
    one.drain(1).unwrap();
    one.add_buffer(&mut two).unwrap();
    assert_eq!(one, b"goodbye andhello/1hello"[..]);
}

#[test]
fn an_add_after_a_partial_move_goes_to_the_end() {
    for mut dst in [EvBuffer::new(), spare(), of_segments(&["aaaaaa", "b"])] {
        let begin = dst.pullup(dst.len()).unwrap().to_vec();
        let mut src = of_segments(&["c", "ddd", "eee"]);
        src.add(b"").unwrap();
        src.expand(10).unwrap();
        assert_eq!(src.remove_buffer(&mut dst, 4), Ok(4));
        dst.add(b"f").unwrap();
        src.add(b"g").unwrap();
        assert_eq!(dst, [&begin[..], b"cdddf"].concat());
        assert_eq!(src, b"eeeg"[..]);
    }
}

#[test]
fn empty_references_add_no_segment() {
    for at in 0..4 {
        let mut buffer = EvBuffer::new();
        for i in 0..4 {
            if i == at {
                buffer.add_reference("").unwrap();
                buffer.prepend_reference("").unwrap();
                buffer.add_owner([]).unwrap();
            }
            buffer.add_reference("xy").unwrap();
        }
        assert_eq!(buffer.segments(), 4);
        assert_eq!(buffer.pullup(5), Some(&b"xyxyx"[..]));
        assert_eq!(buffer.take_bytes(8).unwrap(), "xyxyxyxy");
    }
}

#[test]
fn a_moved_buffer_keeps_its_spare_segment() {
    let mut dst = of_segments(&["front"]);
    let mut src = of_segments(&["moved"]);
    src.expand(100).unwrap();
    dst.prepend_buffer(&mut src).unwrap();
    dst.add(b"back").unwrap();
    src.add(b"own").unwrap();
    assert!(dst == b"movedfrontback"[..] && src == b"own"[..]);
}

#[test]
fn defect_d6_an_add_behind_spare_room_goes_to_the_end_of_the_data() {
    let mut buffer = of_segments(&["one"]);
    buffer.expand(2000).unwrap();
    buffer.add(b"two").unwrap();
    buffer.expand(5000).unwrap();
    buffer.add(b"three").unwrap();
    write!(buffer, "{}r", "fou".len() + 1).unwrap();
    assert_eq!(buffer, b"onetwothree4r"[..]);
}

#[test]
fn defect_d7_segments_are_not_swapped_around_empty_ones() {
    // A large reservation without a commit, a prepend, a partial move, a short commit.
    let mut a = EvBuffer::from(&b"1234"[..]);
    a.reserve(100_000).unwrap().commit(0).unwrap();
    let mut b = spare();
    b.prepend(b"56").unwrap();
    a.add_buffer(&mut b).unwrap();
    b.add_buffer(&mut a).unwrap();
    let mut room = b.reserve(20_000).unwrap();
    room.put(b"78");
    room.commit(2).unwrap();
    b.prepend_buffer(&mut of_segments(&["0"])).unwrap();
    b.remove_buffer(&mut a, 5).unwrap();
    a.add(b"!").unwrap();
    assert!(a == b"01234!"[..] && b == b"5678"[..]);
}

#[test]
fn defect_d8_prepended_bytes_are_counted() {
    let mut buffer = of_segments(&["abc"]);
    for n in [1, 8093, 3, 20_000] {
        let before = buffer.len();
        buffer.prepend(&pattern(n)).unwrap();
        assert_eq!(buffer.len(), before + n);
        assert!(buffer.starts_with(&pattern(n)));
    }
}

#[test]
fn defect_d9_expand_makes_room_behind_little_data() {
    for n in [100, 4096, 20_000] {
        let mut buffer = EvBuffer::from(&b"some"[..]);
        buffer.expand(n).unwrap();
        let segments = buffer.segments();
        buffer.add(&pattern(n)).unwrap();
        assert!(buffer.segments() <= segments + 1);
        let last = buffer.chunks().last().unwrap();
        assert!([n, 4 + n].contains(&last.len()));
    }
}

#[test]
fn defect_d11_pullup_never_writes_into_shared_memory() {
    for len in [5, COPY_THRESHOLD + 5] {
        let text = "HELLO".repeat(len / 5);
        let mut source = spare();
        source.add(text.as_bytes()).unwrap();
        let mut copies = [b"aaaa", b"bbbb"].map(|end| {
            let mut copy = EvBuffer::new();
            copy.add_buffer_reference(&source).unwrap();
            copy.add_reference(&end[..]).unwrap();
            copy
        });
        source.add(b"cccc").unwrap();
        for copy in &mut copies {
            assert!(copy.pullup(text.len() + 4).is_some());
        }
        assert_eq!(copies[0], [text.as_bytes(), b"aaaa"].concat());
        assert_eq!(copies[1], [text.as_bytes(), b"bbbb"].concat());
        assert_eq!(source, [text.as_bytes(), b"cccc"].concat());
    }
}

#[test]
fn defect_d13_a_write_takes_at_most_its_maximum() {
    let mut buffer = of_segments(&["one", "two", "three"]);
    let mut out = Vec::new();
    assert_eq!(buffer.write_to(&mut out, 4).unwrap(), 4);
    assert_eq!(out, b"onet");
    assert_eq!(buffer, b"wothree"[..]);
}

#[test]
fn defect_d17_zero_bytes_are_not_the_end() {
    let mut buffer = EvBuffer::new();
    buffer.add(&pattern(16 * 1024)).unwrap();
    assert_eq!(buffer.read_from(&mut &b"abc"[..], 0).unwrap(), 0);
    assert_eq!(buffer.write_to(&mut io::sink(), 0).unwrap(), 0);
    let room = buffer.reserve(0).unwrap();
    room.commit(0).unwrap();
    assert_eq!(buffer, pattern(16 * 1024));
}

#[test]
fn buffers_that_share_bytes_change_independently() {
    let mut source = EvBuffer::from(&pattern(10_000)[..]);
    let mut copy = EvBuffer::new();
    copy.add_buffer_reference(&source).unwrap();
    let mut copy_of_copy = EvBuffer::new();
    copy_of_copy.add_buffer_reference(&copy).unwrap();
    copy.drain(4_000).unwrap();
    copy.prepend(b"mine").unwrap();
    source.add(b"source").unwrap();
    source.drain(9_999).unwrap();
    copy_of_copy.add(b"copy").unwrap();
    assert_eq!(source.len(), 7);
    drop(source);
    assert_eq!(copy, [b"mine", &pattern(10_000)[4_000..]].concat());
    assert_eq!(copy_of_copy, [&pattern(10_000)[..], b"copy"].concat());
}

#[test]
fn a_reservation_fills_blocks_in_order() {
    let mut buffer = EvBuffer::from(&b"start "[..]);
    let data = pattern(100_000);
    let mut room = buffer.reserve(100_000).unwrap();
    assert!(room.slices_mut().count() > 1);
    let mut left = &data[..];
    for slice in room.slices_mut() {
        let n = slice.len().min(left.len());
        slice[..n].copy_from_slice(&left[..n]);
        left = &left[n..];
    }
    room.commit(70_000).unwrap();
    buffer.add(b" end").unwrap();
    assert_eq!(buffer, [b"start ", &data[..70_000], b" end"].concat());
}

#[test]
fn a_commit_beyond_the_room_adds_nothing() {
    let mut buffer = EvBuffer::from(&b"some"[..]);
    let room = buffer.reserve(10).unwrap();
    let too_many = room.capacity() + 1;
    assert!(room.commit(too_many).is_err());
    assert_eq!(buffer, b"some"[..]);
}

#[test]
fn a_hundred_thousand_formatted_pieces_are_all_kept() {
    let mut buffer = EvBuffer::new();
    let mut expected = String::new();
    for i in 0..100_000 {
        write!(buffer, "{i} ").unwrap();
        write!(expected, "{i} ").unwrap();
    }
    assert_eq!(buffer, expected.as_bytes());
    assert!(buffer.capacity() < buffer.len() + buffer.len() / 8);
}

#[test]
fn search_finds_needles_over_segment_borders_and_within_ranges() {
    let buffer = of_segments(&["ab", "c", "ab", "cabx", "y", "z\r", "\n"]);
    let found = |needle: &str| buffer.search(needle.as_bytes(), ..);
    assert_eq!(found("abc"), Some(0));
    assert_eq!(found("cabc"), Some(2));
    assert_eq!(found("bxyz\r\n"), Some(7));
    assert_eq!(found("abcabcabx"), Some(0));
    assert_eq!(found("abcabcabcabx"), None);
    assert_eq!(buffer.search(b"abc", 1..), Some(3));
    assert_eq!(buffer.search(b"abc", 3..6), Some(3));
    assert_eq!(buffer.search(b"abc", 3..5), None);
    assert_eq!(buffer.search(b"abc", ..=2), Some(0));
    assert_eq!(buffer.search(b"", 13..), Some(13));
    assert_eq!(buffer.search(b"", 14..), None);
    assert_eq!(buffer.search(b"a", usize::MAX..), None);
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = buffer.search(b"a", 5..2);
    assert_eq!(reversed, None);
}

#[test]
fn peek_from_a_position_returns_the_bytes_behind_it() {
    let buffer = of_segments(&["abc", "defg", "h"]);
    let mut slices = [IoSlice::new(&[]); 2];
    assert_eq!(buffer.peek(4, &mut slices), 2);
    assert_eq!([&slices[0][..], &slices[1][..]], [&b"efg"[..], b"h"]);
    assert_eq!(buffer.peek(0, &mut slices[..1]), 1);
    assert_eq!(buffer.peek(8, &mut slices), 0);
    assert_eq!(buffer.peek(0, &mut []), 0);
    assert_eq!(buffer.chunks_from(7).collect::<Vec<_>>(), [b"h"]);
    assert_eq!(buffer.chunks_from(100).count(), 0);
    let mut out = [0; 3];
    assert_eq!(buffer.copyout_from(6, &mut out), Ok(2));
    assert_eq!(out, *b"gh\0");
    assert_eq!(buffer.copyout_from(8, &mut out), Ok(0));
    assert!(buffer.copyout_from(9, &mut out).is_err());
}

#[test]
fn short_writes_deliver_everything_in_order() {
    /// Accepts one byte more with each call.
    struct Grudging(Vec<u8>, usize);
    impl io::Write for Grudging {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            let n = data.len().min(self.1);
            self.0.extend_from_slice(&data[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut buffer: EvBuffer = pattern(10_000)
        .chunks(33)
        .map(Bytes::copy_from_slice)
        .collect();
    let mut out = Grudging(Vec::new(), 0);
    while !buffer.is_empty() {
        assert!(buffer.write_to(&mut out, 50).unwrap() > 0);
    }
    assert_eq!(out.0, pattern(10_000));
}
