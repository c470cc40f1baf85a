//! Looking at bytes over the borders of segments, for each way to divide a text.

use std::io::{BufRead, IoSlice, Read};

use bytes::Buf;
use tokio_evbuffer::EvBuffer;

/// Calls `check` with `text` divided in each possible way.
fn for_each_division(text: &[u8], check: impl Fn(EvBuffer)) {
    for borders in 0..1_u32 << (text.len() - 1) {
        let mut buffer = EvBuffer::new();
        let mut start = 0;
        for end in 1..=text.len() {
            if end == text.len() || borders & (1 << (end - 1)) != 0 {
                buffer.add_reference(text[start..end].to_vec()).unwrap();
                start = end;
            }
        }
        check(buffer);
    }
}

#[test]
fn the_first_and_the_last_match_are_found() {
    const TEXT: &[u8] = b"aabaabab";
    for_each_division(TEXT, |buffer| {
        let (least, most) = buffer.chunks().size_hint();
        let chunks = buffer.chunks().count();
        assert!(least <= chunks && chunks <= most.unwrap());
        for start in 0..TEXT.len() {
            for end in start + 1..=TEXT.len() {
                let needle = &TEXT[start..end];
                for range in [0..8, 1..7, 3..8] {
                    let matches =
                        (range.clone()).filter(|&at| TEXT[at..range.end].starts_with(needle));
                    let (first, last) = (matches.clone().next(), matches.clone().next_back());
                    assert_eq!(buffer.search(needle, range.clone()), first, "{needle:?}");
                    assert_eq!(buffer.rsearch(needle, range), last, "{needle:?}");
                }
            }
        }
    });
}

#[test]
fn a_cursor_continues_in_the_next_segment() {
    const TEXT: &[u8] = b"0123456789";
    for_each_division(TEXT, |buffer| {
        let mut cursor = buffer.cursor();
        for at in 0..TEXT.len() {
            assert_eq!((cursor.position(), cursor.remaining()), (at, 10 - at));
            let chunk = cursor.chunk();
            assert!(!chunk.is_empty() && TEXT[at..].starts_with(chunk));
            let mut slices = [IoSlice::new(&[]); 10];
            let n = cursor.chunks_vectored(&mut slices);
            let seen: Vec<_> = slices[..n]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            assert_eq!(seen, &TEXT[at..]);
            cursor.advance(1);
        }
        assert!(cursor.chunk().is_empty() && cursor.fill_buf().unwrap().is_empty());

        cursor.set_position(0);
        let (mut all, mut out) = (Vec::new(), [0; 3]);
        loop {
            match cursor.read(&mut out).unwrap() {
                0 => break,
                n => all.extend_from_slice(&out[..n]),
            }
        }
        assert_eq!(all, TEXT);

        cursor.set_position(2);
        let mut part = Vec::new();
        cursor.read_until(b'7', &mut part).unwrap();
        assert_eq!((&*part, cursor.position()), (&TEXT[2..8], 8));
    });
}
