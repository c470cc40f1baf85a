//! `EvBuffer`: operations, order, limits, lines, files, and random programs against a model.

#[path = "../../src/buffer/model/mod.rs"]
mod model;
#[path = "../support/mod.rs"]
mod support;

mod borders;
mod bounds;
mod eol;
mod file;
mod freeze;
mod guesses;
mod limits;
mod order;
mod owners;
mod programs;
mod shared_blocks;
#[cfg(unix)]
mod time;
mod waste;
