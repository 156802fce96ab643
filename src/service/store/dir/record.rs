//! The form of a record's file: a line that says what follows, a head in JSON, a body of bytes.
//!
//! ```text
//! afterack 1 HEAD-LENGTH HEAD-SUM BODY-LENGTH BODY-SUM
//! ```
//!
//! The sums tell a record from a damaged one or from a file that somebody else put there.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the first line begins with: the name of the format and its version.
const MAGIC: &str = "afterack 1 ";

/// The longest first line.
const LINE: usize = 128;

pub fn encode(head: &impl Serialize, body: &[u8]) -> Vec<u8> {
    let head = serde_json::to_vec(head).expect("these are structs with plain fields");
    let line = format!("{MAGIC}{} {:x} {} {:x}\n", head.len(), sum(&head), body.len(), sum(body));
    [line.as_bytes(), &head, body].concat()
}

/// The head and the body of a whole file.
pub fn decode<H: DeserializeOwned>(file: &[u8]) -> Result<(H, Vec<u8>), String> {
    let (line, rest) = first_line(file)?;
    let (head, body) = rest.split_at_checked(line.head).ok_or("its head is cut off")?;
    if body.len() != line.body {
        return Err(format!("its body is {} bytes, not {}", body.len(), line.body));
    }
    if sum(body) != line.body_sum {
        return Err("its body is not what was written".into());
    }
    Ok((parse(head, &line)?, body.to_vec()))
}

/// The head of a file, from its beginning; `None` if more of it is needed.
pub fn decode_head<H: DeserializeOwned>(beginning: &[u8]) -> Result<Option<H>, String> {
    let (line, rest) = first_line(beginning)?;
    rest.get(..line.head).map(|head| parse(head, &line)).transpose()
}

struct Line {
    head: usize,
    head_sum: u64,
    body: usize,
    body_sum: u64,
}

fn first_line(file: &[u8]) -> Result<(Line, &[u8]), String> {
    let parse = || {
        let end = file.iter().take(LINE).position(|byte| *byte == b'\n')?;
        let mut words = str::from_utf8(&file[..end]).ok()?.strip_prefix(MAGIC)?.split(' ');
        let line = Line {
            head: words.next()?.parse().ok()?,
            head_sum: u64::from_str_radix(words.next()?, 16).ok()?,
            body: words.next()?.parse().ok()?,
            body_sum: u64::from_str_radix(words.next()?, 16).ok()?,
        };
        Some((line, &file[end + 1..]))
    };
    parse().ok_or_else(|| "it does not begin as a record does".into())
}

fn parse<H: DeserializeOwned>(head: &[u8], line: &Line) -> Result<H, String> {
    if sum(head) != line.head_sum {
        return Err("its head is not what was written".into());
    }
    serde_json::from_slice(head).map_err(|error| format!("its head: {error}"))
}

/// FNV-1a: enough to notice damage, which is not an attack.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::job::Input;

    fn input() -> Input {
        Input { worker: "demo".into(), notify: vec!["mailto:a@b.org".into()], ..Input::default() }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for body in [&b""[..], b"\n\0afterack 1 ", &[7; 100_000]] {
            let file = encode(&input(), body);
            assert_eq!(decode::<Input>(&file).unwrap(), (input(), body.to_vec()));
            assert_eq!(decode_head::<Input>(&file).unwrap(), Some(input()));
        }
        let file = encode(&input(), b"body");
        assert_eq!(decode_head::<Input>(&file[..60]).unwrap(), None);
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let file = encode(&input(), b"the body");
        for at in 0..file.len() {
            assert!(decode::<Input>(&file[..at]).is_err(), "cut off at {at}");
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(decode::<Input>(&damaged).is_err(), "damaged at {at}");
        }
        assert!(decode::<Input>(&[file.as_slice(), b"x"].concat()).is_err());
    }
}
