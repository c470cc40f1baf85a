//! A rate limit that many connections share.
//!
//! Each direction of a group is a [`Pool`]: one bucket and a queue of waiting members. A member that wants to move bytes
//! takes a share out of the bucket as its credit, and what its stream does not use goes back. Tokens that come in while
//! members wait are granted to them in order, in equal shares, and a member that wants more waits at the back of the
//! queue again. So the members that want bytes get the same number of them over time, however large their reads are.
//!
//! No task belongs to a group. Each waiting member has a timer, and whichever fires first grants for all: a member that
//! is not polled holds up no other.

use std::{collections::BTreeMap, fmt, sync::Arc, task::Waker, time::Duration};

use tokio::time::Instant;

use super::{
    activity::Activity,
    bucket::Bucket,
    rate_limit::{Rate, RateLimit},
};
use crate::sync::{AtomicU64, Lock, Ordering, WakeList};

/// Bytes that a member may move at a time at least, unless set otherwise: libevent's value.
const DEFAULT_MIN_SHARE: u64 = 64;

/// A grant that was not used for this long goes back to the group, while others wait.
const GRANT_TIME: Duration = Duration::from_secs(1);

/// A rate limit that is shared by all connections that you add to it: a handle, cheap to clone.
///
/// Add a connection with [`Builder::rate_group`](crate::bufferevent::Builder::rate_group), a relay with
/// [`Relay::rate_group`](crate::Relay::rate_group); it leaves when it is over.
/// The rate is divided equally among the members that have bytes to move: idle members take no share, and what one
/// member does not use is there for the others. Members that wait are served in turn.
///
/// A member can have a separate limit as well; the stricter one applies.
///
/// # Examples
///
/// ```
/// use tokio::time::Instant;
/// use tokio_evbuffer::{BufferEvent, limits::{RateLimit, RateLimitGroup}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = RateLimitGroup::new(RateLimit::write(10_000)?);
/// let (first, to_first) = tokio::io::duplex(1 << 20);
/// let (second, to_second) = tokio::io::duplex(1 << 20);
/// let first = BufferEvent::builder().rate_group(&group).spawn(first);
/// let second = BufferEvent::builder().rate_group(&group).spawn(second);
///
/// let start = Instant::now();
/// first.output().add(&[1; 20_000])?;
/// second.output().add(&[2; 20_000])?;
/// first.flush().await?;
/// second.flush().await?;
/// // One second's worth went at once, the rest at 10,000 bytes per second for both.
/// assert!((start.elapsed().as_secs_f64() - 3.0).abs() < 0.1);
/// assert_eq!((group.members(), group.totals()), (2, (0, 40_000)));
/// # drop((to_first, to_second));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias(
    "bufferevent_rate_limit_group_new",
    "bufferevent_rate_limit_group_free"
))]
#[doc(alias = "bufferevent_add_to_rate_limit_group")]
pub struct RateLimitGroup {
    shared: Arc<Shared>,
}

impl RateLimitGroup {
    /// Returns a group without members.
    pub fn new(limit: RateLimit) -> Self {
        let now = Instant::now();
        Self {
            shared: Arc::new(Shared {
                read: Lock::new(Pool::new(limit.read, now)),
                write: Lock::new(Pool::new(limit.write, now)),
                members: AtomicU64::new(0),
                bytes_read: AtomicU64::new(0),
                bytes_written: AtomicU64::new(0),
            }),
        }
    }

    /// Changes the limit, also for members that wait.
    ///
    /// The tokens of a direction stay, up to the new burst. A direction that `limit` does not mention is not limited
    /// any more.
    #[doc(alias = "bufferevent_rate_limit_group_set_cfg")]
    pub fn set_limit(&self, limit: RateLimit) {
        let now = Instant::now();
        for (pool, rate) in [
            (&self.shared.read, limit.read),
            (&self.shared.write, limit.write),
        ] {
            pool.lock().set_rate(rate, now).wake_all();
        }
    }

    /// Sets the bytes that a member may move at a time at least. The default is 64.
    ///
    /// A larger share means fewer and larger reads and writes when many members are active, and longer turns. Zero
    /// counts as one, and more than half of the burst as half of it.
    #[doc(alias = "bufferevent_rate_limit_group_set_min_share")]
    pub fn set_min_share(&self, bytes: u64) {
        for pool in [&self.shared.read, &self.shared.write] {
            let mut pool = pool.lock();
            pool.min_share = bytes;
            let mut wakers = WakeList::default();
            pool.wake_head(&mut wakers);
            drop(pool);
            wakers.wake_all();
        }
    }

    /// Returns the number of connections in the group.
    #[must_use]
    pub fn members(&self) -> usize {
        self.shared.members.load(Ordering::Relaxed) as usize
    }

    /// Returns the bytes read and the bytes written by all members so far, also by those that have left.
    #[doc(alias = "bufferevent_rate_limit_group_get_totals")]
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let Shared {
            bytes_read,
            bytes_written,
            ..
        } = &*self.shared;
        (
            bytes_read.load(Ordering::Relaxed),
            bytes_written.load(Ordering::Relaxed),
        )
    }
}

impl fmt::Debug for RateLimitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (read, written) = self.totals();
        f.debug_struct("RateLimitGroup")
            .field("members", &self.members())
            .field("read", &read)
            .field("written", &written)
            .finish()
    }
}

struct Shared {
    read: Lock<Pool>,
    write: Lock<Pool>,
    members: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

/// One connection's membership, for both of its directions.
struct Member {
    shared: Arc<Shared>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One direction of one member.
pub(super) struct Seat {
    member: Arc<Member>,
    reads: bool,
    /// Its position in the queue, or the position that its grant had there.
    ticket: Option<u64>,
    /// What it may move before it has to ask the group again.
    credit: u64,
    /// The last period in which it was active.
    period: u64,
}

impl Seat {
    /// Adds a connection to `group`: its reading and its writing direction.
    pub(super) fn pair(group: &RateLimitGroup) -> (Self, Self) {
        group.shared.members.fetch_add(1, Ordering::Relaxed);
        let member = Arc::new(Member {
            shared: Arc::clone(&group.shared),
        });
        let seat = |reads| Self {
            member: Arc::clone(&member),
            reads,
            ticket: None,
            credit: 0,
            period: 0,
        };
        (seat(true), seat(false))
    }

    /// Returns how many bytes may move now, at least one. Otherwise the waker is called when there is a grant, and the
    /// member has to ask again at the returned time in any case.
    pub(super) fn allowance(&mut self, now: Instant, waker: &Waker) -> Result<u64, Instant> {
        if self.credit > 0 {
            return Ok(self.credit);
        }
        // Cloning runs user code.
        let waker = waker.clone();
        let member = Arc::clone(&self.member);
        let mut pool = self.pool(&member).lock();
        let mut wakers = WakeList::default();
        let (answer, unused) = pool.allowance(now, self, waker, &mut wakers);
        drop(pool);
        drop(unused);
        wakers.wake_all();
        answer
    }

    /// Reports that `n` of `asked` bytes were moved. If it was not all, the stream has no more, and neither should the
    /// member.
    pub(super) fn moved(&mut self, now: Instant, asked: u64, n: u64) {
        let moved = match self.reads {
            true => &self.member.shared.bytes_read,
            false => &self.member.shared.bytes_written,
        };
        moved.fetch_add(n, Ordering::Relaxed);
        self.credit = self.credit.saturating_sub(n);
        if n < asked {
            self.leave(now);
        }
    }

    /// Takes `n` bytes of the group's allowance, or gives back as many if `n` is negative.
    pub(super) fn consume(&mut self, now: Instant, n: i64) {
        let member = Arc::clone(&self.member);
        let mut pool = self.pool(&member).lock();
        let mut wakers = WakeList::default();
        pool.consume(now, n, &mut wakers);
        drop(pool);
        wakers.wake_all();
    }

    /// Leaves the queue, and returns to the group what it has not moved.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.ticket.is_none() && self.credit == 0 {
            return;
        }
        let member = Arc::clone(&self.member);
        let mut pool = self.pool(&member).lock();
        let mut wakers = WakeList::default();
        let waiter = pool.leave(now, self, &mut wakers);
        drop(pool);
        drop(waiter);
        wakers.wake_all();
    }

    fn pool<'a>(&self, member: &'a Member) -> &'a Lock<Pool> {
        match self.reads {
            true => &member.shared.read,
            false => &member.shared.write,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave(Instant::now());
    }
}

/// One direction of a group.
struct Pool {
    /// `None` if the direction is not limited.
    bucket: Option<Bucket>,
    min_share: u64,
    /// The members that wait, in the order in which they came. A ticket is in here, or in `grants`, or has expired. A member
    /// that was woken has no waker until it asks again: a waker is taken and not cloned, since cloning runs user code.
    queue: BTreeMap<u64, Option<Waker>>,
    /// What members that waited may move when they are polled.
    grants: BTreeMap<u64, Grant>,
    next_ticket: u64,
    activity: Activity,
}

struct Grant {
    bytes: u64,
    at: Instant,
}

impl Pool {
    fn new(rate: Option<Rate>, now: Instant) -> Self {
        Self {
            bucket: rate.map(|rate| Bucket::new(rate, now)),
            min_share: DEFAULT_MIN_SHARE,
            queue: BTreeMap::new(),
            grants: BTreeMap::new(),
            next_ticket: 0,
            activity: Activity::new(now),
        }
    }

    /// Changes the rate; returns all members that wait.
    fn set_rate(&mut self, rate: Option<Rate>, now: Instant) -> WakeList {
        match (&mut self.bucket, rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
            (bucket, rate) => *bucket = rate.map(|rate| Bucket::new(rate, now)),
        }
        let mut wakers = WakeList::default();
        match self.bucket {
            Some(_) => wakers.extend(self.queue.values_mut().filter_map(Option::take)),
            None => {
                self.grants.clear();
                wakers.extend(std::mem::take(&mut self.queue).into_values().flatten());
            }
        }
        wakers
    }

    /// Answers [`Seat::allowance`] for a seat without credit. Also returns a waker to drop after the lock.
    fn allowance(
        &mut self,
        now: Instant,
        seat: &mut Seat,
        waker: Waker,
        wakers: &mut WakeList,
    ) -> (Result<u64, Instant>, Option<Waker>) {
        let active = self.activity.note(now, &mut seat.period);
        let unit = self.unit();
        // Less than one refill is shared by all in the queue: otherwise the member that asks first would get what others
        // have returned, and in ever smaller pieces.
        let threshold = self.threshold();
        let Some(bucket) = &mut self.bucket else {
            seat.ticket = None;
            return (Ok(u64::MAX), Some(waker));
        };
        if seat.ticket.is_none() && self.queue.is_empty() {
            let available = bucket.available(now);
            if available >= threshold {
                let share = (available / active).min(bucket.resume_at()).max(unit);
                seat.credit = share.min(available);
                bucket.take(seat.credit);
                return (Ok(seat.credit), Some(waker));
            }
        }
        let ticket = *seat.ticket.get_or_insert(self.next_ticket);
        if ticket == self.next_ticket {
            self.next_ticket += 1;
        }
        let unused = if self.grants.contains_key(&ticket) {
            Some(waker)
        } else {
            // It is new in the queue, or there already, or its grant has expired and it is served first.
            let replaced = self.queue.insert(ticket, Some(waker));
            self.grant(now, wakers);
            replaced.flatten()
        };
        match self.grants.remove(&ticket) {
            Some(grant) => {
                seat.ticket = None;
                seat.credit = grant.bytes;
                (Ok(grant.bytes), unused)
            }
            None => (Err(self.turn_of(ticket, now)), unused),
        }
    }

    fn consume(&mut self, now: Instant, n: i64, wakers: &mut WakeList) {
        match (&mut self.bucket, u64::try_from(n)) {
            (Some(bucket), Ok(n)) => {
                bucket.available(now);
                bucket.take(n);
            }
            (None, Ok(_)) => {}
            (_, Err(_)) => {
                self.put_back(n.unsigned_abs());
                self.serve(now, wakers);
            }
        }
    }

    fn leave(&mut self, now: Instant, seat: &mut Seat, wakers: &mut WakeList) -> Option<Waker> {
        self.put_back(std::mem::take(&mut seat.credit));
        let mut waiter = None;
        if let Some(ticket) = seat.ticket.take() {
            let grant = self.grants.remove(&ticket);
            self.put_back(grant.map_or(0, |grant| grant.bytes));
            waiter = self.queue.remove(&ticket).flatten();
        }
        self.serve(now, wakers);
        waiter
    }

    /// Serves the members that wait, after bytes were put back or a member has left. The first one that gets nothing yet
    /// computes its turn again: its timer may be set for much later.
    fn serve(&mut self, now: Instant, wakers: &mut WakeList) {
        self.grant(now, wakers);
        self.wake_head(wakers);
    }

    /// Grants what has come in to the members that wait, first come, first served. All get the same share.
    fn grant(&mut self, now: Instant, wakers: &mut WakeList) {
        let (unit, threshold) = (self.unit(), self.threshold());
        let Some(bucket) = &mut self.bucket else {
            return;
        };
        if self.queue.is_empty() {
            return;
        }
        while let Some(first) = self.grants.first_entry() {
            if now.saturating_duration_since(first.get().at) < GRANT_TIME {
                break;
            }
            bucket.put_back(first.remove().bytes);
        }
        let mut available = bucket.available(now);
        if available < threshold {
            return;
        }
        let share = (available / self.queue.len() as u64).max(unit);
        while available >= unit {
            let Some((ticket, waker)) = self.queue.pop_first() else {
                return;
            };
            let bytes = share.min(available);
            bucket.take(bytes);
            available -= bytes;
            self.grants.insert(ticket, Grant { bytes, at: now });
            wakers.extend(waker);
        }
        // Its timer may be set for a later turn.
        self.wake_head(wakers);
    }

    /// Returns the bytes for which members wait before they are served.
    fn threshold(&self) -> u64 {
        let gathered = self.bucket.as_ref().map_or(1, Bucket::resume_at);
        self.unit().max(gathered)
    }

    /// Returns the smallest share of a member. It is at most half of the burst, so that a late timer loses no tokens.
    fn unit(&self) -> u64 {
        let burst = self.bucket.as_ref().map_or(u64::MAX, Bucket::burst);
        self.min_share.min(burst / 2).max(1)
    }

    /// Returns when the member with this ticket is served at the latest, if those before it take the smallest share.
    fn turn_of(&self, ticket: u64, now: Instant) -> Instant {
        let Some(bucket) = &self.bucket else {
            return now;
        };
        let first = self.queue.first_key_value().map_or(ticket, |(key, _)| *key);
        let units = ticket - first + 1;
        bucket.time_of(units.saturating_mul(self.unit()).max(self.threshold()))
    }

    fn put_back(&mut self, n: u64) {
        if let (Some(bucket), true) = (&mut self.bucket, n > 0) {
            bucket.put_back(n);
        }
    }

    /// Wakes the first member of the queue, which checks again whether it may proceed.
    fn wake_head(&mut self, wakers: &mut WakeList) {
        if let Some(mut head) = self.queue.first_entry() {
            wakers.extend(head.get_mut().take());
        }
    }
}
