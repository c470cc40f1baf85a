//! Fakes and helpers that the tests share, called by what they do.
#![allow(dead_code, unreachable_pub)]

pub mod stream;
pub mod world;
