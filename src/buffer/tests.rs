//! All short programs over segments of 1 to 8 bytes: what else takes long buffers, borders and splits, happens here
//! within a few bytes, in every order.

#[path = "../../tests/support/model/mod.rs"]
mod model;

use crate::{
    EolStyle,
    buffer::End,
    segment::sizing::{Sizes, test_only::set_sizes},
};
use model::{
    Model,
    op::{AddBy, Amount, Commit, Data, Fill, MoveBy, Needle, Op, Pos, PrependBy, RemoveBy, Step},
};

/// Every operation that treats segments in a way of its own, in sizes around theirs.
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

/// Looks at every byte in every way.
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

/// All programs of three steps; of as many as `EVBUFFER_MODEL_DEPTH` says, for those who have the time.
#[test]
fn all_short_programs_over_segments_of_1_to_8_bytes() {
    let depth = std::env::var("EVBUFFER_MODEL_DEPTH");
    let len = depth.map_or(3, |depth| depth.parse().expect("a number of steps"));
    for block in 1..=8 {
        run_all_programs(len, tiny(block));
    }
}
