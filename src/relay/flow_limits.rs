//! What holds up a relay besides its sinks: rate limits, and the budget for memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

use super::{Peer, direction::Direction, pump::Turn};
use crate::{
    limits::{MemoryBudget, RateLimit, RateLimitGroup, Throttle, budget::Account},
    transport::poll::{ROUNDS_PER_POLL, yield_to_driver},
};

/// What one poll of a pump has done within its allowance.
pub(super) struct Round {
    pub(super) turn: Turn,
    /// All that was allowed was read.
    pub(super) exhausted: bool,
}

/// Polls a pump by `round`, and again while it uses up its allowance: only then there may be more to do.
pub(super) fn poll_rounds<E>(
    cx: &mut Context<'_>,
    mut round: impl FnMut(&mut Context<'_>) -> Result<Round, E>,
) -> Result<Turn, E> {
    let mut turn = Turn::default();
    for _ in 0..ROUNDS_PER_POLL {
        let Round {
            turn: last,
            exhausted,
        } = round(cx)?;
        turn += last;
        if turn.more || !exhausted {
            return Ok(turn);
        }
    }
    turn.more = true;
    yield_to_driver(cx);
    Ok(turn)
}

/// The rate limits and the budget of a relay that is configured.
#[derive(Default)]
pub(super) struct FlowSettings {
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) rate_group: Option<RateLimitGroup>,
    pub(super) budget: Option<MemoryBudget>,
}

/// The rate limits and the budget of a relay that runs.
pub(super) struct FlowLimits {
    /// From a to b, and from b to a.
    throttles: Option<(Throttle, Throttle)>,
    member: Option<Member>,
}

/// The relay as a member of a budget.
struct Member {
    account: Arc<Account>,
    abort: Arc<Abort>,
    /// Reading is paused until the budget has room again.
    is_paused: bool,
}

/// Ends a relay from outside.
#[derive(Default)]
struct Abort {
    is_set: AtomicBool,
    waker: AtomicWaker,
}

impl FlowLimits {
    /// Returns `None` without limits. The memory of both directions counts for the budget.
    pub(super) fn new(
        settings: FlowSettings,
        a_to_b: &mut Direction,
        b_to_a: &mut Direction,
    ) -> Option<Self> {
        let has_rate = settings.rate_limit.is_some() || settings.rate_group.is_some();
        let throttles =
            has_rate.then(|| Throttle::pair(settings.rate_limit, settings.rate_group.as_ref()));
        let member = settings.budget.map(|budget| {
            let abort = Arc::new(Abort::default());
            let handle = Arc::clone(&abort);
            let account = budget.open_account(None, move || {
                handle.is_set.store(true, Relaxed);
                handle.waker.wake();
            });
            a_to_b.chain.set_account(Arc::clone(&account));
            b_to_a.chain.set_account(Arc::clone(&account));
            Member {
                account,
                abort,
                is_paused: false,
            }
        });
        (throttles.is_some() || member.is_some()).then_some(Self { throttles, member })
    }

    /// Returns how many of `want` bytes may be read from the side `from` now. If none, it wakes the task when there are.
    pub(super) fn poll_allowance(&mut self, cx: &mut Context<'_>, from: Peer, want: u64) -> u64 {
        if let Some(member) = &mut self.member {
            member.is_paused =
                member.account.is_exceeded() && member.account.poll_resumed(cx).is_pending();
            if member.is_paused {
                return 0;
            }
        }
        match self
            .throttle(from)
            .map(|throttle| throttle.poll_allowance(cx, want))
        {
            None => want,
            Some(Poll::Ready(allowed)) => allowed,
            Some(Poll::Pending) => 0,
        }
    }

    /// Reports what was read from the side `from`. A direction that is `blocked` by its sink leaves its tokens to others.
    pub(super) fn count(&mut self, from: Peer, read: u64, blocked: bool) {
        if let Some(throttle) = self.throttle(from) {
            throttle.moved(read);
            if blocked && read == 0 {
                throttle.release();
            }
        }
    }

    /// Returns whether a limit holds up a direction.
    pub(super) fn is_held_up(&self) -> bool {
        let throttled = self
            .throttles
            .as_ref()
            .is_some_and(|(a_to_b, b_to_a)| a_to_b.held().or(b_to_a.held()).is_some());
        throttled || self.member.as_ref().is_some_and(|member| member.is_paused)
    }

    /// Returns whether the holder of the budget has ended the relay. Otherwise the task is woken for it.
    pub(super) fn is_aborted(&self, cx: &mut Context<'_>) -> bool {
        self.member.as_ref().is_some_and(|member| {
            member.abort.waker.register(cx.waker());
            member.abort.is_set.load(Relaxed)
        })
    }

    fn throttle(&mut self, from: Peer) -> Option<&mut Throttle> {
        let (a_to_b, b_to_a) = self.throttles.as_mut()?;
        Some(match from {
            Peer::A => a_to_b,
            Peer::B => b_to_a,
        })
    }
}
