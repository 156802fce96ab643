//! A database: SQLite or PostgreSQL, by one schema and one set of statements.
//!
//! Each operation is one statement, which is whole or not at all, so that nothing depends on which connection
//! of a pool it takes. What must happen once is an update of a row that only one of many can change. A job's
//! row names who has claimed it, by the token of his slot; whoever takes the slot over puts his own in its
//! place, and from then on no statement of the old holder finds the row.
//!
//! What a statement costs is mostly the way to the database and back. So an ack takes one, and what a
//! continuation asks at the same moment is asked at once (survey.rs). What may be lost with the database's host,
//! since somebody finds it out within a lease, waits for no disk ([`LIGHT`]).
//!
//! See schema.rs for the tables.

mod database;
mod list;
mod ready;
mod rows;
mod schema;
#[cfg(feature = "spin")]
pub mod spin;
mod survey;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub use tests::SharedSqlite;
mod together;
#[cfg(feature = "wasmcloud")]
pub mod wasmcloud;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::{
    Counts, Due, Found, Holding, Kind, LONGEST_WAIT, Mark, Outlook, Put, Range, Result, RetryAll, Role, Save,
    Sign, Slot, Store, StoreError, Waiter, Wanted,
};
use crate::jobs::fault;
use crate::jobs::host::Host;
use crate::jobs::job::{Id, Input, Job, Recorded, Run, State};
use crate::jobs::options::Group;
use crate::jobs::time::{TOLERANCE, Time};
pub use database::{Database, Dialect, Failure, LIGHT, Row, Value};
use rows::{
    Entry, claimed_for, due_of, failed, id, input, kind_number, mark_values, number, number_of, place,
    read_all, run_of, sign, text, token,
};
use survey::Survey;

/// For how long a statement is tried while others hold what it needs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same if the last one was tried in vain: an answer may need several, and should not wait for each.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);

/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(8);

/// How many jobs are claimed by one statement.
const CLAIMED: usize = 64;

/// How many jobs are removed by one statement.
const REMOVED: i64 = 200;

/// A body of up to so many bytes is loaded with its job.
const SMALL: i64 = 8 * 1024;

/// How long one connection to SQLite stays open after all others. With the last one its log of what is written ahead
/// goes, and the next ack waits for three syncs instead of one: of the new log, of its folder, and its own.
const LINGER: Duration = Duration::from_secs(20);

/// How often the jobs that wait are counted.
const COUNTED: Duration = Duration::from_secs(3);

/// A store in a database.
pub struct Sql<D> {
    database: D,
    host: Rc<dyn Host>,
    /// The schema was looked at.
    is_ready: Cell<bool>,
    /// The last statement was tried in vain.
    is_busy: Cell<bool>,
    /// SQLite does not wait for the disk now.
    is_light: Cell<bool>,
    bell: Cell<u64>,
    /// What was found at the last survey and has not been asked for yet.
    survey: RefCell<Survey>,
    claimed: RefCell<Claimed>,
    /// Jobs that were stored together have failed.
    is_apart: Cell<bool>,
    /// When the jobs that wait were counted last, if a job was recorded.
    counted: Cell<Option<Time>>,
}

/// What came along with jobs that were claimed.
#[derive(Default)]
struct Claimed {
    token: String,
    /// Those that have not been loaded yet.
    rows: Vec<(Id, Row)>,
    /// All marks after the last claim.
    marks: Option<Vec<Mark>>,
}

impl<D: Database> Sql<D> {
    pub fn new(database: D, host: Rc<dyn Host>) -> Sql<D> {
        Sql {
            database,
            host,
            is_ready: Cell::default(),
            is_busy: Cell::default(),
            is_light: Cell::default(),
            bell: Cell::default(),
            survey: RefCell::default(),
            claimed: RefCell::default(),
            is_apart: Cell::default(),
            counted: Cell::default(),
        }
    }

    /// Runs a statement, after a look at the schema.
    fn run(&self, doing: &str, statement: &str, parameters: &[Value]) -> Result<Vec<Row>> {
        self.be_ready()?;
        self.query(statement, parameters).map_err(|failure| failed(doing, failure))
    }

    /// Runs a statement that may be the first of all: the schema is looked at, and it is run again, only if it did
    /// not come out right.
    fn run_first(
        &self,
        doing: &str,
        statement: &str,
        parameters: &[Value],
        is_right: impl Fn(&[Row]) -> bool,
    ) -> Result<Vec<Row>> {
        match self.query(statement, parameters) {
            Ok(rows) if self.is_ready.get() || is_right(&rows) => {
                self.is_ready.set(true);
                Ok(rows)
            }
            // Nothing that the schema could be the reason of.
            Err(failure) if self.is_ready.get() || matches!(failure, Failure::Busy) => {
                Err(failed(doing, failure))
            }
            _ => self.run(doing, statement, parameters),
        }
    }

    /// Runs a statement that changes a row if that is still as it was: whether it was.
    fn changes(&self, doing: &str, statement: &str, parameters: &[Value]) -> Result<bool> {
        Ok(!self.run(doing, statement, parameters)?.is_empty())
    }

    /// The same for a row that only the holder of a slot, or of a claim in it, may change.
    fn change_as_holder(&self, doing: &str, statement: &str, parameters: &[Value]) -> Result<()> {
        match self.changes(doing, statement, parameters)? {
            true => Ok(()),
            false => Err(StoreError::Lost),
        }
    }

    /// Runs a statement, again and again while others hold what it needs.
    fn query(&self, statement: &str, parameters: &[Value]) -> std::result::Result<Vec<Row>, Failure> {
        let adapted = self.database.dialect().adapt(statement);
        let until = self.host.elapsed() + if self.is_busy.get() { SHORT_PATIENCE } else { PATIENCE };
        loop {
            match self.set_light(statement).and_then(|()| self.database.query(&adapted, parameters)) {
                Err(Failure::Busy) if self.host.elapsed() < until => {
                    // Not all at once.
                    let random = self.host.random() % 1000;
                    self.host.pause(PAUSE / 1000 * random as u32);
                }
                result => {
                    self.is_busy.set(matches!(result, Err(Failure::Busy)));
                    return result;
                }
            }
        }
    }

    /// Sees to it that a change waits for the disk, or does not.
    fn set_light(&self, statement: &str) -> std::result::Result<(), Failure> {
        let changes_nothing = statement.starts_with("SELECT");
        if self.database.dialect() != Dialect::Sqlite || changes_nothing {
            return Ok(());
        }
        let is_light = statement.contains(LIGHT);
        if is_light == self.is_light.get() {
            return Ok(());
        }
        let word = if is_light { "NORMAL" } else { "FULL" };
        self.database.query(&format!("PRAGMA synchronous = {word}"), &[])?;
        self.is_light.set(is_light);
        Ok(())
    }

    /// Stores the next version of how far a claimed job has come, and sets these columns to these values.
    fn next_version(
        &self,
        slot: &Slot,
        job: &mut Job,
        columns: &str,
        values: &[Value],
        condition: &str,
    ) -> Result<()> {
        job.run.version += 1;
        let statement = format!(
            "UPDATE afterack_runs SET run = $1{columns} WHERE id = $2 AND owner = $3{condition} RETURNING id"
        );
        let parameters = [text(&job.run).into(), job.id.to_string().into(), token(slot).into()];
        let parameters: Vec<_> = parameters.into_iter().chain(values.iter().cloned()).collect();
        let saved = self.change_as_holder("saving a job", &statement, &parameters);
        if saved.is_err() {
            job.run.version -= 1;
        }
        saved
    }

    /// Forgets what clients asked before, since a job that has just been claimed may be among those.
    fn has_claimed(&self) {
        self.claimed.borrow_mut().marks = None;
        self.survey.borrow_mut().marks = None;
    }

    /// Whether a slot is still held, for who could do nothing as its holder.
    fn check(&self, slot: &Slot) -> Result<()> {
        let statement = "SELECT role FROM afterack_slots WHERE role = $1 AND token = $2";
        let parameters = [slot.role.to_string().into(), token(slot).into()];
        self.change_as_holder("looking at a slot", statement, &parameters)
    }

    fn known(&self, key: &str, request: &str) -> Result<Option<Put>> {
        let statement = "SELECT id, head FROM afterack_jobs WHERE key = $1";
        let rows = self.run("looking up a key", statement, &[key.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id = id(row, 0).map_err(|failure| failed("looking up a key", failure))?;
        let head = row.text(1).map_err(|failure| failed("looking up a key", failure))?;
        let is_same = input(id, head, 0).is_ok_and(|input| input.request == request);
        Ok(Some(if is_same { Put::Known(id) } else { Put::Conflict }))
    }
}

impl<D: Database> Store for Sql<D> {
    fn open(&self) -> Result<()> {
        // A value that changes: SQLite writes nothing if nothing does, and so never sees that the disk is full.
        let statement = "UPDATE afterack_meta SET probe = 1 - probe";
        self.run("writing to it", statement, &[]).map(drop)
    }

    fn put(&self, id: Id, input: &Input, most: usize, _: Time) -> Result<Put> {
        let statement = schema::PUT.call(self.database.dialect());
        let head = text(input);
        let mut parameters = [
            id.to_string().into(),
            number(id.created()),
            input.delay.map_or(0, |delay| delay.time().as_millis() as i64).into(),
            input.group.as_ref().map(Group::digest).into(),
            input.worker.as_str().into(),
            head.into(),
            input.key.clone().into(),
            (input.body.len() as i64).into(),
            input.body.clone().into(),
            number_of(most),
            schema::VERSION.into(),
        ];
        let doing = "recording a job";
        // Without a row, or with nothing in it, nothing was recorded.
        let counted = |rows: &[Row]| rows.first().map_or(Ok(None), |row| row.integer_if_any(0));
        for _ in 0..3 {
            // It fails if there is no schema, and does nothing if that is not the right one.
            let is_put = |rows: &[Row]| matches!(counted(rows), Ok(Some(_)));
            let rows = self.run_first(doing, &statement, &parameters, is_put)?;
            if let Some(counted) = counted(&rows).map_err(|failure| failed(doing, failure))? {
                fault::point("recorded");
                self.counted.set(Some(Time(counted as u64)));
                return Ok(Put::New);
            }
            // A request that was answered before is answered again, however full the queue is.
            if let Some(key) = &input.key
                && let Some(known) = self.known(key, &input.request)?
            {
                return Ok(known);
            }
            if self.counts()?.waiting >= most {
                return Ok(Put::Full);
            }
            // Some of those that wait are cancelled already; or the key's job has just been removed.
            parameters[9] = Value::Integer(i64::MAX);
        }
        Err(failed(doing, Failure::Other("its id or its key is taken".into())))
    }

    /// Counts the jobs that wait, from time to time.
    fn begin(&self) -> Result<()> {
        let Some(counted) = self.counted.take() else { return Ok(()) };
        let now = self.host.wall();
        if now.since(counted) < COUNTED && counted <= now {
            return Ok(());
        }
        self.run("counting jobs", schema::COUNT, &[number(now), number(counted)]).map(drop)
    }

    fn find(&self, id: Id) -> Result<Option<Found>> {
        // A job and its marks at one moment: one that still waits is not begun without the mark being seen.
        let statement = "SELECT j.id, j.head, j.size, r.run, r.owner, r.due, m.round, m.ask FROM afterack_jobs j \
                         JOIN afterack_runs r ON r.id = j.id LEFT JOIN afterack_marks m ON m.id = j.id \
                         WHERE j.id = $1";
        let rows = self.run("reading a job", statement, &[id.to_string().into()])?;
        let is_marked = |mark: Mark| {
            rows.iter().any(|row| {
                matches!((row.integer_if_any(6), row.text_if_any(7)), (Ok(Some(round)), Ok(Some(ask)))
                    if round == i64::from(mark.round) && ask == mark.ask.name())
            })
        };
        rows.first().map(|row| list::found(row, is_marked)).transpose()
    }

    fn output(&self, id: Id) -> Result<Option<Vec<u8>>> {
        let statement = "SELECT bytes FROM afterack_runs WHERE id = $1";
        let rows = self.run("reading an output", statement, &[id.to_string().into()])?;
        Ok(read_all(&rows, "reading an output", |row| row.bytes(0))?.pop())
    }

    fn body(&self, id: Id) -> Result<Vec<u8>> {
        let statement = "SELECT body FROM afterack_jobs WHERE id = $1";
        let rows = self.run("reading an input", statement, &[id.to_string().into()])?;
        let body = read_all(&rows, "reading an input", |row| row.bytes(0))?.pop();
        body.ok_or_else(|| StoreError::Damaged { id, reason: "its input is missing".into() })
    }

    fn ask(&self, mark: Mark) -> Result<()> {
        let statement =
            "INSERT INTO afterack_marks (id, round, ask) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        self.survey.borrow_mut().marks = None;
        self.run("leaving a mark", statement, &mark_values(mark)).map(drop)
    }

    fn forget_mark(&self, mark: Mark) -> Result<()> {
        let statement = "DELETE FROM afterack_marks WHERE id = $1 AND round = $2 AND ask = $3";
        self.survey.borrow_mut().marks = None;
        self.run("removing a mark", statement, &mark_values(mark)).map(drop)
    }

    fn marks(&self) -> Result<Vec<Mark>> {
        self.surveyed(|survey| survey.marks.take())
    }

    fn is_marked(&self, mark: Mark) -> Result<bool> {
        let statement = "SELECT id FROM afterack_marks WHERE id = $1 AND round = $2 AND ask = $3";
        self.changes("looking for a mark", statement, &mark_values(mark))
    }

    fn was_marked(&self, mark: Mark) -> Result<bool> {
        let mut claimed = self.claimed.borrow_mut();
        if claimed.marks.is_none() {
            claimed.marks = Some(self.marks()?);
        }
        Ok(claimed.marks.as_ref().is_some_and(|marks| marks.contains(&mark)))
    }

    fn list(&self, wanted: &Wanted, range: Range, most: usize) -> Result<Vec<Found>> {
        self.list_jobs(wanted, range, most)
    }

    fn retry_all(&self, wanted: &Wanted) -> Result<usize> {
        self.note_retry(wanted)
    }

    fn retries(&self) -> Result<Vec<RetryAll>> {
        self.surveyed(|survey| survey.retries.take())
    }

    fn note_retried(&self, retry: &RetryAll, last: Id) -> Result<()> {
        self.survey.borrow_mut().retries = None;
        let statement = "UPDATE afterack_retries SET reached = $1 WHERE name = $2";
        let parameters = [last.to_string().into(), retry.name.as_str().into()];
        self.run("noting what has begun again", statement, &parameters).map(drop)
    }

    fn forget_retry(&self, retry: &RetryAll) -> Result<()> {
        self.survey.borrow_mut().retries = None;
        let statement = "DELETE FROM afterack_retries WHERE name = $1";
        self.run("noting what has begun again", statement, &[retry.name.as_str().into()]).map(drop)
    }

    fn purge(&self, found: &Found, _: Duration) -> Result<bool> {
        self.purge_ended(found)
    }

    fn look(&self, now: Time, most: usize, mend: bool) -> Result<Outlook> {
        if mend {
            let statement = "UPDATE afterack_runs SET due = $1 + due - since, since = $1 \
                             WHERE COALESCE(owner, '') = '' AND due >= 0 AND since > $2";
            self.run("mending waits", statement, &[number(now), number(now + TOLERANCE)])?;
        }
        let statement = schema::LOOK.call(self.database.dialect());
        let rows = self.run("looking at the queue", &statement, &[number(now), number_of(most)])?;
        let mut outlook = Outlook::default();
        let mut due = Vec::new();
        for row in &rows {
            match due_of(row).map_err(|failure| failed("looking at the queue", failure))? {
                Entry::Due(found) => due.push(found),
                Entry::Next(next) => outlook.next = outlook.next.into_iter().chain(next).min(),
                Entry::Foreign => {}
            }
        }
        outlook.is_empty = due.is_empty() && outlook.next.is_none();
        // Who was accepted by a clock that was ahead has its turn now, not then.
        due.sort_unstable_by_key(|due| (due.time.min(now), due.id));
        for kind in [Kind::Work, Kind::Suspect, Kind::Tell] {
            outlook.due.extend(due.iter().filter(|due| due.kind == kind).take(most));
        }
        Ok(outlook)
    }

    /// To look is as cheap as to ask whether anything has changed. Twice at the same moment is too often.
    fn bell(&self) -> Result<u64> {
        let moment = self.host.elapsed().as_millis() as u64 / survey::MOMENT.as_millis() as u64;
        Ok(self.bell.get() + moment)
    }

    fn slots(&self) -> Result<Vec<(Role, Holding)>> {
        let holding = |(role, token, beat): (Role, Option<String>, i64)| {
            let holding = match token {
                None => Holding::Free,
                Some(_) if beat < 0 => Holding::Left,
                Some(token) => Holding::Held(sign(&token, beat)),
            };
            (role, holding)
        };
        Ok(self.surveyed(|survey| survey.slots.take())?.into_iter().map(holding).collect())
    }

    fn mend_slots(&self) -> Result<()> {
        schema::rows().iter().try_for_each(|rows| self.run("making the slots", rows, &[]).map(drop))
    }

    /// Before the first statement it is not known: an ack does not wait for it.
    fn pulse(&self) -> Result<u64> {
        if !self.is_ready.get() {
            return Ok(0);
        }
        self.surveyed(|survey| survey.pulse.take())
    }

    fn enter(&self, role: Role, seen: &Holding) -> Result<Option<Slot>> {
        let doing = "entering a slot";
        let new = format!("{:016x}", self.host.random());
        let (role_name, update) =
            (Value::from(role.to_string()), "UPDATE afterack_slots SET token = $1, beat = 0");
        let entered = |condition: &str, parameters: &[Value]| {
            self.has_moved();
            let statement = format!("{update} WHERE role = $2 AND {condition}{LIGHT} RETURNING role");
            self.changes(doing, &statement, parameters)
        };
        let old = match seen {
            Holding::Free => None,
            Holding::Held(Sign(sign)) => {
                let parsed =
                    sign.rsplit_once('.').and_then(|(token, beat)| Some((token, beat.parse().ok()?)));
                let Some((old, beat)) = parsed else { return Ok(None) };
                Some((old.to_owned(), beat))
            }
            Holding::Left => {
                self.has_moved();
                let slots = self.surveyed(|survey| survey.slots.take())?;
                let left = slots.into_iter().find(|slot| slot.0 == role && slot.2 < 0);
                let Some((_, Some(old), beat)) = left else { return Ok(None) };
                Some((old, beat))
            }
        };
        let new_value = Value::from(new.as_str());
        let is_entered = match &old {
            None => entered("token IS NULL", &[new_value.clone(), role_name])?,
            Some((old, beat)) => {
                let parameters = [new_value.clone(), role_name, old.as_str().into(), (*beat).into()];
                entered("token = $3 AND beat = $4", &parameters)?
            }
        };
        if !is_entered {
            return Ok(None);
        }
        if let Some((old, _)) = old {
            let statement = "UPDATE afterack_runs SET owner = $1 WHERE owner = $2";
            self.run(doing, statement, &[new_value, old.into()])?;
        }
        Ok(Some(Slot { role, sign: sign(&new, 0) }))
    }

    fn renew(&self, slot: &mut Slot) -> Result<()> {
        let doing = "renewing a slot";
        let statement = format!(
            "UPDATE afterack_slots SET beat = beat + 1 WHERE role = $1 AND token = $2{LIGHT} RETURNING beat"
        );
        self.has_moved();
        let rows = self.run(doing, &statement, &[slot.role.to_string().into(), token(slot).into()])?;
        let beat = read_all(&rows, doing, |row| row.integer(0))?.pop().ok_or(StoreError::Lost)?;
        slot.sign = sign(token(slot), beat);
        Ok(())
    }

    fn leave(&self, slot: Slot) -> Result<()> {
        let statement = format!(
            "UPDATE afterack_slots SET beat = -1, token = CASE WHEN EXISTS \
             (SELECT 1 FROM afterack_runs WHERE owner = $1) THEN token ELSE NULL END \
             WHERE token = $1 AND role = $2{LIGHT} RETURNING role"
        );
        self.has_moved();
        let parameters = [token(&slot).into(), slot.role.to_string().into()];
        self.change_as_holder("leaving a slot", &statement, &parameters)
    }

    fn claims(&self, slot: &Slot) -> Result<Vec<(Id, Kind)>> {
        let statement = "SELECT id, kind FROM afterack_runs WHERE owner = $1";
        let rows = self.run("reading claims", statement, &[token(slot).into()])?;
        let read = |row: &Row| Ok(Id::parse(row.text(0)?).zip(claimed_for(row.integer(1)?)));
        Ok(read_all(&rows, "reading claims", read)?.into_iter().flatten().collect())
    }

    /// They are loaded on the way, if they are small.
    fn claim(&self, slot: &Slot, due: &[Due], most: usize) -> Result<Vec<Due>> {
        let doing = "claiming jobs";
        let mut taken = Vec::new();
        let mut claimed = self.claimed.borrow_mut();
        if claimed.token != token(slot) {
            *claimed = Claimed { token: token(slot).into(), ..Claimed::default() };
        }
        for due in due.chunk_by(|one, other| one.kind == other.kind).flat_map(|due| due.chunks(CLAIMED)) {
            let Some(first) = due.first().filter(|_| taken.len() < most) else { continue };
            let until = due.iter().map(|due| due.time).max().unwrap_or_default();
            let ids: Vec<_> = (6..6 + due.len()).map(|number| format!("${number}")).collect();
            // Who has gone on to wait for longer meanwhile is not due any more. What is picked is so once, however
            // the database joins it.
            let statement = format!(
                "WITH picked AS (SELECT id FROM afterack_runs WHERE COALESCE(owner, '') = '' AND due >= 0 AND kind = $3 \
                 AND (waits = 0 OR waits = 1 AND due <= $4) AND id IN ({}) \
                 ORDER BY due, id LIMIT CAST($5 AS BIGINT) FOR UPDATE SKIP LOCKED) \
                 UPDATE afterack_runs SET owner = $1 WHERE EXISTS \
                 (SELECT 1 FROM afterack_slots WHERE token = $1 AND role = $2 FOR SHARE) \
                 AND id IN (SELECT id FROM picked){LIGHT} RETURNING id, kind, due, since, \
                 (SELECT head FROM afterack_jobs j WHERE j.id = afterack_runs.id), \
                 (SELECT size FROM afterack_jobs j WHERE j.id = afterack_runs.id), run, \
                 CASE WHEN length(bytes) <= {SMALL} THEN bytes END, \
                 (SELECT body FROM afterack_jobs j WHERE j.id = afterack_runs.id AND size <= {SMALL}), \
                 CAST(COALESCE(length(bytes), 0) AS BIGINT)",
                ids.join(", ")
            );
            let slot_is = [token(slot).into(), slot.role.to_string().into()];
            let which = [kind_number(first.kind).into(), number(until), number_of(most - taken.len())];
            let ids = due.iter().map(|due| due.id.to_string().into());
            let parameters: Vec<_> = slot_is.into_iter().chain(which).chain(ids).collect();
            for row in self.run(doing, &statement, &parameters)? {
                let read = |row: &Row| Ok((due_of(row)?, row.integer(9)? <= SMALL));
                let (entry, is_small) = read(&row).map_err(|failure| failed(doing, failure))?;
                if let Entry::Due(due) = entry {
                    taken.push(due);
                    claimed.rows.retain(|row| row.0 != due.id);
                    claimed.rows.extend(is_small.then_some((due.id, row)));
                }
            }
        }
        drop(claimed);
        self.has_claimed();
        match taken.is_empty() {
            true => self.check(slot)?,
            false => fault::point("claimed"),
        }
        taken.sort_unstable_by_key(|taken| due.iter().position(|due| due.id == taken.id));
        Ok(taken)
    }

    fn claim_any(&self, slot: &Slot, id: Id) -> Result<Option<Kind>> {
        let statement = "UPDATE afterack_runs SET owner = $1, kind = CASE WHEN due IS NULL THEN 2 ELSE kind END \
                         WHERE EXISTS (SELECT 1 FROM afterack_slots WHERE token = $1 AND role = $2 FOR SHARE) \
                         AND id = $3 AND owner IS NULL RETURNING kind";
        let parameters = [token(slot).into(), slot.role.to_string().into(), id.to_string().into()];
        let rows = self.run("claiming a job", statement, &parameters)?;
        self.has_claimed();
        match read_all(&rows, "claiming a job", |row| row.integer(0))?.first() {
            Some(kind) => Ok(claimed_for(*kind)),
            None => self.check(slot).map(|()| None),
        }
    }

    fn load(&self, slot: &Slot, id: Id, kind: Kind) -> Result<Job> {
        let doing = "loading a job";
        let mut claimed = self.claimed.borrow_mut();
        let known = claimed.rows.iter().position(|row| row.0 == id).map(|at| claimed.rows.swap_remove(at).1);
        let row = match known.filter(|_| claimed.token == token(slot)) {
            Some(row) => row,
            None => {
                let statement = format!(
                    "SELECT r.id, r.kind, r.due, r.since, j.head, j.size, r.run, r.bytes, \
                     CASE WHEN j.size <= {SMALL} THEN j.body END \
                     FROM afterack_runs r JOIN afterack_jobs j ON j.id = r.id WHERE r.id = $1 AND r.owner = $2"
                );
                let rows = self.run(doing, &statement, &[id.to_string().into(), token(slot).into()])?;
                rows.into_iter().next().ok_or(StoreError::Lost)?
            }
        };
        let read = || {
            let (head, run) = (row.text(4)?, row.text(6)?);
            Ok((head, row.integer(5)?, run, row.bytes(7)?, row.bytes(8)?))
        };
        let (head, size, run, bytes, body) = read().map_err(|failure| failed(doing, failure))?;
        let input = Input { body, ..input(id, head, size)? };
        Ok(Job::new(id, input, Run { bytes, ..run_of(id, run)? }, kind))
    }

    fn repair(&self, slot: &Slot, id: Id, kind: Kind, reason: &str, run: Run) -> Result<Option<Job>> {
        let doing = "setting a record aside";
        let statement = "INSERT INTO afterack_damaged (id, reason, head, run, bytes) \
                         SELECT j.id, $1, j.head, r.run, r.bytes FROM afterack_runs r \
                         JOIN afterack_jobs j ON j.id = r.id WHERE r.owner = $2 AND r.id = $3 RETURNING head";
        let parameters = [reason.into(), token(slot).into(), id.to_string().into()];
        let rows = self.run(doing, statement, &parameters)?;
        let Some(head) = read_all(&rows, doing, |row| Ok(row.text(0)?.to_owned()))?.pop() else {
            return Ok(None);
        };
        let input = match input(id, &head, 0) {
            Ok(input) => input,
            Err(_) => {
                let head = text(&Input::default());
                let statement = "UPDATE afterack_jobs SET head = $1 WHERE id = $2";
                self.run(doing, statement, &[head.into(), id.to_string().into()])?;
                let statement = "UPDATE afterack_runs SET worker = '' WHERE id = $1 AND owner = $2";
                self.run(doing, statement, &[id.to_string().into(), token(slot).into()])?;
                Input::default()
            }
        };
        let mut job = Job::new(id, input, run, kind);
        self.save(slot, &mut job)?;
        Ok(Some(job))
    }

    fn save(&self, slot: &Slot, job: &mut Job) -> Result<()> {
        let bytes = job.run.bytes.clone().into();
        self.next_version(slot, job, ", bytes = $4, step = NULL, step_bytes = NULL", &[bytes], "")
    }

    /// After a failure all are stored by themselves, so that no job holds up the others.
    fn gathers(&self) -> bool {
        !self.is_apart.get()
    }

    fn save_all(&self, slot: &Slot, saves: &mut [Save]) -> Vec<Result<bool>> {
        self.save_together(slot, saves)
    }

    fn note(&self, slot: &Slot, job: &mut Job) -> Result<()> {
        self.next_version(slot, job, "", &[], LIGHT)
    }

    fn recorded(&self, slot: &Slot, job: &mut Job) -> Result<Vec<Recorded>> {
        let doing = "reading what a job has recorded";
        let statement = "SELECT st.head, st.bytes FROM afterack_steps st JOIN afterack_runs r ON r.id = st.id \
                         WHERE st.id = $1 AND r.owner = $2 AND st.number < $3 ORDER BY st.number";
        let parameters = [job.id.to_string().into(), token(slot).into(), i64::from(job.run.recorded).into()];
        let rows = self.run(doing, statement, &parameters)?;
        let rows = read_all(&rows, doing, |row| Ok((row.text(0)?.to_owned(), row.bytes(1)?)))?;
        let damaged = |reason| StoreError::Damaged { id: job.id, reason };
        if rows.len() < job.run.recorded as usize {
            let (there, recorded) = (rows.len(), job.run.recorded);
            return Err(damaged(format!("{there} of {recorded} results of its steps are there")));
        }
        let parse = |(head, bytes): (String, Vec<u8>)| {
            let result = serde_json::from_str(&head);
            let result: Recorded =
                result.map_err(|error| damaged(format!("a result of its steps: {error}")))?;
            Ok(Recorded { bytes, ..result })
        };
        rows.into_iter().map(parse).collect()
    }

    fn save_anew(&self, slot: &Slot, job: &mut Job) -> Result<()> {
        self.save(slot, job)
    }

    fn release(&self, slot: &Slot, job: &Job, _: Time, _: Duration) -> Result<()> {
        let statement = schema::RELEASE.call(self.database.dialect());
        self.survey.borrow_mut().ended = None;
        let whose = [job.id.to_string().into(), token(slot).into()];
        let parameters: Vec<_> = place(job).into_iter().chain(whose).collect();
        self.change_as_holder("releasing a job", &statement, &parameters)?;
        if job.run.end.is_some() && job.claim != Kind::Tell {
            fault::trace("settled", job.id, job.run.version);
        }
        Ok(())
    }

    fn note_untold(&self) -> Result<()> {
        let statement = "UPDATE afterack_totals SET count = count + 1 WHERE name = 'untold' AND part = 0";
        self.run("counting", statement, &[]).map(drop)
    }

    /// Claims of holders who have none of the slots any more: they died while they claimed or were succeeded.
    fn unfinished(&self) -> Result<Vec<String>> {
        self.surveyed(|survey| survey.unfinished.take())
    }

    fn finish(&self, unfinished: &str) -> Result<()> {
        let statement = "UPDATE afterack_runs SET owner = NULL WHERE owner = $1 AND NOT EXISTS \
                         (SELECT 1 FROM afterack_slots WHERE token = $1)";
        self.survey.borrow_mut().unfinished = None;
        self.bell.set(self.bell.get() + 1);
        self.run("giving claims back", statement, &[unfinished.into()]).map(drop)
    }

    fn remove_expired(&self, now: Time, keep: Duration) -> Result<Option<Time>> {
        let expires = self.expires(keep)?;
        if expires.is_none_or(|expires| expires > now) {
            return Ok(expires);
        }
        let statement = format!(
            "DELETE FROM afterack_runs WHERE id IN (SELECT id FROM afterack_runs \
             WHERE owner IS NULL AND due IS NULL AND finished <= $1 \
             ORDER BY finished LIMIT {REMOVED} FOR UPDATE SKIP LOCKED) RETURNING id"
        );
        let until = now.0.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        self.run("removing jobs", &statement, &[number(Time(until))])?;
        self.expires(keep)
    }

    fn expires(&self, keep: Duration) -> Result<Option<Time>> {
        Ok(self.surveyed(|survey| survey.ended.take())?.map(|first| first + keep))
    }

    fn admit(&self, most: usize, now: Time) -> Result<Option<Waiter>> {
        if most == 0 {
            return Ok(None);
        }
        let doing = "counting clients that wait";
        let waiter = Waiter { name: format!("{:016x}", self.host.random()) };
        let (until, latest) = (now + LONGEST_WAIT, now + LONGEST_WAIT + TOLERANCE);
        let earliest = Time(now.0.saturating_sub(TOLERANCE.as_millis() as u64));
        // Those who come at once may miss each other, but nobody is turned away by others who are, too.
        let statement = format!(
            "INSERT INTO afterack_waiters (name, until) SELECT CAST($1 AS TEXT), CAST($2 AS BIGINT) \
             WHERE (SELECT count(*) FROM afterack_waiters WHERE until >= $3 AND until <= $4) < $5{LIGHT} \
             RETURNING name"
        );
        let (name, most) = (waiter.name.as_str().into(), number_of(most));
        if self.changes(doing, &statement, &[name, number(until), number(earliest), number(latest), most])? {
            return Ok(Some(waiter));
        }
        let statement = "DELETE FROM afterack_waiters WHERE until < $1 OR until > $2";
        self.run(doing, statement, &[number(earliest), number(latest)])?;
        Ok(None)
    }

    fn dismiss(&self, waiter: Waiter) -> Result<()> {
        let statement = "DELETE FROM afterack_waiters WHERE name = $1";
        self.run("dismissing a client", statement, &[waiter.name.into()]).map(drop)
    }

    /// With half of that time left somebody else does so, too. What is not there yet is not made for that.
    fn linger(&self, now: Time) -> Result<Duration> {
        if self.database.dialect() != Dialect::Sqlite || !self.is_ready.get() {
            return Ok(Duration::ZERO);
        }
        let until = [LINGER, LINGER / 2].map(|time| now + time);
        // Most have just been told that somebody does, and who only looks holds up nobody.
        if (until[1]..=until[0]).contains(&self.surveyed(|survey| survey.open.take())?) {
            return Ok(Duration::ZERO);
        }
        let statement = format!(
            "UPDATE afterack_meta SET open = $1 WHERE open NOT BETWEEN $2 AND $1{LIGHT} RETURNING version"
        );
        let is_own = self.changes("keeping it open", &statement, &until.map(number))?;
        Ok(if is_own { LINGER } else { Duration::ZERO })
    }

    fn counts(&self) -> Result<Counts> {
        let doing = "counting jobs";
        let statement = "SELECT 'waiting', count(*) FROM afterack_runs \
                         WHERE owner IS NULL AND due IS NOT NULL AND kind IN (0, 1) \
                         UNION ALL SELECT 'telling', count(*) FROM afterack_runs \
                         WHERE owner IS NULL AND due IS NOT NULL AND kind = 2 \
                         UNION ALL SELECT 'running', count(*) FROM afterack_runs \
                         WHERE owner IS NOT NULL AND kind IN (0, 1) \
                         UNION ALL SELECT 'telling', count(*) FROM afterack_runs \
                         WHERE owner IS NOT NULL AND kind = 2 \
                         UNION ALL SELECT 'drains', count(*) FROM afterack_slots \
                         WHERE token IS NOT NULL AND beat >= 0 AND role NOT IN ('alone', 'watch') \
                         UNION ALL SELECT name, CAST(sum(count) AS BIGINT) FROM afterack_totals GROUP BY name";
        let cancelled = super::cancelled(self)?;
        let rows = self.run(doing, statement, &[])?;
        let rows = read_all(&rows, doing, |row| Ok((row.text(0)?.to_owned(), row.integer(1)? as u64)))?;
        let count = |name: &str| rows.iter().filter(|row| row.0 == name).map(|row| row.1).sum::<u64>();
        Ok(Counts {
            waiting: (count("waiting") as usize).saturating_sub(cancelled),
            running: count("running") as usize,
            untold: count("telling") as usize,
            drains: count("drains") as usize,
            given_up: count("untold"),
            ended: State::ENDS.map(|state| (state, count(state.name()))),
        })
    }
}
