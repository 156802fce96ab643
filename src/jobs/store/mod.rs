//! Stores: where jobs are while nobody runs them, and what is known of them while somebody does.
//!
//! A store hands out two kinds of exclusive rights, both by operations that only one of many can win.
//! A *slot* is the right to run jobs in this invocation. Its holder renews it again and again; others may
//! take over a slot that they have seen unchanged for a lease, by their own monotonic clock, so that no
//! wall clock decides who is dead. A *claim* moves one job into a slot; whoever has lost the slot has lost
//! its claims, and nothing that it does afterwards has an effect on the store.
//!
//! Jobs of a *group* run one after the other, in the order of their acks. The first one has the *turn*, from its ack
//! until it has ended, whatever it waits for meanwhile; the others wait for it and are not due. The turn is the
//! job's, not that of who runs it: it is passed on by whoever releases the job after its end, or purges it. A job
//! that begins again is the last of its group.
//!
//! What clients ask of a job that exists (cancel it, retry it) is a *mark* that the store keeps until a
//! holder of a slot has seen to it. Only holders of slots move jobs.

#[cfg(any(not(any(feature = "spin", feature = "wasmcloud")), test))]
mod dir;
mod list;
mod location;
#[cfg(any(feature = "spin", feature = "wasmcloud", test))]
mod sql;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[cfg(any(not(any(feature = "spin", feature = "wasmcloud")), test))]
pub use dir::Dir;
#[cfg(test)]
pub use dir::model;
pub use list::{Range, RetryAll, Wanted};
pub use location::Location;
#[cfg(test)]
pub use sql::SharedSqlite;

use super::config::Config;
use super::host::Host;
use super::job::{Id, Input, Job, Recorded, Run, State, Wait};
use super::time::Time;

/// Whether a store may be a database. Where none may, no code for what only databases do is built.
pub const HAS_DATABASES: bool = cfg!(any(feature = "spin", feature = "wasmcloud", test));

/// The most slots for drains that a store has.
pub const SLOTS: usize = 8;

/// How long a client that waits is counted.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What lies under it failed.
    #[error("the store failed: {doing}: {error}")]
    Failed { doing: String, error: io::Error },
    /// What it holds of one job makes no sense or cannot be read. Concerns no other job.
    #[error("the store's record of job {id} cannot be read: {reason}")]
    Damaged { id: Id, reason: String },
    /// Somebody else has the slot, or the claim is not in it any more.
    #[error("the slot of this invocation was taken over")]
    Lost,
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// What came of recording a job.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    /// It is recorded.
    New,
    /// Its idempotency key has been used before, for this job with the same request.
    Known(Id),
    /// Its idempotency key has been used before, for another request.
    Conflict,
    /// As many jobs wait as may.
    Full,
}

/// Where the store keeps a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It waits: for its turn, for its time, or after its end for somebody who tells of it.
    Queue,
    /// A slot has it.
    Slot,
    /// It has ended, and all have been told.
    Done,
}

/// What a client asks of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Cancel,
    /// Beside [`Cancel`](Ask::Cancel): the job has been seen to wait with it. Whoever claims it ends it, and so it
    /// counts as cancelled from now on.
    Cancelled,
    Retry,
}

/// A mark: what a client asks of a job. It counts for one round of the job only
/// ([`Run::round`](super::job::Run::round)), and so it can be heeded twice without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    pub id: Id,
    pub round: u32,
    pub ask: Ask,
}

/// A job as it was found: without its body and its output.
#[derive(Clone, Debug)]
pub struct Found {
    pub job: Job,
    pub place: Place,
    /// What a client has asked of it that nobody has seen to yet.
    pub asked: Option<Ask>,
}

impl Found {
    /// Where the job stands, for those who ask.
    pub fn state(&self) -> State {
        match (&self.job.run.end, self.asked) {
            // Whoever comes next begins it again.
            (Some(_), Some(Ask::Retry)) => State::Queued,
            (Some(end), _) => end.state,
            (None, Some(Ask::Cancelled)) => State::Cancelled,
            (None, _) if self.place == Place::Slot => State::Running,
            (None, _) => State::Queued,
        }
    }

    /// Whether a client has asked for its cancellation, and nobody has seen to that yet.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.asked, Some(Ask::Cancel | Ask::Cancelled))
    }

    /// Whether the job has ended, and is not about to begin again.
    pub fn is_over(&self) -> bool {
        self.job.run.end.is_some() && self.asked != Some(Ask::Retry)
    }
}

/// What a waiting job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Its next step.
    Work,
    /// Its next step, in an instance of its own: its last one was lost during that step.
    Suspect,
    /// It has ended; somebody has to be told.
    Tell,
}

/// A job that waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Due {
    /// Since when it could go on: jobs come first that are due first.
    pub time: Time,
    pub id: Id,
    pub kind: Kind,
    /// The wait that is over by then, if it waited for its time.
    pub wait: Option<Wait>,
}

/// What the queue holds.
#[derive(Debug, Default)]
pub struct Outlook {
    /// The jobs that are due, of each kind first come first, and not more than were asked for.
    pub due: Vec<Due>,
    /// When to look again: not later than when the first of the others is due.
    pub next: Option<Time>,
    /// Whether no job waits, due or not.
    pub is_empty: bool,
}

/// Whom a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An invocation that runs jobs: one of [`SLOTS`].
    Drain(usize),
    /// The invocation that runs suspects, one at a time.
    Alone,
    /// The invocation that waits for what comes next.
    Watch,
}

/// How a slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    Free,
    /// Its holder has left, with claims that it could not give back. Anybody may take it over at once.
    Left,
    /// Its holder has renewed it with this sign of life.
    Held(Sign),
}

/// A sign of life: another one each time that a slot is entered or renewed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sign(pub String);

/// A slot that is held by this invocation.
#[derive(Debug)]
pub struct Slot {
    pub role: Role,
    pub sign: Sign,
}

/// What is to be stored of a claimed job.
pub struct Save {
    pub job: Job,
    pub news: News,
}

/// What there is new of a job.
pub enum News {
    /// What came of its steps, to append to its record.
    Steps(Rc<[Recorded]>),
    /// Its end, with which its claim may end, too, if that costs no more.
    End,
}

/// The permission to let a client wait.
#[derive(Debug)]
pub struct Waiter {
    /// What the store knows it by.
    name: String,
}

/// What `GET /metrics` counts.
#[derive(Debug)]
pub struct Counts {
    pub waiting: usize,
    pub running: usize,
    /// How many jobs have ended and still wait for somebody who tells of it.
    pub untold: usize,
    pub drains: usize,
    /// How many targets were given up since the store was made: they were never told.
    pub given_up: u64,
    /// How many jobs have ended in each way since the store was made.
    pub ended: [(State, u64); 3],
}

/// The store that the settings name.
pub fn of(config: &Config, host: Rc<dyn Host>) -> Rc<dyn Store> {
    match &config.store {
        #[cfg(not(any(feature = "spin", feature = "wasmcloud")))]
        Location::Dir(path) => Rc::new(Dir::mounted(path, host)),
        #[cfg(feature = "wasmcloud")]
        Location::Wasmcloud => Rc::new(sql::Sql::new(sql::wasmcloud::Postgres, host)),
        #[cfg(feature = "spin")]
        Location::Sqlite(name) => Rc::new(sql::Sql::new(sql::spin::Sqlite::new(name), host)),
        #[cfg(feature = "spin")]
        Location::Postgres(url) => Rc::new(sql::Sql::new(sql::spin::Postgres::new(url), host)),
    }
}

/// How many jobs still wait that are cancelled already. It is asked before all those that wait are counted: one that is
/// ended in between waits no longer.
fn cancelled(store: &dyn Store) -> Result<usize> {
    let mut cancelled = 0;
    for mark in store.marks()?.into_iter().filter(|mark| mark.ask == Ask::Cancel) {
        let waits = |found: Found| found.place == Place::Queue && found.is_cancelled();
        cancelled += usize::from(store.find(mark.id)?.is_some_and(waits));
    }
    Ok(cancelled)
}

/// Where jobs are kept. Every method is one short, blocking call, as WASI 0.2 has them.
pub trait Store {
    /// Makes sure that jobs can be recorded: makes what of the store is missing.
    fn open(&self) -> Result<()>;

    /// Records a job durably, unless `most` jobs wait already. It goes into the queue with
    /// [`begin`](Store::begin) at the latest, for which its ack need not wait. With a limit over a thousand, an
    /// earlier count will do: of the last second, or of the last ten if at 5,000 jobs a second the queue could not be
    /// full since.
    fn put(&self, id: Id, input: &Input, most: usize, now: Time) -> Result<Put>;

    /// Puts what was recorded here into the queue, or parks it until its turn comes in its group. What nobody does
    /// that for is [unfinished](Store::unfinished).
    fn begin(&self) -> Result<()> {
        Ok(())
    }

    /// Looks a job up.
    fn find(&self, id: Id) -> Result<Option<Found>>;

    /// What a job's last step has left: its output, if it has succeeded.
    fn output(&self, id: Id) -> Result<Option<Vec<u8>>>;

    /// The body of a job's input.
    fn body(&self, id: Id) -> Result<Vec<u8>>;

    /// Leaves a mark, durably.
    fn ask(&self, mark: Mark) -> Result<()>;

    /// Takes a mark away: it has been heeded, or makes no sense any more.
    fn forget_mark(&self, mark: Mark) -> Result<()>;

    /// All marks.
    fn marks(&self) -> Result<Vec<Mark>>;

    /// Whether there is this mark.
    fn is_marked(&self, mark: Mark) -> Result<bool>;

    /// The same, now or at a moment since jobs were last claimed here.
    fn was_marked(&self, mark: Mark) -> Result<bool> {
        self.is_marked(mark)
    }

    /// The first of the jobs that are wanted, at most so many. It costs as much whatever else there is.
    fn list(&self, wanted: &Wanted, range: Range, most: usize) -> Result<Vec<Found>>;

    /// Records durably that all failed or cancelled jobs that are wanted are to begin again: about how many those
    /// are.
    fn retry_all(&self, wanted: &Wanted) -> Result<usize>;

    /// What of that has not been seen to yet.
    fn retries(&self) -> Result<Vec<RetryAll>>;

    /// Notes that it has come to this job.
    fn note_retried(&self, retry: &RetryAll, last: Id) -> Result<()>;

    /// All of it has been seen to.
    fn forget_retry(&self, retry: &RetryAll) -> Result<()>;

    /// Removes a job that has ended, with all there is of it, if it is still as it was found: whether it was.
    /// Whoever is just telling of its end has lost it.
    fn purge(&self, found: &Found, keep: Duration) -> Result<bool>;

    /// What the queue holds, with at most `most` due jobs of each kind. With `mend`, waits that were begun
    /// by a clock that was ahead are begun anew.
    fn look(&self, now: Time, most: usize, mend: bool) -> Result<Outlook>;

    /// A value that changes when the queue does.
    fn bell(&self) -> Result<u64>;

    /// All slots.
    fn slots(&self) -> Result<Vec<(Role, Holding)>>;

    /// Makes the slots that are missing: somebody has died while he gave one back.
    fn mend_slots(&self) -> Result<()>;

    /// A value that changes when somebody enters, renews or leaves a slot; 0 if that is not known.
    fn pulse(&self) -> Result<u64>;

    /// Takes a slot that is free, or that is still as it was seen; `None` if somebody else was first.
    fn enter(&self, role: Role, seen: &Holding) -> Result<Option<Slot>>;

    /// Gives a sign of life.
    fn renew(&self, slot: &mut Slot) -> Result<()>;

    /// Gives a slot back, with the claims that are still in it.
    fn leave(&self, slot: Slot) -> Result<()>;

    /// The claims of a slot.
    fn claims(&self, slot: &Slot) -> Result<Vec<(Id, Kind)>>;

    /// Claims the first `most` of these due jobs that it can: those that it could. An error concerns the first one.
    fn claim(&self, slot: &Slot, due: &[Due], most: usize) -> Result<Vec<Due>>;

    /// Claims a job wherever it waits or rests, and for what; `None` if a slot has it, or there is no such
    /// job.
    fn claim_any(&self, slot: &Slot, id: Id) -> Result<Option<Kind>>;

    /// Reads a claimed job, as it was saved last. Its body comes along if it is small.
    fn load(&self, slot: &Slot, id: Id, kind: Kind) -> Result<Job>;

    /// Puts aside what cannot be read of a claimed job, and saves it as one that has come so far; `None` if
    /// nothing is known of such a job.
    fn repair(&self, slot: &Slot, id: Id, kind: Kind, reason: &str, run: Run) -> Result<Option<Job>>;

    /// Stores how far a claimed job has come.
    fn save(&self, slot: &Slot, job: &mut Job) -> Result<()>;

    /// Whether jobs that are claimed, or stored, together cost less than one after the other.
    fn gathers(&self) -> bool {
        false
    }

    /// Stores what there is new of these claimed jobs, and how far they have come: what came of each, and whether that has
    /// [ended its claim](Store::release), too.
    fn save_all(&self, slot: &Slot, saves: &mut [Save]) -> Vec<Result<bool>>;

    /// Stores how far a claimed job has come, but a power cut may take it back.
    fn note(&self, slot: &Slot, job: &mut Job) -> Result<()>;

    /// The record of a claimed job that has one.
    fn recorded(&self, slot: &Slot, job: &mut Job) -> Result<Vec<Recorded>>;

    /// Stores how far a job has come whose claim was taken over: whatever its last holder still does has no effect.
    fn save_anew(&self, slot: &Slot, job: &mut Job) -> Result<()>;

    /// Ends a claim: the job goes where it belongs as it was saved last, into the queue, or to those that wait for
    /// their turn in their group, or to those that have ended, and then its turn to the next one. Whoever succeeds
    /// with a job that has just ended has ended it.
    fn release(&self, slot: &Slot, job: &Job, now: Time, keep: Duration) -> Result<()>;

    /// Counts a target that is given up: it will never be told.
    fn note_untold(&self) -> Result<()>;

    /// What somebody has begun to do to the store beside the queue, and not finished yet.
    fn unfinished(&self) -> Result<Vec<String>>;

    /// Finishes what has been unfinished for a lease: a job that is recorded as a whole begins.
    fn finish(&self, unfinished: &str) -> Result<()>;

    /// Removes a piece of what has been kept for long enough: when there is more to remove.
    fn remove_expired(&self, now: Time, keep: Duration) -> Result<Option<Time>>;

    /// When there is something to remove, as far as that is known.
    fn expires(&self, keep: Duration) -> Result<Option<Time>>;

    /// Lets a client wait, if fewer than `most` do, for at most [`LONGEST_WAIT`].
    fn admit(&self, most: usize, now: Time) -> Result<Option<Waiter>>;

    /// The client waits no longer.
    fn dismiss(&self, waiter: Waiter) -> Result<()>;

    /// How long one who has nothing left to do stays, so that the next ack does not have to open what is closed with
    /// the last of those who have it open; not at all if another one stays.
    fn linger(&self, _now: Time) -> Result<Duration> {
        Ok(Duration::ZERO)
    }

    /// Counts what there is. Where that takes more than one look, what moves meanwhile may be counted twice, or missed.
    fn counts(&self) -> Result<Counts>;
}

impl Due {
    /// How a job waits that was just accepted, and begins at once.
    #[cfg(any(not(any(feature = "spin", feature = "wasmcloud")), test))]
    pub fn first(id: Id) -> Due {
        Due { time: id.created(), id, kind: Kind::Work, wait: None }
    }

    /// How a job waits that was just accepted.
    #[cfg(any(not(any(feature = "spin", feature = "wasmcloud")), test))]
    pub fn new(id: Id, input: &Input) -> Due {
        let wait = input.wait(id);
        Due { time: wait.map_or(id.created(), |wait| wait.until), wait, ..Due::first(id) }
    }

    /// How a job waits that has come so far; not at all if it has ended and all have been told.
    pub fn of(id: Id, run: &Run) -> Option<Due> {
        if let Some(end) = &run.end {
            let until = run.tell_at()?;
            let since = run.updated.min(until).max(end.finished.min(until));
            return Some(Due { time: until, id, kind: Kind::Tell, wait: Some(Wait { until, since }) });
        }
        let kind = if run.lost > 0 { Kind::Suspect } else { Kind::Work };
        Some(match run.wait {
            Some(wait) => Due { time: wait.until, id, kind: Kind::Work, wait: Some(wait) },
            None if run.version == 0 => Due { time: id.created(), id, kind, wait: None },
            None => Due { time: run.updated, id, kind, wait: None },
        })
    }
}

impl Ask {
    /// As stores write it.
    fn name(self) -> &'static str {
        match self {
            Ask::Cancel => "cancel",
            Ask::Cancelled => "cancelled",
            Ask::Retry => "retry",
        }
    }

    fn parse(name: &str) -> Option<Ask> {
        [Ask::Cancel, Ask::Cancelled, Ask::Retry].into_iter().find(|ask| ask.name() == name)
    }

    /// What of that which was asked of a job in this round is still to be seen to.
    fn open(run: &Run, is_asked: impl Fn(Ask) -> bool) -> Option<Ask> {
        match &run.end {
            // Who cancels a job and wants it again at once has it queued.
            None if is_asked(Ask::Retry) => None,
            None => [Ask::Cancelled, Ask::Cancel].into_iter().find(|ask| is_asked(*ask)),
            Some(end) if end.state != State::Succeeded && is_asked(Ask::Retry) => Some(Ask::Retry),
            Some(_) => None,
        }
    }
}

impl Mark {
    /// Whether a job that has come so far has not heeded it yet.
    pub fn counts(&self, run: &Run) -> bool {
        let end = run.end.as_ref().map(|end| end.state);
        self.round == run.round
            && match self.ask {
                Ask::Cancel | Ask::Cancelled => end.is_none(),
                Ask::Retry => matches!(end, Some(State::Failed | State::Cancelled)),
            }
    }
}

impl Role {
    /// The roles of all slots.
    pub fn all() -> impl Iterator<Item = Role> {
        (0..SLOTS).map(Role::Drain).chain([Role::Alone, Role::Watch])
    }

    /// The role that is written like this.
    fn parse(text: &str) -> Option<Role> {
        match text {
            "alone" => Some(Role::Alone),
            "watch" => Some(Role::Watch),
            number => number.parse().ok().filter(|number| *number < SLOTS).map(Role::Drain),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Drain(number) => number.fmt(f),
            Role::Alone => f.write_str("alone"),
            Role::Watch => f.write_str("watch"),
        }
    }
}

#[cfg(test)]
mod suite;
