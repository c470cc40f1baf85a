//! A simulation that polls a future only when it was woken, so that a lost wake-up fails a test.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tokio_test::task::spawn;

/// The environment of the future under test: the events that its streams wait for, and random numbers.
///
/// A fake stream that returns `Pending` registers its waker here. An event occurs only while the future sleeps, and
/// wakes only the last waker registered for it, as a reactor does.
#[derive(Clone, Debug)]
pub struct Sim {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    waiting: Vec<(Source, Waker)>,
    random: u64,
}

/// An event to wait for. Each fake stream has one for each of its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(pub usize);

impl Sim {
    pub fn new(seed: u64) -> Self {
        // A multiple of a large odd number, since the generator must not start at zero.
        let random = seed
            .wrapping_mul(2)
            .wrapping_add(1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            state: Arc::new(Mutex::new(State {
                waiting: Vec::new(),
                random,
            })),
        }
    }

    /// Returns a number below `bound` (xorshift).
    pub fn random(&self, bound: usize) -> usize {
        let mut state = self.state.lock().unwrap();
        state.random ^= state.random << 13;
        state.random ^= state.random >> 7;
        state.random ^= state.random << 17;
        (state.random % bound as u64) as usize
    }

    /// Registers the waker of `cx` for `source`, and replaces an earlier one.
    pub fn wait(&self, source: Source, cx: &Context<'_>) {
        let mut state = self.state.lock().unwrap();
        state.waiting.retain(|(other, _)| *other != source);
        state.waiting.push((source, cx.waker().clone()));
    }

    /// Triggers one of the awaited events. Returns false if there is none.
    pub fn step(&self) -> bool {
        let count = self.state.lock().unwrap().waiting.len();
        if count == 0 {
            return false;
        }
        let chosen = self.random(count);
        let (_, waker) = self.state.lock().unwrap().waiting.swap_remove(chosen);
        waker.wake();
        true
    }

    /// Triggers events in the background, one each time the other tasks were polled, until the result is dropped.
    #[must_use]
    pub fn drive(&self) -> tokio::task::JoinSet<()> {
        let sim = self.clone();
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async move {
            loop {
                sim.step();
                tokio::task::yield_now().await;
            }
        });
        driver
    }

    /// Runs `future` to completion.
    ///
    /// # Panics
    ///
    /// Panics if the future sleeps and no awaited event is left, or if it does not complete within 2,000,000 polls.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let mut task = spawn(future);
        for _ in 0..2_000_000 {
            if let Poll::Ready(output) = task.poll() {
                return output;
            }
            while !task.is_woken() {
                assert!(
                    self.step(),
                    "the future sleeps and no event is left: a wake-up was lost"
                );
            }
        }
        panic!("the future does not complete");
    }
}
