//! Random programs over three buffers, compared with plain vectors after each step.

use std::env;

use crate::model::{
    Model,
    choose::{Random, Written},
    op::Step,
};
use proptest::{collection::vec, prelude::*};

/// One step of a program, made of its own bytes, so that shrinking can remove any other step.
fn step() -> impl Strategy<Value = Step> {
    any::<[u8; 12]>().prop_map(|bytes| Step::choose(&mut Written(&bytes)))
}

proptest! {
    #[test]
    fn a_random_program_has_the_same_effect_on_buffers_and_vectors(program in vec(step(), 1..120)) {
        Model::run(program);
    }
}

/// Runs `EVBUFFER_MODEL_STEPS` steps from the seed `EVBUFFER_MODEL_SEED`; by default a few seconds.
#[test]
fn a_long_random_program_has_the_same_effect_on_buffers_and_vectors() {
    let steps = number("EVBUFFER_MODEL_STEPS", 10_000);
    let seed = number("EVBUFFER_MODEL_SEED", 1);
    let mut random = Random(seed);
    let mut model = Model::default();
    for at in 0..steps {
        let step = Step::choose(&mut random);
        let _named = NamedIfFailed { seed, at, step };
        model.apply(step);
    }
    model.finish();
}

/// Prints the number of the failed step when dropped in a panic. The seed and the number reproduce the failure.
#[derive(Debug)]
struct NamedIfFailed {
    seed: u64,
    at: u64,
    step: Step,
}

impl Drop for NamedIfFailed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("step {} of seed {}: {:?}", self.at, self.seed, self.step);
        }
    }
}

/// Returns the number in the environment variable `name`.
fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
        Err(_) => default,
    }
}
