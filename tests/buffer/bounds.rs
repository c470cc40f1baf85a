//! Sizes that cannot be allocated are errors, and no buffer exposes old data of another.

use std::{
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_evbuffer::{BufferError, EvBuffer};

use crate::support::data::Owner;

const ABSURD: [usize; 5] = [
    usize::MAX,
    usize::MAX - 1,
    usize::MAX / 2 + 1,
    isize::MAX as usize,
    isize::MAX as usize - 4,
];

/// The allocator may promise any amount of memory if it is requested in small pieces.
#[test]
fn sizes_that_cannot_be_allocated_are_errors_and_change_nothing() {
    for n in (0..16).map(|shift| usize::MAX >> shift).chain(ABSURD) {
        let mut buffer = EvBuffer::from(&b"some"[..]);
        let capacity = buffer.capacity();
        assert_eq!(buffer.reserve(n).map(drop), Err(BufferError::TooLarge));
        assert_eq!(buffer.expand(n), Err(BufferError::TooLarge));
        assert_eq!(buffer.pullup(n), None);
        let room = buffer.reserve(1).unwrap();
        assert!(room.commit(n).is_err());
        assert_eq!(buffer, b"some"[..]);
        assert_eq!(buffer.capacity(), capacity);
        // A size hint that is too large is ignored.
        assert_eq!(EvBuffer::with_capacity(n).len(), 0);
    }
}

#[test]
fn usize_max_means_all_available_bytes() {
    for n in ABSURD {
        let buffer = || EvBuffer::from(&b"some"[..]);
        assert_eq!(buffer().drain(n), Ok(4));
        assert_eq!(buffer().take_bytes(n).unwrap(), "some");
        let mut dst = EvBuffer::new();
        assert_eq!(buffer().remove_buffer(&mut dst, n), Ok(4));
        assert_eq!(buffer().write_to(&mut io::sink(), n).unwrap(), 4);
        assert_eq!(buffer().chunks_from(n).count(), 0);
        assert_eq!(buffer().search(b"s", n..), None);
        assert_eq!(buffer().search(b"some", ..=n), Some(0));
        let refused = BufferError::OutOfRange { at: n, len: 4 };
        assert_eq!(buffer().copyout_from(n, &mut [0]), Err(refused));
    }
}

#[test]
fn a_read_of_usize_max_allocates_a_bounded_amount() {
    let mut buffer = EvBuffer::new();
    let read = buffer.read_from(&mut io::repeat(7), usize::MAX).unwrap();
    assert!((1..=1 << 20).contains(&read), "{read}");
    assert_eq!(buffer.len(), read);
}

#[test]
fn a_limit_of_usize_max_is_no_limit() {
    let mut buffer = EvBuffer::new();
    buffer.set_max_len(Some(usize::MAX));
    buffer.add(b"some").unwrap();
    assert!(buffer.reserve(usize::MAX).is_err());
    assert_eq!(buffer, b"some"[..]);
}

const SECRET: u8 = 0xA5;

/// Returns the bytes in the spare room of `buffer`.
fn room_of(buffer: &mut EvBuffer, n: usize) -> Vec<u8> {
    let mut room = buffer.reserve(n).unwrap();
    room.slices_mut().flat_map(|slice| slice.to_vec()).collect()
}

/// Returns buffers with secret bytes in their spare room: behind the data, and before it.
fn with_secrets() -> [EvBuffer; 2] {
    let mut drafted = EvBuffer::new();
    let mut room = drafted.reserve(16 * 1024).unwrap();
    room.put(&[7; 1000]);
    room.put(&[SECRET; 15 * 1024]);
    room.commit(1000).unwrap();
    let mut removed = EvBuffer::with_capacity(16 * 1024);
    removed.add(&[SECRET; 8000]).unwrap();
    removed.add(&[7; 1000]).unwrap();
    removed.drain(8000).unwrap();
    [drafted, removed]
}

type Move = fn(&mut EvBuffer, &mut EvBuffer) -> Result<usize, BufferError>;

const MOVES: &[(&str, Move)] = &[
    ("add_buffer", |dst, src| dst.add_buffer(src)),
    ("prepend_buffer", |dst, src| dst.prepend_buffer(src)),
    ("remove_buffer", |dst, src| src.remove_buffer(dst, 900)),
    ("add_buffer_reference", |dst, src| {
        dst.add_buffer_reference(src)
    }),
];

#[test]
fn a_moved_buffer_exposes_only_its_data() {
    for (name, transfer) in MOVES {
        for pulled_up in [false, true] {
            for mut src in with_secrets() {
                let mut dst = EvBuffer::new();
                transfer(&mut dst, &mut src).unwrap();
                drop(src);
                if pulled_up {
                    dst.add_reference("more").unwrap();
                    assert!(dst.pullup(dst.len()).is_some());
                }
                // Short data moves to the start of its block, and an empty block is used from its start.
                for left in [600, 10, 0] {
                    dst.drain(dst.len() - left).unwrap();
                    for n in [1, 7_000, 16 * 1024 - 20, 16 * 1024] {
                        let room = room_of(&mut dst, n);
                        assert!(!room.contains(&SECRET), "{name}, {left} bytes left");
                    }
                }
            }
        }
    }
}

#[test]
fn freed_memory_is_zeroed_before_it_is_offered_again() {
    for n in [64, 512, 4096, 16 * 1024, 100_000] {
        let mut secrets = EvBuffer::new();
        secrets.add(&vec![SECRET; n]).unwrap();
        drop(secrets);
        let mut buffer = EvBuffer::new();
        assert!(!room_of(&mut buffer, n).contains(&SECRET), "{n}");
        buffer.reserve(n).unwrap().commit(n).unwrap();
        assert_eq!(buffer, vec![0; n], "unwritten bytes are zero");
    }
}

#[test]
fn a_read_that_looks_at_its_buffer_sees_no_data_of_another() {
    /// Copies the contents of the memory that it should fill.
    struct Nosy(Vec<u8>);
    impl Read for Nosy {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0.extend_from_slice(out);
            Ok(0)
        }
    }
    impl AsyncRead for Nosy {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.get_mut().0.extend_from_slice(out.initialized());
            Poll::Ready(Ok(()))
        }
    }
    let mut secrets = EvBuffer::new();
    secrets.add(&[SECRET; 16 * 1024]).unwrap();
    drop(secrets);
    let mut nosy = Nosy(Vec::new());
    let mut buffer = EvBuffer::new();
    assert_eq!(buffer.read_from(&mut nosy, 16 * 1024).unwrap(), 0);
    let cx = &mut Context::from_waker(Waker::noop());
    let poll = buffer.poll_read_from(cx, Pin::new(&mut nosy), 16 * 1024);
    assert!(matches!(poll, Poll::Ready(Ok(0))));
    assert!(!nosy.0.contains(&SECRET));
}

/// Returns memory of `len` bytes that counts its drop, and then panics if it `panics`.
fn counted(len: usize, dropped: &Arc<AtomicUsize>, panics: bool) -> Owner<impl FnMut() + use<>> {
    let dropped = Arc::clone(dropped);
    Owner::new(vec![7; len], move || {
        dropped.fetch_add(1, Relaxed);
        assert!(!panics, "panic of the test");
    })
}

#[test]
fn an_owner_is_released_once_with_its_last_byte() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let owner = |n| counted(n, &dropped, false);
    let released = || dropped.swap(0, Relaxed);
    let mut buffer = EvBuffer::new();

    buffer.add_owner(owner(0)).unwrap();
    assert_eq!(released(), 1, "of nothing");
    buffer.set_max_len(Some(10));
    assert!(buffer.add_owner(owner(11)).is_err());
    assert_eq!(released(), 1, "refused");
    buffer.set_max_len(None);

    buffer.add_owner(owner(2000)).unwrap();
    buffer.prepend(b"before").unwrap();
    let mut copy = EvBuffer::new();
    copy.add_buffer_reference(&buffer).unwrap();
    let mut part = EvBuffer::new();
    buffer.remove_buffer(&mut part, 1000).unwrap();
    let taken: Bytes = buffer.take_bytes(600).unwrap();
    buffer.clear().unwrap();
    drop(copy);
    part.drain(999).unwrap();
    drop(taken);
    assert_eq!(released(), 0, "one byte is left");
    assert_eq!(part.drain(1), Ok(1));
    assert_eq!(released(), 1);

    part.add_owner(owner(10)).unwrap();
    drop(part);
    assert_eq!(released(), 1, "with its buffer");
}

#[test]
fn an_owner_that_panics_removes_only_its_own_bytes() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut buffer = EvBuffer::new();
    for panics in [false, true, false] {
        buffer.add_owner(counted(100, &dropped, panics)).unwrap();
    }
    buffer.add(b"tail").unwrap();

    let drained = catch_unwind(AssertUnwindSafe(|| buffer.drain(250)));
    assert!(drained.is_err());
    assert_eq!(dropped.load(Relaxed), 2);
    assert_eq!(buffer, [&[7; 100][..], b"tail"].concat());
    assert_eq!(buffer.drain(usize::MAX), Ok(104));
    assert_eq!(dropped.load(Relaxed), 3);
}

#[test]
fn dropping_a_buffer_releases_all_owners_if_one_panics() {
    for panics in 2..8 {
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut buffer = EvBuffer::new();
        for i in 0..8 {
            if i == 6 {
                // The list of segments wraps around in its ring.
                buffer.drain(200).unwrap();
            }
            let owner = counted(100, &dropped, i == panics);
            buffer.add_owner(owner).unwrap();
        }
        let gone = catch_unwind(AssertUnwindSafe(|| drop(buffer)));
        assert!(gone.is_err());
        assert_eq!(dropped.load(Relaxed), 8);
    }
}
