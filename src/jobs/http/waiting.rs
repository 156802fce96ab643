//! Answers that wait: for a job's end, or with its events as they come.
//!
//! A waiting answer holds an instance, and acks need instances. So there is a bound on how many wait at once
//! over all invocations (`AFTERACK_WAITERS`); each has begun to answer, so that a client that has gone shows;
//! and each ends before a proxy loses its patience.

use std::rc::Rc;
use std::time::Duration;

use wstd::task::sleep;
use wstd::time::Instant;

use super::links::Links;
use super::prefer::Prefer;
use super::status;
use crate::jobs::config::Config;
use crate::jobs::host::Host;
use crate::jobs::job::{Id, State};
use crate::jobs::store::{Found, Store, Waiter};
use crate::log;
use crate::reply::Open;

/// How often the store is asked.
const LOOK: Duration = Duration::from_millis(50);

/// How long a client hears nothing before it hears a comment, which keeps proxies patient.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a stream of events lasts. A browser's `EventSource` then comes back, with the last event's id.
const STREAM: Duration = Duration::from_secs(50);

/// How long the client should stay away that finds too many others waiting, in milliseconds.
const LATER: u64 = 5000;

/// The permission to let a client wait, until it is dropped.
pub struct Admitted {
    store: Rc<dyn Store>,
    waiter: Option<Waiter>,
}

impl Admitted {
    /// `None` if as many wait as may, or if that cannot be found out.
    pub fn new(store: &Rc<dyn Store>, host: &dyn Host, config: &Config) -> Option<Admitted> {
        let waiter = store.admit(config.waiters, host.wall()).ok()??;
        Some(Admitted { store: store.clone(), waiter: Some(waiter) })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            // What is left of it counts for a minute.
            let _ = self.store.dismiss(waiter);
        }
    }
}

/// Waits for the end of a job: the job then, or as it is when the time is over; `None` if the client or the
/// job has gone.
async fn for_end(response: &Open, store: &dyn Store, id: Id, time: Duration) -> Option<Found> {
    let begun = Instant::now();
    loop {
        let is_late = Duration::from(begun.elapsed()) >= time;
        match store.find(id) {
            Ok(Some(found)) if is_late || found.is_over() => return Some(found),
            Ok(None) => return None,
            Err(error) if is_late => {
                log::error(error);
                return None;
            }
            _ => {}
        }
        sleep(LOOK.into()).await;
        if response.is_gone() {
            return None;
        }
    }
}

/// Whether there is nothing to send to a client that has heard the event with this id.
pub fn is_heard(found: &Found, heard: Option<u64>) -> bool {
    let end = found.job.run.end.as_ref().filter(|_| found.is_over());
    end.is_some_and(|end| heard == Some(end.version))
}

/// Sends events until the job has ended, the client has gone, or it is time to come back: at once without
/// the permission to wait.
pub async fn send_events(
    response: Open,
    store: &dyn Store,
    (id, heard): (Id, Option<u64>),
    links: &Links,
    admitted: Option<Admitted>,
) {
    let begun = Instant::now();
    let (mut silent, mut last) = (Instant::now(), heard);
    let retry = if admitted.is_some() { 1000 } else { LATER };
    if !response.write(format!("retry: {retry}\n\n").as_bytes()).await {
        return;
    }
    loop {
        match store.find(id) {
            Ok(Some(found)) => {
                let (version, name) = match &found.job.run.end {
                    Some(end) if found.is_over() => (end.version, "end"),
                    _ => (found.job.run.version, "progress"),
                };
                if name == "end" || last != Some(version) {
                    last = Some(version);
                    silent = Instant::now();
                    let data = status::full(&found, links);
                    let event = format!("event: {name}\nid: {version}\ndata: {data}\n\n");
                    if !response.write(event.as_bytes()).await {
                        return;
                    }
                }
                if name == "end" {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => log::error(error),
        }
        if admitted.is_none() || Duration::from(begun.elapsed()) >= STREAM {
            break;
        }
        if Duration::from(silent.elapsed()) > SILENCE {
            silent = Instant::now();
            if !response.write(b":\n\n").await {
                return;
            }
        }
        sleep(LOOK.into()).await;
        if response.is_gone() {
            return;
        }
    }
    response.finish();
}

/// The JSON of an answer that has waited, as long as it was declared to be: white space after it means
/// nothing.
pub fn padded(json: &serde_json::Value, length: usize) -> Vec<u8> {
    let mut body = json.to_string().into_bytes();
    body.resize(length.max(body.len()), b' ');
    body
}

/// How long the longest `brief` of this job is.
pub fn longest_brief(id: Id, links: &Links) -> usize {
    State::ALL.map(|state| status::brief(id, state, links).to_string().len()).into_iter().max().unwrap_or(0)
}

/// Waits for the end of a job, and answers with what `body` makes of it then.
pub async fn answer(
    response: Open,
    store: &dyn Store,
    id: Id,
    prefer: Prefer,
    body: impl FnOnce(&Found) -> Vec<u8>,
) {
    let found = for_end(&response, store, id, prefer.time().unwrap_or_default()).await;
    // Without it, the answer is broken off, which its client can see.
    if let Some(found) = found
        && response.write(&body(&found)).await
    {
        response.finish();
    }
}
