//! All short programs over segments of 1 to 8 bytes, and the number of steps that programs take.
//!
//! With such sizes a few bytes reach the borders and splits that otherwise need long buffers, in every order.

use super::{
    model::{
        Model,
        choose::Random,
        op::{
            AddBy, Amount, Commit, Data, Fill, MoveBy, Needle, Op, Pos, PrependBy, RemoveBy, Step,
        },
    },
    steps,
};
use crate::{
    EolStyle, EvBuffer,
    buffer::End,
    segment::sizing::{Sizes, test_only::set_sizes},
};

/// Each operation that treats segments differently, with sizes around those of the segments.
fn alphabet(block: usize) -> Vec<Step> {
    let data = |len| Data { len, seed: 3 };
    let on_the_first = [
        Op::Add {
            by: AddBy::Copy,
            data: data(1),
        },
        Op::Add {
            by: AddBy::Copy,
            data: data(5),
        },
        Op::Add {
            by: AddBy::Copy,
            data: data(9),
        },
        Op::Add {
            by: AddBy::Owner,
            data: data(4),
        },
        Op::Add {
            by: AddBy::File,
            data: data(3),
        },
        Op::Prepend {
            by: PrependBy::Copy,
            data: data(3),
        },
        Op::Prepend {
            by: PrependBy::Reference,
            data: data(2),
        },
        Op::Remove {
            by: RemoveBy::Remove,
            n: 1,
        },
        Op::Remove {
            by: RemoveBy::Drain,
            n: 6,
        },
        Op::Remove {
            by: RemoveBy::TakeBytes,
            n: 3,
        },
        Op::Pullup(Amount::Bytes(4)),
        Op::Pullup(Amount::All),
        Op::Reserve {
            n: 4,
            fill: Fill::Slices,
            commit: Commit::Half,
        },
        Op::Reserve {
            n: 11,
            fill: Fill::Put,
            commit: Commit::Asked,
        },
        Op::Expand(block),
        Op::ShrinkToFit,
        Op::Readln(EolStyle::Crlf),
        Op::Move {
            by: MoveBy::AddBufferReference,
            n: 0,
        },
        Op::Move {
            by: MoveBy::AddBuffer,
            n: 0,
        },
        Op::Move {
            by: MoveBy::PrependBuffer,
            n: 0,
        },
        Op::Move {
            by: MoveBy::RemoveBuffer,
            n: 3,
        },
    ];
    let on_the_second = [
        Op::Add {
            by: AddBy::Copy,
            data: data(2),
        },
        Op::Remove {
            by: RemoveBy::Drain,
            n: 2,
        },
        Op::Move {
            by: MoveBy::AddBufferReference,
            n: 0,
        },
        Op::Move {
            by: MoveBy::RemoveBuffer,
            n: 5,
        },
    ];
    let first = on_the_first.map(|op| Step { on: 0, with: 1, op });
    let second = on_the_second.map(|op| Step { on: 1, with: 0, op });
    first.into_iter().chain(second).collect()
}

/// Reads each byte with each method.
fn looks() -> impl Iterator<Item = Step> {
    let needle = Needle::Present { at: Pos(1), len: 3 };
    let looks = [
        Op::Copyout { pos: Pos(2), n: 20 },
        Op::Peek {
            pos: Pos(1),
            slices: 3,
        },
        Op::Search {
            needle,
            start: Pos(0),
            end: Pos(30),
        },
        Op::SearchEol {
            from: Pos(1),
            style: EolStyle::Any,
        },
        Op::StartsWith { n: 7, wrong: true },
        Op::Equals,
        Op::Freeze(End::Front),
        Op::Freeze(End::Back),
    ];
    looks.into_iter().map(|op| Step { on: 0, with: 1, op })
}

fn run_all_programs(len: u32, sizes: Sizes) {
    let alphabet = alphabet(sizes.block);
    for program in 0..alphabet.len().pow(len) {
        let mut rest = program;
        let steps = std::iter::repeat_with(|| {
            let step = alphabet[rest % alphabet.len()];
            rest /= alphabet.len();
            step
        });
        set_sizes(sizes);
        Model::run(steps.take(len as usize).chain(looks()));
    }
}

fn tiny(block: usize) -> Sizes {
    Sizes {
        block,
        max_block: block,
        min_spare: 2,
        copy_threshold: 2,
        waste_allowed: 16,
    }
}

/// Runs all programs of three steps, or of `EVBUFFER_MODEL_DEPTH` steps.
#[test]
fn all_short_programs_over_segments_of_1_to_8_bytes() {
    let depth = std::env::var("EVBUFFER_MODEL_DEPTH");
    let len = depth.map_or(3, |depth| depth.parse().expect("a number of steps"));
    for block in 1..=8 {
        run_all_programs(len, tiny(block));
    }
}

/// The cost of a long program is linear in the bytes and segments that its operations touch.
///
/// Compares the counted steps with what the operations touch. An operation that walks a chain without need takes more with
/// each step of the program.
#[test]
fn long_programs_take_steps_in_proportion_to_what_they_touch() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut model = Model::default();
        let (before, mut touched) = (steps::counted(), 0);
        for _ in 0..2_000 {
            let step = Step::choose(&mut random);
            touched += model.touched_by(&step);
            model.apply(step);
            let taken = steps::counted() - before;
            assert!(
                taken <= 4 * touched,
                "{taken} steps for {touched} of seed {seed}, after {step:?}"
            );
        }
    }
}

/// Repeats each pair of operations. An operation whose cost grows with the chain takes more and more steps.
#[test]
fn repeated_operations_take_steps_in_proportion_to_what_they_touch() {
    let alphabet = alphabet(16 * 1024);
    for first in &alphabet {
        for second in &alphabet {
            let ops = (first.op, second.op);
            let prepends = |op| matches!(op, Op::Prepend { .. } | Op::Move { .. });
            let reads = |op| matches!(op, Op::Readln(_));
            if prepends(ops.0) && reads(ops.1) || reads(ops.0) && prepends(ops.1) {
                // The search for a line starts again after bytes were put in front.
                continue;
            }
            let mut model = Model::default();
            let (before, mut touched) = (steps::counted(), 0);
            for step in [first, second].into_iter().cycle().take(200) {
                touched += model.touched_by(step);
                model.apply(*step);
                let taken = steps::counted() - before;
                assert!(
                    taken <= 4 * touched,
                    "{taken} steps for {touched}: {first:?}, {second:?}"
                );
            }
        }
    }
}

/// Pieces that each keep a large block are packed, and again only after a constant share of the data was added.
#[test]
fn packing_takes_steps_in_proportion_to_the_data() {
    const PIECES: usize = 2_000;
    let mut buffer = EvBuffer::new();
    let before = steps::counted();
    for _ in 0..PIECES {
        buffer.reserve(16 << 10).unwrap().commit(100).unwrap();
        buffer.add_reference(&[7; 600][..]).unwrap();
    }
    let taken = steps::counted() - before;
    assert_eq!(buffer.len(), PIECES * 700);
    assert!(
        taken >= buffer.len() / 8,
        "nothing is packed: {taken} steps"
    );
    assert!(taken <= 2 * buffer.len(), "{taken} steps");
}
