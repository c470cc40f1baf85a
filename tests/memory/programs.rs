//! The memory that random programs leave in buffers, counted by the allocator after each step.

use crate::{
    heap,
    model::{Model, choose::Random, op::Step},
};

/// Runs each beginning of a program and counts how much memory is freed when the buffers are dropped.
#[test]
fn each_step_of_a_program_leaves_at_most_4_times_the_data_and_64_kib() {
    for seed in 0..12 {
        for steps in 1..60 {
            let mut random = Random(seed);
            let mut model = Model::default();
            (0..steps).for_each(|_| model.apply(Step::choose(&mut random)));
            let before = heap::in_use_here();
            let allowed = model.drop_buffers();
            let held = before - heap::in_use_here();
            assert!(
                held <= allowed as isize,
                "{held} bytes, at most {allowed}: {steps} steps of seed {seed}"
            );
        }
    }
}
