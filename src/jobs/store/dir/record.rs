//! The form of a job's file: two halves that are written in turns, a record, and what the job's steps have
//! come to.
//!
//! ```text
//! half       how far the job has come, by an even version
//! half       the same by an odd version
//! record     what was accepted, or how far it has come if that is too long for half; or nothing
//! step …     what one of its steps has come to, in the order in which they did
//! ```
//!
//! Each of them is a line that says what follows, a head in JSON, a body of bytes:
//!
//! ```text
//! afterack 2 input|run|step HEAD-LENGTH HEAD-SUM BODY-LENGTH BODY-SUM
//! ```
//!
//! The sums tell a record from a damaged one or from a file that somebody else put there. Whatever happens
//! while one half is written, the other one is whole. Overwriting takes a disk half the time that a new
//! file does, and leaves nothing to remove.

use std::hash::Hasher;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::jobs::job::{Input, Recorded, Run};

/// What the first line begins with: the name of the format and its version.
const MAGIC: &str = "afterack 2 ";

/// The longest first line.
const LINE: usize = 128;

/// The size of half a pair.
const HALF: usize = 1024;

/// The size of both halves: where the record begins.
pub const PAIR: usize = 2 * HALF;

/// What a record is of.
trait Kind: Serialize + DeserializeOwned {
    const NAME: &str;
}

impl Kind for Input {
    const NAME: &str = "input";
}

impl Kind for Run {
    const NAME: &str = "run";
}

impl Kind for Recorded {
    const NAME: &str = "step";
}

/// How a version of a job's course is stored.
pub enum Stored {
    /// By writing this over the file's bytes at this place.
    Half(Vec<u8>, u64),
    /// In a file of its own.
    File(Vec<u8>),
}

/// What of the file of a new job comes before the body, which may be large.
pub fn before_body(input: &Input) -> Vec<u8> {
    file_with(&before(input, &input.body))
}

/// How this version of a course is stored.
pub fn store(run: &Run) -> Stored {
    let record = encode(run, &run.bytes);
    if record.len() > HALF {
        return Stored::File(file_with(&record));
    }
    Stored::Half(record, run.version % 2 * HALF as u64)
}

/// A file that holds nothing but this version of a course.
pub fn run_file(run: &Run) -> Vec<u8> {
    match store(run) {
        Stored::File(file) => file,
        Stored::Half(record, at) => {
            let mut file = vec![0; PAIR];
            file[at as usize..at as usize + record.len()].copy_from_slice(&record);
            file
        }
    }
}

fn file_with(record: &[u8]) -> Vec<u8> {
    let mut file = vec![0; PAIR];
    file.extend_from_slice(record);
    file
}

/// What a step has come to, as it is appended to a file.
pub fn step(recorded: &Recorded) -> Vec<u8> {
    encode(recorded, &recorded.bytes)
}

/// Where the steps begin in a file that begins like this.
///
/// # Errors
/// What is wrong with the record that comes before them.
pub fn steps_begin(beginning: &[u8]) -> Result<u64, String> {
    let record = beginning.get(PAIR..).ok_or("it is too short")?;
    if record.is_empty() || kind(record) == Some(Recorded::NAME) {
        return Ok(PAIR as u64);
    }
    let (line, rest) = first_line(record)?;
    Ok((beginning.len() - rest.len() + line.head + line.body) as u64)
}

/// What the steps have come to that are written here, and how many bytes that takes. What comes after a step
/// that was torn by a power cut was not stored yet.
pub fn decode_steps(mut bytes: &[u8]) -> (Vec<Recorded>, u64) {
    let (length, mut steps) = (bytes.len(), Vec::new());
    while let Ok((step, body, rest)) = decode::<Recorded>(bytes) {
        steps.push(Recorded { bytes: body.to_vec(), ..step });
        bytes = rest;
    }
    (steps, (length - bytes.len()) as u64)
}

/// How far a job has come, by its whole file; of a job that has not begun, nowhere.
///
/// # Errors
/// What is wrong with the file if it tells nothing.
pub fn decode_run(file: &[u8]) -> Result<Run, String> {
    newest_run(file, &mut |part| {
        decode::<Run>(part).map(|(run, bytes, _)| Run { bytes: bytes.to_vec(), ..run })
    })
}

/// The same by its beginning, without the bytes of a long record.
pub fn decode_run_head(beginning: &[u8]) -> Result<Run, String> {
    newest_run(beginning, &mut |part| decode_head::<Run>(part)?.ok_or("its head is cut off".into()))
}

fn newest_run(file: &[u8], long: &mut dyn FnMut(&[u8]) -> Result<Run, String>) -> Result<Run, String> {
    let pair = file.get(..PAIR).ok_or("it is too short")?;
    let mut runs = Vec::new();
    let (mut is_new, mut wrong) = (false, String::new());
    for half in pair.chunks(HALF) {
        if half.iter().all(|byte| *byte == 0) {
            is_new = true;
            continue;
        }
        match decode_half(half) {
            Ok(run) => runs.push(run),
            Err(reason) => wrong = reason,
        }
    }
    let record = &file[PAIR..];
    match kind(record) {
        Some(Run::NAME) => match long(record) {
            Ok(run) => runs.push(run),
            Err(reason) => wrong = reason,
        },
        // A first half that was torn by a power cut had not been stored yet.
        Some(Input::NAME) if is_new && runs.is_empty() => runs.push(Run::default()),
        _ => {}
    }
    runs.into_iter().max_by_key(|run| run.version).ok_or(if wrong.is_empty() {
        "it has no version".into()
    } else {
        wrong
    })
}

fn decode_half(half: &[u8]) -> Result<Run, String> {
    let (run, bytes, _) = decode::<Run>(half)?;
    Ok(Run { bytes: bytes.to_vec(), ..run })
}

/// What was accepted, by a job's whole file, and its body, which takes the file's place in memory.
pub fn decode_input(mut file: Vec<u8>) -> Result<Input, String> {
    let (input, body, after) = decode::<Input>(file.get(PAIR..).ok_or("it is too short")?)?;
    let (size, after) = (body.len(), after.len());
    file.truncate(file.len() - after);
    file.drain(..file.len() - size);
    Ok(Input { size, body: file, ..input })
}

/// What was accepted, by the beginning of a job's file, with the body if that is all there; `None` if more
/// of the file is needed, or the file holds something else.
pub fn decode_input_head(beginning: &[u8]) -> Result<Option<Input>, String> {
    let record = beginning.get(PAIR..).ok_or("it is too short")?;
    if kind(record) != Some(Input::NAME) {
        return Ok(None);
    }
    let (line, rest) = first_line(record)?;
    let Some(input) = decode_head::<Input>(record)? else { return Ok(None) };
    let body = rest[line.head..].get(..line.body).filter(|body| sum(body) == line.body_sum);
    Ok(Some(Input { size: line.body, body: body.unwrap_or_default().to_vec(), ..input }))
}

/// Whether a file holds what was accepted, or only how far a job has come.
pub fn has_input(beginning: &[u8]) -> bool {
    beginning.get(PAIR..).and_then(kind) == Some(Input::NAME)
}

fn kind(record: &[u8]) -> Option<&str> {
    let line = &record[..record.len().min(LINE)];
    str::from_utf8(line.get(MAGIC.len()..)?.split(|byte| *byte == b' ').next()?)
        .ok()
        .filter(|_| line.starts_with(MAGIC.as_bytes()))
}

fn encode<H: Kind>(head: &H, body: &[u8]) -> Vec<u8> {
    [&before(head, body), body].concat()
}

/// What of a record comes before its body.
fn before<H: Kind>(head: &H, body: &[u8]) -> Vec<u8> {
    let name = H::NAME;
    let head = serde_json::to_vec(head).expect("these are structs with plain fields");
    let line = format!("{MAGIC}{name} {} {:x} {} {:x}\n", head.len(), sum(&head), body.len(), sum(body));
    [line.as_bytes(), &head].concat()
}

/// The head and the body of a whole record, and what comes after it.
fn decode<H: Kind>(record: &[u8]) -> Result<(H, &[u8], &[u8]), String> {
    let (line, rest) = first_line(record)?;
    let (head, rest) = rest.split_at_checked(line.head).ok_or("its head is cut off")?;
    let (body, rest) = rest
        .split_at_checked(line.body)
        .ok_or_else(|| format!("its body is {} bytes, not {}", rest.len(), line.body))?;
    if sum(body) != line.body_sum {
        return Err("its body is not what was written".into());
    }
    Ok((parse(head, &line)?, body, rest))
}

/// The head of a record, from its beginning; `None` if more of it is needed.
fn decode_head<H: Kind>(beginning: &[u8]) -> Result<Option<H>, String> {
    let (line, rest) = first_line(beginning)?;
    rest.get(..line.head).map(|head| parse(head, &line)).transpose()
}

struct Line<'a> {
    kind: &'a str,
    head: usize,
    head_sum: u64,
    body: usize,
    body_sum: u64,
}

fn first_line(file: &[u8]) -> Result<(Line<'_>, &[u8]), String> {
    let parse = || {
        let end = file.iter().take(LINE).position(|byte| *byte == b'\n')?;
        let mut words = str::from_utf8(&file[..end]).ok()?.strip_prefix(MAGIC)?.split(' ');
        let line = Line {
            kind: words.next()?,
            head: words.next()?.parse().ok()?,
            head_sum: u64::from_str_radix(words.next()?, 16).ok()?,
            body: words.next()?.parse().ok()?,
            body_sum: u64::from_str_radix(words.next()?, 16).ok()?,
        };
        Some((line, &file[end + 1..]))
    };
    parse().ok_or_else(|| "it does not begin as a record does".into())
}

fn parse<H: Kind>(head: &[u8], line: &Line) -> Result<H, String> {
    if line.kind != H::NAME {
        return Err(format!("it is the record of {}, not of {}", line.kind, H::NAME));
    }
    if sum(head) != line.head_sum {
        return Err("its head is not what was written".into());
    }
    serde_json::from_slice(head).map_err(|error| format!("its head: {error}"))
}

/// FNV-1a: enough to notice damage, which is not an attack.
pub fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::job::What;

    fn whole_file(input: &Input) -> Vec<u8> {
        [before_body(input), input.body.clone()].concat()
    }

    fn input(body: &[u8]) -> Input {
        let notify = vec!["mailto:a@b.org".into()];
        Input { worker: "demo".into(), notify, body: body.into(), size: body.len(), ..Input::default() }
    }

    fn run(version: u64, bytes: &[u8]) -> Run {
        Run { version, bytes: bytes.into(), ..Run::default() }
    }

    /// Writes a version over a file, as the store does.
    fn overwrite(file: &mut [u8], run: &Run) -> (usize, usize) {
        let Stored::Half(record, at) = store(run) else { panic!("it is too long") };
        file[at as usize..at as usize + record.len()].copy_from_slice(&record);
        (at as usize, record.len())
    }

    #[test]
    fn a_job_is_read_as_it_was_written() {
        for body in [&b""[..], b"\n\0afterack 2 run ", &[7; 100_000]] {
            let mut file = whole_file(&input(body));
            assert_eq!(decode_input(file.clone()).unwrap(), input(body));
            assert_eq!(decode_run(&file).unwrap(), Run::default());
            for version in 1..5 {
                overwrite(&mut file, &run(version, b"output"));
                assert_eq!(decode_run(&file).unwrap(), run(version, b"output"));
                assert_eq!(decode_input(file.clone()).unwrap(), input(body));
            }
        }
        let file = whole_file(&input(b"body"));
        assert_eq!(decode_input_head(&file).unwrap(), Some(input(b"body")));
        let head = decode_input_head(&file[..file.len() - 1]).unwrap().unwrap();
        assert_eq!((head.size, head.body.as_slice()), (4, &b""[..]));
        assert_eq!(decode_input_head(&file[..PAIR + 70]).unwrap(), None);
    }

    #[test]
    fn of_two_halves_one_is_always_whole() {
        let mut file = whole_file(&input(b"body"));
        let mut before = Run::default();
        for version in 1..4 {
            let next = run(version, &vec![b'x'; version as usize * 100]);
            let mut whole = file.clone();
            let (at, length) = overwrite(&mut whole, &next);
            for written in at..at + length {
                assert_eq!(decode_run(&file).unwrap(), before, "{version}: {written}");
                file[written] = whole[written];
            }
            assert_eq!(decode_run(&file).unwrap(), next);
            before = next;
        }
    }

    #[test]
    fn a_course_too_long_for_a_half_has_a_file_of_its_own_and_goes_on_in_halves() {
        for length in [HALF, PAIR - 120, PAIR, 5 * PAIR] {
            let long = run(7, &vec![7; length]);
            let Stored::File(mut file) = store(&long) else { panic!("it is too long") };
            assert_eq!(decode_run(&file).unwrap(), long);
            let head = decode_run_head(&file[..PAIR + 300.min(file.len() - PAIR)]).unwrap();
            assert_eq!((head.version, head.bytes.len()), (7, 0));
            overwrite(&mut file, &run(8, b"short"));
            assert_eq!(decode_run(&file).unwrap(), run(8, b"short"));
        }
        assert_eq!(decode_run(&run_file(&run(3, b"x"))).unwrap(), run(3, b"x"));
        for nothing in [&b""[..], &[0; PAIR], &[b'x'; PAIR], &[0; PAIR + 50]] {
            assert!(decode_run(nothing).is_err());
        }
    }

    #[test]
    fn steps_are_read_up_to_the_first_that_is_not_whole() {
        let recorded =
            |step: &str, bytes: &[u8]| Recorded { step: step.into(), what: What::Done, bytes: bytes.into() };
        let steps = [recorded("one", b"[1]"), recorded("", b""), recorded("two\n", &[b'x'; 5000])];
        let bytes: Vec<_> = steps.iter().flat_map(step).collect();
        let long = run(1, &[7; 5 * PAIR]);
        let Stored::File(long) = store(&long) else { panic!("it is too long") };
        for file in [whole_file(&input(b"body")), run_file(&run(1, b"x")), long] {
            let from = file.len();
            let mut file = [file, bytes.clone()].concat();
            assert_eq!(steps_begin(&file[..file.len().min(8192)]).unwrap(), from as u64);
            assert_eq!(decode_steps(&file[from..]), (steps.to_vec(), bytes.len() as u64));
            assert!(decode_run(&file).is_ok());
            let first = step(&steps[0]).len();
            for end in [0, 1, first - 1] {
                assert_eq!(decode_steps(&bytes[..end]), (vec![], 0));
            }
            assert_eq!(decode_steps(&bytes[..first + 1]), (steps[..1].to_vec(), first as u64));
            file[from + first + 3] ^= 1;
            assert_eq!(decode_steps(&file[from..]), (steps[..1].to_vec(), first as u64));
        }
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let file = whole_file(&input(b"the body"));
        for at in PAIR..file.len() {
            assert!(decode_input(file[..at].to_vec()).is_err(), "cut off at {at}");
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(decode_input(damaged).is_err(), "damaged at {at}");
        }
        // Damage of the newest version leaves the one before, or nothing.
        let mut file = run_file(&run(1, b"one"));
        for at in HALF..HALF + 100 {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(decode_run(&damaged).is_err(), "{at}");
        }
        overwrite(&mut file, &run(2, b"two"));
        file[10] ^= 1;
        assert_eq!(decode_run(&file).unwrap(), run(1, b"one"));
    }
}
