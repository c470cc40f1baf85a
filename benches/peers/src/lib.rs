//! Measures tokio-evbuffer and its peers side by side.
//!
//! Each candidate is a separate process ([`candidates`], started by [`process`]) that gets its work from this process
//! ([`load`]), so CPU time and memory are the candidate's alone. [`measure`] runs the candidates in turn, in rounds, and
//! takes medians; [`workloads`] are the buffer operations, which run inside this process. [`table`] holds the figures and
//! [`report`] shows them.

pub mod candidates;
pub mod cli;
#[cfg(libevent)]
pub mod libevent;
pub mod load;
pub mod measure;
pub mod names;
pub mod process;
pub mod report;
pub mod sys;
pub mod table;
#[path = "../../workloads/mod.rs"]
pub mod workloads;
