//! Lines, pieces and frames: awaited, bounded, and complete although their futures are dropped at any poll.

use bytes::Bytes;
use futures::StreamExt;
use tokio_evbuffer::{
    EolStyle, EvBuffer, SharedEvBuffer, Watermarks,
    buffer::{FileSegment, LineError},
    shared::{FrameDecoder, LengthDecoder, LineDecoder},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};

use crate::support::data::{shared_with, temp_file};

/// What one of the waits has taken.
enum Taken {
    Item(Bytes),
    End,
    Pending,
}

/// Adds `stream` byte by byte, and polls a new future of `poll` after each byte, which is then dropped.
fn take_all(stream: &[u8], mut poll: impl FnMut(&SharedEvBuffer) -> Taken) -> Vec<Bytes> {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::with_high(64).unwrap());
    let mut items = Vec::new();
    let mut take = |buffer: &SharedEvBuffer| {
        loop {
            match poll(buffer) {
                Taken::Item(item) => items.push(item),
                Taken::End => return true,
                Taken::Pending => return false,
            }
        }
    };
    for byte in stream {
        buffer.add([*byte]).unwrap();
        assert!(!take(&buffer));
    }
    buffer.close();
    assert!(take(&buffer));
    items
}

fn of<T>(polled: std::task::Poll<T>, ready: impl FnOnce(T) -> Taken) -> Taken {
    match polled {
        std::task::Poll::Ready(output) => ready(output),
        std::task::Poll::Pending => Taken::Pending,
    }
}

fn item(item: Option<Bytes>) -> Taken {
    item.map_or(Taken::End, Taken::Item)
}

#[test]
fn no_line_is_lost_if_next_line_is_dropped_after_any_poll() {
    let lines = take_all(b"one\r\ntwo\r\n\r\nlast", |buffer| {
        let mut next = task::spawn(buffer.next_line(EolStyle::Crlf, 10));
        of(next.poll(), |line| item(line.unwrap()))
    });
    assert_eq!(lines, ["one", "two", "", "last"]);
}

#[test]
fn no_byte_is_lost_if_take_until_is_dropped_after_any_poll() {
    let pieces = take_all(b"a--b---c", |buffer| {
        let mut next = task::spawn(buffer.take_until(b"--", 10));
        of(next.poll(), |piece| item(piece.unwrap()))
    });
    assert_eq!(pieces, ["a--", "b--", "-c"]);
}

#[test]
fn no_byte_is_lost_if_take_exact_is_dropped_after_any_poll() {
    let pieces = take_all(b"abcdefgh", |buffer| {
        let mut next = task::spawn(buffer.take_exact(3));
        of(next.poll(), |piece| match piece {
            Ok(piece) => Taken::Item(piece),
            Err(_) => {
                assert_eq!(buffer.len(), 2, "the rest stays in the buffer");
                Taken::End
            }
        })
    });
    assert_eq!(pieces, ["abc", "def"]);
}

#[test]
fn no_frame_is_lost_if_a_stream_of_frames_is_dropped_after_any_poll() {
    let frames = take_all(b"\0\x03one\0\0\0\x04four", |buffer| {
        let mut frames = buffer.frames(LengthDecoder::new(10).length_width(2));
        let mut next = task::spawn(frames.next());
        of(next.poll(), |frame| item(frame.map(Result::unwrap)))
    });
    assert_eq!(frames, ["one", "", "four"]);
}

/// A needle that arrives in two pieces, and one that other tasks have moved to the front.
#[test]
fn take_until_finds_a_needle_across_changes_of_the_front() {
    let buffer = SharedEvBuffer::new();
    buffer.add(b"0123456789\r").unwrap();
    let mut taking = task::spawn(buffer.take_until(b"\r\n", 100));
    assert_pending!(taking.poll());
    buffer.drain(9).unwrap();
    buffer.add(b"\n").unwrap();
    assert!(taking.is_woken());
    assert_eq!(assert_ready_ok!(taking.poll()).unwrap(), "9\r\n");

    buffer.add(b"abc").unwrap();
    let mut taking = task::spawn(buffer.take_until(b"\r\n", 100));
    assert_pending!(taking.poll());
    buffer.prepend(b"\r\n").unwrap();
    assert_eq!(assert_ready_ok!(taking.poll()).unwrap(), "\r\n");
}

/// A frame that lies in one segment keeps its memory.
#[test]
fn a_frame_in_one_segment_is_not_copied() {
    let buffer = SharedEvBuffer::new();
    let body = Bytes::from(vec![7; 64 * 1024]);
    buffer.add(65_536_u32.to_be_bytes()).unwrap();
    buffer.add_reference(body.clone()).unwrap();
    let mut frames = task::spawn(buffer.frames(LengthDecoder::new(1 << 20)));
    let frame = assert_ready!(frames.poll_next()).unwrap().unwrap();
    assert_eq!(frame.as_ptr(), body.as_ptr());
    assert_pending!(frames.poll_next());
    assert_eq!(buffer.capacity(), 0, "nothing is held while it waits");
}

/// A decoder that says how long a frame is: the task is woken for the whole frame, and for the end of the buffer.
#[test]
fn a_task_is_woken_when_its_frame_is_whole_or_can_never_be() {
    let begun = || {
        let buffer = SharedEvBuffer::new();
        buffer.set_watermarks(Watermarks::with_high(20).unwrap());
        buffer.add(b"\0\0\0\x05fr").unwrap();
        let mut frames = task::spawn(buffer.frames(LengthDecoder::new(100)));
        assert_pending!(frames.poll_next());
        buffer.add(b"am").unwrap();
        assert!(!frames.is_woken());
        (buffer, frames)
    };
    let (buffer, mut frames) = begun();
    buffer.add(b"e\0").unwrap();
    assert!(frames.is_woken());
    assert_eq!(assert_ready!(frames.poll_next()).unwrap().unwrap(), "frame");
    // Of the next one not even the length is known.
    assert_pending!(frames.poll_next());
    buffer.add(b"\0").unwrap();
    assert!(frames.is_woken());

    let (buffer, mut frames) = begun();
    buffer.close();
    assert!(frames.is_woken());
    let error = assert_ready!(frames.poll_next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);

    // A lower watermark, below which the frame does not fit: an error once the buffer is full.
    let (buffer, mut frames) = begun();
    buffer.set_watermarks(Watermarks::with_high(8).unwrap());
    assert!(frames.is_woken());
    let error = assert_ready!(frames.poll_next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

/// Between the watermarks, a task that waits for a frame lets the buffer be filled up to the high one.
#[test]
fn a_wait_for_a_frame_fills_the_buffer() {
    let (source, buffer) = (SharedEvBuffer::new(), SharedEvBuffer::new());
    buffer.set_watermarks(Watermarks::new(2, 20).unwrap());
    source.add([1; 100]).unwrap();
    buffer.add(b"\x0bfirst frame\x09next").unwrap();
    buffer.add([0; 3]).unwrap();
    let decoder = LengthDecoder::new(100).length_width(1);
    let mut frames = task::spawn(buffer.frames(decoder));
    let first = assert_ready!(frames.poll_next()).unwrap().unwrap();
    assert_eq!((&first[..], buffer.len()), (&b"first frame"[..], 8));
    assert_eq!(source.move_up_to_high(&buffer).unwrap(), 0);
    assert_pending!(frames.poll_next());
    assert_eq!(source.move_up_to_high(&buffer).unwrap(), 12);
    assert!(frames.is_woken());
}

#[test]
fn the_length_of_a_frame_is_known_from_its_header() {
    let decoder = LengthDecoder::new(100).length_width(2).length_offset(1);
    let of = |bytes: &[u8]| decoder.frame_len(&EvBuffer::from(bytes));
    assert_eq!(of(b"\x07\0"), None);
    assert_eq!(of(b"\x07\0\x05"), Some(8));
    assert_eq!(of(b"\x07\0\x05hello and more"), Some(8));
    assert_eq!(of(b"\x07\0\xff"), None, "too long");
    let lines = LineDecoder {
        style: EolStyle::Lf,
        max: 9,
    };
    assert_eq!(lines.frame_len(&EvBuffer::from(&b"line"[..])), None);
}

#[test]
fn a_frame_above_the_maximum_ends_the_stream_with_an_error() {
    for (header, max) in [(&b"\0\0\0\x05"[..], 4), (b"\xff\xff\xff\xff", 1000)] {
        let buffer = SharedEvBuffer::new();
        buffer.add(header).unwrap();
        let mut frames = task::spawn(buffer.frames(LengthDecoder::new(max)));
        let error = assert_ready!(frames.poll_next()).unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert!(assert_ready!(frames.poll_next()).is_none());
    }
}

#[test]
fn lengths_are_decoded_with_any_width_offset_adjustment_and_order() {
    let mut decoder = LengthDecoder::new(100)
        .length_width(3)
        .length_offset(2)
        .length_adjustment(-5)
        .little_endian();
    let mut buffer = EvBuffer::from(&b"xx\x08\0\0abcyy\x05\0\0"[..]);
    assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap(), "abc");
    assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap(), "");
    assert!(decoder.decode(&mut buffer).unwrap().is_none());

    let mut too_small = EvBuffer::from(&b"xx\x04\0\0"[..]);
    assert!(decoder.decode(&mut too_small).is_err(), "a negative length");
}

#[test]
fn a_stream_of_lines_ends_with_an_error_for_a_line_that_is_too_long() {
    let buffer = SharedEvBuffer::new();
    buffer.add(b"ok\nmuch too long\n").unwrap();
    let decoder = LineDecoder {
        style: EolStyle::Lf,
        max: 4,
    };
    let mut lines = task::spawn(buffer.frames(decoder));
    assert_eq!(assert_ready!(lines.poll_next()).unwrap().unwrap(), "ok");
    let error = assert_ready!(lines.poll_next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(assert_ready!(lines.poll_next()).is_none());
}

/// Never takes anything.
struct Stuck {
    ends_quietly: bool,
}

impl FrameDecoder for Stuck {
    type Item = Bytes;
    type Error = std::io::Error;

    fn decode(&mut self, _: &mut EvBuffer) -> std::io::Result<Option<Bytes>> {
        Ok(None)
    }

    fn decode_eof(&mut self, src: &mut EvBuffer) -> std::io::Result<Option<Bytes>> {
        if self.ends_quietly || src.is_empty() {
            return Ok(None);
        }
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

#[test]
fn a_decoder_without_progress_at_the_end_of_the_stream_is_no_loop() {
    for ends_quietly in [false, true] {
        let buffer = SharedEvBuffer::new();
        buffer.add(b"left").unwrap();
        let mut frames = task::spawn(buffer.frames(Stuck { ends_quietly }));
        assert_pending!(frames.poll_next());
        buffer.close();
        if !ends_quietly {
            let error = assert_ready!(frames.poll_next()).unwrap().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        }
        assert!(assert_ready!(frames.poll_next()).is_none());
        assert_eq!(buffer.len(), 4, "the bytes are still there");
    }
    // The default of `decode_eof`.
    let buffer = SharedEvBuffer::new();
    buffer.add(b"\0\0\0\x09cut").unwrap();
    buffer.close();
    let mut frames = task::spawn(buffer.frames(LengthDecoder::new(10)));
    let error = assert_ready!(frames.poll_next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(assert_ready!(frames.poll_next()).is_none());
}

/// The last byte may be the first half of a terminator, until the end shows that it belongs to the line.
#[tokio::test]
async fn a_last_line_that_ends_with_half_a_terminator_is_bounded_too() {
    for (line, max, is_too_long) in [("123\r", 4, false), ("1234\r", 4, true)] {
        let buffer = shared_with(line.as_bytes());
        let mut decoder = LineDecoder {
            style: EolStyle::Crlf,
            max,
        };
        let decoded = decoder.decode_eof(&mut EvBuffer::from(line));
        let mut waiting = task::spawn(buffer.next_line(EolStyle::Crlf, max));
        assert!(waiting.poll().is_pending());
        buffer.close();
        let taken = waiting.await;
        match is_too_long {
            true => {
                assert_eq!(taken, Err(LineError::TooLong { max }));
                assert!(decoded.is_err());
            }
            false => {
                assert_eq!(taken.unwrap().as_deref(), Some(line.as_bytes()));
                assert_eq!(decoded.unwrap().as_deref(), Some(line.as_bytes()));
            }
        }
    }
}

#[test]
fn each_byte_of_a_length_counts() {
    let body = vec![7; 258];
    for (field, decoder) in [
        ([1, 2], LengthDecoder::new(1000).length_width(2)),
        (
            [2, 1],
            LengthDecoder::new(1000).length_width(2).little_endian(),
        ),
    ] {
        let (mut decoder, mut src) = (decoder, EvBuffer::from(field));
        src.add(&body[..257]).unwrap();
        assert_eq!(decoder.decode(&mut src).unwrap(), None);
        src.add(&body[..1]).unwrap();
        let frame = decoder.decode(&mut src).unwrap().unwrap();
        assert!(frame.ends_with(&body), "{field:?}");
    }
}

#[test]
fn a_frame_whose_body_cannot_be_read_keeps_its_header() {
    for header_in_file in [false, true] {
        let file = temp_file(b"\0\0\0\x05hello");
        let mut src = EvBuffer::new();
        match header_in_file {
            true => src.add_file(FileSegment::new(file.clone(), ..).unwrap()),
            false => {
                src.add(b"\0\0\0\x05").unwrap();
                src.add_file(FileSegment::new(file.clone(), 4..).unwrap())
            }
        }
        .unwrap();
        file.set_len(4).unwrap();
        let error = LengthDecoder::new(10).decode(&mut src).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(src.len(), 9);
    }
}

#[test]
fn a_frame_in_a_file_may_be_empty() {
    let mut src = EvBuffer::new();
    let file = FileSegment::new(temp_file(&[0; 4]), ..).unwrap();
    src.add_file(file).unwrap();
    let frame = LengthDecoder::new(10).decode(&mut src).unwrap();
    assert_eq!(frame.as_deref(), Some(&[][..]));
    assert!(src.is_empty());
}

/// Overwriting changes no length, and completes what was searched already.
#[test]
fn each_wait_for_contents_sees_bytes_that_are_overwritten() {
    let overwritten = || {
        let buffer = SharedEvBuffer::new();
        buffer.add(b"ab").unwrap();
        (buffer.clone(), move || buffer.write_at(1, b"\n").unwrap())
    };
    let (buffer, overwrite) = overwritten();
    let mut waiting = task::spawn(buffer.take_until(b"\n", 10));
    assert_pending!(waiting.poll());
    overwrite();
    assert!(waiting.is_woken());
    assert_eq!(assert_ready_ok!(waiting.poll()).unwrap(), "a\n");

    let (buffer, overwrite) = overwritten();
    let mut waiting = task::spawn(buffer.next_line(EolStyle::Lf, 10));
    assert_pending!(waiting.poll());
    overwrite();
    assert!(waiting.is_woken());
    assert_eq!(assert_ready_ok!(waiting.poll()).unwrap(), "a");

    let (buffer, overwrite) = overwritten();
    let mut waiting = task::spawn(buffer.wait_for(|buffer| buffer.ends_with(b"\n")));
    assert_pending!(waiting.poll());
    overwrite();
    assert!(waiting.is_woken());
    assert_ready_ok!(waiting.poll());

    let (buffer, overwrite) = overwritten();
    let decoder = LineDecoder {
        style: EolStyle::Lf,
        max: 10,
    };
    let mut frames = task::spawn(buffer.frames(decoder));
    assert_pending!(frames.poll_next());
    overwrite();
    assert!(frames.is_woken());
    assert_eq!(assert_ready!(frames.poll_next()).unwrap().unwrap(), "a");
}
