//! Programs over three buffers. Each step is also applied to three plain vectors, and the results are compared.
//!
//! One core serves random programs that shrink, a long random run, a fuzzer's bytes, and all short programs over tiny
//! segments. It uses only the public interface.
#![allow(dead_code, unreachable_pub)]

pub mod choose;
mod fakes;
mod flat;
pub mod op;

use std::{
    fmt::Write as _,
    io::{self, BufRead, IoSlice, Read, Seek, SeekFrom, Write},
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_evbuffer::{
    BufferError, EvBuffer,
    buffer::{COPY_THRESHOLD, End, Result},
};

use fakes::{Owners, Silent, Sink, file_range};
use flat::Flat;
use op::{AddBy, Amount, Commit, Data, Fill, MoveBy, Needle, Op, Pos};
use op::{PrependBy, RemoveBy, RenewBy, Step};

/// A buffer longer than this is emptied before the next step.
const LEN_MAX: usize = 300_000;
/// What a buffer may hold beyond four times its length, in bytes.
const MEMORY_ALLOWED: usize = 64 * 1024;
/// The maximum number of bytes that an emptied buffer keeps.
const KEPT_MAX: usize = 16 * 1024;
/// The number of taken pieces that are kept, to check that no operation writes to them.
const TAKEN_MAX: usize = 32;

/// Three buffers and their models.
#[derive(Debug, Default)]
pub struct Model {
    pairs: [Pair; 3],
    owners: Owners,
    taken: Vec<(Bytes, Vec<u8>)>,
    steps: usize,
}

/// A buffer and its model.
#[derive(Debug, Default)]
struct Pair {
    buffer: EvBuffer,
    flat: Flat,
}

impl Model {
    /// Applies `program` to empty buffers, then releases everything.
    pub fn run(program: impl IntoIterator<Item = Step>) {
        let mut model = Self::default();
        for step in program {
            model.apply(step);
        }
        model.finish();
    }

    /// Applies one step to the buffers and their models, and compares the results.
    pub fn apply(&mut self, step: Step) {
        self.steps += 1;
        self.pairs[step.on].relieve();
        self.pairs[step.with].relieve();
        let mut with = mem::take(&mut self.pairs[step.with]);
        let on = &mut self.pairs[step.on];
        match step.op {
            Op::Add { by, data } => on.add(by, data, &mut self.owners),
            Op::Prepend { by, data } => on.prepend(by, data),
            Op::Remove { by, n } => on.remove(by, n, &mut self.taken),
            Op::Move { by, n } => on.transfer(&mut with, by, n),
            Op::Readln(style) => {
                let expected = on.flat.readln(style);
                let line = on.buffer.readln(style);
                assert_eq!(
                    line.as_ref().map(Option::as_deref),
                    expected.as_ref().map(Option::as_deref)
                );
                if let (Ok(Some(line)), Ok(Some(bytes))) = (line, expected) {
                    self.taken.push((line, bytes));
                }
            }
            Op::ReadlnMax { style, max } => {
                let line = on.buffer.readln_max(style, max);
                let line = line.map(|line| line.map(|line| line.to_vec()));
                assert_eq!(line, on.flat.readln_max(style, max));
            }
            Op::ReadLines(style) => {
                let mut lines = Vec::new();
                let read = on
                    .buffer
                    .read_lines(style, |line| lines.push(line.to_vec()));
                assert_eq!((lines, read), on.flat.read_lines(style));
            }
            Op::WriteAt { pos, data } => {
                let (pos, data) = (pos.of(on.flat.len()), data.bytes());
                assert_eq!(on.buffer.write_at(pos, &data), on.flat.write_at(pos, &data));
            }
            Op::Truncate(Pos(len)) => {
                let len = len % (on.flat.len() + 3);
                let cut = on.flat.split_off(len.min(on.flat.len()));
                assert_eq!(on.buffer.truncate(len), cut.map(drop));
            }
            Op::SplitOff(at) => {
                let at = at.of(on.flat.len());
                let files = on.flat.files;
                let back = on.buffer.split_off(at);
                match on.flat.split_off(at) {
                    Ok(bytes) => {
                        with = Pair::default();
                        with.buffer = back.expect("the model has split it off");
                        with.flat.bytes = bytes;
                        with.flat.files = files;
                    }
                    Err(error) => assert_eq!(back.map(drop), Err(error)),
                }
            }
            Op::Reserve { n, fill, commit } => on.reserve(n, fill, commit),
            Op::Expand(n) => on.expand(n),
            Op::ShrinkToFit => on.shrink_to_fit(),
            Op::Freeze(end) => on.freeze(end, true),
            Op::Unfreeze(end) => on.freeze(end, false),
            Op::SetMaxLen(max) => {
                on.buffer.set_max_len(max);
                on.flat.max_len = max;
            }
            Op::Renew { by, data } => *on = Pair::renewed(by, data),
            Op::Equals => assert_eq!(
                on.buffer == with.buffer,
                on.flat.bytes == with.flat.bytes,
                "equality of buffers is equality of bytes"
            ),
            look => on.look(look),
        }
        // Reading a file range loads it, which must not happen after every step.
        let closely = self.steps % 8 == 0;
        on.check(closely);
        with.check(closely);
        self.pairs[step.with] = with;
        self.check_taken();
    }

    /// Drops the buffers, and nothing else. Returns how many bytes of memory they may have held.
    pub fn drop_buffers(&mut self) -> usize {
        self.taken.clear();
        let allowed = self.pairs.iter().map(Pair::memory_allowed).sum();
        for pair in &mut self.pairs {
            pair.buffer = EvBuffer::new();
        }
        allowed
    }

    /// Returns how many bytes and segments `step` may touch: a linear operation takes a number of steps in proportion.
    pub fn touched_by(&self, step: &Step) -> usize {
        let (on, with) = (&self.pairs[step.on].buffer, &self.pairs[step.with].buffer);
        let bytes = match step.op {
            Op::Add { data, .. } | Op::Prepend { data, .. } | Op::Renew { data, .. } => data.len,
            Op::WriteAt { data, .. } => data.len + on.segments(),
            Op::Remove { n, .. } | Op::Reserve { n, .. } => n,
            Op::Move { n, by } => match by {
                MoveBy::RemoveBuffer => n.min(on.len()),
                // Short segments are copied, so each of their bytes counts.
                _ => with.segments() + with.len().min(COPY_THRESHOLD * with.segments()),
            },
            Op::Pullup(_) => on.len(),
            // These begin at any position, or visit all segments.
            Op::Copyout { .. }
            | Op::Peek { .. }
            | Op::Search { .. }
            | Op::SearchEol { .. }
            | Op::SearchAny { .. }
            | Op::EndsWith { .. }
            | Op::Get(_)
            | Op::Cursor { .. }
            | Op::Truncate(_)
            | Op::SplitOff(_)
            | Op::StartsWith { .. } => on.segments(),
            _ => 0,
        };
        bytes + 1
    }

    fn check_taken(&mut self) {
        if self.taken.len() < TAKEN_MAX {
            return;
        }
        for (bytes, expected) in self.taken.drain(..) {
            assert!(bytes == expected, "what was taken out does not change");
        }
    }

    /// Compares everything once more, and checks that all owners are released.
    pub fn finish(mut self) {
        for pair in &self.pairs {
            pair.check(true);
        }
        self.pairs = Default::default();
        for (bytes, expected) in self.taken.drain(..) {
            assert!(bytes == expected, "what was taken out does not change");
        }
        assert_eq!(self.owners.alive(), 0, "every owner is released once");
    }
}

impl Pair {
    /// Creates a buffer by one of the constructors.
    fn renewed(by: RenewBy, data: Data) -> Self {
        let bytes = data.bytes();
        let half = bytes.len() / 2;
        let buffer = match by {
            RenewBy::New => EvBuffer::new(),
            RenewBy::WithCapacity => EvBuffer::with_capacity(data.len),
            RenewBy::Slice => EvBuffer::from(&bytes[..]),
            RenewBy::Vec => EvBuffer::from(bytes.clone()),
            RenewBy::Bytes => EvBuffer::from(Bytes::from(bytes.clone())),
            RenewBy::BytesMut => EvBuffer::from(BytesMut::from(&bytes[..])),
            RenewBy::Collect => [&bytes[..half], &bytes[half..]]
                .into_iter()
                .map(Bytes::copy_from_slice)
                .collect(),
        };
        let empty = matches!(by, RenewBy::New | RenewBy::WithCapacity);
        let flat = Flat {
            bytes: if empty { Vec::new() } else { bytes },
            room_kept: data.len,
            ..Flat::default()
        };
        Self { buffer, flat }
    }

    /// Empties a buffer that has become so long that further steps would be slow.
    fn relieve(&mut self) {
        if self.flat.len() > LEN_MAX {
            self.freeze(End::Front, false);
            let n = self.flat.len();
            self.remove(RemoveBy::Clear, n, &mut Vec::new());
        }
    }

    fn add(&mut self, by: AddBy, data: Data, owners: &mut Owners) {
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
    fn check_read(&mut self, offered: &[u8], read: Result<usize, io::ErrorKind>) {
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

    fn prepend(&mut self, by: PrependBy, data: Data) {
        let bytes = data.bytes();
        let expected = self.flat.prepend(&bytes);
        match by {
            PrependBy::Copy => assert_eq!(self.buffer.prepend(&bytes), expected),
            PrependBy::Reference => assert_eq!(self.buffer.prepend_reference(bytes), expected),
        }
    }

    fn remove(&mut self, by: RemoveBy, n: usize, taken: &mut Vec<(Bytes, Vec<u8>)>) {
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
    fn check_written(&mut self, sink: &Sink, written: Result<usize, io::ErrorKind>, max: usize) {
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

    fn transfer(&mut self, with: &mut Self, by: MoveBy, n: usize) {
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

    fn reserve(&mut self, n: usize, fill: Fill, commit: Commit) {
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

    fn expand(&mut self, n: usize) {
        let expected = self.flat.check_growth(End::Back, n);
        assert_eq!(self.buffer.expand(n), expected);
        if expected.is_ok() {
            self.flat.room_kept = self.flat.room_kept.max(n);
        }
    }

    fn shrink_to_fit(&mut self) {
        self.buffer.shrink_to_fit();
        self.flat.room_kept = 0;
        if self.flat.bytes.is_empty() {
            assert_eq!(
                self.buffer.capacity(),
                0,
                "an empty buffer that was shrunk holds nothing"
            );
        }
    }

    fn freeze(&mut self, end: End, on: bool) {
        if on {
            self.buffer.freeze(end);
        } else {
            self.buffer.unfreeze(end);
        }
        match end {
            End::Front => self.flat.front_frozen = on,
            End::Back => self.flat.back_frozen = on,
        }
    }

    /// Operations that change no byte.
    fn look(&mut self, op: Op) {
        let Self { buffer, flat } = self;
        let len = flat.len();
        match op {
            Op::Copyout { pos, n } => {
                let pos = pos.of(len);
                let mut out = vec![0; n];
                let copied = buffer.copyout_from(pos, &mut out);
                assert_eq!(copied.map(|n| &out[..n]), flat.copyout_from(pos, n));
                let copied = buffer.copyout(&mut out);
                assert_eq!(copied.map(|n| &out[..n]), flat.copyout_from(0, n));
            }
            Op::Pullup(amount) => {
                let n = match amount {
                    Amount::Bytes(n) => n,
                    Amount::All => len,
                    Amount::OneTooMany => len + 1,
                };
                assert!(buffer.pullup(n) == flat.bytes.get(..n));
            }
            Op::Peek { pos, slices } => {
                let pos = pos.of(len);
                let mut out = vec![IoSlice::new(&[]); slices];
                let filled = buffer.peek(pos, &mut out);
                let rest = flat.bytes.get(pos..).unwrap_or_default();
                let shown = concat(&out[..filled]);
                assert!(rest.starts_with(&shown));
                assert!(filled == slices || shown.len() == rest.len());
                assert!(out[..filled].iter().all(|slice| !slice.is_empty()));
                assert!(buffer.chunks_from(pos).flatten().eq(rest));
            }
            Op::StartsWith { n, wrong } => {
                let mut prefix = flat.bytes[..n.min(len)].to_vec();
                if let (Some(last), true) = (prefix.last_mut(), wrong) {
                    *last ^= 1;
                }
                assert_eq!(buffer.starts_with(&prefix), flat.bytes.starts_with(&prefix));
            }
            Op::Search { needle, start, end } => {
                let needle = needle_in(&flat.bytes, needle);
                let (start, end) = (start.of(len), end.of(len));
                let found = flat.search(&needle, start, end);
                assert_eq!(
                    buffer.search(&needle, start..end),
                    found,
                    "{needle:?} {start}..{end}"
                );
                let last = flat.rsearch(&needle, start, end);
                assert_eq!(buffer.rsearch(&needle, start..end), last, "{needle:?}");
                let found = flat.search(&needle, 0, len);
                assert_eq!(buffer.search(&needle, ..), found, "{needle:?}");
            }
            Op::SearchAny { bytes, from } => {
                let (bytes, from) = (bytes.bytes(), from.of(len));
                let rest = flat.bytes.get(from..).unwrap_or_default();
                let found = rest.iter().position(|byte| bytes.contains(byte));
                assert_eq!(buffer.search_any(&bytes, from), found.map(|i| from + i));
            }
            Op::EndsWith { n, wrong } => {
                let mut suffix = flat.bytes[len - n.min(len)..].to_vec();
                if let (Some(first), true) = (suffix.first_mut(), wrong) {
                    *first ^= 1;
                }
                assert_eq!(buffer.ends_with(&suffix), flat.bytes.ends_with(&suffix));
            }
            Op::Get(at) => {
                let at = at.of(len);
                assert_eq!(buffer.get(at), flat.bytes.get(at).copied());
            }
            Op::Cursor { pos, n } => {
                let mut cursor = buffer.cursor();
                let mut out = vec![0; n];
                let read = Read::read(&mut cursor, &mut out).unwrap();
                assert!(flat.bytes.starts_with(&out[..read]) && read == n.min(len));
                let pos = pos.of(len);
                cursor.seek(SeekFrom::Start(pos as u64)).unwrap();
                let rest = flat.bytes.get(pos..).unwrap_or_default();
                assert_eq!(cursor.remaining(), rest.len());
                cursor.advance(rest.len().min(n));
                let mut left = Vec::new();
                cursor.read_to_end(&mut left).unwrap();
                assert!(left == rest[rest.len().min(n)..]);
            }
            Op::ToVec => assert!(buffer.to_vec() == flat.bytes),
            Op::SearchEol { from, style } => {
                let from = from.of(len);
                assert_eq!(buffer.search_eol(from, style), flat.search_eol(from, style));
            }
            other => unreachable!("{other:?} changes something"),
        }
    }

    /// Returns how many bytes of memory the buffer may hold.
    fn memory_allowed(&self) -> usize {
        let Self { buffer, flat } = self;
        let ranges = if flat.files { buffer.segments() } else { 0 };
        // A block for `n` bytes has less than twice as many.
        4 * flat.len() + MEMORY_ALLOWED + 2 * flat.room_kept + 256 * ranges
    }

    /// Compares the observable state of the buffer with its model.
    fn check(&self, closely: bool) {
        let Self { buffer, flat } = self;
        assert_eq!(buffer.len(), flat.len());
        assert_eq!(buffer.is_empty(), flat.bytes.is_empty());
        assert_eq!(buffer.max_len(), flat.max_len);
        assert_eq!(buffer.is_frozen(End::Front), flat.front_frozen);
        assert_eq!(buffer.is_frozen(End::Back), flat.back_frozen);
        let capacity = buffer.capacity();
        if !flat.files {
            assert!(capacity >= flat.len(), "{capacity} >= {}", flat.len());
        }
        let bound = self.memory_allowed();
        assert!(
            capacity <= bound,
            "{} bytes in {capacity} bytes of memory, at most {bound}",
            flat.len()
        );
        if flat.bytes.is_empty() && flat.room_kept == 0 {
            assert!(
                capacity <= KEPT_MAX,
                "an emptied buffer keeps {capacity} bytes"
            );
        }
        if flat.files && !closely {
            return;
        }
        assert_eq!(buffer.chunks().count(), buffer.segments());
        assert!(buffer.chunks().all(|chunk| !chunk.is_empty()));
        assert!(*buffer == flat.bytes, "the bytes differ");
    }
}

/// Asserts that `out` begins with the removed bytes.
fn check_front(flat: &Flat, out: &[u8], removed: Result<usize>) {
    if let Ok(n) = removed {
        assert!(out[..n] == flat.bytes[..n]);
    }
}

fn needle_in(bytes: &[u8], needle: Needle) -> Vec<u8> {
    match needle {
        Needle::Data(data) => data.bytes(),
        Needle::Present { at: Pos(at), len } => {
            let start = at % (bytes.len() + 1);
            let end = (start + len).min(bytes.len());
            bytes[start..end].to_vec()
        }
    }
}

fn concat(slices: &[IoSlice<'_>]) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.to_vec()).collect()
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
