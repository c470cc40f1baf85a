//! Short data holds little memory, for every way in which it was added and for every earlier content.

use bytes::{BufMut, Bytes};
use futures::SinkExt;
use tokio_evbuffer::{EvBuffer, SharedEvBuffer, buffer::COPY_THRESHOLD};

use crate::support::data::addresses;

#[test]
fn single_bytes_share_one_block_of_their_total_size() {
    let mut buffer = EvBuffer::new();
    for i in 0..100 {
        buffer.add(&[i]).unwrap();
    }
    assert_eq!(buffer.segments(), 1);
    assert!(buffer.capacity() <= 128, "{}", buffer.capacity());
}

/// A piece between references cannot grow any more, so it must not pin the block that it was written to.
#[test]
fn small_pieces_between_references_do_not_pin_blocks() {
    type Add = fn(&mut EvBuffer);
    let ways: [(&str, Add); 2] = [
        ("add", |buffer| {
            buffer.add(b"x").unwrap();
            buffer.add_reference("r").unwrap();
        }),
        ("prepend", |buffer| {
            buffer.prepend(b"x").unwrap();
            buffer.prepend_reference("r").unwrap();
        }),
    ];
    for (name, add) in ways {
        let mut buffer = EvBuffer::new();
        (0..5_000).for_each(|_| add(&mut buffer));
        assert_eq!(buffer.len(), 10_000);
        let most = 2 * buffer.len() + 32 * 1024;
        assert!(buffer.capacity() <= most, "{name}: {}", buffer.capacity());
    }
}

/// An add packs short remains of large blocks.
#[test]
fn a_queue_that_shrinks_releases_its_peak_memory() {
    type Add = fn(&mut EvBuffer);
    let ways: [(&str, Add); 7] = [
        ("add", |buffer| buffer.add(b"x").unwrap()),
        ("prepend", |buffer| buffer.prepend(b"x").unwrap()),
        ("add_reference", |buffer| buffer.add_reference("x").unwrap()),
        ("prepend_reference", |buffer| {
            buffer.prepend_reference("x").unwrap();
        }),
        ("reserve", |buffer| {
            buffer.reserve(1).unwrap().commit(1).unwrap();
        }),
        ("put", |buffer| buffer.put(&b"x"[..])),
        ("add_buffer", |buffer| {
            buffer
                .add_buffer(&mut Bytes::from("x").into())
                .map(drop)
                .unwrap();
        }),
    ];
    for (name, add) in ways {
        for peak in [65_537, 1_000_000] {
            let mut buffer = EvBuffer::from(&vec![b'.'; peak][..]);
            buffer.drain(peak - 600).unwrap();
            add(&mut buffer);
            assert_eq!(buffer.len(), 601);
            assert!(
                buffer.capacity() <= 32 * 1024,
                "{name}: {}",
                buffer.capacity()
            );
        }
    }
}

/// A write takes at most 64 slices.
#[test]
fn short_references_leave_in_few_writes() {
    const PIECES: usize = 200_000;

    /// Counts the writes, each of which takes everything.
    struct Sink {
        writes: usize,
    }

    impl std::io::Write for Sink {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.writes += 1;
            Ok(data.len())
        }
        fn write_vectored(&mut self, slices: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
            self.writes += 1;
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let writes = |mut buffer: EvBuffer| {
        assert_eq!(buffer.len(), PIECES * 50);
        let mut sink = Sink { writes: 0 };
        while !buffer.is_empty() {
            buffer.write_to(&mut sink, usize::MAX).unwrap();
        }
        sink.writes
    };
    let piece = Bytes::from_static(&[5; 50]);
    let (mut copied, mut referenced) = (EvBuffer::new(), EvBuffer::new());
    for _ in 0..PIECES {
        copied.add(&piece).unwrap();
        referenced.add_reference(piece.clone()).unwrap();
    }
    let fed = SharedEvBuffer::new();
    tokio_test::block_on(async {
        let mut writer = fed.writer();
        for _ in 0..PIECES {
            writer.feed(piece.clone()).await.unwrap();
        }
    });
    let few = 3 * writes(copied);
    let (referenced, fed) = (writes(referenced), writes(std::mem::take(&mut *fed.lock())));
    assert!(referenced < few, "{referenced}");
    assert!(fed < few, "{fed}");
}

/// A piece that is taken out shares the memory of the buffer, unless it is short or the memory is much more than the piece.
#[test]
fn a_piece_that_would_keep_much_more_than_itself_is_a_copy() {
    const LARGE: usize = 256 << 10;
    for (block, n, is_copy) in [
        (4_000, 200, true),
        (4_000, COPY_THRESHOLD - 1, true),
        (4_000, COPY_THRESHOLD, false),
        (LARGE, COPY_THRESHOLD, true),
        (LARGE, LARGE / 32 - 1, true),
        (LARGE, LARGE / 32, false),
    ] {
        for is_last in [true, false] {
            let mut buffer = EvBuffer::new();
            buffer.add(vec![1; block]).unwrap();
            if !is_last {
                buffer.add_reference(vec![2; 1000]).unwrap();
            }
            let front = addresses(&buffer)[0];
            let taken = buffer.take_bytes(n).unwrap();
            assert_eq!(taken, vec![1; n]);
            let what = format!("{n} of {block} bytes, last: {is_last}");
            assert_eq!(taken.as_ptr() != front, is_copy, "{what}");
        }
    }
}

/// Adding a buffer by reference copies what is short in it, in the body and in the tail.
#[test]
fn short_pieces_of_a_buffer_that_is_added_by_reference_are_copied() {
    let mut src = EvBuffer::new();
    src.add_reference(vec![1; 1000]).unwrap();
    src.add_reference(vec![2; 1000]).unwrap();
    src.drain(1000 - 5).unwrap();
    src.add(b"tail").unwrap();
    let mut dst = EvBuffer::new();
    dst.add_buffer_reference(&src).unwrap();
    assert_eq!(dst, src);
    let (of_src, of_dst) = (addresses(&src), addresses(&dst));
    assert_eq!((of_src.len(), of_dst.len()), (3, 3));
    let same: Vec<_> = of_src.iter().zip(&of_dst).map(|(a, b)| a == b).collect();
    assert_eq!(same, [false, true, false]);
}
