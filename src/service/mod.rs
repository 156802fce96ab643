//! The job service: the component that this package builds.
//!
//! A request's way: read whole → routed → checked → answered → worked on. Everything that can be wrong
//! with it is found out before the answer, because nothing after it changes what the client saw.

mod config;
mod engine;
mod job;
mod notify;
mod worker;

use http::header::{ALLOW, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};

use crate::{Ack, BODY_LIMIT, Bytes, Method, Problem, Reply, Request, StatusCode};
use config::Config;
use job::Job;
use notify::Target;
use worker::Worker;

crate::export!(handle, limit = Config::read().map_or(BODY_LIMIT, |config| config.body));

/// What the client hears now, and the work that comes after it.
type Answer = Result<(Ack, Option<Work>), Problem>;

/// A job that was accepted, and whom to tell of its end.
struct Work {
    job: Job,
    worker: Worker,
    targets: Vec<Target>,
}

async fn handle(request: Request<Bytes>, reply: Reply) -> anyhow::Result<()> {
    let answer = Config::read()
        .inspect_err(|problem| eprintln!("afterack: {}", problem.detail()))
        .and_then(|config| Ok((route(&request, &config)?, config)));
    match answer {
        Ok(((ack, work), config)) => {
            reply.finish(ack).await;
            if let Some(work) = work {
                engine::run(work.job, &work.worker, &work.targets, &config).await;
            }
        }
        Err(problem) => drop(reply.finish(problem.into()).await),
    }
    Ok(())
}

fn route(request: &Request<Bytes>, config: &Config) -> Answer {
    let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    match (request.method(), path.as_slice()) {
        (&Method::POST, ["jobs", worker]) => accept(request, worker, config),
        (_, ["jobs", _]) => Err(not_allowed(request, "POST")),
        (&Method::GET | &Method::HEAD, ["healthz"]) => health(),
        (_, ["healthz"]) => Err(not_allowed(request, "GET, HEAD")),
        _ => {
            let detail = format!("there is nothing at `{}`", request.uri().path());
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
    }
}

/// `POST /jobs/{worker}`: 202 for a job that this invocation goes on to run.
fn accept(request: &Request<Bytes>, worker: &str, config: &Config) -> Answer {
    authorize(request, config)?;
    let worker = Worker::find(worker)?;
    let targets = notify::targets(request.headers(), config)?;
    let job = Job::new(request.body().clone());
    worker.check(&job.input).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
    let body = serde_json::json!({ "id": job.id, "state": job.state });
    Ok((json(StatusCode::ACCEPTED, body.to_string())?, Some(Work { job, worker, targets })))
}

/// `GET /healthz`: 200 as long as requests are answered and the settings are right.
fn health() -> Answer {
    Ok((json(StatusCode::OK, r#"{"status":"ok"}"#.into())?, None))
}

/// JSON that no cache keeps and no proxy changes.
fn json(status: StatusCode, body: String) -> Result<Ack, Problem> {
    Ack::json(body)
        .status(status)
        .and_then(|ack| ack.header("cache-control", "no-store, no-transform"))
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn not_allowed(request: &Request<Bytes>, methods: &'static str) -> Problem {
    let detail = format!("`{}` takes {methods}, not {}", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).header(ALLOW, HeaderValue::from_static(methods))
}

/// Lets through who has the token, if there is one ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)).
fn authorize(request: &Request<Bytes>, config: &Config) -> Result<(), Problem> {
    let Some(token) = &config.token else { return Ok(()) };
    let given = request.headers().get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let is_bearer = given.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    if is_bearer && is_equal(given[7..].trim_ascii(), token.as_bytes()) {
        return Ok(());
    }
    let detail = "this needs `Authorization: Bearer …` with the token that AFTERACK_TOKEN holds";
    let challenge = HeaderValue::from_static("Bearer realm=\"afterack\"");
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail).header(WWW_AUTHENTICATE, challenge))
}

/// Compares in a time that does not tell where two secrets differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}
