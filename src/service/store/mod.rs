//! Stores: where jobs are while nobody runs them, and what is known of them while somebody does.
//!
//! A store hands out two kinds of exclusive rights, both by operations that only one of many can win.
//! A *slot* is the right to run jobs in this invocation; it is leased, so that it comes back when its
//! holder dies. A *claim* moves one job from the queue into a slot; when the slot is lost, so are its
//! claims. Nothing that a lost slot's holder does afterwards has an effect on the store.

mod dir;

use std::io;
use std::time::Duration;

pub use dir::Dir;

use super::job::{Id, Input, Job, State};
use super::time::Time;

/// The most slots for drains that a store has.
pub const SLOTS: usize = 8;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What lies under it failed.
    #[error("the store failed: {doing}: {error}")]
    Failed { doing: String, error: io::Error },
    /// What it holds of a job makes no sense.
    #[error("the store's record is damaged: {0}")]
    Damaged(String),
    /// The slot's lease ran out, and somebody else has it.
    #[error("the lease of this invocation's slot ran out")]
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
}

/// Where the store keeps a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Queue,
    Slot,
    Done,
}

/// A job that waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    pub time: Time,
    pub id: Id,
}

/// What the queue holds.
#[derive(Debug, Default)]
pub struct Outlook {
    /// The jobs that are due, first come first; not more than were asked for.
    pub due: Vec<Due>,
    /// When to look again: not later than when the first of the others is due.
    pub next: Option<Time>,
    /// Whether no job waits, due or not.
    pub is_empty: bool,
}

/// Whom a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An invocation that runs jobs; slots of this many are used.
    Drain(usize),
    /// The invocation that waits for what comes next.
    Watch,
}

/// The state of the slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// How many of those for drains are held.
    pub held: usize,
    /// How many of those have a lease that ran out.
    pub expired: usize,
    /// When the lease of the one for the watch ends, if it is held and that is not past.
    pub watch: Option<Time>,
}

/// A slot that is held by this invocation.
#[derive(Debug)]
pub struct Slot {
    /// What the store knows it by.
    name: String,
}

/// What `GET /metrics` counts.
#[derive(Debug)]
pub struct Counts {
    pub waiting: usize,
    pub running: usize,
    pub drains: usize,
    /// How many jobs have ended in each way since the store was made.
    pub ended: [(State, u64); 3],
}

/// Where jobs are kept. Every method is one short, blocking call, as WASI 0.2 has them.
pub trait Store {
    /// Makes the store if it is not there yet.
    fn open(&self) -> Result<()>;

    /// Records a job durably and puts it into the queue. `digest` is that of the request, and compared
    /// if its key has been used before.
    fn put(&self, id: Id, input: &Input, digest: &str) -> Result<Put>;

    /// Whether this idempotency key has been used.
    fn knows(&self, key: &str) -> Result<bool>;

    /// Whether as many jobs wait as may. With a limit over a thousand, an earlier count will do: of the
    /// last second, or of the last ten if at 5,000 jobs a second the queue could not be full since.
    fn is_full(&self, limit: usize, now: Time) -> Result<bool>;

    /// Looks a job up. Its input comes without the body.
    fn find(&self, id: Id) -> Result<Option<(Job, Place)>>;

    /// Takes a job out of its place, for [`give_back`](Store::give_back); `None` if it is not there.
    fn take(&self, id: Id, from: Place) -> Result<Option<Job>>;

    /// Puts a job that was taken where it now belongs: into the queue, or to those that have ended.
    fn give_back(&self, job: &mut Job, keep: Duration) -> Result<()>;

    /// Asks whoever runs this job to cancel it, or takes that back.
    fn ask_to_cancel(&self, id: Id, cancel: bool) -> Result<()>;

    /// Whether somebody has asked to cancel this job.
    fn is_cancelled(&self, id: Id) -> Result<bool>;

    /// All jobs that somebody has asked to cancel and that have not been seen to end since.
    fn cancellations(&self) -> Result<Vec<Id>>;

    /// What the queue holds, with at most `most` of the due jobs.
    fn outlook(&self, now: Time, most: usize) -> Result<Outlook>;

    /// A value that changes when the queue does.
    fn bell(&self) -> Result<u64>;

    /// How the slots are.
    fn slots(&self, now: Time) -> Result<Slots>;

    /// Takes a free slot, if there is one, until the lease ends.
    fn enter(&self, role: Role, now: Time, lease: Duration) -> Result<Option<Slot>>;

    /// Lengthens the lease of a slot.
    fn renew(&self, slot: &mut Slot, now: Time, lease: Duration) -> Result<()>;

    /// Gives a slot without claims back.
    fn leave(&self, slot: Slot) -> Result<()>;

    /// Claims a job; `None` if somebody else did.
    fn claim(&self, slot: &Slot, due: Due) -> Result<Option<Job>>;

    /// Stores how far a claimed job has come.
    fn save(&self, slot: &Slot, job: &mut Job) -> Result<()>;

    /// Ends a claim: puts the job back into the queue, until `run.due`.
    fn release(&self, slot: &Slot, job: &Job) -> Result<()>;

    /// Ends a claim: the job is over, and kept for this long.
    fn settle(&self, slot: &Slot, job: &Job, keep: Duration) -> Result<()>;

    /// Takes over the slots whose leases ran out, one after the other: `found` sees each of their jobs,
    /// which then goes back into the queue, or to those that have ended.
    fn adopt(
        &self,
        now: Time,
        lease: Duration,
        keep: Duration,
        found: &mut dyn FnMut(&mut Job),
    ) -> Result<()>;

    /// Removes what nobody needs any more: jobs that were kept long enough, leftovers of crashes.
    fn tidy(&self, now: Time, keep: Duration) -> Result<()>;

    /// Counts what there is.
    fn counts(&self, now: Time) -> Result<Counts>;
}
