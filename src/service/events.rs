//! `GET /jobs/{id}/events`: a job's progress as it comes, by
//! [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html).

use std::time::Duration;

use wstd::task::sleep;
use wstd::time::Instant;

use super::job::{Id, Job};
use super::status;
use super::store::{Found, Store};
use crate::reply::Open;

/// How often the store is asked.
const LOOK: Duration = Duration::from_millis(100);

/// How long a client hears nothing before it hears a comment, which shows whether it is still there.
const SILENCE: Duration = Duration::from_secs(10);

/// How long one answer lasts. A browser's `EventSource` then comes back, with the last event's id, and
/// an invocation that nobody listens to does not live on.
const LAST: Duration = Duration::from_secs(60);

/// Whether there is nothing to send to a client that has heard the event with this id.
pub fn is_heard(job: &Job, heard: Option<u64>) -> bool {
    job.run.end.is_some() && heard.is_some_and(|heard| heard >= job.run.version)
}

/// Sends events until the job has ended, the client has gone, or it is time to come back.
pub async fn send(response: Open, store: &dyn Store, id: Id, mut heard: Option<u64>) {
    let begun = Instant::now();
    let mut silent = Instant::now();
    if !response.write(b"retry: 1000\n\n").await {
        return;
    }
    while Duration::from(begun.elapsed()) < LAST {
        match store.find(id) {
            Ok(Some(found)) => {
                let job = &found.job;
                if heard.is_none_or(|heard| job.run.version > heard) {
                    heard = Some(job.run.version);
                    silent = Instant::now();
                    if !response.write(event(&found).as_bytes()).await {
                        return;
                    }
                }
                if job.run.end.is_some() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => eprintln!("afterack: {error}"),
        }
        if Duration::from(silent.elapsed()) > SILENCE {
            silent = Instant::now();
            if !response.write(b":\n\n").await {
                return;
            }
        }
        sleep(LOOK.into()).await;
    }
    response.finish();
}

fn event(found: &Found) -> String {
    let run = &found.job.run;
    let name = if run.end.is_some() { "end" } else { "progress" };
    format!("event: {name}\nid: {}\ndata: {}\n\n", run.version, status::full(found))
}
