//! The rate limits of a connection: commands of the handles, and the throttles of the task.

use crate::limits::{Held, RateLimit, RateLimitGroup, Throttle};

/// What the handles share with the task, behind the lock of the connection.
#[derive(Default)]
pub(super) struct RateControl {
    pub(super) commands: RateCommands,
    pub(super) held: HeldDirections,
}

/// What the task has to apply, after the lock was released.
#[derive(Default)]
pub(super) struct RateCommands {
    /// Those that the builder made.
    pub(super) throttles: Option<Box<Throttles>>,
    pub(super) limit: Option<Option<RateLimit>>,
    pub(super) consumed_read: i64,
    pub(super) consumed_write: i64,
}

/// The limits that hold up each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeldDirections {
    pub(super) read: Option<Held>,
    pub(super) write: Option<Held>,
}

impl RateControl {
    /// Returns `None` if nothing is limited.
    pub(super) fn new(
        limit: Option<RateLimit>,
        group: Option<&RateLimitGroup>,
    ) -> Option<Box<Self>> {
        if limit.is_none() && group.is_none() {
            return None;
        }
        let mut control = Box::<Self>::default();
        control.commands.throttles = Some(Box::new(Throttles::new(limit, group)));
        Some(control)
    }

    /// Takes the pending settings, if there are any.
    pub(super) fn take_commands(&mut self) -> Option<RateCommands> {
        let commands = &self.commands;
        let any = commands.throttles.is_some()
            || commands.limit.is_some()
            || commands.consumed_read != 0
            || commands.consumed_write != 0;
        any.then(|| std::mem::take(&mut self.commands))
    }
}

/// The throttles of both directions, which the task owns.
pub(super) struct Throttles {
    pub(super) read: Throttle,
    pub(super) write: Throttle,
    /// What the handles know.
    published: HeldDirections,
}

impl Throttles {
    fn new(limit: Option<RateLimit>, group: Option<&RateLimitGroup>) -> Self {
        let (read, write) = Throttle::pair(limit, group);
        Self {
            read,
            write,
            published: HeldDirections::default(),
        }
    }

    /// Applies commands, and makes the throttles for the first of them.
    pub(super) fn apply(throttles: &mut Option<Box<Self>>, commands: RateCommands) {
        if commands.throttles.is_some() {
            *throttles = commands.throttles;
        }
        let this = throttles.get_or_insert_with(|| Box::new(Self::new(None, None)));
        if let Some(limit) = commands.limit {
            Throttle::set_limit(&mut this.read, &mut this.write, limit);
        }
        if commands.consumed_read != 0 {
            this.read.consume(commands.consumed_read);
        }
        if commands.consumed_write != 0 {
            this.write.consume(commands.consumed_write);
        }
    }

    pub(super) fn held(&self) -> HeldDirections {
        HeldDirections {
            read: self.read.held(),
            write: self.write.held(),
        }
    }

    /// Returns what the handles have to know, if it has changed.
    pub(super) fn take_change(&mut self) -> Option<HeldDirections> {
        let held = self.held();
        (std::mem::replace(&mut self.published, held) != held).then_some(held)
    }
}
