//! Memory in use, allocations and copies of an `EvBuffer`, counted by the allocator.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use bytes::Bytes;
use tokio_evbuffer::{
    EolStyle, EvBuffer,
    buffer::{COPY_THRESHOLD, End},
};

use crate::heap::{self, KEPT_MAX, held_by};

use crate::support::data::{addresses, pattern};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Returns the number of allocations of `f`.
fn allocations<T>(f: impl FnOnce() -> T) -> usize {
    let before = heap::allocations_here();
    f();
    heap::allocations_here() - before
}

#[test]
fn an_empty_buffer_allocates_nothing() {
    let asked = allocations(|| {
        let mut buffer = EvBuffer::new();
        buffer.add(b"").unwrap();
        buffer.add_reference(Bytes::new()).unwrap();
        buffer.drain(1).unwrap();
        buffer.freeze(End::Back);
        buffer.set_max_len(None);
        assert_eq!(buffer.readln(EolStyle::Any), Ok(None));
        assert_eq!(buffer.pullup(0), Some(&b""[..]));
        buffer.shrink_to_fit();
        assert_eq!(buffer.capacity(), 0);
    });
    assert_eq!(asked, 0);
}

#[test]
fn a_hundred_bytes_take_at_most_256() {
    let (buffer, held) = held_by(|| EvBuffer::from(&[7; 100][..]));
    assert!(held <= 256, "{held}");
    assert!(buffer.capacity() <= 256);
}

#[test]
fn a_million_single_bytes_take_at_most_4_times_their_length() {
    let (buffer, held) = held_by(|| {
        let mut buffer = EvBuffer::new();
        for i in 0..MIB {
            buffer.add(&[i as u8]).unwrap();
        }
        buffer
    });
    assert!(held <= 4 * MIB, "{held}");
    assert!(buffer.capacity() <= 4 * MIB);
}

#[test]
fn prepended_single_bytes_take_at_most_4_times_their_length() {
    let (buffer, held) = held_by(|| {
        let mut buffer = EvBuffer::new();
        for i in 0..100 * KIB {
            buffer.prepend(&[i as u8]).unwrap();
        }
        buffer
    });
    assert!(held <= 400 * KIB, "{held}");
    assert_eq!(buffer.len(), 100 * KIB);
}

#[test]
fn a_million_moves_of_one_byte_take_at_most_4_times_their_length() {
    let (moved, held) = held_by(|| {
        let mut src = EvBuffer::new();
        let mut dst = EvBuffer::new();
        for i in 0..MIB {
            if src.is_empty() {
                src.add(&[i as u8; 16 * KIB]).unwrap();
            }
            assert_eq!(src.remove_buffer(&mut dst, 1), Ok(1));
        }
        dst
    });
    assert!(held <= 4 * MIB, "{held}");
    assert_eq!(moved.len(), MIB);
}

#[test]
fn ten_thousand_buffers_of_one_byte_take_at_most_4_times_their_length() {
    let (moved, held) = held_by(|| {
        let mut dst = EvBuffer::new();
        for i in 0..10_000 {
            dst.add_buffer(&mut EvBuffer::from(&[i as u8][..])).unwrap();
        }
        dst
    });
    assert!(held <= 40_000, "{held}");
    assert_eq!(moved.len(), 10_000);
}

#[test]
fn a_few_remaining_bytes_do_not_pin_their_block() {
    // Keep the last bytes of each of many blocks.
    let blocks = 256;
    let (mut kept, held) = held_by(|| {
        let mut kept = EvBuffer::new();
        for _ in 0..blocks {
            let mut block = EvBuffer::from(&[7; 16 * KIB][..]);
            block.drain(16 * KIB - COPY_THRESHOLD).unwrap();
            kept.add_buffer(&mut block).unwrap();
        }
        kept
    });
    assert!(held <= 2 * blocks * COPY_THRESHOLD + KEPT_MAX, "{held}");
    assert_eq!(kept.clear(), Ok(blocks * COPY_THRESHOLD));
}

#[test]
fn a_drained_buffer_keeps_at_most_16_kib_and_shrinks_to_zero() {
    for piece in [1, 100, 5_000, 16 * KIB, 100_000] {
        let (mut buffer, held) = held_by(|| {
            let mut buffer = EvBuffer::new();
            for _ in 0..MIB / piece {
                buffer.add(&vec![7; piece]).unwrap();
            }
            buffer.clear().unwrap();
            buffer
        });
        assert!(buffer.capacity() <= 16 * KIB);
        assert!(
            held <= 16 * KIB + KEPT_MAX,
            "{held} after pieces of {piece}"
        );
        let ((), released) = held_by(|| buffer.shrink_to_fit());
        assert_eq!(buffer.capacity(), 0);
        assert!(held.wrapping_add(released) <= KEPT_MAX);
    }
}

#[test]
fn a_queue_of_steady_length_stops_allocating() {
    let mut buffer = EvBuffer::new();
    let (data, mut out) = (pattern(KIB), [0; KIB]);
    let mut turn = |times| {
        for _ in 0..times {
            buffer.add(&data).unwrap();
            buffer.remove(&mut out).unwrap();
        }
    };
    turn(100);
    assert_eq!(allocations(|| turn(10_000)), 0);
}

#[test]
fn appending_allocates_in_proportion_to_the_bytes() {
    let data = [7; 100];
    let asked = allocations(|| {
        let mut buffer = EvBuffer::new();
        for _ in 0..100_000 {
            buffer.add(&data).unwrap();
        }
        buffer
    });
    // One for each block of 16 KiB, and a few for smaller blocks and for the list.
    assert!(asked <= 10_000_000 / (16 * KIB) + 32, "{asked}");

    let bytes = Bytes::from(pattern(KIB));
    let asked = allocations(|| {
        let mut buffer = EvBuffer::new();
        for _ in 0..100_000 {
            buffer.add_reference(bytes.clone()).unwrap();
        }
        buffer
    });
    assert!(asked <= 32, "{asked}: the list doubles");
}

#[test]
fn expanded_room_takes_the_bytes_in_one_piece_without_allocation() {
    for n in [1, 100, 4096, 16 * KIB, 100_000] {
        let mut buffer = EvBuffer::from(&b"some"[..]);
        buffer.add_reference("reference").unwrap();
        let segments = buffer.segments();
        buffer.expand(n).unwrap();
        let data = pattern(n);
        assert_eq!(allocations(|| buffer.add(&data).unwrap()), 0, "{n}");
        assert!(buffer.segments() <= segments + 1);
        let last = buffer.chunks().last().unwrap();
        assert!(last.ends_with(&data));
    }
}

#[test]
fn a_byte_behind_a_large_reference_takes_a_small_block() {
    let mut buffer = EvBuffer::from(vec![7; 8 * MIB]);
    let ((), held) = held_by(|| {
        for _ in 0..100 {
            buffer.add(b"x").unwrap();
            buffer.add_reference(&b"static"[..]).unwrap();
        }
    });
    assert!(held <= 32 * KIB, "{held}");
}

#[test]
fn a_dropped_reservation_frees_its_memory() {
    for n in [1, 5_000, MIB] {
        let mut buffer = EvBuffer::from(&[7; 50][..]);
        let capacity = buffer.capacity();
        let ((), held) = held_by(|| {
            let mut room = buffer.reserve(n).unwrap();
            room.put(&[8; 100]);
        });
        assert!(held <= KEPT_MAX, "{held}");
        assert_eq!(buffer.capacity(), capacity);
        assert_eq!(buffer, [7; 50][..]);
    }
}

#[test]
fn waiting_for_a_stream_takes_no_memory() {
    let (mut near, _far) = tokio::io::duplex(64);
    let mut buffer = EvBuffer::new();
    let cx = &mut Context::from_waker(Waker::noop());
    let poll = buffer.poll_read_from(cx, Pin::new(&mut near), 16 * KIB);
    assert!(poll.is_pending());
    assert_eq!(buffer.capacity(), 0);
}

#[test]
fn whole_segments_move_without_a_copy() {
    let mut src = EvBuffer::new();
    for _ in 0..64 {
        src.add(&pattern(16 * KIB)).unwrap();
    }
    let before = addresses(&src);
    let mut dst = EvBuffer::new();
    let (moved, held) = held_by(|| dst.add_buffer(&mut src));
    assert_eq!((moved, addresses(&dst)), (Ok(MIB), before));
    assert!(held < 8 * KIB, "{held}");

    let before = addresses(&dst);
    let mut third = EvBuffer::new();
    assert_eq!(dst.remove_buffer(&mut third, MIB / 2), Ok(MIB / 2));
    assert_eq!([addresses(&third), addresses(&dst)].concat(), before);
    assert_eq!(dst.prepend_buffer(&mut third), Ok(MIB / 2));
    assert_eq!(addresses(&dst), before);
}

#[test]
fn parts_of_segments_are_shared_from_the_copy_threshold_on() {
    for (n, is_copied) in [(COPY_THRESHOLD - 1, true), (COPY_THRESHOLD, false)] {
        for mut src in [
            EvBuffer::from(pattern(4 * KIB)),
            EvBuffer::from(&pattern(4 * KIB)[..]),
        ] {
            let place = addresses(&src)[0];
            let mut dst = EvBuffer::new();
            assert_eq!(src.remove_buffer(&mut dst, n), Ok(n));
            assert_eq!(addresses(&dst)[0] != place, is_copied, "{n}");
        }
    }
}

#[test]
fn add_buffer_reference_shares_the_bytes() {
    let mut src = EvBuffer::from(&pattern(10_000)[..]);
    src.add_reference(pattern(5_000)).unwrap();
    let before = addresses(&src);
    let mut copies: [EvBuffer; 10] = Default::default();
    let ((), held) = held_by(|| {
        for copy in &mut copies {
            assert_eq!(copy.add_buffer_reference(&src), Ok(15_000));
        }
    });
    assert!(copies.iter().all(|copy| addresses(copy) == before));
    assert!(held < 10 * COPY_THRESHOLD, "{held}");
}

#[test]
fn taken_bytes_are_not_copied() {
    for mut buffer in [
        EvBuffer::from(pattern(4 * KIB)),
        EvBuffer::from(&pattern(4 * KIB)[..]),
    ] {
        let place = addresses(&buffer)[0];
        let taken = buffer.take_bytes(1_000).unwrap();
        assert_eq!(taken.as_ptr(), place);
        let rest = buffer.take_bytes(usize::MAX).unwrap();
        assert_eq!(rest.as_ptr(), place.wrapping_add(1_000));
        assert_eq!([taken, rest].concat(), pattern(4 * KIB));
    }
}

#[test]
fn a_second_peek_over_a_border_copies_nothing() {
    let mut buffer = EvBuffer::new();
    for _ in 0..8 {
        buffer.add_reference(pattern(KIB)).unwrap();
    }
    assert!(buffer.pullup(5_000).is_some());
    let asked = allocations(|| {
        for n in 0..5_000 {
            assert!(buffer.pullup(n).is_some());
        }
    });
    assert_eq!(asked, 0);
}

#[test]
fn growing_peeks_copy_a_bounded_number_of_times() {
    let mut buffer = EvBuffer::new();
    for _ in 0..10_000 {
        buffer.add_reference(&b"0123456789"[..]).unwrap();
    }
    let asked = allocations(|| {
        for n in (0..16 * KIB).step_by(10) {
            assert!(buffer.pullup(n).is_some());
        }
    });
    assert!(asked <= 32, "{asked}: the block that is filled doubles");
}

#[test]
fn an_incomplete_line_is_not_copied() {
    let mut buffer = EvBuffer::new();
    let asked = allocations(|| {
        for _ in 0..1_000 {
            buffer.add(b"piece ").unwrap();
            assert_eq!(buffer.readln(EolStyle::Crlf), Ok(None));
        }
    });
    assert!(asked <= 16, "{asked}");
}

/// A queue of a steady length needs no packing, even if its last block is nearly empty.
#[test]
fn a_steady_queue_is_not_repacked() {
    for steady in (1..100).map(|i| i * 700) {
        let mut buffer = EvBuffer::from(&vec![b'.'; steady][..]);
        let rounds = 2_000;
        let asked = allocations(|| {
            for _ in 0..rounds {
                buffer.add(&[b'x'; 10]).unwrap();
                buffer.drain(10).unwrap();
            }
        });
        assert!(asked < 40, "{asked} allocations at {steady} bytes");
    }
}

/// A piece split off from a block pins the whole block, also after the rest of the block was released.
#[test]
fn pieces_of_reserved_blocks_do_not_pin_them() {
    type Add = fn(&mut EvBuffer);
    let ways: [(&str, Add); 3] = [
        ("reserve", |buffer| {
            let mut room = buffer.reserve(16 * KIB).unwrap();
            room.put(&[7; 100]);
            room.commit(100).unwrap();
            buffer.add_reference("r").unwrap();
        }),
        ("expand", |buffer| {
            buffer.expand(MIB).unwrap();
            buffer.add(&[7; 100]).unwrap();
            buffer.add_reference("r").unwrap();
        }),
        ("several pieces", |buffer| {
            buffer.expand(16 * KIB).unwrap();
            for _ in 0..5 {
                buffer.add(&[7; 100]).unwrap();
                buffer.add_reference("r").unwrap();
            }
        }),
    ];
    for (name, add) in ways {
        let (mut buffer, _) = held_by(EvBuffer::new);
        let (_, held) = held_by(|| {
            (0..200).for_each(|_| add(&mut buffer));
            buffer.shrink_to_fit();
        });
        let (most, list) = (2 * buffer.len() + 32 * KIB, 80 * buffer.segments());
        assert!(buffer.capacity() <= most, "{name}: {}", buffer.capacity());
        assert!(held <= most + list + KEPT_MAX, "{name}: {held}");
    }
}
