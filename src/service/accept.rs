//! `POST /jobs/{worker}`: what a request must be, and what becomes of it.

use sha2::{Digest, Sha256};

use super::host::Host;
use super::job::{Id, Input};
use super::store::{Put, Store};
use super::worker::Worker;
use super::{Config, notify};
use crate::{Bytes, HeaderValue, Problem, Request, StatusCode, header};

/// The longest idempotency key, in bytes.
const KEY: usize = 255;

/// When a client that finds the queue full should come back, in seconds.
const FULL: &str = "10";

/// Checks a request and records it as a job: its id, and whether it is a new one. It is not if the
/// request's idempotency key stands for another.
pub fn accept(
    request: &Request<Bytes>,
    worker: &str,
    store: &dyn Store,
    config: &Config,
    host: &dyn Host,
) -> Result<(Id, bool), Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let kind = Worker::find(worker)?;
    let content_type = match request.headers().get(header::CONTENT_TYPE).map(HeaderValue::to_str) {
        Some(Ok(value)) => Some(value.to_owned()),
        Some(Err(_)) => return Err(bad("Content-Type: it is not ASCII".into())),
        None => None,
    };
    let input = Input {
        worker: worker.into(),
        content_type,
        notify: notify::targets(request.headers(), config)?,
        key: key(request, worker).map_err(bad)?,
        request: String::new(),
        size: request.body().len(),
        body: request.body().to_vec(),
    };
    let input = Input { request: digest_of(&input), ..input };
    kind.check(&input).map_err(bad)?;
    let id = Id::new(host);
    // A request that was answered before is answered again, however full the queue is.
    let is_known = input.key.as_ref().map(|key| store.knows(key)).transpose()?.unwrap_or(false);
    if !is_known && store.is_full(config.queue, host.wall())? {
        let detail = format!("{} jobs wait, as many as AFTERACK_QUEUE allows", config.queue);
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(problem.with(header::RETRY_AFTER, HeaderValue::from_static(FULL)));
    }
    match store.put(id, &input)? {
        Put::New => Ok((id, true)),
        Put::Known(known) => Ok((known, false)),
        Put::Conflict => {
            let detail = "Idempotency-Key: another request has used this key";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
        }
    }
}

/// The digest of the request's idempotency key, which is its worker's own.
fn key(request: &Request<Bytes>, worker: &str) -> Result<Option<String>, String> {
    let mut values = request.headers().get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("Idempotency-Key: there are several".into());
    }
    match value.as_bytes().len() {
        0 => Err("Idempotency-Key: it is empty".into()),
        length if length > KEY => Err(format!("Idempotency-Key: it is {length} bytes; {KEY} are allowed")),
        _ => Ok(Some(digest(&[worker.as_bytes(), value.as_bytes()]))),
    }
}

/// What two requests have in common that are the same.
fn digest_of(input: &Input) -> String {
    let content_type = input.content_type.as_deref().unwrap_or_default();
    digest(&[content_type.as_bytes(), input.notify.join(" ").as_bytes(), &input.body])
}

fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
