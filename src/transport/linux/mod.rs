//! What only Linux can do: move bytes inside the kernel.

mod peer_state;
mod sendfile;
mod splice;

pub(crate) use peer_state::HangUp;
pub(crate) use splice::Pipe;
#[cfg(test)]
pub(crate) use splice::one_at_a_time;
