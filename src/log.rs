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
    let line = line(what);
    if cfg!(test) {
        eprint!("{line}"); // Which the tests' harness keeps to itself.
    } else {
        let _ = output.write_all(line.as_bytes());
    }
}

/// One line, whatever is said: words may be somebody else's.
fn line(what: impl Display) -> String {
    let words: String = what.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("afterack: {words}\n")
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn whatever_is_said_is_one_line() {
        assert_eq!(
            line("job failed: no\nafterack: job\r\u{85}lies"),
            "afterack: job failed: no afterack: job  lies\n"
        );
    }
}
