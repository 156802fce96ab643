//! The job service: the component that this package builds.
//!
//! A request's way: read whole → routed → checked → recorded → answered → worked on. Everything that can
//! be wrong with it is found out before the answer, because nothing after it changes what the client saw.

mod accept;
mod config;
mod cors;
mod engine;
mod events;
mod fault;
mod host;
mod job;
mod metrics;
mod notify;
mod prefer;
mod status;
mod store;
mod time;
mod worker;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use wstd::runtime::{Task, spawn};
use wstd::task::sleep;
use wstd::time::Instant;

use crate::{Ack, AckError, BODY_LIMIT, Bytes, Method, Problem, Reply, Request, StatusCode};
use config::Config;
use engine::{Cancelled, Engine, Retried};
use host::{Host, Real};
use job::{Id, State};
use prefer::Prefer;
use store::{Dir, Found, Store};

crate::export!(handle, limit = Config::read().map_or(BODY_LIMIT, |config| config.body));

/// How often a request that waits for the end of a job looks for it.
const LOOK: Duration = Duration::from_millis(50);

/// How soon a client may look for news of the job it has posted, in seconds.
const NEWS: &str = "1";

/// What the client hears.
enum Answer {
    Ack(Ack),
    /// The events of this job after the one with this number.
    Events(Id, Option<u64>),
}

async fn handle(request: Request<Bytes>, reply: Reply) -> anyhow::Result<()> {
    let config = match Config::read() {
        Ok(config) => Rc::new(config),
        Err(problem) => {
            eprintln!("afterack: {}", problem.detail());
            reply.finish(problem.into()).await;
            return Ok(());
        }
    };
    let service = Service::new(config.clone());
    let answer = match cors::preflight(&request, &config) {
        Some(ack) => Ok(Answer::Ack(ack)),
        None => service.answer(&request).await,
    };
    let mark = |ack| cors::mark(ack, request.headers(), &config);
    match answer {
        Ok(Answer::Ack(ack)) => drop(reply.finish(mark(ack)).await),
        Ok(Answer::Events(id, heard)) => {
            service.begin();
            events::send(reply.open(mark(event_stream()?), None)?, &*service.store, id, heard).await;
        }
        Err(problem) => drop(reply.finish(mark(problem.into())).await),
    }
    fault::point("answered");
    service.carry_on().await;
    Ok(())
}

/// One request's view of the service.
struct Service {
    config: Rc<Config>,
    store: Rc<dyn Store>,
    host: Rc<dyn Host>,
    /// The job that this request has brought.
    own: Cell<Option<Id>>,
    /// What comes after the answer, if it had to begin before.
    work: Cell<Option<Task<()>>>,
}

impl Service {
    fn new(config: Rc<Config>) -> Service {
        let host = Rc::new(Real::new());
        let store = Rc::new(Dir::mounted(&config.store, host.clone()));
        Service { config, store, host, own: Cell::default(), work: Cell::default() }
    }

    /// Begins what else comes after the answer: an answer that waits for a job's end must not wait for
    /// somebody else to run it.
    fn begin(&self) {
        let engine = Rc::new(self.engine());
        self.work.set(Some(spawn(engine.carry_on(self.own.take()))));
    }

    /// What comes after the answer, whatever that was.
    async fn carry_on(&self) {
        match self.work.take() {
            Some(work) => work.await,
            None => Rc::new(self.engine()).carry_on(self.own.take()).await,
        }
    }

    fn engine(&self) -> Engine {
        Engine::new(self.store.clone(), self.config.clone(), self.host.clone())
    }

    async fn answer(&self, request: &Request<Bytes>) -> Result<Answer, Problem> {
        let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
        if !matches!(path.as_slice(), ["healthz"]) {
            authorize(request, &self.config)?;
        }
        let get = [Method::GET, Method::HEAD].contains(request.method());
        let answer = match (request.method(), path.as_slice()) {
            (_, ["healthz"]) if get => self.health(),
            (_, ["healthz"]) => Err(not_allowed(request, "GET, HEAD")),
            (_, ["metrics"]) if get => self.metrics(),
            (_, ["metrics"]) => Err(not_allowed(request, "GET, HEAD")),
            (&Method::POST, ["drain"]) => self.drain(),
            (_, ["drain"]) => Err(not_allowed(request, "POST")),
            (&Method::POST, ["jobs", worker]) => self.accept(request, worker).await,
            (&Method::DELETE, ["jobs", id]) => self.cancel(id),
            (_, ["jobs", id]) if get => self.status(request, id).await,
            (_, ["jobs", _]) => Err(not_allowed(request, "GET, HEAD, POST, DELETE")),
            (_, ["jobs", id, "output"]) if get => self.output(id),
            (_, ["jobs", _, "output"]) => Err(not_allowed(request, "GET, HEAD")),
            (&Method::GET, ["jobs", id, "events"]) => return self.events(request, id),
            (_, ["jobs", _, "events"]) => Err(not_allowed(request, "GET")),
            (&Method::POST, ["jobs", id, "retry"]) => self.retry(id),
            (_, ["jobs", _, "retry"]) => Err(not_allowed(request, "POST")),
            _ => {
                let detail = format!("there is nothing at `{}`", request.uri().path());
                Err(Problem::new(StatusCode::NOT_FOUND, detail))
            }
        };
        answer.map(Answer::Ack)
    }

    /// `GET /healthz`: 200 as long as requests are answered, the settings are right and the store is
    /// there.
    fn health(&self) -> Result<Ack, Problem> {
        self.store.open()?;
        json(StatusCode::OK, serde_json::json!({ "status": "ok" }))
    }

    /// `GET /metrics`.
    fn metrics(&self) -> Result<Ack, Problem> {
        self.store.open()?;
        let counts = self.store.counts()?;
        Ok(Ack::text(metrics::text(&counts))
            .status(StatusCode::OK)?
            .header(CONTENT_TYPE, metrics::CONTENT_TYPE)?)
    }

    /// `POST /drain`: what every request does after its answer is all that this one does.
    fn drain(&self) -> Result<Ack, Problem> {
        json(StatusCode::ACCEPTED, serde_json::json!({ "status": "draining" }))
    }

    /// `POST /jobs/{worker}`: 202 for a job that is recorded.
    async fn accept(&self, request: &Request<Bytes>, worker: &str) -> Result<Ack, Problem> {
        self.store.open()?;
        let prefer = Prefer::read(request.headers());
        let (id, is_new) = accept::accept(request, worker, &*self.store, &self.config, &*self.host)?;
        if is_new {
            self.own.set(Some(id));
        }
        let mut state = State::Queued;
        if prefer.wait.is_some() {
            self.begin();
            if let Some(found) = self.wait(id, &prefer).await? {
                state = engine::state_of(&found);
            }
        }
        let ack = json(StatusCode::ACCEPTED, status::brief(id, state))?
            .header(LOCATION, status::url(id))?
            .header(RETRY_AFTER, NEWS)?;
        applied(ack, &prefer)
    }

    /// `GET /jobs/{id}`: how the job stands, now or when it has ended.
    async fn status(&self, request: &Request<Bytes>, id: &str) -> Result<Ack, Problem> {
        let prefer = Prefer::read(request.headers());
        let mut found = self.find(id)?;
        if prefer.wait.is_some() && !status::is_end(engine::state_of(&found)) {
            self.begin();
            found = self.wait(found.job.id, &prefer).await?.ok_or_else(|| unknown(id))?;
        }
        applied(json(StatusCode::OK, status::full(&found))?, &prefer)
    }

    /// The job as soon as it has ended, or as it is when the client will not wait any longer.
    async fn wait(&self, id: Id, prefer: &Prefer) -> Result<Option<Found>, Problem> {
        let begun = Instant::now();
        let wait = prefer.wait().unwrap_or_default();
        loop {
            let found = self.store.find(id)?;
            let is_over = found.as_ref().is_none_or(|found| status::is_end(engine::state_of(found)));
            if is_over || Duration::from(begun.elapsed()) >= wait {
                return Ok(found);
            }
            sleep(LOOK.into()).await;
        }
    }

    /// `GET /jobs/{id}/output`: what the job has made, as it is.
    fn output(&self, id: &str) -> Result<Ack, Problem> {
        let found = self.find(id)?;
        match found.job.run.end {
            Some(job::End { state: State::Succeeded, content_type, .. }) => {
                let output = self.store.output(found.job.id)?.ok_or_else(|| unknown(id))?;
                Ok(Ack::binary(output)
                    .status(StatusCode::OK)?
                    .header(CONTENT_TYPE, content_type.unwrap_or_default())?
                    .header(CACHE_CONTROL, "no-store, no-transform")?
                    // It may come from anywhere: no browser should guess what it is.
                    .header("x-content-type-options", "nosniff")?)
            }
            _ => {
                let state = engine::state_of(&found).name();
                let detail = format!("job {id} has no output: it is {state}");
                Err(Problem::new(StatusCode::NOT_FOUND, detail))
            }
        }
    }

    /// `GET /jobs/{id}/events`; 204 for a client that has heard the last one, so that it stays away.
    fn events(&self, request: &Request<Bytes>, id: &str) -> Result<Answer, Problem> {
        let job = self.find(id)?.job;
        let heard = request.headers().get("last-event-id");
        let heard = heard.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if events::is_heard(&job, heard) {
            return Ok(Answer::Ack(Ack::empty().status(StatusCode::NO_CONTENT)?));
        }
        Ok(Answer::Events(job.id, heard))
    }

    /// `DELETE /jobs/{id}`: cancels a job that has not ended.
    fn cancel(&self, id: &str) -> Result<Ack, Problem> {
        let parsed = Id::parse(id).ok_or_else(|| unknown(id))?;
        match self.engine().cancel(parsed)? {
            Cancelled::Yes(state) => json(StatusCode::ACCEPTED, status::brief(id, state)),
            Cancelled::TooLate(state) => {
                Err(conflict(id, state, "only a job that has not ended is cancelled"))
            }
            Cancelled::Unknown => Err(unknown(id)),
        }
    }

    /// `POST /jobs/{id}/retry`: queues a job again that has failed or was cancelled.
    fn retry(&self, id: &str) -> Result<Ack, Problem> {
        let parsed = Id::parse(id).ok_or_else(|| unknown(id))?;
        match self.engine().retry(parsed)? {
            Retried::Yes => json(StatusCode::ACCEPTED, status::brief(id, State::Queued)),
            Retried::No(state) => Err(conflict(id, state, "only a failed or cancelled job is tried again")),
            Retried::Unknown => Err(unknown(id)),
        }
    }

    fn find(&self, id: &str) -> Result<Found, Problem> {
        let parsed = Id::parse(id).ok_or_else(|| unknown(id))?;
        self.store.find(parsed)?.ok_or_else(|| unknown(id))
    }
}

fn unknown(id: &str) -> Problem {
    let id: String = id.chars().take(100).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("there is no job `{id}`"))
}

fn conflict(id: &str, state: State, rule: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, format!("job {id} is {}; {rule}", state.name()))
}

/// JSON that no cache keeps and no proxy changes.
fn json(status: StatusCode, body: serde_json::Value) -> Result<Ack, Problem> {
    Ok(Ack::json(body.to_string()).status(status)?.header(CACHE_CONTROL, "no-store, no-transform")?)
}

/// The head of a stream of events.
fn event_stream() -> Result<Ack, AckError> {
    Ack::empty()
        .status(StatusCode::OK)?
        .header(CONTENT_TYPE, "text/event-stream")?
        .header(CACHE_CONTROL, "no-store, no-transform")
}

fn applied(ack: Ack, prefer: &Prefer) -> Result<Ack, Problem> {
    match prefer.applied() {
        Some(applied) => Ok(ack.header("preference-applied", applied)?),
        None => Ok(ack),
    }
}

/// An ack of our own that cannot be built is a mistake of ours.
impl From<AckError> for Problem {
    fn from(error: AckError) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

fn not_allowed(request: &Request<Bytes>, methods: &'static str) -> Problem {
    let detail = format!("`{}` takes {methods}, not {}", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).with(ALLOW, HeaderValue::from_static(methods))
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
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, challenge))
}

/// Compares in a time that does not tell where two secrets differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}
