//! What may be asked for with a job, by a header or in Rust: values that have been checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest delay: a year.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// The longest name of a group, in bytes.
const GROUP: usize = 255;

/// How long after its ack a job begins at the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay(u64);

/// The name of a group: its jobs run one after the other, in the order of their acks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group(String);

impl Delay {
    /// A delay of at most a year; none if it is zero.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(time: Duration) -> Result<Option<Delay>, String> {
        if time > LONGEST {
            let (seconds, most) = (time.as_secs(), LONGEST.as_secs());
            return Err(format!("invalid Delay: {seconds} s is out of range (0 to {most})"));
        }
        let milliseconds = time.as_millis() as u64;
        Ok((milliseconds > 0).then_some(Delay(milliseconds)))
    }

    /// The same in whole seconds, as it is written in a header.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Option<Delay>, String> {
        let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        let seconds = text.parse().ok().filter(|_| is_number);
        let most = LONGEST.as_secs();
        let invalid = || format!("invalid Delay: `{}` (expected seconds, 0 to {most})", excerpt(text));
        Delay::new(Duration::from_secs(seconds.ok_or_else(invalid)?)).map_err(|_| invalid())
    }

    pub fn time(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl Group {
    /// A group of this name: 1 to 255 visible ASCII characters.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(name: &str) -> Result<Group, String> {
        let expected = format!("(expected 1 to {GROUP} visible ASCII characters)");
        match name.len() {
            0 => Err(format!("invalid Job-Group: empty {expected}")),
            length if length > GROUP => Err(format!("invalid Job-Group: {length} bytes {expected}")),
            _ if !name.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(format!("invalid Job-Group: `{}` {expected}", excerpt(name)))
            }
            _ => Ok(Group(name.into())),
        }
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// The name in a form that every store can use, of 32 characters.
    pub fn digest(&self) -> String {
        Sha256::digest(&self.0)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_at_most_a_year_in_whole_seconds() {
        let parse = |text: &str| Delay::parse(text).map(|delay| delay.map(Delay::time));
        assert_eq!(parse("0"), Ok(None));
        assert_eq!(parse("007"), Ok(Some(Duration::from_secs(7))));
        assert_eq!(parse("31536000"), Ok(Some(LONGEST)));
        for text in ["31536001", "18446744073709551616", "-1", "+1", "1.5", "1s", "", "0x10", "\u{664}"] {
            let problem = parse(text).unwrap_err();
            assert_eq!(problem, format!("invalid Delay: `{text}` (expected seconds, 0 to 31536000)"));
        }
        assert!(Delay::new(LONGEST + Duration::from_secs(1)).unwrap_err().contains("31536001 s"));
        assert_eq!(Delay::new(Duration::from_micros(1)), Ok(None));
    }

    #[test]
    fn a_group_has_a_name_that_can_be_seen() {
        for name in ["a", "user/42?", &"g".repeat(255)] {
            assert_eq!(Group::new(name).unwrap().name(), name);
        }
        for (name, problem) in [("", "empty"), ("a b", "`a b`"), ("a\tb", "`a\tb`"), ("é", "`é`")] {
            let expected = "(expected 1 to 255 visible ASCII characters)";
            let problem = format!("invalid Job-Group: {problem} {expected}");
            assert_eq!(Group::new(name).unwrap_err(), problem);
        }
        assert!(Group::new(&"g".repeat(256)).unwrap_err().contains("256 bytes"));
    }
}
