//! Operations that change a buffer, on the buffer and on its model.

use std::{
    fmt::Write as _,
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_evbuffer::{
    BufferError,
    buffer::{End, Result},
};

use super::{
    fakes::{Owners, Silent, Sink, file_range},
    flat::Flat,
    look::concat,
    op::{AddBy, Commit, Data, Fill, MoveBy, PrependBy, RemoveBy},
    pair::Pair,
};

impl Pair {
    pub(super) fn add(&mut self, by: AddBy, data: Data, owners: &mut Owners) {
        let Self { buffer, flat } = self;
        let mut bytes = data.bytes();
        let cut = bytes.len() / 3;
        let three = |bytes: &'_ [u8]| {
            let (first, rest) = bytes.split_at(cut);
            let (second, third) = rest.split_at(rest.len() / 2);
            [first, second, third].map(<[u8]>::to_vec)
        };
        let pieces = three(&bytes);
        let slices = [0, 1, 2].map(|i| IoSlice::new(&pieces[i]));
        let (n, cx) = (bytes.len(), &mut Context::from_waker(Waker::noop()));
        let allowed = flat.check_growth(End::Back, n);
        let all_of_it = allowed.map(|()| n);
        match by {
            AddBy::Copy => assert_eq!(buffer.add(&bytes), allowed),
            AddBy::Vectored => assert_eq!(buffer.add_vectored(&slices), all_of_it),
            AddBy::Reference => assert_eq!(buffer.add_reference(bytes.clone()), allowed),
            AddBy::Owner => {
                let owner = owners.make(bytes.clone());
                let before = owners.alive();
                assert_eq!(buffer.add_owner(owner), allowed);
                if allowed.is_err() || n == 0 {
                    assert_eq!(owners.alive(), before - 1, "what is not held is released");
                }
            }
            AddBy::File => {
                let (range, contents) = file_range(data);
                bytes = contents;
                assert_eq!(buffer.add_file(range), allowed);
                flat.files |= allowed.is_ok() && n > 0;
            }
            AddBy::IoWrite => assert_eq!(kinds(buffer.write(&bytes)), kinds(all_of_it)),
            AddBy::IoWriteVectored => {
                assert_eq!(kinds(buffer.write_vectored(&slices)), kinds(all_of_it));
            }
            AddBy::FmtWrite => {
                let text = data.text();
                let outcome = buffer.write_str(&text);
                assert_eq!(outcome.is_ok(), allowed.is_ok());
                bytes = text.into_bytes();
            }
            AddBy::AsyncWrite => {
                let written = Pin::new(buffer).poll_write(cx, &bytes);
                assert_eq!(ready(written), kinds(all_of_it));
            }
            AddBy::AsyncWriteVectored => {
                let written = Pin::new(buffer).poll_write_vectored(cx, &slices);
                assert_eq!(ready(written), kinds(all_of_it));
            }
            AddBy::Extend | AddBy::PutSlice | AddBy::Put => {
                assert_eq!(buffer.remaining_mut(), flat.room());
                // These panic instead of returning an error.
                if allowed.is_err() {
                    return;
                }
                match by {
                    AddBy::Extend => buffer.extend(pieces.into_iter().map(Bytes::from)),
                    AddBy::PutSlice => buffer.put_slice(&bytes),
                    _ => buffer.put(&bytes[..]),
                }
            }
            AddBy::ReadFrom => {
                let read = buffer.read_from(&mut &bytes[..], n);
                return self.check_read(&bytes, kinds(read));
            }
            AddBy::PollReadFrom => {
                let read = buffer.poll_read_from(cx, Pin::new(&mut &bytes[..]), n);
                return self.check_read(&bytes, ready(read));
            }
            AddBy::PollReadPending => {
                let capacity = buffer.capacity();
                let poll = buffer.poll_read_from(cx, Pin::new(&mut Silent), n);
                if n > 0 && flat.room() > 0 {
                    assert!(poll.is_pending());
                    assert!(
                        buffer.capacity() <= capacity,
                        "no memory is kept for what has not come"
                    );
                } else {
                    self.check_read(&[], ready(poll));
                }
                return;
            }
        }
        assert_eq!(flat.add(&bytes), allowed);
    }

    /// Checks one read from a stream that offered `offered`.
    pub(super) fn check_read(&mut self, offered: &[u8], read: Result<usize, io::ErrorKind>) {
        let Self { buffer: _, flat } = self;
        match read {
            Ok(n) => {
                assert!(n <= offered.len().min(flat.room()));
                assert_eq!(
                    n == 0,
                    offered.is_empty(),
                    "0 is the end, or a maximum of 0"
                );
                flat.add(&offered[..n])
                    .expect("only what there is room for was read");
            }
            Err(kind) => {
                let refused = flat.check_growth(End::Back, 1).unwrap_err();
                assert_eq!(kind, io::Error::from(refused).kind());
            }
        }
    }

    pub(super) fn prepend(&mut self, by: PrependBy, data: Data) {
        let bytes = data.bytes();
        let expected = self.flat.prepend(&bytes);
        match by {
            PrependBy::Copy => assert_eq!(self.buffer.prepend(&bytes), expected),
            PrependBy::Reference => assert_eq!(self.buffer.prepend_reference(bytes), expected),
        }
    }

    pub(super) fn remove(&mut self, by: RemoveBy, n: usize, taken: &mut Vec<(Bytes, Vec<u8>)>) {
        let Self { buffer, flat } = self;
        let n = if let RemoveBy::Clear = by {
            usize::MAX
        } else {
            n
        };
        let allowed = flat.removable(n);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut out = vec![0; n.min(flat.len() + 1)];
        match by {
            RemoveBy::Drain => assert_eq!(buffer.drain(n), allowed),
            RemoveBy::Clear => assert_eq!(buffer.clear(), allowed),
            RemoveBy::Remove => {
                assert_eq!(buffer.remove(&mut out), allowed);
                check_front(flat, &out, allowed);
            }
            RemoveBy::Read => {
                assert_eq!(kinds(buffer.read(&mut out)), kinds(allowed));
                check_front(flat, &out, allowed);
            }
            RemoveBy::AsyncRead => {
                let mut room = ReadBuf::new(&mut out);
                let read = Pin::new(buffer)
                    .poll_read(cx, &mut room)
                    .map_ok(|()| room.filled().len());
                assert_eq!(ready(read), kinds(allowed));
                check_front(flat, &out, allowed);
            }
            RemoveBy::TakeBytes => match buffer.take_bytes(n) {
                Ok(bytes) => {
                    let expected = flat
                        .remove(n)
                        .expect("bytes are taken only where they may be");
                    assert!(bytes == expected);
                    taken.push((bytes, expected));
                    return;
                }
                Err(error) => assert_eq!(Err(error), allowed),
            },
            RemoveBy::BufRead | RemoveBy::AsyncBufRead => {
                let shown = match by {
                    RemoveBy::BufRead => kinds(buffer.fill_buf()),
                    _ => ready(Pin::new(&mut *buffer).poll_fill_buf(cx)),
                };
                if flat.len() > 0 && flat.front_frozen {
                    return assert_eq!(shown, Err(io::ErrorKind::PermissionDenied));
                }
                let shown = shown.expect("nothing forbids to look");
                assert_eq!(shown.is_empty(), flat.bytes.is_empty(), "empty is the end");
                assert!(flat.bytes.starts_with(shown));
                let n = n.min(shown.len());
                match by {
                    RemoveBy::BufRead => BufRead::consume(buffer, n),
                    _ => AsyncBufRead::consume(Pin::new(buffer), n),
                }
                flat.remove(n).unwrap();
                return;
            }
            RemoveBy::Advance => {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = buffer.chunks_vectored(&mut slices);
                assert_eq!(slices[0].len(), buffer.chunk().len());
                assert!(flat.bytes.starts_with(&concat(&slices[..filled])));
                // This panics instead of returning an error.
                match allowed {
                    Ok(n) => buffer.advance(n),
                    Err(_) => return,
                }
            }
            RemoveBy::CopyToBytes => match allowed {
                Ok(n) => assert!(buffer.copy_to_bytes(n) == flat.bytes[..n]),
                Err(_) => return,
            },
            RemoveBy::WriteTo => {
                let mut sink = Sink::new(1 + n / 2, true);
                let written = kinds(buffer.write_to(&mut sink, n));
                return self.check_written(&sink, written, n);
            }
            RemoveBy::PollWriteTo | RemoveBy::PollWriteToPlain => {
                let vectored = matches!(by, RemoveBy::PollWriteTo);
                let mut sink = Sink::new(1 + n / 2, vectored);
                let written = ready(buffer.poll_write_to(cx, Pin::new(&mut sink), n));
                return self.check_written(&sink, written, n);
            }
            RemoveBy::PollWritePending => {
                let mut sink = Sink::new(0, true);
                let poll = buffer.poll_write_to(cx, Pin::new(&mut sink), n);
                let waits = matches!(allowed, Ok(n) if n > 0);
                assert_eq!(poll.is_pending(), waits);
                return;
            }
        }
        assert_eq!(flat.remove(n).map(|removed| removed.len()), allowed);
    }

    /// Checks one write, of at most `max` bytes, to `sink`.
    pub(super) fn check_written(
        &mut self,
        sink: &Sink,
        written: Result<usize, io::ErrorKind>,
        max: usize,
    ) {
        let Self { buffer: _, flat } = self;
        match written {
            Ok(n) => {
                assert_eq!(
                    n == 0,
                    max == 0 || flat.bytes.is_empty(),
                    "something is written if there is something"
                );
                assert_eq!(n, sink.taken.len());
                assert!(n <= max);
                assert!(flat.remove(n).expect("only what may leave was written") == sink.taken);
            }
            Err(kind) => {
                assert!(flat.removable(max).is_err());
                assert_eq!(kind, io::ErrorKind::PermissionDenied);
            }
        }
    }

    pub(super) fn transfer(&mut self, with: &mut Self, by: MoveBy, n: usize) {
        let (a, b) = (&mut self.buffer, &mut with.buffer);
        let (flat_a, flat_b) = (&mut self.flat, &mut with.flat);
        match by {
            MoveBy::AddBuffer => {
                let all = flat_b.len();
                assert_eq!(a.add_buffer(b), flat_b.remove_buffer(flat_a, all));
            }
            MoveBy::PrependBuffer => assert_eq!(a.prepend_buffer(b), flat_a.prepend_buffer(flat_b)),
            MoveBy::RemoveBuffer => {
                assert_eq!(a.remove_buffer(b, n), flat_a.remove_buffer(flat_b, n))
            }
            MoveBy::AddBufferReference => {
                assert_eq!(
                    a.add_buffer_reference(b),
                    flat_a.add_buffer_reference(flat_b)
                );
            }
            MoveBy::AddShared => {
                let shared = b.share();
                assert!(shared.chunks().flatten().eq(&flat_b.bytes));
                assert_eq!(a.add_shared(&shared), flat_a.add_buffer_reference(flat_b));
            }
        }
    }

    pub(super) fn reserve(&mut self, n: usize, fill: Fill, commit: Commit) {
        let Self { buffer, flat } = self;
        let expected = flat.check_growth(End::Back, n);
        let mut room = match buffer.reserve(n) {
            Ok(room) => room,
            Err(error) => return assert_eq!(Err(error), expected),
        };
        assert_eq!(expected, Ok(()));
        let capacity = room.capacity();
        assert!(
            n <= capacity && capacity <= flat.room(),
            "{n} <= {capacity} <= {}",
            flat.room()
        );
        let lens = room.slices_mut().map(|slice| slice.len());
        assert_eq!(lens.sum::<usize>(), capacity);

        let data = Data {
            len: n,
            seed: n as u8,
        };
        let mut written = data.bytes();
        match fill {
            Fill::Put => assert_eq!(room.put(&written), n),
            Fill::PutPieces(len) => {
                for piece in written.chunks(len) {
                    assert_eq!(room.put(piece), piece.len());
                }
            }
            Fill::Slices => {
                let mut left = &written[..];
                for slice in room.slices_mut() {
                    let here = slice.len().min(left.len());
                    slice[..here].copy_from_slice(&left[..here]);
                    left = &left[here..];
                }
            }
        }
        let committed = match commit {
            Commit::Asked => n,
            Commit::Half => n.div_ceil(2),
            Commit::Room => {
                written = room.slices_mut().flat_map(|slice| slice.to_vec()).collect();
                assert!(
                    written.starts_with(&data.bytes()),
                    "what was put is still there"
                );
                capacity
            }
            Commit::TooMuch => {
                let refused = BufferError::OutOfRange {
                    at: capacity + 1,
                    len: capacity,
                };
                return assert_eq!(room.commit(capacity + 1), Err(refused));
            }
            Commit::Nothing => return,
        };
        assert_eq!(room.commit(committed), Ok(()));
        assert_eq!(flat.add(&written[..committed]), Ok(()));
    }
}

/// Asserts that `out` begins with the removed bytes.
fn check_front(flat: &Flat, out: &[u8], removed: Result<usize>) {
    if let Ok(n) = removed {
        assert!(out[..n] == flat.bytes[..n]);
    }
}

/// Maps errors to their kind, since errors of streams cannot be compared.
fn kinds<T, E: Into<io::Error>>(result: Result<T, E>) -> Result<T, io::ErrorKind> {
    result.map_err(|error| error.into().kind())
}

/// Returns the result of an operation that never waits.
fn ready<T>(poll: Poll<io::Result<T>>) -> Result<T, io::ErrorKind> {
    match poll {
        Poll::Ready(result) => kinds(result),
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}
