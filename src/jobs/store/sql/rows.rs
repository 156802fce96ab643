//! What stands in the rows, in the words of the store.

use std::io;

use serde::Serialize;

use super::{Failure, Row, Value};
use crate::jobs::job::{Id, Input, Job, Run, Wait};
use crate::jobs::store::{Due, Kind, Mark, Result, Sign, Slot, StoreError};
use crate::jobs::time::Time;

/// What a row of the queue says.
pub enum Entry {
    Due(Due),
    /// When the first of the others is due, if there is one.
    Next(Option<Time>),
    /// Nothing that this component has put there.
    Foreign,
}

pub fn due_of(row: &Row) -> std::result::Result<Entry, Failure> {
    let time = |column| Ok(row.integer_if_any(column)?.map(|time| Time(time as u64)));
    let kind = match row.integer(1)? {
        0 => Kind::Work,
        1 => Kind::Suspect,
        2 => Kind::Tell,
        _ => return time(2).map(Entry::Next),
    };
    let (Some(id), Some(due)) = (Id::parse(row.text(0)?), time(2)?) else { return Ok(Entry::Foreign) };
    let wait = time(3)?.map(|since| Wait { until: due, since });
    Ok(Entry::Due(Due { time: due, id, kind, wait }))
}

pub fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::Work => 0,
        Kind::Suspect => 1,
        Kind::Tell => 2,
    }
}

/// What a job of this kind is claimed for.
pub fn claimed_for(kind: i64) -> Option<Kind> {
    match kind {
        0 | 1 => Some(Kind::Work),
        2 => Some(Kind::Tell),
        _ => None,
    }
}

/// A sign of life: a holder's token, which stays, and how often he has renewed it.
pub fn sign(token: &str, beat: i64) -> Sign {
    Sign(format!("{token}.{beat}"))
}

pub fn token(slot: &Slot) -> &str {
    slot.sign.0.rsplit_once('.').map_or("", |(token, _)| token)
}

pub fn mark_values(mark: Mark) -> [Value; 3] {
    [mark.id.to_string().into(), i64::from(mark.round).into(), mark.ask.name().into()]
}

pub fn number(time: Time) -> Value {
    Value::Integer(i64::try_from(time.0).unwrap_or(i64::MAX))
}

pub fn number_of(count: usize) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

pub fn id(row: &Row, column: usize) -> std::result::Result<Id, Failure> {
    let text = row.text(column)?;
    Id::parse(text).ok_or_else(|| Failure::Other(format!("`{text}` is no job's id")))
}

pub fn input(id: Id, head: &str, size: i64) -> Result<Input> {
    let input: Input = serde_json::from_str(head)
        .map_err(|error| StoreError::Damaged { id, reason: format!("its head: {error}") })?;
    Ok(Input { size: size as usize, ..input })
}

/// What stands in a column for a struct.
pub fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("these are structs with plain fields")
}

/// Where a job belongs when its claim ends: its kind, how it waits, until when and since when, and how and when it has
/// ended.
pub fn place(job: &Job) -> [Value; 6] {
    let due = Due::of(job.id, &job.run);
    let wait = due.and_then(|due| due.wait);
    let end = job.run.end.as_ref();
    [
        due.map_or(2, |due| kind_number(due.kind)).into(),
        i64::from(wait.is_some()).into(),
        due.map(|due| number(due.time)).into(),
        wait.map(|wait| number(wait.since)).into(),
        end.map_or("", |end| end.state.name()).into(),
        number(end.map(|end| end.finished).unwrap_or_default()),
    ]
}

/// How far a job has come; nothing is written of one that has not begun.
pub fn run_of(id: Id, text: &str) -> Result<Run> {
    if text.is_empty() {
        return Ok(Run::default());
    }
    serde_json::from_str(text)
        .map_err(|error| StoreError::Damaged { id, reason: format!("its course: {error}") })
}

pub fn read_all<T>(
    rows: &[Row],
    doing: &str,
    read: impl FnMut(&Row) -> std::result::Result<T, Failure>,
) -> Result<Vec<T>> {
    rows.iter().map(read).collect::<std::result::Result<_, _>>().map_err(|failure| failed(doing, failure))
}

pub fn failed(doing: &str, failure: Failure) -> StoreError {
    let error = io::Error::other(failure.to_string());
    StoreError::Failed { doing: format!("the database, {doing}"), error }
}
