//! The types that a shared buffer consists of. They refer to each other, so they are in one file; what they do is in the files
//! that are named after it.

use std::{io, ops::Range, sync::Arc, task::Waker};

use super::{
    change::{Change, Totals},
    interest::Interest,
    lock::BufferLock,
    tracker::{Crossing, NumberedCrossing, WatermarkTracker},
};
use crate::{DeferredQueue, EvBuffer, deferred::Source, limits::budget::Account, sync::WaitList};

/// An [`EvBuffer`] that several tasks and threads share: a handle, cheap to clone.
///
/// Everything that is done under one [`lock`](Self::lock) is one change. The short forms, such as [`add`](Self::add), are one
/// change each: the methods of [`EvBuffer`] have one, except those that return a borrow or poll a stream. Changes can be
///
/// - awaited: [`changed`](Self::changed), [`changes`](Self::changes), [`wait_for`](Self::wait_for),
///   [`readable`](Self::readable), [`drained_to`](Self::drained_to);
/// - reported to a callback soon after, merged if there were many: [`on_change`](Self::on_change);
/// - reported to a callback at once: [`on_change_inline`](Self::on_change_inline), or, for crossings of the
///   [watermarks](Self::set_watermarks) only, [`on_watermark`](Self::on_watermark).
///
/// To take whole lines or frames, there are [`next_line`](Self::next_line), [`take_exact`](Self::take_exact),
/// [`take_until`](Self::take_until) and [`frames`](Self::frames).
///
/// Each subscriber has its position in two running totals, bytes ever added and bytes ever removed. So no change is
/// lost or reported twice, and `before + added - removed == after` in each [`Change`].
///
/// No callback, waker or destructor of user code runs while the buffer is locked, so callbacks may use any handle. The
/// exceptions are closures that you pass in: the predicate of [`wait_for`](Self::wait_for), a
/// [`FrameDecoder`](super::FrameDecoder), and what you do under a [`lock`](Self::lock).
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::SharedEvBuffer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffer = SharedEvBuffer::new();
/// let producer = buffer.clone();
/// tokio::spawn(async move {
///     for piece in ["one ", "frame"] {
///         producer.add(piece.as_bytes()).unwrap();
///         tokio::task::yield_now().await;
///     }
/// });
/// assert_eq!(buffer.take_exact(9).await?, "one frame");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "evbuffer_enable_locking")]
pub struct SharedEvBuffer {
    pub(super) inner: Arc<Inner>,
}

/// What the handles of a buffer share.
pub(super) struct Inner {
    pub(super) state: BufferLock<State>,
    /// The scheduling state of the deferred callbacks.
    pub(super) source: Source,
}

/// Follows every change of a buffer for the part of this crate that owns it.
pub(crate) trait ChangeHook: Send + Sync {
    /// Takes note of a change. Called with the lock held: it locks nothing that may wait for this buffer, and runs no user
    /// code. The returned waker is woken after the lock.
    fn changed(&self, info: ChangeInfo<'_>) -> Option<Waker>;

    /// Returns whether it needs a notification of changes that leave bytes in the buffer. Called with the lock held.
    ///
    /// It begins to wait only while the buffer is locked, and then calls
    /// [`hook_waits`](super::BufferGuard::hook_waits).
    fn waits(&self) -> bool;
}

/// What a [`ChangeHook`] is notified of.
#[derive(Clone, Copy)]
pub(crate) struct ChangeInfo<'a> {
    /// `None` if not the contents have changed, but the watermarks, the flags, or what tasks wait for.
    pub(crate) change: Option<Change>,
    pub(super) state: &'a State,
}

/// What the lock of a shared buffer protects.
//
// Invariant: a change to one of the `quiet_len` lengths from `quiet_from` on concerns no subscriber. `quiet_len` is zero,
// which is always right, from `observers_mut` until `update_quiet_range`.
pub(super) struct State {
    pub(super) buffer: EvBuffer,
    /// The token with which `buffer` was attached. Another buffer in its place has another token, or none.
    pub(super) token: u64,
    pub(super) flags: OwnerFlags,
    /// Made when it is first needed.
    pub(super) observers: Option<Box<Observers>>,
    /// The start of the quiet range: zero or one. A buffer of a connection releases its memory when it is empty.
    pub(super) quiet_from: u8,
    /// The size of the quiet range, or zero where that starts elsewhere. It has 32 bits to fit beside `flags`.
    pub(super) quiet_len: u32,
}

/// What the owner has set. It is applied to every buffer that takes the place of the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnerFlags {
    pub(super) front_frozen: bool,
    pub(super) back_frozen: bool,
    pub(super) closed: bool,
}

/// The subscribers of a buffer, and other state that only few buffers need.
#[derive(Default)]
pub(super) struct Observers {
    pub(super) tracker: WatermarkTracker,
    pub(super) waiters: WaitList<Interest>,
    pub(super) callbacks: Option<Box<Callbacks>>,
    pub(super) queue: Option<DeferredQueue>,
    pub(super) hook: Option<Arc<dyn ChangeHook>>,
    /// The lengths at which no subscriber needs a notification.
    pub(super) quiet: Range<usize>,
    /// The reader that has borrowed the front, by the number of the borrow.
    pub(super) borrow_id: u32,
    pub(super) borrows: u32,
    /// `None` in most buffers, so that an idle connection is small.
    pub(super) extras: Option<Box<Extras>>,
}

/// What few buffers need.
#[derive(Default)]
pub(super) struct Extras {
    /// The error with which the buffer was closed.
    pub(super) error: Option<Arc<io::Error>>,
    /// Bytes appended before the first byte that was discarded at the end.
    pub(super) discarded_from: Option<u64>,
    /// The account for which the memory of the buffer counts, also after its contents were replaced.
    pub(super) account: Option<Arc<Account>>,
}

/// The state that is compared to detect a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) totals: Totals,
    pub(super) prepended: u64,
    pub(super) overwrites: u64,
}

pub(super) type OnChange = Box<dyn FnMut(&SharedEvBuffer, Change) + Send>;
pub(super) type OnCrossing = Box<dyn FnMut(&SharedEvBuffer, Crossing) + Send>;

/// A user's function.
pub(super) enum Callback {
    Deferred(OnChange),
    Inline(OnChange),
    Watermark(OnCrossing),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Deferred,
    Inline,
    Watermark,
}

/// A callback that was taken out to be called. It has to be returned with [`Callbacks::put_back`].
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) callback: Callback,
    pub(super) event: CallbackEvent,
}

#[derive(Clone, Copy)]
pub(super) enum CallbackEvent {
    Change(Change),
    Crossing(Crossing),
}

pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) enabled: bool,
    /// The position up to which it was notified of changes.
    pub(super) seen: Totals,
    /// The number of the latest crossing that it is not notified of.
    pub(super) seen_crossing: u32,
    /// `None` while it is called.
    pub(super) callback: Option<Callback>,
}

/// The callbacks in the order in which they were registered, which is the order of their ids.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) entries: Vec<Entry>,
    pub(super) last_id: u64,
    /// The numbers of enabled callbacks of each kind.
    pub(super) deferred: usize,
    pub(super) inline: usize,
    pub(super) watermark: usize,
    /// A call delivers to inline callbacks now, and delivers what happens meanwhile, too.
    pub(super) delivering: bool,
    /// The callbacks up to this id were notified in the current round of each kind.
    pub(super) deferred_cursor: u64,
    pub(super) inline_cursor: u64,
    /// The crossing that is being delivered, and the last callback that was notified of it.
    pub(super) crossing: Option<(NumberedCrossing, u64)>,
    /// The ids of removed callbacks that are still being called.
    pub(super) removed_running: Vec<u64>,
}
