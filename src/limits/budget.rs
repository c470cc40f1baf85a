//! A bound on the memory of many buffers.
//!
//! Each member has an [`Account`]. A block, or a piece of foreign memory, counts for the account of the first buffer that it
//! was linked into, until it is freed. It stays there when parts of it move to other buffers or are shared, so a block costs
//! one addition and one subtraction, and moving bytes costs nothing.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use crate::sync::{AtomicU64, Lock, Ordering, WakeList, next_token};

/// A bound on the memory that buffers, BufferEvents and relays hold together: a handle, cheap to clone.
///
/// While the members hold more than `limit` bytes, all of them stop reading; they continue when half of the limit is free
/// again. Writing always continues, so members never wait for each other. A limit of zero lets members read only while
/// nothing is held. The bound is not exact: each member may complete the read that it has begun.
///
/// Allocated memory counts: a block with its whole length, once, for the member that got it first, until it is freed;
/// foreign memory with the length that was linked. Loaded pieces of files and the memory of the tasks do not count.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::limits::MemoryBudget;
///
/// let budget = MemoryBudget::new(64 << 20);
/// assert_eq!((budget.limit(), budget.used()), (64 << 20, 0));
/// assert!(budget.largest(3).is_empty());
/// ```
#[derive(Clone)]
pub struct MemoryBudget(Arc<Shared>);

struct Shared {
    limit: u64,
    /// The bytes in use, and whether reading is paused: in one number, so that a change sees both as they were together.
    state: AtomicU64,
    accounts: Lock<BTreeMap<u64, Weak<Account>>>,
}

/// The bit of `Shared::state` that is set while reading is paused.
const PAUSED: u64 = 1 << 63;

impl MemoryBudget {
    /// Makes a budget of `limit` bytes, without members.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit: limit as u64,
            state: AtomicU64::new(0),
            accounts: Lock::new(BTreeMap::new()),
        }))
    }

    /// Returns the limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit as usize
    }

    /// Returns the bytes that all members hold now.
    #[must_use]
    pub fn used(&self) -> usize {
        (self.0.state.load(Ordering::Relaxed) & !PAUSED) as usize
    }

    /// Returns the `n` members that hold the most memory, the largest first. Members that hold nothing are left out.
    ///
    /// The handles keep no member alive. Takes one step for each member.
    #[must_use]
    pub fn largest(&self, n: usize) -> Vec<Holder> {
        let mut accounts = self.0.live_accounts();
        accounts.retain(|account| account.bytes() > 0);
        accounts.sort_by_key(|account| std::cmp::Reverse(account.bytes()));
        accounts.truncate(n);
        let holder = |account: &Arc<Account>| Holder {
            name: account.name.clone(),
            account: Arc::downgrade(account),
        };
        accounts.iter().map(holder).collect()
    }

    /// Opens an account for a member. `abort` ends the member.
    pub(crate) fn open_account(
        &self,
        name: Option<Arc<str>>,
        abort: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Account> {
        let token = next_token();
        let account = Arc::new(Account {
            budget: self.0.clone(),
            token,
            bytes: AtomicU64::new(0),
            name,
            abort: Box::new(abort),
            waiting: Lock::new(None),
        });
        let mut accounts = self.0.accounts.lock();
        accounts.insert(token, Arc::downgrade(&account));
        drop(accounts);
        account
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit", &self.limit())
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns the accounts that are still in use. The caller drops them without the lock, which their drop takes.
    fn live_accounts(&self) -> Vec<Arc<Account>> {
        let accounts = self.accounts.lock();
        accounts.values().filter_map(Weak::upgrade).collect()
    }

    fn is_paused(&self) -> bool {
        self.state.load(Ordering::Acquire) & PAUSED != 0
    }

    #[inline]
    fn add(&self, n: u64) {
        let before = self.state.fetch_add(n, Ordering::Relaxed);
        if before & PAUSED == 0 && before + n > self.limit {
            self.pause();
        }
    }

    #[inline]
    fn subtract(&self, n: u64) {
        let before = self.state.fetch_sub(n, Ordering::Release);
        if before & PAUSED != 0 {
            self.resume_at_half(before - n);
        }
    }

    #[cold]
    fn pause(&self) {
        let before = self.state.fetch_or(PAUSED, Ordering::AcqRel);
        // Memory may have been freed since it was seen to be too much.
        self.resume_at_half(before | PAUSED);
    }

    /// Lets the members read again if at most half of the limit is in use. `state` is the present state, which is paused.
    fn resume_at_half(&self, state: u64) {
        if state & !PAUSED > self.limit / 2 {
            return;
        }
        if self.state.fetch_and(!PAUSED, Ordering::AcqRel) & PAUSED == 0 {
            return; // Another thread has resumed them.
        }
        let mut wakers = WakeList::default();
        let accounts = self.live_accounts();
        wakers.extend(
            accounts
                .iter()
                .filter_map(|account| account.waiting.lock().take()),
        );
        wakers.wake_all();
    }
}

/// The memory of one member of a [`MemoryBudget`].
///
/// Alive while the member is, or memory that counts for it.
pub(crate) struct Account {
    budget: Arc<Shared>,
    token: u64,
    bytes: AtomicU64,
    name: Option<Arc<str>>,
    abort: Box<dyn Fn() + Send + Sync>,
    /// The task of the member, while it waits to read again.
    waiting: Lock<Option<Waker>>,
}

impl Account {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) as usize
    }

    /// Counts `n` bytes that were allocated.
    #[inline]
    pub(crate) fn add(&self, n: usize) {
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        self.budget.add(n as u64);
    }

    /// Counts `n` bytes that were freed. May wake the tasks of members, so no lock of a shared buffer may be held.
    #[inline]
    pub(crate) fn subtract(&self, n: usize) {
        self.bytes.fetch_sub(n as u64, Ordering::Relaxed);
        self.budget.subtract(n as u64);
    }

    /// Returns whether members have to pause reading.
    #[inline]
    pub(crate) fn is_exceeded(&self) -> bool {
        self.budget.is_paused()
    }

    /// Waits until members may read. Wakes the task that polled last.
    pub(crate) fn poll_resumed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_exceeded() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let replaced = self.waiting.lock().replace(waker);
        drop(replaced);
        // Members are resumed before they are woken, so a task that registers too late to be woken sees it here.
        match self.is_exceeded() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.accounts.lock().remove(&self.token);
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("name", &self.name)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// A member of a [`MemoryBudget`], from [`MemoryBudget::largest`]. Keeps the member neither alive nor open.
///
/// A server that runs out of memory can end the largest ones:
///
/// ```
/// # use tokio_evbuffer::limits::MemoryBudget;
/// fn shed(budget: &MemoryBudget) {
///     if budget.used() > budget.limit() {
///         for holder in budget.largest(1) {
///             eprintln!("{:?} holds {} bytes", holder.name(), holder.bytes());
///             holder.abort();
///         }
///     }
/// }
/// # shed(&MemoryBudget::new(0));
/// ```
#[derive(Clone)]
pub struct Holder {
    name: Option<Arc<str>>,
    account: Weak<Account>,
}

impl Holder {
    /// Returns the bytes that count for this member now; zero after it is gone.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.account.upgrade().map_or(0, |account| account.bytes())
    }

    /// Returns the name that the member was given.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Ends the member: a connection or a relay is reset, a shared buffer is closed and emptied. Does nothing after it is
    /// gone.
    pub fn abort(&self) {
        if let Some(account) = self.account.upgrade() {
            (account.abort)();
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder")
            .field("name", &self.name)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use tokio_test::task;

    #[test]
    fn reading_pauses_above_the_limit_and_resumes_at_half() {
        let budget = MemoryBudget::new(100);
        let account = budget.open_account(None, || {});
        account.add(100);
        assert!(!account.is_exceeded());
        account.add(1);
        assert!(account.is_exceeded());

        let other = budget.open_account(None, || {});
        let mut waiting = task::spawn(std::future::poll_fn(|cx| other.poll_resumed(cx)));
        assert!(waiting.poll().is_pending());
        account.subtract(50);
        assert!(account.is_exceeded() && !waiting.is_woken());
        account.subtract(1);
        assert!(!account.is_exceeded() && waiting.is_woken());
        assert!(waiting.poll().is_ready());
        assert_eq!((budget.used(), budget.limit()), (50, 100));
    }

    #[test]
    fn reading_resumes_when_all_memory_is_freed_at_once() {
        let budget = MemoryBudget::new(100);
        let account = budget.open_account(None, || {});
        account.add(101);
        let other = budget.open_account(None, || {});
        let mut waiting = task::spawn(std::future::poll_fn(|cx| other.poll_resumed(cx)));
        assert!(waiting.poll().is_pending());
        account.subtract(101);
        assert!(waiting.is_woken() && waiting.poll().is_ready());
    }

    #[test]
    fn the_largest_members_come_first_and_can_be_aborted() {
        let budget = MemoryBudget::new(1000);
        let aborted = Arc::new(AtomicU64::new(0));
        let members: Vec<_> = (1..=3)
            .map(|i| {
                let aborted = aborted.clone();
                let abort = move || {
                    aborted.fetch_add(i, Ordering::Relaxed);
                };
                let member = budget.open_account(Some(i.to_string().into()), abort);
                member.add(10 * i as usize);
                member
            })
            .collect();
        let empty = budget.open_account(None, || {});
        let largest = budget.largest(2);
        let seen: Vec<_> = largest.iter().map(|h| (h.name(), h.bytes())).collect();
        assert_eq!(seen, [(Some("3"), 30), (Some("2"), 20)]);
        largest[0].abort();
        assert_eq!(aborted.load(Ordering::Relaxed), 3);

        members
            .iter()
            .for_each(|member| member.subtract(member.bytes()));
        drop((members, empty));
        assert_eq!((largest[0].bytes(), budget.used()), (0, 0));
        largest[0].abort();
        assert_eq!(aborted.load(Ordering::Relaxed), 3);
        assert!(budget.0.accounts.lock().is_empty());
    }
}
