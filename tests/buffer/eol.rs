//! Line ends in all styles, for every split into segments and every order of arrival.

use bytes::Bytes;
use tokio_evbuffer::{EolStyle, EvBuffer, buffer::Eol};

const TEXT: &[u8] = b"a\r\nb\nc\rd\r\r\ne\n\n\r\nf\0g\n\r";

/// What libevent returns for [`TEXT`]: the lines, and how many bytes are left.
const LINES: &[(EolStyle, &[&str], usize)] = &[
    (EolStyle::Any, &["a", "b", "c", "d", "e", "f\0g"], 0),
    (
        EolStyle::Crlf,
        &["a", "b", "c\rd\r", "e", "", "", "f\0g"],
        1,
    ),
    (EolStyle::CrlfStrict, &["a", "b\nc\rd\r", "e\n\n"], 5),
    (
        EolStyle::Lf,
        &["a\r", "b", "c\rd\r\r", "e", "", "\r", "f\0g"],
        1,
    ),
    (EolStyle::Nul, &["a\r\nb\nc\rd\r\r\ne\n\n\r\nf"], 3),
];

fn lines_of(buffer: &mut EvBuffer, style: EolStyle) -> Vec<Bytes> {
    std::iter::from_fn(|| buffer.readln(style).unwrap()).collect()
}

fn check(style: EolStyle, mut buffer: EvBuffer, lines: &[&str], left: usize, division: &str) {
    assert_eq!(lines_of(&mut buffer, style), lines, "{style:?} {division}");
    assert_eq!(buffer.len(), left, "{style:?} {division}");
}

#[test]
fn lines_are_the_same_in_one_segment_and_in_many() {
    for &(style, lines, left) in LINES {
        check(style, EvBuffer::from(TEXT), lines, left, "whole");
        let one_by_one = TEXT.chunks(1).map(Bytes::from_static).collect();
        check(style, one_by_one, lines, left, "in bytes");
    }
}

#[test]
fn lines_are_the_same_for_every_split_of_the_text() {
    for &(style, lines, left) in LINES {
        for first in 0..=TEXT.len() {
            for second in first..=TEXT.len() {
                let pieces = [&TEXT[..first], &TEXT[first..second], &TEXT[second..]];
                let buffer = pieces.map(Bytes::from_static).into_iter().collect();
                check(style, buffer, lines, left, &format!("{first} {second}"));
            }
        }
    }
}

#[test]
fn lines_are_the_same_for_every_order_of_arrival() {
    for &(style, lines, left) in LINES {
        // A run of line ends may continue in the bytes that arrive next.
        if style == EolStyle::Any {
            continue;
        }
        let mut buffer = EvBuffer::new();
        let mut read = Vec::new();
        for byte in TEXT.chunks(1) {
            buffer.add(byte).unwrap();
            read.extend(lines_of(&mut buffer, style));
        }
        assert_eq!(read, lines, "{style:?}");
        assert_eq!(buffer.len(), left, "{style:?}");
    }
}

#[test]
fn a_run_of_line_ends_stops_at_the_end_of_the_data() {
    let mut buffer = EvBuffer::from(&b"a\r"[..]);
    assert_eq!(lines_of(&mut buffer, EolStyle::Any), ["a"]);
    buffer.add(b"\nb\n").unwrap();
    assert_eq!(lines_of(&mut buffer, EolStyle::Any), ["", "b"]);
}

#[test]
fn a_search_that_starts_inside_a_line_end_does_not_look_back() {
    let buffer = EvBuffer::from(&b"ab\r\ncd"[..]);
    let eol = |from, style| buffer.search_eol(from, style);
    assert_eq!(eol(0, EolStyle::Crlf), Some(Eol { at: 2, len: 2 }));
    assert_eq!(eol(3, EolStyle::Crlf), Some(Eol { at: 3, len: 1 }));
    assert_eq!(eol(3, EolStyle::CrlfStrict), None);
    assert_eq!(eol(3, EolStyle::Any), Some(Eol { at: 3, len: 1 }));
    assert_eq!(eol(6, EolStyle::Lf), None);
    assert_eq!(eol(7, EolStyle::Lf), None);
    assert_eq!(eol(usize::MAX, EolStyle::Nul), None);
}

#[test]
fn a_change_of_style_or_at_the_front_hides_no_line() {
    let mut buffer = EvBuffer::from(&b"one\0two"[..]);
    assert_eq!(buffer.readln(EolStyle::Lf), Ok(None));
    assert_eq!(buffer.readln(EolStyle::Nul).unwrap().unwrap(), "one");
    assert_eq!(buffer.readln(EolStyle::Lf), Ok(None));
    buffer.prepend(b"zero\n").unwrap();
    assert_eq!(buffer.readln(EolStyle::Lf).unwrap().unwrap(), "zero");
    assert_eq!(buffer.readln(EolStyle::Lf), Ok(None));
    buffer
        .prepend_buffer(&mut EvBuffer::from(&b"x\n"[..]))
        .unwrap();
    assert_eq!(buffer.readln(EolStyle::Lf).unwrap().unwrap(), "x");
    assert_eq!(buffer, b"two"[..]);
}

#[test]
fn a_long_line_over_many_segments_is_returned_whole() {
    let mut buffer = EvBuffer::new();
    let line: Vec<u8> = (0..200_000).map(|i| b'a' + (i % 26) as u8).collect();
    for piece in line.chunks(7_000) {
        buffer.add_reference(piece.to_vec()).unwrap();
        assert_eq!(buffer.readln(EolStyle::CrlfStrict), Ok(None));
    }
    buffer.add(b"\r\nrest").unwrap();
    assert_eq!(buffer.readln(EolStyle::CrlfStrict).unwrap().unwrap(), line);
    assert_eq!(buffer, b"rest"[..]);
}

/// A buffer remembers how far it has searched for the end of a line.
#[test]
fn an_end_of_line_that_is_written_over_searched_bytes_is_found() {
    for at in 0..6 {
        let mut buffer = EvBuffer::from("abcdef");
        assert_eq!(buffer.readln(EolStyle::Lf).unwrap(), None);
        buffer.write_at(at, b"\n").unwrap();
        let line = buffer.readln(EolStyle::Lf).unwrap().unwrap();
        assert_eq!(line, "abcdef"[..at]);
    }
}
