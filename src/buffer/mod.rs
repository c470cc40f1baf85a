//! The chain of segments.

/// One end of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Where bytes are taken and prepended.
    Front,
    /// Where bytes are added.
    Back,
}

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EolStyle {
    /// Any run of CR and LF, swallowed whole.
    Any,
    /// An LF, with one CR before it if there is one.
    Crlf,
    /// CR LF only.
    CrlfStrict,
    /// An LF.
    Lf,
    /// A NUL.
    Nul,
}

/// Where a line ends: `len` bytes of terminator from `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Eol {
    /// Position of the first byte of the terminator.
    pub at: usize,
    /// Length of the terminator in bytes.
    pub len: usize,
}

/// A byte queue made of segments.
#[derive(Debug, Default)]
pub struct EvBuffer {}
