//! Lines for whoever watches. That nobody does any more, a closed pipe, is no reason to end.

use std::{
    fmt,
    io::{self, Write},
};

/// Prints a line on stdout, at once.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Prints a line on stderr.
pub(crate) fn warn(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}
