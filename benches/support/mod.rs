//! What the benchmarks of whole processes share: a process for each measurement, its figures, and rounds in turn.

#![allow(dead_code)]

pub(crate) mod pin;
pub(crate) mod process;
pub(crate) mod rounds;

use std::{error::Error, result};

pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = result::Result<T, E>;

/// The runtime of the process that is measured. One worker either way, since all is pinned to one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    CurrentThread,
    MultiThread,
}

impl Flavour {
    pub(crate) const ALL: [Self; 2] = [Self::CurrentThread, Self::MultiThread];

    pub(crate) fn named(name: &str) -> Result<Self> {
        let named = Self::ALL
            .into_iter()
            .find(|flavour| format!("{flavour:?}") == name);
        named.ok_or_else(|| format!("no such runtime: {name}").into())
    }

    pub(crate) fn runtime(self) -> Result<tokio::runtime::Runtime> {
        let mut builder = match self {
            Self::CurrentThread => tokio::runtime::Builder::new_current_thread(),
            Self::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        };
        Ok(builder.worker_threads(1).enable_all().build()?)
    }
}

/// An error, unless what came out is what went in.
pub(crate) fn check(right: bool) -> Result<()> {
    if right {
        Ok(())
    } else {
        Err("other bytes came out than should have".into())
    }
}
