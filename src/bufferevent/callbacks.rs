//! The callbacks of a `BufferEvent`, as the user sets them.

use std::fmt;

use super::{
    event::{Event, Side},
    inner::{BufferEvent, OnWatermark, Slots},
};
use crate::shared::Crossing;

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
    pub(super) slots: Slots,
    pub(super) on_watermark: Option<OnWatermark>,
}

impl Callbacks {
    /// Creates an empty set of callbacks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `f` after reads, while the input holds at least its low watermark, or any byte if it has none.
    ///
    /// The call is deferred: it happens soon after, once for any number of reads. At the end of the stream there is one more
    /// call for bytes below the watermark.
    #[doc(alias = "bufferevent_data_cb")]
    pub fn on_read(mut self, f: impl FnMut(&BufferEvent) + Send + 'static) -> Self {
        self.slots.read = Some(Box::new(f));
        self
    }

    /// Calls `f` after writes that brought the output to its low watermark, or emptied it if it has none.
    ///
    /// Deferred, as [`on_read`](Self::on_read), and called after it.
    #[doc(alias = "bufferevent_data_cb")]
    pub fn on_write(mut self, f: impl FnMut(&BufferEvent) + Send + 'static) -> Self {
        self.slots.write = Some(Box::new(f));
        self
    }

    /// Calls `f` for each [`Event`], in order.
    ///
    /// Deferred, as [`on_read`](Self::on_read). In one run `Connected` comes first, then the other two callbacks, then
    /// all other events.
    #[doc(alias = "bufferevent_event_cb")]
    pub fn on_event(mut self, f: impl FnMut(&BufferEvent, Event) + Send + 'static) -> Self {
        self.slots.event = Some(Box::new(f));
        self
    }

    /// Calls `f` when one of the buffers crosses one of its watermarks, inline: before the call that made it cross
    /// returns.
    ///
    /// It runs in the thread that made the change, never twice at the same time, and with no lock of this crate held. Locks that
    /// the caller holds around the change can deadlock.
    pub fn on_watermark(
        mut self,
        f: impl FnMut(&BufferEvent, Side, Crossing) + Send + 'static,
    ) -> Self {
        self.on_watermark = Some(Box::new(f));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        let Slots {
            read, write, event, ..
        } = &self.slots;
        read.is_none() && write.is_none() && event.is_none() && self.on_watermark.is_none()
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("on_read", &self.slots.read.is_some())
            .field("on_write", &self.slots.write.is_some())
            .field("on_event", &self.slots.event.is_some())
            .field("on_watermark", &self.on_watermark.is_some())
            .finish()
    }
}
