//! What only Linux can do: move bytes inside the kernel.

mod forward;
mod low_water;
mod peer_state;
mod sendfile;
mod splice;

pub(crate) use peer_state::HangUp;
#[cfg(test)]
pub(crate) use splice::pipe_test_lock;
pub(crate) use splice::{Pipe, max_pipes, set_max_pipes};
