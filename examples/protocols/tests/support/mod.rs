//! The helpers of the library's tests that these tests share.
#![allow(dead_code, unreachable_pub)]

#[path = "../../../../tests/support/data.rs"]
pub mod data;
#[path = "../../../../tests/support/net.rs"]
pub mod net;
#[path = "../../../../tests/support/tasks.rs"]
pub mod tasks;
#[path = "../../../../tests/support/wrapped.rs"]
pub mod wrapped;
