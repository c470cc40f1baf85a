//! Operations that change no byte, on the buffer and on its model.

use std::io::{IoSlice, Read, Seek, SeekFrom};

use bytes::Buf;

use super::{
    op::{Amount, Needle, Op, Pos},
    pair::Pair,
};

impl Pair {
    /// Operations that change no byte.
    pub(super) fn look(&mut self, op: Op) {
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

pub(super) fn concat(slices: &[IoSlice<'_>]) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.to_vec()).collect()
}
