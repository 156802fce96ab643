//! Lists of jobs: which ones, in which order, and a page of them.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Ask, Found, Result, Store};
use crate::jobs::job::{Id, State};

/// Which jobs a list has: all of them, unless it says more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Those that clients see in this state.
    pub state: Option<State>,
    /// Those of this worker.
    pub worker: Option<String>,
}

impl Wanted {
    pub fn has(&self, found: &Found) -> bool {
        self.state.is_none_or(|state| found.state() == state)
            && self.worker.as_ref().is_none_or(|worker| *worker == found.job.input.worker)
    }
}

/// In which order jobs come, and from where on. They are ordered by their ids, and so by the time of their acks.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// Newest first, those older than this one.
    Before(Option<Id>),
    /// Oldest first, those newer than this one.
    After(Option<Id>),
}

impl Range {
    pub fn has(self, id: Id) -> bool {
        match self {
            Range::Before(bound) => bound.is_none_or(|bound| id < bound),
            Range::After(bound) => bound.is_none_or(|bound| id > bound),
        }
    }

    pub fn is_newest_first(self) -> bool {
        matches!(self, Range::Before(_))
    }

    /// Which of two jobs comes first.
    pub fn order(self, one: Id, other: Id) -> Ordering {
        if self.is_newest_first() { other.cmp(&one) } else { one.cmp(&other) }
    }

    /// Puts jobs in order.
    pub fn sort(self, ids: &mut [Id]) {
        ids.sort_unstable_by(|one, other| self.order(*one, *other));
    }
}

/// All failed or cancelled jobs that a client wants to begin again.
///
/// It is recorded as one thing, however many jobs that are, and seen to in pieces. A job that it has begun again
/// says so ([`Run::retried_by`](crate::jobs::job::Run::retried_by)), and is none of its jobs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryAll {
    pub name: String,
    pub wanted: Wanted,
    /// It has come to here, oldest first.
    pub after: Option<Id>,
}

/// At most `most` of the jobs that are wanted. `next` gives the jobs that may be, in order, as the store has filed
/// them; the marks that clients have left put others into a state before anybody has seen to them.
pub(super) fn page(
    store: &dyn Store,
    (wanted, range, most): (&Wanted, Range, usize),
    next: &mut dyn FnMut() -> Result<Option<Found>>,
) -> Result<Vec<Found>> {
    let mut page = marked(store, (wanted, range, most))?;
    let mut found = 0;
    while found < most {
        let Some(job) = next()? else { break };
        if range.has(job.job.id)
            && wanted.has(&job)
            && let Err(place) = page.binary_search_by(|other| range.order(other.job.id, job.job.id))
        {
            page.insert(place, job);
            found += 1;
        }
    }
    page.truncate(most);
    Ok(page)
}

/// The first of the jobs that are wanted by what clients have asked of them.
fn marked(store: &dyn Store, (wanted, range, most): (&Wanted, Range, usize)) -> Result<Vec<Found>> {
    let ask = match wanted.state {
        Some(State::Queued) => Ask::Retry,
        Some(State::Cancelled) => Ask::Cancelled,
        _ => return Ok(Vec::new()),
    };
    let marks = store.marks()?.into_iter().filter(|mark| mark.ask == ask && range.has(mark.id));
    let mut ids: Vec<_> = marks.map(|mark| mark.id).collect();
    range.sort(&mut ids);
    ids.dedup();
    let mut found = Vec::new();
    for id in ids {
        if found.len() == most {
            break;
        }
        found.extend(store.find(id)?.filter(|job| wanted.has(job)));
    }
    Ok(found)
}
