//! Drives a future that is polled only when it was woken, so that a lost wake-up is a hang that a test sees.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tokio_test::task::spawn;

/// The outside of the future under test: what its streams wait for, and chance.
///
/// A fake that returns `Pending` registers here. An event happens only when the future sleeps, and wakes just the
/// waker that was registered last for it, as a reactor does.
#[derive(Clone, Debug)]
pub struct World {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    waiting: Vec<(Source, Waker)>,
    random: u64,
}

/// One thing to wait for: each fake has one for reading and one for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(pub usize);

impl World {
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

    /// A number below `bound` (xorshift).
    pub fn random(&self, bound: usize) -> usize {
        let mut state = self.state.lock().unwrap();
        state.random ^= state.random << 13;
        state.random ^= state.random >> 7;
        state.random ^= state.random << 17;
        (state.random % bound as u64) as usize
    }

    /// Remembers whom to wake for `source`.
    pub fn wait(&self, source: Source, cx: &Context<'_>) {
        let mut state = self.state.lock().unwrap();
        state.waiting.retain(|(other, _)| *other != source);
        state.waiting.push((source, cx.waker().clone()));
    }

    /// Lets one of the awaited events happen; false if nobody waits for any.
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

    /// Runs `future` to its end.
    ///
    /// # Panics
    ///
    /// If it sleeps while nothing that it waits for can happen any more.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let mut task = spawn(future);
        for _ in 0..2_000_000 {
            if let Poll::Ready(output) = task.poll() {
                return output;
            }
            while !task.is_woken() {
                assert!(
                    self.step(),
                    "the future sleeps for ever: it has lost a wake-up"
                );
            }
        }
        panic!("the future spins");
    }
}
