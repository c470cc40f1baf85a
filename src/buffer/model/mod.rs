//! Programs over three buffers. Each step is also applied to three plain vectors, and the results are compared.
//!
//! One core serves random programs that shrink, a long random run, a fuzzer's bytes, and all short programs over tiny
//! segments. It uses only the public interface.
#![allow(dead_code, unreachable_pub)]

mod change;
pub mod choose;
mod fakes;
mod flat;
mod look;
pub mod op;
mod pair;
mod program;

use std::mem;

use bytes::Bytes;
use tokio_evbuffer::{EvBuffer, buffer::COPY_THRESHOLD};

use fakes::Owners;
use op::{MoveBy, Op, Pos, Step};
use pair::Pair;

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
