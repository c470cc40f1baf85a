//! The lengths at which no subscriber needs a notification of a change: one range, kept in the state of a shared buffer.
//!
//! The range is computed again when a subscriber comes, goes or changes. Most changes only compare the length with it.

use std::ops::Range;

use super::inner::{Observers, State};

/// The quiet range that has to be computed again. Like another empty range, it contains no length.
pub(super) const OUTDATED: Range<usize> = Range { start: 1, end: 0 };

impl State {
    /// Whether a subscriber may need a notification if the length becomes `len`.
    #[inline]
    pub(super) fn needs_notify(&self, len: usize) -> bool {
        let is_quiet = len.wrapping_sub(usize::from(self.quiet_from)) < self.quiet_len as usize;
        !(is_quiet && self.needs_no_check()) && self.needs_notify_slow(len)
    }

    #[inline(never)]
    fn needs_notify_slow(&self, len: usize) -> bool {
        match &self.observers {
            Some(observers) => !(observers.quiet.contains(&len) && self.needs_no_check()),
            None => true,
        }
    }

    /// Whether a subscriber has come, gone or changed since the quiet range was computed.
    #[inline]
    pub(super) fn is_quiet_range_outdated(&self) -> bool {
        match &self.observers {
            Some(observers) => observers.quiet == OUTDATED,
            None => self.quiet_len != u32::MAX,
        }
    }

    /// Computes at which lengths no subscriber needs a notification.
    pub(super) fn update_quiet_range(&mut self) {
        let Some(observers) = self.observers.as_deref_mut() else {
            (self.quiet_from, self.quiet_len) = (0, u32::MAX);
            return;
        };
        observers.quiet = observers.quiet_range();
        let Range { start, end } = observers.quiet;
        let len = match start {
            0 | 1 => end.saturating_sub(start),
            _ => 0,
        };
        self.quiet_from = u8::from(start == 1);
        self.quiet_len = u32::try_from(len).unwrap_or(u32::MAX);
    }

    /// The hook of the owner begins to wait, so that it needs a notification of every change.
    pub(super) fn hook_waits(&mut self) {
        self.quiet_len = 0;
        if let Some(observers) = &mut self.observers {
            observers.quiet = 0..0;
        }
    }
}

impl Observers {
    /// Returns the lengths at which no subscriber needs a notification: the intersection of the ranges of all subscribers.
    fn quiet_range(&self) -> Range<usize> {
        if self
            .callbacks
            .as_ref()
            .is_some_and(|callbacks| callbacks.want_changes())
        {
            return 0..0;
        }
        let mut quiet = self.tracker.quiet_range();
        if let Some(hook) = &self.hook {
            if hook.waits() {
                return 0..0;
            }
            // The memory of an empty buffer of a connection is released.
            quiet.start = quiet.start.max(1);
        }
        for (interest, woken) in self.waiters.iter() {
            let range = match woken {
                false => interest.quiet_range(),
                // A writer's turn may have ended, so the other writers check again. Readers always do.
                true if interest.adds() => 0..0,
                true => continue,
            };
            quiet = quiet.start.max(range.start)..quiet.end.min(range.end);
        }
        match quiet.is_empty() {
            true => 0..0,
            false => quiet,
        }
    }
}
