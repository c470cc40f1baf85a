//! tokio-evbuffer side by side with what a user would pick instead.
//!
//! Candidates are processes of their own ([`candidates`], started by [`process`]), put to work by [`load`] from this
//! process, so that CPU time and memory are the candidate's alone. [`measure`] lets them run in turn, in rounds, and
//! takes medians; [`buffer`] does the same for buffer operations inside this process; [`report`] writes it all down.

#[path = "../../support/buffer/mod.rs"]
pub mod buffer;
pub mod candidates;
pub mod cli;
#[cfg(libevent)]
pub mod libevent;
pub mod load;
pub mod measure;
pub mod process;
pub mod report;
pub mod sys;
