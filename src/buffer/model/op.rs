//! The operations of a program: every public operation.

use tokio_evbuffer::{EolStyle, buffer::End};

/// One step of a program: `op` on the buffer numbered `on`, and on the one numbered `with` if there are two.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub on: usize,
    pub with: usize,
    pub op: Op,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Add {
        by: AddBy,
        data: Data,
    },
    Prepend {
        by: PrependBy,
        data: Data,
    },
    Remove {
        by: RemoveBy,
        n: usize,
    },
    Move {
        by: MoveBy,
        n: usize,
    },
    Readln(EolStyle),
    ReadlnMax {
        style: EolStyle,
        max: usize,
    },
    ReadLines(EolStyle),
    WriteAt {
        pos: Pos,
        data: Data,
    },
    Truncate(Pos),
    /// The bytes that are split off replace the other buffer.
    SplitOff(Pos),
    Reserve {
        n: usize,
        fill: Fill,
        commit: Commit,
    },
    Copyout {
        pos: Pos,
        n: usize,
    },
    Pullup(Amount),
    Peek {
        pos: Pos,
        slices: usize,
    },
    StartsWith {
        n: usize,
        wrong: bool,
    },
    Search {
        needle: Needle,
        start: Pos,
        end: Pos,
    },
    SearchEol {
        from: Pos,
        style: EolStyle,
    },
    SearchAny {
        bytes: Data,
        from: Pos,
    },
    EndsWith {
        n: usize,
        wrong: bool,
    },
    Get(Pos),
    /// Reads from a cursor, seeks, and reads again.
    Cursor {
        pos: Pos,
        n: usize,
    },
    ToVec,
    Equals,
    Expand(usize),
    ShrinkToFit,
    Freeze(End),
    Unfreeze(End),
    SetMaxLen(Option<usize>),
    /// Replaces the buffer by a new one.
    Renew {
        by: RenewBy,
        data: Data,
    },
}

/// How bytes are added at the back.
#[derive(Clone, Copy, Debug)]
pub enum AddBy {
    Copy,
    Vectored,
    Reference,
    Owner,
    File,
    Extend,
    IoWrite,
    IoWriteVectored,
    FmtWrite,
    AsyncWrite,
    AsyncWriteVectored,
    PutSlice,
    /// Through `chunk_mut` and `advance_mut`.
    Put,
    ReadFrom,
    PollReadFrom,
    /// From a stream that has no bytes yet.
    PollReadPending,
}

/// How bytes are added at the front.
#[derive(Clone, Copy, Debug)]
pub enum PrependBy {
    Copy,
    Reference,
}

/// How bytes are removed.
#[derive(Clone, Copy, Debug)]
pub enum RemoveBy {
    Drain,
    Remove,
    TakeBytes,
    Clear,
    Read,
    BufRead,
    AsyncRead,
    AsyncBufRead,
    Advance,
    CopyToBytes,
    WriteTo,
    PollWriteTo,
    PollWriteToPlain,
    /// To a stream that is not ready.
    PollWritePending,
}

/// How bytes move from one buffer to another.
#[derive(Clone, Copy, Debug)]
pub enum MoveBy {
    AddBuffer,
    PrependBuffer,
    RemoveBuffer,
    AddBufferReference,
    AddShared,
}

/// How a buffer is created.
#[derive(Clone, Copy, Debug)]
pub enum RenewBy {
    New,
    WithCapacity,
    Slice,
    Vec,
    Bytes,
    BytesMut,
    Collect,
}

/// How a reservation is filled.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// In one piece.
    Put,
    /// In pieces of this many bytes.
    PutPieces(usize),
    Slices,
}

/// How a reservation ends.
#[derive(Clone, Copy, Debug)]
pub enum Commit {
    /// All requested bytes.
    Asked,
    /// About half of the requested bytes.
    Half,
    /// The room to its last byte, not all of it written.
    Room,
    TooMuch,
    /// It is dropped.
    Nothing,
}

/// A needle to search for.
#[derive(Clone, Copy, Debug)]
pub enum Needle {
    /// A piece of the contents.
    Present {
        at: Pos,
        len: usize,
    },
    Data(Data),
}

/// Bytes without long repetitions and with many line ends.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub len: usize,
    pub seed: u8,
}

impl Data {
    pub fn bytes(self) -> Vec<u8> {
        let mut state = u32::from(self.seed) << 8 | 0x51;
        let byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match (state >> 24) as u8 {
                0..8 => b'\r',
                8..16 => b'\n',
                16..20 => 0,
                other => other,
            }
        };
        std::iter::repeat_with(byte).take(self.len).collect()
    }

    pub fn text(self) -> String {
        self.bytes()
            .iter()
            .map(|byte| char::from(byte & 0x7f))
            .collect()
    }
}

/// A position in a buffer whose length is known when the step runs: mostly inside, sometimes a little behind the end.
#[derive(Clone, Copy, Debug)]
pub struct Pos(pub usize);

impl Pos {
    pub fn of(self, len: usize) -> usize {
        self.0 % (len + 3)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    Bytes(usize),
    All,
    OneTooMany,
}
