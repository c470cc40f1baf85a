//! Chooses the steps of a program, with sizes at which behaviour changes.

use tokio_evbuffer::{EolStyle, buffer::End};

use super::{
    choose::Choose,
    op::{
        AddBy, Amount, Commit, Data, Fill, MoveBy, Needle, Op, Pos, PrependBy, RemoveBy, RenewBy,
        Step,
    },
};

const STYLES: [EolStyle; 5] = [
    EolStyle::Lf,
    EolStyle::Crlf,
    EolStyle::CrlfStrict,
    EolStyle::Any,
    EolStyle::Nul,
];
const SMALL: [usize; 8] = [0, 1, 2, 3, 7, 33, 100, 300];
/// Sizes at which behaviour changes: the copy threshold, a page, a block, above 16 bits; each also minus and plus one.
const EDGES: [usize; 12] = [
    511, 512, 513, 4095, 4096, 4097, 16_383, 16_384, 16_385, 65_537, 2_000, 30_000,
];

impl Step {
    /// Chooses a step.
    pub fn choose(from: &mut impl Choose) -> Self {
        let on = from.below(3);
        let with = (on + 1 + from.below(2)) % 3;
        let op = Op::choose(from);
        Self { on, with, op }
    }
}

impl Op {
    fn choose(from: &mut impl Choose) -> Self {
        // Operations that fill, empty and move are the most likely: reads need contents.
        match from.below(38) {
            0..8 => add(from),
            8..11 => prepend(from),
            11..17 => remove(from),
            17..22 => transfer(from),
            22 => Self::Readln(from.one_of(&STYLES)),
            23 => lines(from),
            24..27 => reserve(from),
            27..31 => look(from),
            31 => search(from),
            32 => Self::Expand(size(from)),
            33 => Self::ShrinkToFit,
            34 => state(from),
            35 | 36 => edit(from),
            _ => renew(from),
        }
    }
}

fn size(from: &mut impl Choose) -> usize {
    match from.below(8) {
        0 => from.one_of(&EDGES),
        _ => from.one_of(&SMALL),
    }
}

fn data(from: &mut impl Choose) -> Data {
    let len = size(from);
    let seed = from.below(256) as u8;
    Data { len, seed }
}

fn pos(from: &mut impl Choose) -> Pos {
    Pos(from.below(1 << 16))
}

fn add(from: &mut impl Choose) -> Op {
    let by = from.one_of(&[
        AddBy::Copy,
        AddBy::Copy,
        AddBy::Copy,
        AddBy::Reference,
        AddBy::Owner,
        AddBy::File,
        AddBy::Vectored,
        AddBy::Extend,
        AddBy::IoWrite,
        AddBy::IoWriteVectored,
        AddBy::FmtWrite,
        AddBy::AsyncWrite,
        AddBy::AsyncWriteVectored,
        AddBy::PutSlice,
        AddBy::Put,
        AddBy::ReadFrom,
        AddBy::PollReadFrom,
        AddBy::PollReadPending,
    ]);
    let data = data(from);
    Op::Add { by, data }
}

fn prepend(from: &mut impl Choose) -> Op {
    let by = from.one_of(&[PrependBy::Copy, PrependBy::Copy, PrependBy::Reference]);
    let data = data(from);
    Op::Prepend { by, data }
}

fn remove(from: &mut impl Choose) -> Op {
    let by = from.one_of(&[
        RemoveBy::Drain,
        RemoveBy::Remove,
        RemoveBy::TakeBytes,
        RemoveBy::TakeBytes,
        RemoveBy::Clear,
        RemoveBy::Read,
        RemoveBy::BufRead,
        RemoveBy::AsyncRead,
        RemoveBy::AsyncBufRead,
        RemoveBy::Advance,
        RemoveBy::CopyToBytes,
        RemoveBy::WriteTo,
        RemoveBy::PollWriteTo,
        RemoveBy::PollWriteToPlain,
        RemoveBy::PollWritePending,
    ]);
    let n = size(from);
    Op::Remove { by, n }
}

fn transfer(from: &mut impl Choose) -> Op {
    let by = from.one_of(&[
        MoveBy::AddBuffer,
        MoveBy::RemoveBuffer,
        MoveBy::RemoveBuffer,
        MoveBy::PrependBuffer,
        MoveBy::AddBufferReference,
        MoveBy::AddShared,
    ]);
    let n = size(from);
    Op::Move { by, n }
}

fn lines(from: &mut impl Choose) -> Op {
    let style = from.one_of(&STYLES);
    match from.below(3) {
        0 => Op::ReadLines(style),
        1 => Op::Readln(style),
        _ => Op::ReadlnMax {
            style,
            max: size(from),
        },
    }
}

fn edit(from: &mut impl Choose) -> Op {
    match from.below(4) {
        0 => Op::Truncate(pos(from)),
        1 => Op::SplitOff(pos(from)),
        _ => Op::WriteAt {
            pos: pos(from),
            data: data(from),
        },
    }
}

fn reserve(from: &mut impl Choose) -> Op {
    let n = size(from);
    let fill = from.one_of(&[Fill::Put, Fill::PutPieces(1 + n / 3), Fill::Slices]);
    let commit = from.one_of(&[
        Commit::Asked,
        Commit::Half,
        Commit::Room,
        Commit::TooMuch,
        Commit::Nothing,
    ]);
    Op::Reserve { n, fill, commit }
}

fn look(from: &mut impl Choose) -> Op {
    match from.below(11) {
        0 => Op::Copyout {
            pos: pos(from),
            n: size(from),
        },
        1 => Op::Pullup(match from.below(4) {
            0 => Amount::All,
            1 => Amount::OneTooMany,
            _ => Amount::Bytes(size(from)),
        }),
        2 => Op::Peek {
            pos: pos(from),
            slices: from.one_of(&[0, 1, 2, 5, 70]),
        },
        3 => Op::StartsWith {
            n: size(from),
            wrong: from.below(2) == 1,
        },
        4 => Op::SearchEol {
            from: pos(from),
            style: from.one_of(&STYLES),
        },
        5 => Op::SearchAny {
            bytes: Data {
                len: from.below(5),
                seed: from.below(256) as u8,
            },
            from: pos(from),
        },
        6 => Op::EndsWith {
            n: size(from),
            wrong: from.below(2) == 1,
        },
        7 => Op::Get(pos(from)),
        8 => Op::Cursor {
            pos: pos(from),
            n: size(from),
        },
        9 => Op::ToVec,
        _ => Op::Equals,
    }
}

fn search(from: &mut impl Choose) -> Op {
    let len = from.one_of(&[0, 1, 2, 3, 5, 40]);
    let needle = match from.below(2) {
        0 => Needle::Present { at: pos(from), len },
        _ => Needle::Data(Data {
            len,
            seed: from.below(256) as u8,
        }),
    };
    Op::Search {
        needle,
        start: pos(from),
        end: pos(from),
    }
}

fn state(from: &mut impl Choose) -> Op {
    match from.below(8) {
        0 => Op::Freeze(End::Front),
        1 => Op::Freeze(End::Back),
        2 | 3 => Op::Unfreeze(End::Front),
        4 | 5 => Op::Unfreeze(End::Back),
        6 => Op::SetMaxLen(Some(size(from))),
        _ => Op::SetMaxLen(None),
    }
}

fn renew(from: &mut impl Choose) -> Op {
    let by = from.one_of(&[
        RenewBy::New,
        RenewBy::WithCapacity,
        RenewBy::Slice,
        RenewBy::Vec,
        RenewBy::Bytes,
        RenewBy::BytesMut,
        RenewBy::Collect,
    ]);
    let data = data(from);
    Op::Renew { by, data }
}
