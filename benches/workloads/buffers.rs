//! The buffers that are compared, behind one trait for each group of operations: a workload names the traits that it needs.

use std::{
    collections::VecDeque,
    io::{IoSlice, Read},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::{memchr, memmem};
use tokio_evbuffer::{EolStyle, EvBuffer};

use super::workload::{BYTES_MUT, DEQUE, DEQUE_OF_BYTES, OURS};

/// Memory of the user: reference-counted for Rust, `'static` for C, where sharing it costs nothing.
pub(super) struct Foreign {
    pub(super) bytes: Bytes,
    #[cfg_attr(not(libevent), allow(dead_code))]
    pub(super) slice: &'static [u8],
}

/// A queue of bytes.
pub(super) trait Queue: Default {
    const NAME: &'static str;
    fn add(&mut self, data: &[u8]);
    fn drain(&mut self, n: usize);
    /// Fills `out`, which is at most as long as the buffer.
    fn remove(&mut self, out: &mut [u8]);
}

pub(super) trait Copyout: Queue {
    fn copyout(&mut self, out: &mut [u8]);
}

pub(super) trait Prepend: Queue {
    fn prepend(&mut self, data: &[u8]);
}

/// A buffer whose contents move to another one.
pub(super) trait Move: Default {
    const NAME: &'static str;
    /// Appends a piece. A buffer of pieces does not merge it with its neighbours.
    fn add_piece(&mut self, data: &[u8]);
    fn drain_front(&mut self, n: usize);
    /// All of `src` to the back of `self`.
    fn add_all(&mut self, src: &mut Self);
    /// The first `n` bytes of `self` to the back of `dst`.
    fn move_some(&mut self, dst: &mut Self, n: usize);
}

/// A buffer that takes memory of the user by reference.
pub(super) trait Link: Move {
    fn link(&mut self, foreign: &Foreign);
    fn peek<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize;
}

pub(super) trait Pullup: Link {
    fn pullup(&mut self, n: usize) -> u8;
}

pub(super) trait Search: Queue {
    fn find(&mut self, needle: &[u8]) -> Option<usize>;
    /// Takes a line that ends with LF and returns its length.
    fn line(&mut self) -> usize;
}

pub(super) trait Reserve: Queue {
    /// Makes room for `n` bytes and commits them as they are, apart from the first, which it writes.
    fn reserve_commit(&mut self, n: usize);
}

const UNLIMITED: &str = "no limit is set and nothing is frozen";

impl Queue for EvBuffer {
    const NAME: &'static str = OURS;
    #[inline]
    fn add(&mut self, data: &[u8]) {
        EvBuffer::add(self, data).expect(UNLIMITED);
    }
    #[inline]
    fn drain(&mut self, n: usize) {
        EvBuffer::drain(self, n).expect(UNLIMITED);
    }
    #[inline]
    fn remove(&mut self, out: &mut [u8]) {
        EvBuffer::remove(self, out).expect(UNLIMITED);
    }
}

impl Copyout for EvBuffer {
    #[inline]
    fn copyout(&mut self, out: &mut [u8]) {
        EvBuffer::copyout(self, out).expect(UNLIMITED);
    }
}

impl Prepend for EvBuffer {
    #[inline]
    fn prepend(&mut self, data: &[u8]) {
        EvBuffer::prepend(self, data).expect(UNLIMITED);
    }
}

impl Move for EvBuffer {
    const NAME: &'static str = OURS;
    fn add_piece(&mut self, data: &[u8]) {
        EvBuffer::add(self, data).expect(UNLIMITED);
    }
    #[inline]
    fn drain_front(&mut self, n: usize) {
        EvBuffer::drain(self, n).expect(UNLIMITED);
    }
    #[inline]
    fn add_all(&mut self, src: &mut Self) {
        self.add_buffer(src).expect(UNLIMITED);
    }
    #[inline]
    fn move_some(&mut self, dst: &mut Self, n: usize) {
        self.remove_buffer(dst, n).expect(UNLIMITED);
    }
}

impl Link for EvBuffer {
    #[inline]
    fn link(&mut self, foreign: &Foreign) {
        self.add_reference(foreign.bytes.clone()).expect(UNLIMITED);
    }
    #[inline]
    fn peek<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        EvBuffer::peek(self, 0, out)
    }
}

impl Pullup for EvBuffer {
    #[inline]
    fn pullup(&mut self, n: usize) -> u8 {
        EvBuffer::pullup(self, n).expect("the buffer holds that many")[n - 1]
    }
}

impl Search for EvBuffer {
    #[inline]
    fn find(&mut self, needle: &[u8]) -> Option<usize> {
        self.search(needle, ..)
    }
    #[inline]
    fn line(&mut self) -> usize {
        self.readln(EolStyle::Lf)
            .expect(UNLIMITED)
            .expect("the buffer holds a line")
            .len()
    }
}

impl Reserve for EvBuffer {
    #[inline]
    fn reserve_commit(&mut self, n: usize) {
        let mut room = self.reserve(n).expect(UNLIMITED);
        room.put(&[1]);
        room.commit(n).expect(UNLIMITED);
    }
}

impl Queue for BytesMut {
    const NAME: &'static str = BYTES_MUT;
    #[inline]
    fn add(&mut self, data: &[u8]) {
        self.extend_from_slice(data);
    }
    #[inline]
    fn drain(&mut self, n: usize) {
        if n == self.len() {
            self.clear()
        } else {
            self.advance(n)
        }
    }
    #[inline]
    fn remove(&mut self, out: &mut [u8]) {
        out.copy_from_slice(&self[..out.len()]);
        Queue::drain(self, out.len());
    }
}

impl Copyout for BytesMut {
    #[inline]
    fn copyout(&mut self, out: &mut [u8]) {
        out.copy_from_slice(&self[..out.len()]);
    }
}

impl Prepend for BytesMut {
    /// `BytesMut` cannot prepend: a new buffer replaces the old one, as a user would do it.
    #[inline]
    fn prepend(&mut self, data: &[u8]) {
        let mut joined = BytesMut::with_capacity(data.len() + self.len());
        joined.extend_from_slice(data);
        joined.extend_from_slice(self);
        *self = joined;
    }
}

impl Move for BytesMut {
    const NAME: &'static str = BYTES_MUT;
    fn add_piece(&mut self, data: &[u8]) {
        self.extend_from_slice(data);
    }
    #[inline]
    fn drain_front(&mut self, n: usize) {
        Queue::drain(self, n);
    }
    #[inline]
    fn add_all(&mut self, src: &mut Self) {
        self.unsplit(std::mem::take(src));
    }
    #[inline]
    fn move_some(&mut self, dst: &mut Self, n: usize) {
        dst.unsplit(self.split_to(n));
    }
}

impl Search for BytesMut {
    #[inline]
    fn find(&mut self, needle: &[u8]) -> Option<usize> {
        memmem::find(self, needle)
    }
    #[inline]
    fn line(&mut self) -> usize {
        let end = memchr(b'\n', self).expect("the buffer holds a line");
        let line = self.split_to(end);
        self.advance(1);
        line.len()
    }
}

impl Reserve for BytesMut {
    #[inline]
    #[allow(unsafe_code)]
    fn reserve_commit(&mut self, n: usize) {
        self.reserve(n);
        self.chunk_mut()[..1].copy_from_slice(&[1]);
        // SAFETY: the workload has written the whole of this room before, and nothing else was put there since.
        unsafe { self.advance_mut(n) }
    }
}

impl Move for VecDeque<Bytes> {
    const NAME: &'static str = DEQUE_OF_BYTES;
    fn add_piece(&mut self, data: &[u8]) {
        self.push_back(Bytes::copy_from_slice(data));
    }
    #[inline]
    fn drain_front(&mut self, mut n: usize) {
        while n > 0 {
            let first = self.front_mut().expect("the buffer holds that many");
            if first.len() > n {
                first.advance(n);
                return;
            }
            n -= first.len();
            self.pop_front();
        }
    }
    #[inline]
    fn add_all(&mut self, src: &mut Self) {
        self.append(src);
    }
    #[inline]
    fn move_some(&mut self, dst: &mut Self, mut n: usize) {
        while n > 0 {
            let first = self.front_mut().expect("the buffer holds that many");
            if first.len() > n {
                dst.push_back(first.split_to(n));
                return;
            }
            n -= first.len();
            dst.extend(self.pop_front());
        }
    }
}

impl Link for VecDeque<Bytes> {
    #[inline]
    fn link(&mut self, foreign: &Foreign) {
        self.push_back(foreign.bytes.clone());
    }
    #[inline]
    fn peek<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        for (slot, piece) in out.iter_mut().zip(self) {
            *slot = IoSlice::new(piece);
            n += 1;
        }
        n
    }
}

impl Queue for VecDeque<u8> {
    const NAME: &'static str = DEQUE;
    #[inline]
    fn add(&mut self, data: &[u8]) {
        self.extend(data);
    }
    #[inline]
    fn drain(&mut self, n: usize) {
        VecDeque::drain(self, ..n);
    }
    #[inline]
    fn remove(&mut self, out: &mut [u8]) {
        self.read_exact(out).expect("the buffer holds that many");
    }
}

impl Prepend for VecDeque<u8> {
    #[inline]
    fn prepend(&mut self, data: &[u8]) {
        data.iter().rev().for_each(|&byte| self.push_front(byte));
    }
}

#[cfg(libevent)]
mod c {
    use std::io::IoSlice;

    use super::{Copyout, Foreign, Link, Move, Prepend, Pullup, Queue, Reserve, Search};
    use crate::libevent::{Eol, Evbuffer};

    const WORKS: &str = "libevent does what the workload asks for";

    impl Queue for Evbuffer {
        const NAME: &'static str = crate::workloads::LIBEVENT;
        #[inline]
        fn add(&mut self, data: &[u8]) {
            Evbuffer::add(self, data).expect(WORKS);
        }
        #[inline]
        fn drain(&mut self, n: usize) {
            Evbuffer::drain(self, n).expect(WORKS);
        }
        #[inline]
        fn remove(&mut self, out: &mut [u8]) {
            Evbuffer::remove(self, out).expect(WORKS);
        }
    }

    impl Copyout for Evbuffer {
        #[inline]
        fn copyout(&mut self, out: &mut [u8]) {
            Evbuffer::copyout(self, out).expect(WORKS);
        }
    }

    impl Prepend for Evbuffer {
        #[inline]
        fn prepend(&mut self, data: &[u8]) {
            Evbuffer::prepend(self, data).expect(WORKS);
        }
    }

    impl Move for Evbuffer {
        const NAME: &'static str = crate::workloads::LIBEVENT;
        fn add_piece(&mut self, data: &[u8]) {
            Evbuffer::add(self, data).expect(WORKS);
        }
        #[inline]
        fn drain_front(&mut self, n: usize) {
            Evbuffer::drain(self, n).expect(WORKS);
        }
        #[inline]
        fn add_all(&mut self, src: &mut Self) {
            self.add_buffer(src).expect(WORKS);
        }
        #[inline]
        fn move_some(&mut self, dst: &mut Self, n: usize) {
            self.remove_buffer(dst, n).expect(WORKS);
        }
    }

    impl Link for Evbuffer {
        #[inline]
        fn link(&mut self, foreign: &Foreign) {
            self.add_reference(foreign.slice).expect(WORKS);
        }
        #[inline]
        fn peek<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
            Evbuffer::peek(self, out)
        }
    }

    impl Pullup for Evbuffer {
        #[inline]
        fn pullup(&mut self, n: usize) -> u8 {
            Evbuffer::pullup(self, n).expect(WORKS)[n - 1]
        }
    }

    impl Search for Evbuffer {
        #[inline]
        fn find(&mut self, needle: &[u8]) -> Option<usize> {
            Evbuffer::find(self, needle)
        }
        #[inline]
        fn line(&mut self) -> usize {
            self.readln(Eol::Lf).expect(WORKS).len()
        }
    }

    impl Reserve for Evbuffer {
        #[inline]
        fn reserve_commit(&mut self, n: usize) {
            let write_first = |room: &mut [std::mem::MaybeUninit<u8>]| {
                room[0].write(1);
                n
            };
            self.fill(n, write_first).expect(WORKS);
        }
    }
}
