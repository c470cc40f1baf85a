//! The callbacks of a BufferEvent, and telling them.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Weak},
};

use super::{
    BufferEvent, Event, Side,
    inner::{Hears, Inner},
};
use crate::{
    SharedEvBuffer,
    deferred::{Deferred, Runner, Source},
    panic::catch_panic,
    shared::{CallbackHandle, Crossing},
    sync::{Lock, Ordering},
};

type OnBytes = Box<dyn FnMut(&BufferEvent) + Send>;
type OnEvent = Box<dyn FnMut(&BufferEvent, Event) + Send>;
type OnMark = Box<dyn FnMut(&BufferEvent, Side, Crossing) + Send>;

/// The four callbacks of a [`BufferEvent`], for [`set_callbacks`](BufferEvent::set_callbacks).
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::{BufferEvent, bufferevent::Callbacks};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = BufferEvent::pair();
/// // An echo.
/// far.set_callbacks(Callbacks::new().on_read(|bev| {
///     let _ = bev.input().move_to(bev.output(), usize::MAX);
/// }));
/// near.output().add(b"there and back")?;
/// near.input().readable(14).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use]
#[doc(alias = "bufferevent_setcb")]
pub struct Callbacks {
    slots: Slots,
    on_mark: Option<OnMark>,
}

impl Callbacks {
    /// Sets none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has `f` called after reads, while the input holds at least its low mark, or anything if it has none.
    ///
    /// Deferred: soon after, once for any number of reads. At the end of stream it is called once more for what lies
    /// below the mark.
    #[doc(alias = "bufferevent_data_cb")]
    pub fn on_read(mut self, f: impl FnMut(&BufferEvent) + Send + 'static) -> Self {
        self.slots.read = Some(Box::new(f));
        self
    }

    /// Has `f` called after writes by which the output has fallen to its low mark, or has become empty if it has none.
    ///
    /// Deferred, as [`on_read`](Self::on_read), after which it runs.
    #[doc(alias = "bufferevent_data_cb")]
    pub fn on_write(mut self, f: impl FnMut(&BufferEvent) + Send + 'static) -> Self {
        self.slots.write = Some(Box::new(f));
        self
    }

    /// Has `f` called for each [`Event`], in order.
    ///
    /// Deferred, as [`on_read`](Self::on_read). In one run `Connected` comes first, then the other two callbacks, then
    /// all other events.
    #[doc(alias = "bufferevent_event_cb")]
    pub fn on_event(mut self, f: impl FnMut(&BufferEvent, Event) + Send + 'static) -> Self {
        self.slots.event = Some(Box::new(f));
        self
    }

    /// Has `f` called when one of the buffers crosses one of its marks, inline: before the call that made it cross returns.
    ///
    /// It runs in whatever thread made the change, never twice at once, with no lock of this crate held. Locks that the
    /// caller holds around the change are the caller's deadlock.
    pub fn on_watermark(
        mut self,
        f: impl FnMut(&BufferEvent, Side, Crossing) + Send + 'static,
    ) -> Self {
        self.on_mark = Some(Box::new(f));
        self
    }

    fn is_empty(&self) -> bool {
        self.slots.hears() == 0 && self.on_mark.is_none()
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("on_read", &self.slots.read.is_some())
            .field("on_write", &self.slots.write.is_some())
            .field("on_event", &self.slots.event.is_some())
            .field("on_watermark", &self.on_mark.is_some())
            .finish()
    }
}

/// The callbacks that are set; one that runs is away.
#[derive(Default)]
pub(super) struct Slots {
    read: Option<OnBytes>,
    write: Option<OnBytes>,
    event: Option<OnEvent>,
    /// Follow the marks of the two buffers.
    marks: Option<[CallbackHandle; 2]>,
    /// Tells these from others that were set meanwhile.
    number: u64,
}

impl Slots {
    fn hears(&self) -> u8 {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        bit(self.read.is_some(), Hears::READ)
            | bit(self.write.is_some(), Hears::WRITE)
            | bit(self.event.is_some(), Hears::EVENT)
    }
}

impl Inner {
    /// Puts `callbacks` in the place of those that were set, and has run what is due already.
    pub(super) fn set_callbacks(self: &Arc<Self>, callbacks: Callbacks) {
        if callbacks.is_empty() && self.control.lock().slots.is_none() {
            return;
        }
        let Callbacks { mut slots, on_mark } = callbacks;
        slots.marks = on_mark.map(|f| Marks::follow(self, f));
        let hears = slots.hears();
        let mut control = self.control.lock();
        slots.number = control.slots.as_ref().map_or(0, |old| old.number + 1);
        let old = control.slots.replace(Box::new(slots));
        self.hears.store(hears, Ordering::Release);
        let told = control.untold() > 0;
        let over = control.outcome.is_some();
        drop(control);
        catch_panic("the drop of a callback", || drop(old));

        let holds = self.is_read_due();
        if holds {
            self.due.fetch_or(Hears::READ, Ordering::AcqRel);
        }
        let due = self.due.load(Ordering::Acquire);
        if over || due & hears != 0 || (told && hears & Hears::EVENT != 0) {
            self.queue.schedule(self);
        }
    }

    /// Whether the input holds what the read callback waits for.
    fn is_read_due(&self) -> bool {
        let guard = self.input.lock();
        guard.len() >= guard.marks().low().unwrap_or(0).max(1)
    }

    /// Takes the mark that `which` is due, if it is set to be called.
    fn take_due(&self, which: u8) -> bool {
        self.hears.load(Ordering::Acquire) & which != 0
            && self.due.fetch_and(!which, Ordering::AcqRel) & which != 0
    }

    /// Takes both marks of the read callback at once, as they are set: one alone would be of no use to the next run.
    fn take_read_due(&self) -> u8 {
        const BOTH: u8 = Hears::READ | Hears::READ_ANYWAY;
        match self.hears.load(Ordering::Acquire) & Hears::READ {
            0 => 0,
            _ => self.due.fetch_and(!BOTH, Ordering::AcqRel) & BOTH,
        }
    }

    /// Takes a callback out, calls it, and puts it back if no other was set meanwhile.
    fn call_slot<F>(
        &self,
        runner: &mut Runner,
        slot: impl Fn(&mut Slots) -> &mut Option<F>,
        call: impl FnOnce(&mut F),
    ) {
        let mut control = self.control.lock();
        let Some(slots) = &mut control.slots else {
            return;
        };
        let number = slots.number;
        let Some(mut f) = slot(slots).take() else {
            return;
        };
        drop(control);
        runner.call(|| call(&mut f));
        let mut control = self.control.lock();
        let left = match &mut control.slots {
            Some(slots) if slots.number == number => {
                *slot(slots) = Some(f);
                None
            }
            _ => Some(f),
        };
        drop(control);
        catch_panic("the drop of a callback", || drop(left));
    }

    /// Tells the event callback, if it is set, of the next event.
    fn tell_next(&self, bev: &BufferEvent, runner: &mut Runner) {
        let mut control = self.control.lock();
        let hears = control
            .slots
            .as_ref()
            .is_some_and(|slots| slots.event.is_some());
        let event = if hears { control.next_untold() } else { None };
        drop(control);
        if let Some(event) = event {
            self.call_slot(runner, |slots| &mut slots.event, |f| f(bev, event));
        }
    }

    /// Lets go of the callbacks, which may own handles, and those the connection.
    pub(super) fn forget_callbacks(&self) {
        self.hears.store(0, Ordering::Release);
        let slots = self.control.lock().slots.take();
        catch_panic("the drop of a callback", || drop(slots));
    }
}

impl Deferred for Inner {
    fn source(&self) -> &Source {
        &self.source
    }

    fn run(self: Arc<Self>, runner: &mut Runner) {
        let Some(bev) = BufferEvent::revive(&self) else {
            return;
        };
        // What is told from here on is for the next run: it may be the end that comes after bytes of which nobody has been
        // told yet, and a callback that tells something each time must not keep the queue for itself.
        let control = self.control.lock();
        let (mut untold, over) = (control.untold(), control.outcome.is_some());
        let connected = control.is_connected_untold();
        drop(control);
        if connected {
            self.tell_next(&bev, runner);
            untold -= 1;
        }
        let read = self.take_read_due();
        if read & Hears::READ != 0 && (read & Hears::READ_ANYWAY != 0 || self.is_read_due()) {
            self.call_slot(runner, |slots| &mut slots.read, |f| f(&bev));
        }
        if self.take_due(Hears::WRITE) {
            self.call_slot(runner, |slots| &mut slots.write, |f| f(&bev));
        }
        for _ in 0..untold {
            self.tell_next(&bev, runner);
        }
        if over {
            self.forget_callbacks();
        }
    }
}

/// The watermark callback, which two buffers call.
struct Marks {
    inner: Weak<Inner>,
    state: Lock<MarkState>,
}

struct MarkState {
    /// Away while it runs.
    callback: Option<OnMark>,
    /// What came meanwhile: at most one of each kind and side.
    waiting: VecDeque<(Side, Crossing)>,
}

impl Marks {
    fn follow(inner: &Arc<Inner>, callback: OnMark) -> [CallbackHandle; 2] {
        let marks = Arc::new(Self {
            inner: Arc::downgrade(inner),
            state: Lock::new(MarkState {
                callback: Some(callback),
                waiting: VecDeque::new(),
            }),
        });
        [(Side::Input, &inner.input), (Side::Output, &inner.output)].map(|(side, buffer)| {
            let marks = Arc::clone(&marks);
            buffer.on_watermark(move |_: &SharedEvBuffer, crossing| marks.crossed(side, crossing))
        })
    }

    /// Calls the callback, or leaves it to whoever is calling it now.
    fn crossed(&self, side: Side, crossing: Crossing) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        let Some(bev) = BufferEvent::revive(&inner) else {
            return;
        };
        let mut state = self.state.lock();
        let same = |(waits, other): &(Side, Crossing)| {
            *waits == side && mem::discriminant(other) == mem::discriminant(&crossing)
        };
        state.waiting.retain(|waiting| !same(waiting));
        state.waiting.push_back((side, crossing));
        let Some(mut callback) = state.callback.take() else {
            return;
        };
        while let Some((side, crossing)) = state.waiting.pop_front() {
            drop(state);
            if !catch_panic("an inline callback", || callback(&bev, side, crossing)) {
                inner.queue.count_panic();
            }
            state = self.state.lock();
        }
        state.callback = Some(callback);
    }
}
