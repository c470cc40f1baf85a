//! Counts the steps that operations take, so that tests can show that they are linear.

/// Counts `n` steps: segments that were visited, or bytes that were copied within the crate.
///
/// Does nothing outside of this crate's own tests.
#[inline]
pub(super) fn count(n: usize) {
    #[cfg(test)]
    STEPS.set(STEPS.get() + n);
    #[cfg(not(test))]
    let _ = n;
}

#[cfg(test)]
std::thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Returns how many steps this thread has counted.
#[cfg(test)]
pub(super) fn counted() -> usize {
    STEPS.get()
}
