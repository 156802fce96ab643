//! What there is new of claimed jobs, stored by one statement for many of them.

use std::io;

use super::rows::{id, place, read_all, text, token};
use super::schema::last_end;
use super::{CLAIMED, Database, Sql, Value};
use crate::jobs::fault;
use crate::jobs::job::{Job, Recorded};
use crate::jobs::store::{News, Result, Save, Slot, StoreError};

/// About how many bytes of steps and outputs one statement takes.
const LARGEST: usize = 1024 * 1024;

/// What a statement does for one job: a step is recorded, or it has ended.
pub struct Part<'a> {
    pub job: &'a mut Job,
    pub step: Option<&'a Recorded>,
}

/// What a row for a step consists of.
const STEP: [(&str, &str); 5] =
    [("job", "TEXT"), ("run", "TEXT"), ("step", "BIGINT"), ("head", "TEXT"), ("bytes", "BYTEA")];

/// What a row for an end consists of.
const END: [(&str, &str); 9] = [
    ("job", "TEXT"),
    ("run", "TEXT"),
    ("kind", "BIGINT"),
    ("waits", "BIGINT"),
    ("due", "BIGINT"),
    ("since", "BIGINT"),
    ("ended", "TEXT"),
    ("finished", "BIGINT"),
    ("bytes", "BYTEA"),
];

const SET_STEP: &str = "run = news.run, step = news.step, step_head = news.head, step_bytes = news.bytes";

/// A clock that was behind lets nothing go before what has ended earlier.
const SET_END: &str = concat!(
    "run = news.run, bytes = news.bytes, step = NULL, step_bytes = NULL, owner = NULL, kind = news.kind, \
     waits = news.waits, due = news.due, since = news.since, ended = news.ended, \
     finished = GREATEST(news.finished, ",
    last_end!(),
    ")"
);

impl Part<'_> {
    fn size(&self) -> usize {
        self.step.map_or(self.job.run.bytes.len(), |step| step.bytes.len())
    }

    /// The row for the job's next version.
    fn row(&mut self) -> Vec<Value> {
        let run = &mut self.job.run;
        run.version += 1;
        run.recorded += u32::from(self.step.is_some());
        let head = [self.job.id.to_string().into(), text(&self.job.run).into()];
        let run = &self.job.run;
        let rest = match self.step {
            Some(step) => {
                vec![i64::from(run.recorded - 1).into(), text(step).into(), step.bytes.clone().into()]
            }
            None => place(self.job).into_iter().chain([run.bytes.clone().into()]).collect(),
        };
        head.into_iter().chain(rest).collect()
    }

    /// The job as it was before [`row`](Part::row).
    fn undo(&mut self) {
        self.job.run.version -= 1;
        self.job.run.recorded -= u32::from(self.step.is_some());
    }
}

impl<D: Database> Sql<D> {
    /// See [`Store::save_all`](crate::jobs::store::Store::save_all).
    pub(super) fn save_together(&self, slot: &Slot, saves: &mut [Save]) -> Vec<Result<bool>> {
        let mut results: Vec<_> = saves.iter().map(|_| Ok(false)).collect();
        let (mut steps, mut ends) = (Vec::new(), Vec::new());
        for (Save { job, news }, result) in saves.iter_mut().zip(&mut results) {
            match &*news {
                News::End => ends.push((Part { job, step: None }, result)),
                News::Steps(those) if those.len() == 1 => {
                    steps.push((Part { job, step: those.first() }, result));
                }
                News::Steps(those) => *result = self.record_steps(slot, job, those).map(|()| false),
            }
        }
        for mut parts in [steps, ends] {
            while !parts.is_empty() {
                let mut size = 0;
                let fits = |(part, _): &&(Part, _)| {
                    size += part.size();
                    size <= LARGEST
                };
                let count = parts.iter().take(CLAIMED).take_while(fits).count().max(1);
                let (mut those, answers): (Vec<_>, Vec<_>) = parts.drain(..count).unzip();
                for (answer, result) in answers.into_iter().zip(self.save_parts(slot, &mut those)) {
                    *answer = result;
                }
            }
        }
        results
    }

    /// Records what came of a job's steps, one after the other.
    pub(super) fn record_steps(&self, slot: &Slot, job: &mut Job, steps: &[Recorded]) -> Result<()> {
        steps.iter().try_for_each(|step| {
            self.save_parts(slot, &mut [Part { job: &mut *job, step: Some(step) }]).remove(0).map(drop)
        })
    }

    /// Stores parts that are all of one kind: whether that has ended their claims.
    pub(super) fn save_parts(&self, slot: &Slot, parts: &mut [Part]) -> Vec<Result<bool>> {
        let ends = parts.iter().all(|part| part.step.is_none());
        let (columns, set): (&[_], _) = if ends { (&END, SET_END) } else { (&STEP, SET_STEP) };
        let mut number = 1;
        let mut parameter = |(_, kind): &(&str, &str)| {
            number += 1;
            format!("CAST(${number} AS {kind})")
        };
        let rows: Vec<_> = (0..parts.len())
            .map(|_| format!("({})", columns.iter().map(&mut parameter).collect::<Vec<_>>().join(", ")))
            .collect();
        let statement = format!(
            "WITH news ({}) AS (VALUES {}) UPDATE afterack_runs SET {set} FROM news \
             WHERE id = news.job AND owner = $1 RETURNING id",
            columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            rows.join(", ")
        );
        let values = parts.iter_mut().flat_map(Part::row);
        let parameters: Vec<_> = [token(slot).into()].into_iter().chain(values).collect();
        let doing = "saving jobs";
        self.survey.borrow_mut().ended = None;
        let stored = self
            .run(doing, &statement, &parameters)
            .and_then(|rows| read_all(&rows, doing, |row| id(row, 0)));
        self.is_apart.set(stored.is_err());
        let result = |part: &mut Part| match &stored {
            Ok(stored) if stored.contains(&part.job.id) => {
                if ends {
                    fault::trace("settled", part.job.id, part.job.run.version);
                }
                Ok(ends)
            }
            Ok(_) => {
                part.undo();
                Err(StoreError::Lost)
            }
            Err(error) => {
                part.undo();
                Err(again(error))
            }
        };
        parts.iter_mut().map(result).collect()
    }
}

/// The same error for another job.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Failed { doing, error } => {
            StoreError::Failed { doing: doing.clone(), error: io::Error::other(error.to_string()) }
        }
        StoreError::Damaged { id, reason } => StoreError::Damaged { id: *id, reason: reason.clone() },
        StoreError::Lost => StoreError::Lost,
    }
}
