//! Programs over three buffers, made by a fuzzer and compared with plain vectors after each step.
#![no_main]

#[path = "../../src/buffer/model/mod.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use model::{Model, choose::Written, op::Step};

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Written(bytes);
    let steps = std::iter::from_fn(|| choices.any_left().then(|| Step::choose(&mut choices)));
    Model::run(steps);
});
