//! Runs random programs on `EvBuffer` and on libevent's evbuffer: after each step both hold the same bytes and returned the
//! same.
//!
//! A step leaves out cases in which the two differ on purpose or libevent is wrong, and says so.
#![cfg(libevent)]

use std::{cmp::Ordering, mem};

use peers::libevent::{Eol as CEol, Evbuffer};
use proptest::prelude::*;
use tokio_evbuffer::{EolStyle, EvBuffer, buffer::End};

const BUFFERS: usize = 3;

/// An operation on numbered buffers. Positions are in 256ths of the length.
#[derive(Clone, Debug)]
enum Step {
    Add(usize, usize),
    Prepend(usize, usize),
    AddReference(usize, usize),
    /// To the first from the second.
    AddBuffer(usize, usize),
    PrependBuffer(usize, usize),
    AddBufferReference(usize, usize),
    Drain(usize, usize),
    Remove(usize, usize),
    /// From the first to the second.
    RemoveBuffer(usize, usize, usize),
    Copyout(usize, u8, usize),
    Pullup(usize, u8),
    Search(usize, usize, u8, u8),
    SearchEol(usize, u8, usize),
    Readln(usize, usize),
    /// Reserves the first number and commits a part of it.
    Reserve(usize, usize, u8),
    Expand(usize, usize),
    Peek(usize),
    /// Keeps a part of the bytes.
    Truncate(usize, u8),
    /// Splits the first at a position; the rest replaces the second.
    SplitOff(usize, usize, u8),
    TakeBytes(usize, usize),
    ReadLines(usize, usize),
    SearchAny(usize, u8),
    Freeze(usize, bool),
    Unfreeze(usize, bool),
}

const STYLES: [(EolStyle, CEol); 5] = [
    (EolStyle::Any, CEol::Any),
    (EolStyle::Crlf, CEol::Crlf),
    (EolStyle::CrlfStrict, CEol::CrlfStrict),
    (EolStyle::Lf, CEol::Lf),
    (EolStyle::Nul, CEol::Nul),
];

const NEEDLES: [&[u8]; 6] = [b"", b"\n", b"\r\n", b"ab", b"a\r\nb", b"zzz"];

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..BUFFERS;
    let size = || prop_oneof![4 => 0..40_usize, 2 => 40..1_200_usize, 1 => 1_200..20_000_usize];
    let any_part = any::<u8>;
    prop_oneof![
        6 => (at(), size()).prop_map(|(i, n)| Step::Add(i, n)),
        3 => (at(), size()).prop_map(|(i, n)| Step::Prepend(i, n)),
        3 => (at(), size()).prop_map(|(i, n)| Step::AddReference(i, n)),
        3 => (at(), at()).prop_map(|(i, j)| Step::AddBuffer(i, j)),
        3 => (at(), at()).prop_map(|(i, j)| Step::PrependBuffer(i, j)),
        2 => (at(), at()).prop_map(|(i, j)| Step::AddBufferReference(i, j)),
        3 => (at(), size()).prop_map(|(i, n)| Step::Drain(i, n)),
        3 => (at(), size()).prop_map(|(i, n)| Step::Remove(i, n)),
        3 => (at(), at(), size()).prop_map(|(i, j, n)| Step::RemoveBuffer(i, j, n)),
        2 => (at(), any_part(), size()).prop_map(|(i, part, n)| Step::Copyout(i, part, n)),
        2 => (at(), any_part()).prop_map(|(i, part)| Step::Pullup(i, part)),
        2 => (at(), 0..NEEDLES.len(), any_part(), any_part()).prop_map(|(i, k, a, b)| Step::Search(i, k, a, b)),
        2 => (at(), any_part(), 0..STYLES.len()).prop_map(|(i, part, k)| Step::SearchEol(i, part, k)),
        3 => (at(), 0..STYLES.len()).prop_map(|(i, k)| Step::Readln(i, k)),
        3 => (at(), size(), any_part()).prop_map(|(i, n, part)| Step::Reserve(i, n, part)),
        2 => (at(), size()).prop_map(|(i, n)| Step::Expand(i, n)),
        1 => at().prop_map(Step::Peek),
        2 => (at(), any_part()).prop_map(|(i, part)| Step::Truncate(i, part)),
        2 => (at(), at(), any_part()).prop_map(|(i, j, part)| Step::SplitOff(i, j, part)),
        2 => (at(), size()).prop_map(|(i, n)| Step::TakeBytes(i, n)),
        1 => (at(), 0..STYLES.len()).prop_map(|(i, k)| Step::ReadLines(i, k)),
        1 => (at(), any_part()).prop_map(|(i, part)| Step::SearchAny(i, part)),
        1 => (at(), any::<bool>()).prop_map(|(i, front)| Step::Freeze(i, front)),
        2 => (at(), any::<bool>()).prop_map(|(i, front)| Step::Unfreeze(i, front)),
    ]
}

/// One buffer of each kind, after the same operations.
#[derive(Default)]
struct Twins {
    ours: EvBuffer,
    c: Evbuffer,
    /// Whether libevent shares its chains with another buffer. `evbuffer_pullup` would then write into shared memory, and
    /// the chains cannot be shared again.
    shares: bool,
}

impl Twins {
    fn frozen(&self, end: End) -> bool {
        self.ours.is_frozen(end)
    }

    fn part(&self, part: u8) -> usize {
        self.ours.len() * usize::from(part) / 255
    }

    /// Returns whether both have to refuse a change of `n` bytes. `None` for an empty change: libevent is not consistent
    /// about whether a freeze refuses it.
    fn refuses(&self, end: End, n: usize) -> Option<bool> {
        (n > 0).then(|| self.frozen(end))
    }

    fn c_bytes(&mut self) -> Vec<u8> {
        let mut out = vec![0; self.c.len()];
        // libevent refuses to read a frozen front.
        self.c.unfreeze(true);
        assert_eq!(self.c.copyout(&mut out), Ok(out.len()));
        if self.frozen(End::Front) {
            self.c.freeze(true);
        }
        out
    }

    /// Cuts libevent's buffer at position `at`, for which it has no function, and returns the rest.
    fn cut_c(&mut self, at: usize) -> Evbuffer {
        let mut front = Evbuffer::default();
        self.c.unfreeze(true);
        self.c.unfreeze(false);
        if at > 0 {
            assert_eq!(self.c.remove_buffer(&mut front, at), Ok(at));
        }
        let back = mem::replace(&mut self.c, front);
        if self.frozen(End::Front) {
            self.c.freeze(true);
        }
        if self.frozen(End::Back) {
            self.c.freeze(false);
        }
        back
    }

    fn compare(&mut self) {
        assert_eq!(self.ours.len(), self.c.len(), "length");
        let ours: Vec<u8> = self.ours.chunks().flatten().copied().collect();
        assert!(ours == self.c_bytes(), "contents");
        self.shares &= !self.ours.is_empty();
    }
}

#[derive(Default)]
struct World {
    twins: [Twins; BUFFERS],
    added: usize,
}

impl World {
    /// Returns bytes with many line ends, and others at each call.
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        const TEXT: &[u8] = b"ab\r\nc\nd\re\r\r\nf\0g\n\n\r\nhijklmnopqrstuvwxyz0123456789";
        let bytes = (self.added..self.added + n)
            .map(|i| TEXT[(i * 7 + i / 50) % TEXT.len()])
            .collect();
        self.added += n;
        bytes
    }

    fn two(&mut self, i: usize, j: usize) -> Option<(&mut Twins, &mut Twins)> {
        let (low, high) = self.twins.split_at_mut(i.max(j));
        match i.cmp(&j) {
            Ordering::Less => Some((&mut low[i], &mut high[0])),
            Ordering::Greater => Some((&mut high[0], &mut low[j])),
            Ordering::Equal => None,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Add(i, n) => self.add(i, n),
            Step::Prepend(i, n) => self.prepend(i, n),
            Step::AddReference(i, n) => self.add_reference(i, n),
            Step::AddBuffer(i, j) => self.add_buffer(i, j),
            Step::PrependBuffer(i, j) => self.prepend_buffer(i, j),
            Step::AddBufferReference(i, j) => self.add_buffer_reference(i, j),
            Step::Drain(i, n) => self.drain(i, n),
            Step::Remove(i, n) => self.remove(i, n),
            Step::RemoveBuffer(i, j, n) => self.remove_buffer(i, j, n),
            Step::Copyout(i, part, n) => self.copyout(i, part, n),
            Step::Pullup(i, part) => self.pullup(i, part),
            Step::Search(i, k, a, b) => self.search(i, NEEDLES[k], a, b),
            Step::SearchEol(i, part, k) => self.search_eol(i, part, STYLES[k]),
            Step::Readln(i, k) => self.readln(i, STYLES[k]),
            Step::Reserve(i, n, part) => self.reserve(i, n, part),
            Step::Expand(i, n) => self.expand(i, n),
            Step::Peek(i) => self.peek(i),
            Step::Truncate(i, part) => self.truncate(i, part),
            Step::SplitOff(i, j, part) => self.split_off(i, j, part),
            Step::TakeBytes(i, n) => self.take_bytes(i, n),
            Step::ReadLines(i, k) => self.read_lines(i, STYLES[k]),
            Step::SearchAny(i, part) => self.search_any(i, part),
            Step::Freeze(i, front) => self.freeze(i, front),
            Step::Unfreeze(i, front) => self.unfreeze(i, front),
        }
        self.twins.iter_mut().for_each(Twins::compare);
    }

    fn add(&mut self, i: usize, n: usize) {
        let data = self.bytes(n);
        let twins = &mut self.twins[i];
        let Some(refuses) = twins.refuses(End::Back, n) else {
            return;
        };
        assert_eq!(twins.ours.add(&data).is_err(), refuses);
        assert_eq!(twins.c.add(&data).is_err(), refuses);
    }

    fn prepend(&mut self, i: usize, n: usize) {
        let data = self.bytes(n);
        let twins = &mut self.twins[i];
        let Some(refuses) = twins.refuses(End::Front, n) else {
            return;
        };
        assert_eq!(twins.ours.prepend(&data).is_err(), refuses);
        assert_eq!(twins.c.prepend(&data).is_err(), refuses);
    }

    fn add_reference(&mut self, i: usize, n: usize) {
        // An empty reference leaves an empty chain in libevent, which is no difference in bytes.
        let data: &'static [u8] = self.bytes(n).leak();
        let twins = &mut self.twins[i];
        let Some(refuses) = twins.refuses(End::Back, n) else {
            return;
        };
        assert_eq!(twins.ours.add_reference(data).is_err(), refuses);
        assert_eq!(twins.c.add_reference(data).is_err(), refuses);
    }

    fn add_buffer(&mut self, i: usize, j: usize) {
        let Some((dst, src)) = self.two(i, j) else {
            return;
        };
        if src.ours.is_empty() {
            return;
        }
        let refuses = dst.frozen(End::Back) || src.frozen(End::Front);
        assert_eq!(dst.ours.add_buffer(&mut src.ours).is_err(), refuses);
        assert_eq!(dst.c.add_buffer(&mut src.c).is_err(), refuses);
        dst.shares |= src.shares;
    }

    fn prepend_buffer(&mut self, i: usize, j: usize) {
        let Some((dst, src)) = self.two(i, j) else {
            return;
        };
        if src.ours.is_empty() {
            return;
        }
        let refuses = dst.frozen(End::Front) || src.frozen(End::Front);
        assert_eq!(dst.ours.prepend_buffer(&mut src.ours).is_err(), refuses);
        assert_eq!(dst.c.prepend_buffer(&mut src.c).is_err(), refuses);
        dst.shares |= src.shares;
    }

    fn add_buffer_reference(&mut self, i: usize, j: usize) {
        let Some((dst, src)) = self.two(i, j) else {
            return;
        };
        if src.ours.is_empty() {
            return;
        }
        let refuses = dst.frozen(End::Back);
        assert_eq!(dst.ours.add_buffer_reference(&src.ours).is_err(), refuses);
        if src.shares {
            // libevent cannot share shared chains, so it gets a copy.
            let copy = src.c_bytes();
            assert_eq!(dst.c.add(&copy).is_err(), refuses);
        } else {
            assert_eq!(dst.c.add_buffer_reference(&mut src.c).is_err(), refuses);
            src.shares |= !refuses;
            dst.shares |= !refuses;
        }
    }

    fn drain(&mut self, i: usize, n: usize) {
        let twins = &mut self.twins[i];
        let n_there = n.min(twins.ours.len());
        let Some(refuses) = twins.refuses(End::Front, n_there) else {
            return;
        };
        assert_eq!(twins.ours.drain(n).ok(), (!refuses).then_some(n_there));
        assert_eq!(twins.c.drain(n).is_err(), refuses);
    }

    fn remove(&mut self, i: usize, n: usize) {
        let twins = &mut self.twins[i];
        let Some(_) = twins.refuses(End::Front, n.min(twins.ours.len())) else {
            return;
        };
        let (mut ours, mut c) = (vec![0; n], vec![0; n]);
        assert_eq!(
            twins.ours.remove(&mut ours).ok(),
            twins.c.remove(&mut c).ok()
        );
        assert!(ours == c, "removed");
    }

    fn remove_buffer(&mut self, i: usize, j: usize, n: usize) {
        let Some((src, dst)) = self.two(i, j) else {
            return;
        };
        if n.min(src.ours.len()) == 0 {
            return;
        }
        let ours = src.ours.remove_buffer(&mut dst.ours, n);
        let c = src.c.remove_buffer(&mut dst.c, n);
        assert_eq!(ours.ok(), c.ok());
        dst.shares |= src.shares;
    }

    fn copyout(&mut self, i: usize, part: u8, n: usize) {
        let twins = &mut self.twins[i];
        if twins.frozen(End::Front) {
            return; // a freeze refuses reading only in libevent
        }
        let pos = twins.part(part);
        let (mut ours, mut c) = (vec![0; n], vec![0; n]);
        assert_eq!(
            twins.ours.copyout_from(pos, &mut ours).ok(),
            twins.c.copyout_from(pos, &mut c).ok()
        );
        assert!(ours == c, "copied out");
        // Both refuse a position beyond the end.
        let beyond = twins.ours.len() + 1;
        assert!(twins.ours.copyout_from(beyond, &mut ours).is_err());
        assert!(twins.c.copyout_from(beyond, &mut c).is_err());
    }

    fn pullup(&mut self, i: usize, part: u8) {
        let twins = &mut self.twins[i];
        let n = twins.part(part);
        if n == 0 || twins.shares {
            return;
        }
        assert!(twins.ours.pullup(n) == twins.c.pullup(n), "pulled up");
        let beyond = twins.ours.len() + 1;
        assert_eq!(
            (twins.ours.pullup(beyond), twins.c.pullup(beyond)),
            (None, None)
        );
    }

    fn search(&mut self, i: usize, needle: &[u8], a: u8, b: u8) {
        let twins = &mut self.twins[i];
        let (from, to) = (twins.part(a.min(b)), twins.part(a.max(b)));
        assert_eq!(
            Ok(twins.ours.search(needle, from..to)),
            twins.c.search(needle, from, to),
            "{needle:?} {from}..{to}"
        );
        assert_eq!(
            twins.ours.search(needle, ..),
            twins.c.find(needle),
            "{needle:?}"
        );
        if needle.is_empty() {
            return;
        }
        // libevent finds the last needle only by finding all.
        let mut last = None;
        let mut at = from;
        while let Ok(Some(hit)) = twins.c.search(needle, at, to) {
            (last, at) = (Some(hit), hit + 1);
        }
        assert_eq!(twins.ours.rsearch(needle, from..to), last, "{needle:?}");
    }

    /// libevent searches for one byte at a time.
    fn search_any(&mut self, i: usize, part: u8) {
        let twins = &mut self.twins[i];
        let (from, len) = (twins.part(part), twins.ours.len());
        let hits = [b"\n", b"\0", b"z"].map(|byte| twins.c.search(byte, from, len));
        let first = hits.into_iter().filter_map(|hit| hit.ok().flatten()).min();
        assert_eq!(twins.ours.search_any(b"\n\0z", from), first, "from {from}");
    }

    fn truncate(&mut self, i: usize, part: u8) {
        let twins = &mut self.twins[i];
        let at = twins.part(part);
        let refuses = at < twins.ours.len() && twins.frozen(End::Back);
        assert_eq!(twins.ours.truncate(at).is_err(), refuses);
        if !refuses {
            drop(twins.cut_c(at));
        }
    }

    fn split_off(&mut self, i: usize, j: usize, part: u8) {
        let Some((twins, other)) = self.two(i, j) else {
            return;
        };
        let at = twins.part(part);
        let refuses = at < twins.ours.len() && twins.frozen(End::Back);
        let back = twins.ours.split_off(at);
        assert_eq!(back.is_err(), refuses);
        if let Ok(ours) = back {
            let c = twins.cut_c(at);
            *other = Twins {
                ours,
                c,
                shares: twins.shares,
            };
        }
    }

    fn take_bytes(&mut self, i: usize, n: usize) {
        let twins = &mut self.twins[i];
        let Some(_) = twins.refuses(End::Front, n.min(twins.ours.len())) else {
            return;
        };
        let mut c = vec![0; n];
        let removed = twins.c.remove(&mut c).ok();
        let taken = twins.ours.take_bytes(n).ok();
        assert_eq!(taken.as_deref(), removed.map(|n| &c[..n]));
    }

    fn read_lines(&mut self, i: usize, (ours, c): (EolStyle, CEol)) {
        let twins = &mut self.twins[i];
        let mut lines = Vec::new();
        // With a frozen front, ours is an error if there is a line.
        let _ = twins
            .ours
            .read_lines(ours, |line| lines.push(line.to_vec()));
        for line in lines {
            assert_eq!(Some(&line[..]), twins.c.readln(c).as_deref(), "{ours:?}");
        }
        assert!(twins.c.readln(c).is_none(), "{ours:?}");
    }

    fn search_eol(&mut self, i: usize, part: u8, (ours, c): (EolStyle, CEol)) {
        let twins = &mut self.twins[i];
        let from = twins.part(part);
        let hit = twins
            .ours
            .search_eol(from, ours)
            .map(|eol| (eol.at, eol.len));
        assert_eq!(Ok(hit), twins.c.search_eol(from, c), "{ours:?} from {from}");
    }

    fn readln(&mut self, i: usize, (ours, c): (EolStyle, CEol)) {
        let twins = &mut self.twins[i];
        // With a frozen front, ours is an error if there is a line.
        let line = twins.ours.readln(ours).ok().flatten();
        assert_eq!(line.as_deref(), twins.c.readln(c).as_deref(), "{ours:?}");
    }

    fn reserve(&mut self, i: usize, n: usize, part: u8) {
        let committed = n * usize::from(part) / 255;
        let data = self.bytes(committed);
        let twins = &mut self.twins[i];
        let Some(refuses) = twins.refuses(End::Back, n) else {
            return;
        };
        let ours = twins.ours.reserve(n).and_then(|mut room| {
            assert_eq!(room.put(&data), data.len());
            room.commit(data.len())
        });
        let c = twins.c.fill(n, |room| {
            room.iter_mut().zip(&data).for_each(|(place, &byte)| {
                place.write(byte);
            });
            data.len()
        });
        assert_eq!((ours.is_err(), c.is_err()), (refuses, refuses));
    }

    fn expand(&mut self, i: usize, n: usize) {
        let twins = &mut self.twins[i];
        if twins.frozen(End::Back) {
            return; // libevent expands a frozen buffer
        }
        assert!(twins.ours.expand(n).is_ok());
        assert!(twins.c.expand(n).is_ok());
    }

    fn peek(&mut self, i: usize) {
        let twins = &mut self.twins[i];
        let mut pieces = [std::io::IoSlice::new(&[]); 64];
        let n = twins.c.peek(&mut pieces);
        let c: Vec<u8> = pieces[..n]
            .iter()
            .flat_map(|piece| piece.iter())
            .copied()
            .collect();
        let mut pieces = [std::io::IoSlice::new(&[]); 64];
        let n = twins.ours.peek(0, &mut pieces);
        let ours: Vec<u8> = pieces[..n]
            .iter()
            .flat_map(|piece| piece.iter())
            .copied()
            .collect();
        // The two have different pieces, so only the common length is compared.
        let shown = ours.len().min(c.len());
        assert!(ours[..shown] == c[..shown], "peeked");
    }

    fn freeze(&mut self, i: usize, front: bool) {
        self.twins[i].ours.freeze(end(front));
        self.twins[i].c.freeze(front);
    }

    fn unfreeze(&mut self, i: usize, front: bool) {
        self.twins[i].ours.unfreeze(end(front));
        self.twins[i].c.unfreeze(front);
    }
}

fn end(front: bool) -> End {
    if front { End::Front } else { End::Back }
}

proptest! {
    #[test]
    fn evbuffer_and_libevent_agree_after_every_step(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        for step in &steps {
            world.take(step);
        }
    }
}

/// Compares every style of line end with the text in pieces of one byte, which random programs rarely create.
#[test]
fn lines_agree_in_every_style_when_each_byte_is_a_segment() {
    const TEXT: &[u8] = b"a\r\nb\nc\rd\r\r\ne\n\n\r\nf\0g\n\r\r\n\n\0\r\nx";
    for style in 0..STYLES.len() {
        let mut world = World::default();
        for i in 0..TEXT.len() {
            assert!(world.twins[0].ours.add_reference(&TEXT[i..=i]).is_ok());
            assert!(world.twins[0].c.add_reference(&TEXT[i..=i]).is_ok());
        }
        for part in 0..=u8::MAX {
            world.take(&Step::SearchEol(0, part, style));
        }
        for _ in 0..TEXT.len() {
            world.take(&Step::Readln(0, style));
        }
    }
}
