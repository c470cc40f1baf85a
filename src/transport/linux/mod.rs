//! What only Linux can do: move bytes inside the kernel.

mod forward;
mod low_water;
mod peer_state;
mod pipe;
mod sendfile;
mod splice;

pub(crate) use peer_state::HangUp;
#[cfg(test)]
pub(crate) use pipe::pipe_test_lock;
pub(crate) use pipe::{Pipe, max_pipes, set_max_pipes};
