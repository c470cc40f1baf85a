//! `EvBuffer`: operations, order, limits, lines, files, and random programs against a model.

#[path = "../support/model/mod.rs"]
mod model;
#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod eol;
mod file;
mod freeze;
mod limits;
mod order;
mod programs;
mod waste;
