//! The log: lines on the component's standard output and error.
//!
//! `println!` panics if the host cannot write, as Spin when the disk is full that its logs are on. To lose a line
//! is better than to lose an answer.

use std::fmt::Display;
use std::io::{self, Write};

/// Says what was done.
#[cfg(feature = "jobs")]
pub fn info(what: impl Display) {
    write(io::stdout(), what);
}

/// Says what went wrong.
pub fn error(what: impl Display) {
    write(io::stderr(), what);
}

fn write(mut output: impl Write, what: impl Display) {
    // In one piece, so that the lines of many instances stay whole.
    let line = format!("afterack: {what}\n");
    if cfg!(test) {
        eprint!("{line}"); // Which the tests' harness keeps to itself.
    } else {
        let _ = output.write_all(line.as_bytes());
    }
}
