//! Lists of jobs, by the indexes that hold their ids in order.

use super::rows::{failed, id, input, number_of, read_all, run_of};
use super::{Database, Row, Sql, Value};
use crate::jobs::job::{Id, Job, State};
use crate::jobs::store::list::page;
use crate::jobs::store::{Ask, Found, Kind, Mark, Place, Range, Result, StoreError, Wanted};

/// What `ended` is for jobs that are wanted: the state, or nothing as long as they have not ended.
fn ended(state: State) -> &'static str {
    if state.is_end() { state.name() } else { "" }
}

impl<D: Database> Sql<D> {
    /// The first of the jobs that are wanted, at most so many.
    pub(super) fn list_jobs(&self, wanted: &Wanted, range: Range, most: usize) -> Result<Vec<Found>> {
        // Marks first: a job that still waits after its mark was seen is not begun without it being seen.
        self.survey.borrow_mut().marks = None;
        let marks = self.surveyed(|survey| survey.marks.clone())?;
        let (mut range_left, mut is_last) = (range, false);
        let mut batch = Vec::new().into_iter();
        page(self, (wanted, range, most), &mut || {
            loop {
                if let Some(found) = batch.next() {
                    return Ok(Some(found));
                }
                if is_last {
                    return Ok(None);
                }
                let (jobs, last) = self.batch(wanted, range_left, most, &marks)?;
                is_last = last.is_none();
                range_left = match range {
                    Range::Before(_) => Range::Before(last),
                    Range::After(_) => Range::After(last),
                };
                batch = jobs.into_iter();
            }
        })
    }

    /// The next of the jobs that may be wanted, and the last one that was looked at if there may be more.
    fn batch(
        &self,
        wanted: &Wanted,
        range: Range,
        most: usize,
        marks: &[Mark],
    ) -> Result<(Vec<Found>, Option<Id>)> {
        let doing = "listing jobs";
        let order = if range.is_newest_first() { "DESC" } else { "ASC" };
        // No id begins with `g` or with nothing.
        let (from, to) = match range {
            Range::Before(bound) => (String::new(), bound.map_or_else(|| "g".into(), |id| id.to_string())),
            Range::After(bound) => (bound.map(|id| id.to_string()).unwrap_or_default(), "g".into()),
        };
        // All columns of an index are compared as one, so that no other index will do: a database that takes the
        // newest of all jobs for the newest of a kind may read a hundred thousand of another kind.
        let ids = |values: &str, columns: &str, condition: &str| {
            let ordered = columns.replace(", ", &format!(" {order}, "));
            format!(
                "SELECT id FROM (SELECT id FROM afterack_runs WHERE ({columns}) > ({values}$1) \
                 AND ({columns}) < ({values}$2){condition} ORDER BY {ordered} {order} LIMIT CAST($3 AS BIGINT)) AS part"
            )
        };
        let in_state = |state: State| {
            let (ended, condition) =
                (ended(state), if state == State::Queued { " AND owner IS NULL" } else { "" });
            match wanted.worker {
                Some(_) => ids(&format!("'{ended}', $4, "), "ended, worker, id", condition),
                None => ids(&format!("'{ended}', "), "ended, id", condition),
            }
        };
        let parts = match (wanted.state, &wanted.worker) {
            (Some(State::Running), worker) => {
                let of_worker = if worker.is_some() { " AND worker = $4" } else { "" };
                // By the index of claims, and not by that of all ids.
                vec![ids("", "id || ''", &format!(" AND owner > '' AND kind IN (0, 1){of_worker}"))]
            }
            (Some(state), _) => vec![in_state(state)],
            (None, None) => vec![ids("", "id", "")],
            (None, Some(_)) => {
                let open = ids("'', $4, ", "ended, worker, id", "");
                State::ENDS.into_iter().map(in_state).chain([open]).collect()
            }
        };
        let statement = format!(
            "SELECT j.id, j.head, j.size, r.run, r.owner, r.due FROM ({}) AS wanted \
             JOIN afterack_runs r ON r.id = wanted.id JOIN afterack_jobs j ON j.id = r.id \
             ORDER BY r.id {order} LIMIT CAST($3 AS BIGINT)",
            parts.join(" UNION ALL ")
        );
        let worker = wanted.worker.as_deref().map(Value::from);
        let parameters: Vec<_> =
            [from.into(), to.into(), number_of(most)].into_iter().chain(worker).collect();
        let rows = self.run(doing, &statement, &parameters)?;
        let ids = read_all(&rows, doing, |row| id(row, 0))?;
        let mut jobs = Vec::new();
        for row in &rows {
            match found(row, |mark| marks.contains(&mark)) {
                Ok(found) => jobs.push(found),
                // Whoever claims it sets it aside.
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((jobs, ids.last().copied().filter(|_| ids.len() == most)))
    }

    pub(super) fn note_retry(&self, wanted: &Wanted) -> Result<usize> {
        let doing = "counting jobs";
        let of_worker = if wanted.worker.is_some() { " AND worker = $2" } else { "" };
        let statement = format!("SELECT count(*) FROM afterack_runs WHERE ended = $1{of_worker}");
        let worker = wanted.worker.as_deref().map(Value::from);
        let state = Value::from(wanted.state.map_or("", State::name));
        let rows = self.run(
            doing,
            &statement,
            &[state.clone()].into_iter().chain(worker.clone()).collect::<Vec<_>>(),
        )?;
        let count = read_all(&rows, doing, |row| row.integer(0))?.pop().unwrap_or_default();
        let statement = "INSERT INTO afterack_retries (name, state, worker, reached) VALUES ($1, $2, $3, '')";
        let name = format!("{:016x}", self.host.random());
        let parameters = [name.into(), state, worker.unwrap_or(Value::Null)];
        self.survey.borrow_mut().retries = None;
        self.run("noting what is to begin again", statement, &parameters)?;
        Ok(count as usize)
    }

    /// Removes a job that has ended. One that was about to be counted is counted.
    pub(super) fn purge_ended(&self, found: &Found) -> Result<bool> {
        let (doing, run) = ("removing a job", &found.job.run);
        let Some(end) = &run.end else { return Ok(false) };
        let id = Value::from(found.job.id.to_string());
        // What is written of a job begins with its version.
        let version = Value::from(format!("{{\"version\":{},", run.version));
        let statement = "UPDATE afterack_runs SET ended = $1, finished = $2 \
                         WHERE id = $3 AND run LIKE $4 || '%' AND ended = '' RETURNING id";
        let finished = super::number(end.finished);
        let parameters = [end.state.name().into(), finished, id.clone(), version.clone()];
        self.run(doing, statement, &parameters)?;
        let statement = "DELETE FROM afterack_runs WHERE id = $1 AND run LIKE $2 || '%' RETURNING id";
        self.changes(doing, statement, &[id, version])
    }
}

/// The job in a row: its id, head, size, run, owner and due time.
pub(super) fn found(row: &Row, is_marked: impl Fn(Mark) -> bool) -> Result<Found> {
    let doing = "reading a job";
    let read = || {
        let place = match (row.text_if_any(4)?, row.integer_if_any(5)?) {
            (Some(_), _) => Place::Slot,
            (None, Some(_)) => Place::Queue,
            (None, None) => Place::Done,
        };
        Ok((id(row, 0)?, row.text(1)?, row.integer(2)?, row.text(3)?, place))
    };
    let (id, head, size, run, place) = read().map_err(|failure| failed(doing, failure))?;
    let (input, run) = (input(id, head, size)?, run_of(id, run)?);
    let round = run.round;
    let asked = Ask::open(&run, |ask| is_marked(Mark { id, round, ask }));
    Ok(Found { job: Job::new(id, input, run, Kind::Work), place, asked })
}
