//! The lock of a shared buffer, past which the reader that shows the front may take from it while that concerns nobody.

use super::state::State;
use crate::sync::{AtomicU64, Lock, LockGuard, Ordering};

/// The state behind its lock, and what was taken past the lock.
///
/// A reader that handles line after line would lock the buffer for each. While nobody is to be told of what it takes it
/// only counts that here; whoever locks the buffer next removes it before he sees anything, and ends the loan. So for all
/// others it is as if each piece had been removed at once.
#[derive(Debug)]
pub(super) struct Lending<S = State> {
    state: Lock<S>,
    /// That of the [`Loan`] that is out; zero if there is none.
    lent: AtomicU64,
}

/// Leave to take bytes past the lock: whose showing they are of, in the upper half, and how many were taken, in the lower.
#[derive(Debug, Default)]
pub(super) struct Loan(u64);

/// What bytes can be taken from.
pub(super) trait Lender {
    /// Removes `n` bytes, of what is shown.
    fn take_back(&mut self, n: usize);
}

impl<S: Lender> Lending<S> {
    pub(super) fn new(state: S) -> Self {
        Self {
            state: Lock::new(state),
            lent: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> LockGuard<'_, S> {
        let mut state = self.state.lock();
        // A loan is made under the lock, so that each that there is shows here.
        if self.lent.load(Ordering::Relaxed) != 0 {
            self.end_loan(&mut state);
        }
        state
    }

    #[inline(never)]
    fn end_loan(&self, state: &mut S) {
        let taken = self.lent.swap(0, Ordering::AcqRel) as u32;
        state.take_back(taken as usize);
    }

    /// Lets a reader take of the bytes that it shows, all but the last. Called with the lock held, which has ended every
    /// loan before.
    pub(super) fn lend(&self, showing: u64, shown: usize) -> Loan {
        match (u32::try_from(showing), u32::try_from(shown)) {
            (Ok(showing), Ok(_)) => {
                let lent = u64::from(showing) << 32;
                self.lent.store(lent, Ordering::Release);
                Loan(lent)
            }
            _ => Loan::default(),
        }
    }

    /// Takes `n` bytes; false if there is no such loan any more. What was taken before is removed then.
    #[inline]
    pub(super) fn take(&self, loan: &mut Loan, n: usize) -> bool {
        let (before, after) = (loan.0, loan.0 + n as u64);
        *loan = Loan(after);
        before != 0
            && self
                .lent
                .compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Removed(usize);

    impl Lender for Removed {
        fn take_back(&mut self, n: usize) {
            self.0 += n;
        }
    }

    #[test]
    fn what_is_taken_is_removed_before_anybody_looks() {
        let lending = Lending::new(Removed(0));
        let mut loan = lending.lend(1, 100);
        assert!(lending.take(&mut loan, 40) && lending.take(&mut loan, 2));
        assert_eq!(lending.lock().0, 42);
        assert!(!lending.take(&mut loan, 1), "a look ends the loan");
        assert_eq!(lending.lock().0, 42);
    }

    #[test]
    fn an_old_loan_is_worth_nothing_when_there_is_another() {
        let lending = Lending::new(Removed(0));
        let mut old = lending.lend(1, 100);
        drop(lending.lock());
        let mut new = lending.lend(2, 100);
        assert!(!lending.take(&mut old, 1));
        assert!(lending.take(&mut new, 1));
        assert_eq!(lending.lock().0, 1);
    }

    #[test]
    fn nothing_is_lent_that_cannot_be_counted() {
        let lending = Lending::new(Removed(0));
        for (showing, shown) in [(1 << 32, 1), (1, 1 << 32)] {
            let mut loan = lending.lend(showing, shown);
            assert!(!lending.take(&mut loan, 1));
        }
        assert_eq!(lending.lock().0, 0);
    }
}
