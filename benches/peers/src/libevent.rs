//! Bindings to C: libevent's evbuffer, and the candidates of `libevent.c` and `splice.c`.
//!
//! The only file of this program, one call of the allocator's aside, that steps over the border to C.
#![allow(unsafe_code)]

use std::{
    ffi::{c_char, c_int, c_void},
    io::IoSlice,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::IntoRawFd,
    ptr::{self, NonNull},
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Result, bail};

use crate::process;

/// An evbuffer. Functions that fail in C return an error here; nothing else is added.
#[derive(Debug)]
pub struct Evbuffer(NonNull<Raw>);

/// What libevent answers where it cannot do as asked. It says no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// The line ends of `evbuffer_readln`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Eol {
    Any,
    Crlf,
    CrlfStrict,
    Lf,
    Nul,
}

#[repr(C)]
struct Raw {
    _opaque: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Position {
    pos: isize,
    chain: *mut c_void,
    pos_in_chain: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct IoVec {
    base: *mut c_void,
    len: usize,
}

/// What a callback learns of a change.
#[repr(C)]
struct CallbackInfo {
    before: usize,
    added: usize,
    removed: usize,
}

#[repr(C)]
struct RawBase {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawConfig {
    _opaque: [u8; 0],
}

/// `EVENT_BASE_FLAG_NOLOCK`
const NO_LOCK: c_int = 1;
/// `EVBUFFER_PTR_SET`
const SET: c_int = 0;
/// `EVLOOP_NONBLOCK`
const DO_NOT_WAIT: c_int = 2;

type Callback = unsafe extern "C" fn(*mut Raw, *const CallbackInfo, *mut c_void);
type Cleanup = unsafe extern "C" fn(*const c_void, usize, *mut c_void);

unsafe extern "C" {
    fn evbuffer_new() -> *mut Raw;
    fn evbuffer_free(buf: *mut Raw);
    fn evbuffer_get_length(buf: *const Raw) -> usize;
    fn evbuffer_add(buf: *mut Raw, data: *const c_void, len: usize) -> c_int;
    fn evbuffer_prepend(buf: *mut Raw, data: *const c_void, len: usize) -> c_int;
    fn evbuffer_add_reference(
        buf: *mut Raw,
        data: *const c_void,
        len: usize,
        cleanup: Option<Cleanup>,
        arg: *mut c_void,
    ) -> c_int;
    fn evbuffer_add_buffer(dst: *mut Raw, src: *mut Raw) -> c_int;
    fn evbuffer_prepend_buffer(dst: *mut Raw, src: *mut Raw) -> c_int;
    fn evbuffer_add_buffer_reference(dst: *mut Raw, src: *mut Raw) -> c_int;
    fn evbuffer_drain(buf: *mut Raw, len: usize) -> c_int;
    fn evbuffer_remove(buf: *mut Raw, out: *mut c_void, len: usize) -> c_int;
    fn evbuffer_remove_buffer(src: *mut Raw, dst: *mut Raw, len: usize) -> c_int;
    fn evbuffer_copyout_from(
        buf: *mut Raw,
        pos: *const Position,
        out: *mut c_void,
        len: usize,
    ) -> isize;
    fn evbuffer_pullup(buf: *mut Raw, len: isize) -> *mut u8;
    fn evbuffer_ptr_set(buf: *mut Raw, ptr: *mut Position, position: usize, how: c_int) -> c_int;
    fn evbuffer_search_range(
        buf: *mut Raw,
        what: *const c_char,
        len: usize,
        start: *const Position,
        end: *const Position,
    ) -> Position;
    fn evbuffer_search_eol(
        buf: *mut Raw,
        start: *mut Position,
        eol_len: *mut usize,
        style: Eol,
    ) -> Position;
    fn evbuffer_readln(buf: *mut Raw, len: *mut usize, style: Eol) -> *mut c_char;
    fn evbuffer_reserve_space(buf: *mut Raw, size: isize, vec: *mut IoVec, count: c_int) -> c_int;
    fn evbuffer_commit_space(buf: *mut Raw, vec: *mut IoVec, count: c_int) -> c_int;
    fn evbuffer_expand(buf: *mut Raw, len: usize) -> c_int;
    fn evbuffer_peek(
        buf: *mut Raw,
        len: isize,
        start: *mut Position,
        vec: *mut IoVec,
        count: c_int,
    ) -> c_int;
    fn evbuffer_freeze(buf: *mut Raw, at_front: c_int) -> c_int;
    fn evbuffer_unfreeze(buf: *mut Raw, at_front: c_int) -> c_int;
    fn evbuffer_add_cb(buf: *mut Raw, callback: Callback, arg: *mut c_void) -> *mut c_void;
    fn evbuffer_defer_callbacks(buf: *mut Raw, base: *mut RawBase) -> c_int;
    fn evbuffer_enable_locking(buf: *mut Raw, lock: *mut c_void) -> c_int;
    fn evthread_use_pthreads() -> c_int;
    fn event_config_new() -> *mut RawConfig;
    fn event_config_set_flag(config: *mut RawConfig, flag: c_int) -> c_int;
    fn event_config_free(config: *mut RawConfig);
    fn event_base_new_with_config(config: *const RawConfig) -> *mut RawBase;
    fn event_base_free(base: *mut RawBase);
    fn event_base_loop(base: *mut RawBase, flags: c_int) -> c_int;

    fn peers_libevent_proxy(listen_fd: c_int, upstream_ip: u32, upstream_port: u16) -> c_int;
    fn peers_libevent_lines(listen_fd: c_int) -> c_int;
    fn peers_splice_proxy(listen_fd: c_int, upstream_ip: u32, upstream_port: u16) -> c_int;
}

// SAFETY of every block below: `self.0` is a live evbuffer that this value alone owns, and no callback that it may have
// touches it, so no call can re-enter; pointers that go with a length are those of a slice that outlives the call.

impl Default for Evbuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Evbuffer {
    #[inline]
    pub fn new() -> Self {
        // SAFETY: takes nothing; null means that memory has run out.
        Self(NonNull::new(unsafe { evbuffer_new() }).expect("out of memory"))
    }

    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: see above.
        unsafe { evbuffer_get_length(self.0.as_ptr()) }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn add(&mut self, data: &[u8]) -> Result<(), Refused> {
        // SAFETY: see above.
        done(unsafe { evbuffer_add(self.0.as_ptr(), data.as_ptr().cast(), data.len()) })
    }

    #[inline]
    pub fn prepend(&mut self, data: &[u8]) -> Result<(), Refused> {
        // SAFETY: see above.
        done(unsafe { evbuffer_prepend(self.0.as_ptr(), data.as_ptr().cast(), data.len()) })
    }

    /// Appends `'static` memory by reference, with a cleanup function, as a user would have one.
    #[inline]
    pub fn add_reference(&mut self, data: &'static [u8]) -> Result<(), Refused> {
        unsafe extern "C" fn cleanup(_: *const c_void, _: usize, _: *mut c_void) {}
        // SAFETY: see above; the memory is never freed, and the cleanup touches nothing.
        done(unsafe {
            let at = data.as_ptr().cast();
            evbuffer_add_reference(
                self.0.as_ptr(),
                at,
                data.len(),
                Some(cleanup),
                ptr::null_mut(),
            )
        })
    }

    #[inline]
    pub fn add_buffer(&mut self, src: &mut Self) -> Result<(), Refused> {
        // SAFETY: see above, for both.
        done(unsafe { evbuffer_add_buffer(self.0.as_ptr(), src.0.as_ptr()) })
    }

    pub fn prepend_buffer(&mut self, src: &mut Self) -> Result<(), Refused> {
        // SAFETY: see above, for both.
        done(unsafe { evbuffer_prepend_buffer(self.0.as_ptr(), src.0.as_ptr()) })
    }

    /// Shares what `src` holds. libevent keeps `src` alive with a separate count.
    pub fn add_buffer_reference(&mut self, src: &mut Self) -> Result<(), Refused> {
        // SAFETY: see above, for both.
        done(unsafe { evbuffer_add_buffer_reference(self.0.as_ptr(), src.0.as_ptr()) })
    }

    #[inline]
    pub fn drain(&mut self, len: usize) -> Result<(), Refused> {
        // SAFETY: see above.
        done(unsafe { evbuffer_drain(self.0.as_ptr(), len) })
    }

    #[inline]
    pub fn remove(&mut self, out: &mut [u8]) -> Result<usize, Refused> {
        // SAFETY: see above.
        count(
            unsafe { evbuffer_remove(self.0.as_ptr(), out.as_mut_ptr().cast(), out.len()) }
                as isize,
        )
    }

    #[inline]
    pub fn remove_buffer(&mut self, dst: &mut Self, len: usize) -> Result<usize, Refused> {
        // SAFETY: see above, for both.
        count(unsafe { evbuffer_remove_buffer(self.0.as_ptr(), dst.0.as_ptr(), len) } as isize)
    }

    #[inline]
    pub fn copyout(&mut self, out: &mut [u8]) -> Result<usize, Refused> {
        // SAFETY: see above; no position is the start.
        count(unsafe {
            evbuffer_copyout_from(
                self.0.as_ptr(),
                ptr::null(),
                out.as_mut_ptr().cast(),
                out.len(),
            )
        })
    }

    pub fn copyout_from(&mut self, pos: usize, out: &mut [u8]) -> Result<usize, Refused> {
        let pos = self.position(pos)?;
        // SAFETY: see above; the position was made for the current state of the buffer.
        count(unsafe {
            evbuffer_copyout_from(self.0.as_ptr(), &pos, out.as_mut_ptr().cast(), out.len())
        })
    }

    #[inline]
    pub fn pullup(&mut self, len: usize) -> Option<&[u8]> {
        // SAFETY: see above.
        let at = unsafe { evbuffer_pullup(self.0.as_ptr(), len as isize) };
        // SAFETY: `len` bytes are there in one piece, until the buffer is changed, which the borrow forbids.
        (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at, len) })
    }

    pub fn search(
        &mut self,
        needle: &[u8],
        from: usize,
        to: usize,
    ) -> Result<Option<usize>, Refused> {
        let (from, to) = (self.position(from)?, self.position(to)?);
        // SAFETY: see above; both positions were made for the current state of the buffer.
        let hit = unsafe {
            evbuffer_search_range(
                self.0.as_ptr(),
                needle.as_ptr().cast(),
                needle.len(),
                &from,
                &to,
            )
        };
        Ok(usize::try_from(hit.pos).ok())
    }

    /// Searches from the start to the end.
    #[inline]
    pub fn find(&mut self, needle: &[u8]) -> Option<usize> {
        let (at, len) = (needle.as_ptr().cast(), needle.len());
        // SAFETY: see above; no positions are start and end.
        let hit =
            unsafe { evbuffer_search_range(self.0.as_ptr(), at, len, ptr::null(), ptr::null()) };
        usize::try_from(hit.pos).ok()
    }

    /// Where the line that starts at `from` ends, and how long its end is.
    pub fn search_eol(
        &mut self,
        from: usize,
        style: Eol,
    ) -> Result<Option<(usize, usize)>, Refused> {
        let mut from = self.position(from)?;
        let mut len = 0;
        // SAFETY: see above; the position was made for the current state of the buffer.
        let hit = unsafe { evbuffer_search_eol(self.0.as_ptr(), &mut from, &mut len, style) };
        Ok(usize::try_from(hit.pos).ok().map(|at| (at, len)))
    }

    #[inline]
    pub fn readln(&mut self, style: Eol) -> Option<Line> {
        let mut len = 0;
        // SAFETY: see above.
        let at = unsafe { evbuffer_readln(self.0.as_ptr(), &mut len, style) };
        NonNull::new(at.cast()).map(|at| Line { at, len })
    }

    /// Reserves `len` bytes in one piece, calls `fill` with them, and commits the number that it returns.
    #[inline]
    pub fn fill(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> usize,
    ) -> Result<(), Refused> {
        let mut room = IoVec {
            base: ptr::null_mut(),
            len: 0,
        };
        // SAFETY: see above; there is one vector, as it says.
        if unsafe { evbuffer_reserve_space(self.0.as_ptr(), len as isize, &mut room, 1) } != 1 {
            return Err(Refused);
        }
        // SAFETY: the buffer has lent `room.len` bytes, perhaps never written, until it is called again.
        let filled = fill(unsafe { std::slice::from_raw_parts_mut(room.base.cast(), room.len) });
        assert!(filled <= room.len);
        room.len = filled;
        // SAFETY: see above; the vector is the one just given, not longer than it was.
        done(unsafe { evbuffer_commit_space(self.0.as_ptr(), &mut room, 1) })
    }

    pub fn expand(&mut self, len: usize) -> Result<(), Refused> {
        // SAFETY: see above.
        done(unsafe { evbuffer_expand(self.0.as_ptr(), len) })
    }

    /// Fills `out` with the pieces from the start on, and returns how many it filled.
    #[inline]
    pub fn peek<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        const MOST: usize = 64;
        let mut pieces = [IoVec {
            base: ptr::null_mut(),
            len: 0,
        }; MOST];
        let most = out.len().min(MOST) as c_int;
        // SAFETY: see above; there are `most` vectors, and no position is the start.
        let n = unsafe {
            evbuffer_peek(
                self.0.as_ptr(),
                -1,
                ptr::null_mut(),
                pieces.as_mut_ptr(),
                most,
            )
        };
        let filled = (n.max(0) as usize).min(out.len());
        for (slot, piece) in out.iter_mut().zip(&pieces[..filled]) {
            // SAFETY: a piece of the buffer stays where it is until the buffer is changed, which the borrow forbids.
            *slot =
                IoSlice::new(unsafe { std::slice::from_raw_parts(piece.base.cast(), piece.len) });
        }
        filled
    }

    pub fn freeze(&mut self, at_front: bool) {
        // SAFETY: see above.
        unsafe { evbuffer_freeze(self.0.as_ptr(), at_front.into()) };
    }

    pub fn unfreeze(&mut self, at_front: bool) {
        // SAFETY: see above.
        unsafe { evbuffer_unfreeze(self.0.as_ptr(), at_front.into()) };
    }

    fn position(&mut self, at: usize) -> Result<Position, Refused> {
        let mut position = Position {
            pos: 0,
            chain: ptr::null_mut(),
            pos_in_chain: 0,
        };
        // SAFETY: see above.
        done(unsafe { evbuffer_ptr_set(self.0.as_ptr(), &mut position, at, SET) })?;
        Ok(position)
    }
}

impl Drop for Evbuffer {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the value is the only owner and is used no more.
        unsafe { evbuffer_free(self.0.as_ptr()) }
    }
}

/// Whether an evbuffer may be used by several threads, as a `SharedEvBuffer` always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    On,
    Off,
}

/// An evbuffer with a callback that counts the added bytes.
#[derive(Debug)]
pub struct Observed {
    // Fields are dropped in this order: the buffer before what its callback uses.
    buffer: Evbuffer,
    counted: Box<AtomicU64>,
    base: Option<Base>,
}

#[derive(Debug)]
struct Base(NonNull<RawBase>);

impl Observed {
    /// The callback runs within each change, which takes a lock if there is one.
    pub fn inline(locking: Locking) -> Self {
        unsafe extern "C" fn count(_: *mut Raw, info: *const CallbackInfo, counted: *mut c_void) {
            // SAFETY: libevent lends the info, and the counter outlives the buffer.
            let (info, counted) = unsafe { (&*info, &*counted.cast::<AtomicU64>()) };
            counted.fetch_add(info.added as u64, Ordering::Relaxed);
        }
        let (buffer, counted) = (Evbuffer::new(), Box::new(AtomicU64::new(0)));
        if locking == Locking::On {
            static ONCE: Once = Once::new();
            // SAFETY: takes nothing, and is called once, before the first lock.
            ONCE.call_once(|| assert_eq!(unsafe { evthread_use_pthreads() }, 0));
            // SAFETY: the buffer lives, and null requests a separate lock.
            let code = unsafe { evbuffer_enable_locking(buffer.0.as_ptr(), ptr::null_mut()) };
            assert_eq!(code, 0, "out of memory");
        }
        let arg = ptr::from_ref(&*counted).cast_mut().cast();
        // SAFETY: the counter lives in a box that is dropped after the buffer.
        let entry = unsafe { evbuffer_add_cb(buffer.0.as_ptr(), count, arg) };
        assert!(!entry.is_null(), "out of memory");
        Self {
            buffer,
            counted,
            base: None,
        }
    }

    /// The callback runs in an event loop, for all changes since it last ran. Buffer and loop have locks or have none.
    pub fn deferred(locking: Locking) -> Self {
        let observed = Self::inline(locking);
        let base = Base::new(locking);
        // SAFETY: both live, and the base is dropped after the buffer.
        unsafe { evbuffer_defer_callbacks(observed.buffer.0.as_ptr(), base.0.as_ptr()) };
        Self {
            base: Some(base),
            ..observed
        }
    }

    #[inline]
    pub fn buffer(&mut self) -> &mut Evbuffer {
        &mut self.buffer
    }

    /// Runs the callbacks that are due.
    #[inline]
    pub fn run(&mut self) {
        if let Some(base) = &self.base {
            // SAFETY: the base lives; its only callback counts.
            unsafe { event_base_loop(base.0.as_ptr(), DO_NOT_WAIT) };
        }
    }

    /// Returns the number of added bytes that the callback was called with.
    pub fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }
}

impl Base {
    fn new(locking: Locking) -> Self {
        // SAFETY: the config lives from its making to its end, both here; null means that memory has run out.
        let base = unsafe {
            let config = event_config_new();
            assert!(!config.is_null(), "out of memory");
            if locking == Locking::Off {
                event_config_set_flag(config, NO_LOCK);
            }
            let base = event_base_new_with_config(config);
            event_config_free(config);
            base
        };
        Self(NonNull::new(base).expect("an event loop"))
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // SAFETY: the value is the only owner and is used no more.
        unsafe { event_base_free(self.0.as_ptr()) }
    }
}

/// A line that `evbuffer_readln` allocated.
#[derive(Debug)]
pub struct Line {
    at: NonNull<u8>,
    len: usize,
}

impl std::ops::Deref for Line {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: libevent allocated `len` bytes and a NUL here, and gave them away.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Line {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it came from libevent's `malloc`, which is the system's, and is used no more.
        unsafe { libc::free(self.at.as_ptr().cast()) }
    }
}

/// Serves as the bufferevent proxy; returns only after an error.
pub fn run_proxy(upstream: SocketAddr) -> Result<()> {
    run(peers_libevent_proxy, upstream)
}

/// Serves as the bare splice loop; returns only after an error.
pub fn run_splice(upstream: SocketAddr) -> Result<()> {
    run(peers_splice_proxy, upstream)
}

type Proxy = unsafe extern "C" fn(listen_fd: c_int, upstream_ip: u32, upstream_port: u16) -> c_int;

fn run(proxy: Proxy, upstream: SocketAddr) -> Result<()> {
    let SocketAddr::V4(upstream) = upstream else {
        bail!("the proxies in C support only IPv4");
    };
    let (ip, port) = (u32::from(*upstream.ip()), upstream.port());
    // SAFETY: the proxy takes ownership of the listening socket; the other arguments are numbers.
    let code = unsafe { proxy(listen()?, ip, port) };
    bail!("the event loop ended with {code}")
}

/// Serves as the bufferevent line server; returns only after an error.
pub fn run_lines() -> Result<()> {
    // SAFETY: the server takes ownership of the listening socket.
    let code = unsafe { peers_libevent_lines(listen()?) };
    bail!("libevent's loop ended with {code}")
}

fn listen() -> Result<c_int> {
    let listener = process::listen()?;
    process::serve_parent(listener.local_addr()?);
    Ok(listener.into_raw_fd())
}

fn done(code: c_int) -> Result<(), Refused> {
    if code < 0 { Err(Refused) } else { Ok(()) }
}

fn count(n: isize) -> Result<usize, Refused> {
    usize::try_from(n).map_err(|_| Refused)
}
