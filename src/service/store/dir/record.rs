//! The form of a record's file: a line that says what follows, a head in JSON, a body of bytes.
//!
//! ```text
//! afterack 1 HEAD-LENGTH HEAD-SUM BODY-LENGTH BODY-SUM
//! ```
//!
//! The sums tell a record from a damaged one or from a file that somebody else put there.
//!
//! What changes often is kept as a *pair*, a file of two halves that are written in turns: whatever
//! happens while one is written, the other one is whole. Overwriting takes a disk half the time that a
//! new file does, and leaves nothing to remove.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the first line begins with: the name of the format and its version.
const MAGIC: &str = "afterack 1 ";

/// The longest first line.
const LINE: usize = 128;

/// The size of half a pair. A longer record has a file of its own.
pub const HALF: usize = 1024;

/// The size of a pair.
pub const PAIR: usize = 2 * HALF;

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

/// The file that holds this version of a record, and what of a pair is new in it, if it is one.
pub fn paired(version: u64, mut record: Vec<u8>) -> (Vec<u8>, Option<Range<usize>>) {
    if record.len() > HALF {
        // Nothing but a pair has the length of one.
        record.resize(record.len().max(PAIR + 1), 0);
        return (record, None);
    }
    let begin = (version % 2) as usize * HALF;
    let changed = begin..begin + record.len();
    let mut pair = vec![0; PAIR];
    pair[changed.clone()].copy_from_slice(&record);
    (pair, Some(changed))
}

/// The heads and bodies of a pair, or of a file that a record has for its own: those that are whole.
///
/// # Errors
/// What is wrong with the last of them if none is.
pub fn decode_paired<H: DeserializeOwned>(file: &[u8]) -> Result<Vec<(H, Vec<u8>)>, String> {
    let parts = if file.len() == PAIR { file.chunks(HALF) } else { file.chunks(file.len().max(1)) };
    let (mut whole, mut wrong) = (Vec::new(), "it is empty".to_owned());
    for part in parts {
        let record = first_line(part).and_then(|(line, rest)| {
            let length = (part.len() - rest.len()).saturating_add(line.head).saturating_add(line.body);
            decode(part.get(..length).ok_or("it is cut off")?)
        });
        match record {
            Ok(record) => whole.push(record),
            Err(reason) => wrong = reason,
        }
    }
    if whole.is_empty() { Err(wrong) } else { Ok(whole) }
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
    fn of_a_pair_one_half_is_always_whole() {
        let records = [encode(&input(), b"old"), encode(&input(), b"new, and longer")];
        let (mut pair, _) = paired(7, records[0].clone());
        assert_eq!(pair.len(), PAIR);
        let (next, Some(changed)) = paired(8, records[1].clone()) else { panic!("it fits") };
        for written in changed.clone() {
            assert_eq!(decode_paired::<Input>(&pair).unwrap(), [(input(), b"old".to_vec())], "{written}");
            pair[written] = next[written];
        }
        let bodies = decode_paired::<Input>(&pair).unwrap().into_iter().map(|(_, body)| body);
        assert_eq!(bodies.collect::<Vec<_>>(), [b"new, and longer".to_vec(), b"old".to_vec()]);
    }

    #[test]
    fn a_record_too_long_for_a_pair_has_a_file_that_is_none() {
        for length in [HALF, PAIR - 120, PAIR, 5 * PAIR] {
            let (file, None) = paired(1, encode(&input(), &vec![7; length])) else {
                panic!("it is too long")
            };
            assert!(file.len() > PAIR);
            assert_eq!(decode_paired::<Input>(&file).unwrap(), [(input(), vec![7; length])]);
        }
        for nothing in [&b""[..], &[0; PAIR], &[b'x'; PAIR], b"afterack 1 18446744073709551615 0 9 0\n"] {
            assert!(decode_paired::<Input>(nothing).is_err());
        }
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
