//! What becomes of a job that somebody brings: it is recorded, if its worker takes it.

use sha2::{Digest, Sha256};

use super::Engine;
use crate::jobs::config::Config;
use crate::jobs::job::{Id, Input};
use crate::jobs::options::Group;
use crate::jobs::store::Put;
use crate::jobs::worker::Worker;
use crate::{HeaderValue, Problem, StatusCode, header};

/// The longest idempotency key, in bytes.
const KEY: usize = 255;

/// The longest `Content-Type`, in bytes.
const CONTENT_TYPE: usize = 1024;

/// When a client that finds the queue full should come back, in seconds.
const FULL: &str = "10";

impl Engine {
    /// Records a job that need not wait for the end of this invocation: see [`accept`](Engine::accept).
    pub fn submit(&self, input: Input, key: Option<&str>) -> Result<(Id, bool), Problem> {
        let accepted = self.accept(input, key)?;
        if let Err(error) = self.store.begin() {
            self.note_failure(&error); // It is recorded, and begins later.
        }
        Ok(accepted)
    }

    /// Records a job, which goes into the queue when this invocation carries on: its id, and whether it is a new one.
    /// It is not if its idempotency key stands for another.
    pub fn accept(&self, input: Input, key: Option<&str>) -> Result<(Id, bool), Problem> {
        let worker = self.workers.find(&input.worker)?;
        if let Some(length) = input.content_type().map(str::len).filter(|length| *length > CONTENT_TYPE) {
            let detail = format!("Content-Type too long: {length} bytes (limit {CONTENT_TYPE})");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        let limit = worker.terms().body.unwrap_or(self.config.body);
        if input.size as u64 > limit {
            let detail = format!("input too large: {} bytes (limit {limit})", input.size);
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        let input = match key {
            Some(key) => {
                Input { key: Some(key_digest(key, &input.worker)?), request: digest_of(&input), ..input }
            }
            None => input,
        };
        worker.takes(&input)?;
        let id = Id::new(&*self.host);
        match self.store.put(id, &input, self.config.queue, self.host.wall())? {
            Put::New => {
                self.own.set(Some(id));
                self.looked.take();
                Ok((id, true))
            }
            Put::Known(known) => Ok((known, false)),
            Put::Conflict => {
                let detail = "Idempotency-Key already used: by a request that was not the same";
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
            }
            Put::Full => {
                let detail = format!("queue full: {} jobs wait (limit AFTERACK_QUEUE)", self.config.queue);
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
                Err(problem.with(header::RETRY_AFTER, HeaderValue::from_static(FULL)))
            }
        }
    }

    /// The worker of this name.
    ///
    /// # Errors
    /// A 404 problem that names it and the ones there are.
    pub fn worker(&self, name: &str) -> Result<&Worker, Problem> {
        self.workers.find(name)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// The digest of an idempotency key, which is its worker's own.
fn key_digest(key: &str, worker: &str) -> Result<String, Problem> {
    let bad =
        |reason: String| Problem::new(StatusCode::BAD_REQUEST, format!("invalid Idempotency-Key: {reason}"));
    match key.len() {
        0 => Err(bad("empty".into())),
        length if length > KEY => Err(bad(format!("{length} bytes (limit {KEY})"))),
        _ => Ok(digest(&[worker.as_bytes(), key.as_bytes()])),
    }
}

/// What two requests have in common that are the same.
fn digest_of(input: &Input) -> String {
    let content_type = input.content_type().unwrap_or_default();
    let delay = input.delay.map(|delay| (delay.time().as_millis() as u64).to_string()).unwrap_or_default();
    let group = input.group.as_ref().map(Group::name).unwrap_or_default();
    let notify = input.notify.join(" ");
    let headers = [content_type, &notify, &delay, group].map(str::as_bytes);
    digest(&[&headers[..], &[&input.body]].concat())
}

fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
