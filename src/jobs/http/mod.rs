//! The HTTP contract: what each request is answered, and what begins with it.
//!
//! A request's way: read whole → routed → checked → recorded → answered → worked on. Everything that can
//! be wrong with it is found out before the answer, because nothing after it changes what the client saw.

mod accept;
mod answers;
pub mod cors;
pub mod fields;
pub mod links;
mod list;
mod metrics;
mod prefer;
mod query;
pub mod status;
mod ticket;
mod waiting;

use std::cell::Cell;
use std::rc::Rc;

use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use wstd::runtime::{Task, spawn};

use super::config::Config;
use super::engine::{Cancelled, Engine, Purged, Retried};
use super::fault;
use super::host::{Host, Real};
use super::job::{Id, State};
use super::store::{self, Found, Store};
use super::submit::submit_to;
use super::worker::Workers;
use crate::jobs;
use crate::{Ack, Bytes, HeaderMap, Method, Problem, Reply, Request, StatusCode, log};
use answers::{conflict, json, no_job, no_resource, not_allowed};
use links::Links;
use prefer::Prefer;
use query::Query;
use waiting::Admitted;

/// How soon a client may look for news of the job it has posted, in seconds.
const NEWS: &str = "1";

/// What the client hears.
enum Answer {
    Now(Ack),
    /// How this job has ended, or stands in the end, after this head.
    Ended(Id, Ack, Prefer, Admitted),
    /// The same for the one who has posted it.
    Posted(Id, Ack, Prefer, Admitted),
    /// The events of this job but for the one with this number.
    Events(Id, Option<u64>),
}

/// Answers a request, and then works on what is due.
pub async fn handle(service: &jobs::Service, mut request: Request<Bytes>, reply: Reply) {
    let wrong = |detail: &String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail);
    let config = match (Config::get(), service.mistake.as_ref().map(wrong)) {
        (Ok(config), None) => config,
        (Err(problem), _) | (_, Some(problem)) => {
            log::error(problem.detail());
            reply.answer(problem.into()).await;
            return;
        }
    };
    let visit = Visit::new(config.clone(), service.workers.clone(), request.headers());
    submit_to(&visit.engine);
    match &service.routes {
        Some(routes) if !is_ours(request.uri().path()) => {
            if let Err(error) = routes(request, reply).await {
                log::error(format_args!("handler failed: {error}"));
            }
        }
        _ => {
            let answer = match cors::preflight(&request, &config) {
                Some(ack) => Ok(Answer::Now(ack)),
                None => visit.answer(&mut request),
            };
            if let Err(problem) = visit.send(answer, &request, reply).await {
                log::error(problem.detail());
            }
        }
    }
    fault::point("answered");
    visit.carry_on().await;
}

/// Whether a request for this path is for the service, and not for routes beside it.
fn is_ours(path: &str) -> bool {
    ["jobs", "drain", "healthz", "metrics"].contains(&path.split('/').nth(1).unwrap_or_default())
}

/// Whether one more upload may be slow: it holds an instance for as long.
pub fn patience() -> Option<Admitted> {
    let config = Config::get().ok()?;
    let host = Rc::new(Real::new());
    Admitted::new(&store::of(&config, host.clone()), &*host, &config)
}

/// One request's view of the service.
struct Visit {
    config: Rc<Config>,
    store: Rc<dyn Store>,
    host: Rc<dyn Host>,
    links: Links,
    engine: Rc<Engine>,
    /// What comes after the answer, if it had to begin before.
    work: Cell<Option<Task<()>>>,
}

impl Visit {
    fn new(config: Rc<Config>, workers: Rc<Workers>, headers: &HeaderMap) -> Visit {
        let host = Rc::new(Real::new());
        let store = store::of(&config, host.clone());
        let links = Links::of(headers, &config);
        let engine = Rc::new(Engine::new(store.clone(), config.clone(), workers, host.clone()));
        Visit { config, store, host, links, engine, work: Cell::default() }
    }

    /// What the request asks for.
    fn answer(&self, request: &mut Request<Bytes>) -> Result<Answer, Problem> {
        let decoded: Option<Vec<String>> =
            request.uri().path().split('/').skip(1).map(fields::percent_decoded).collect();
        let decoded = decoded.ok_or_else(|| no_resource(request.uri().path()))?;
        let path: Vec<&str> = decoded.iter().map(String::as_str).collect();
        // A ticket opens the events of one job only.
        let has_ticket = matches!(path.as_slice(), ["jobs", _, "events"]) && ticket_of(request).is_some();
        if !matches!(path.as_slice(), ["healthz"]) && !has_ticket {
            answers::authorize(request, &self.config)?;
        }
        let get = [Method::GET, Method::HEAD].contains(request.method());
        let answer = match (request.method(), path.as_slice()) {
            (_, ["healthz"]) if get => self.health(),
            (_, ["healthz"]) => Err(not_allowed(request, "GET, HEAD")),
            (_, ["metrics"]) if get => self.metrics(),
            (_, ["metrics"]) => Err(not_allowed(request, "GET, HEAD")),
            (&Method::POST, ["drain"]) => self.drain(request),
            (_, ["drain"]) => Err(not_allowed(request, "POST")),
            (_, ["jobs"]) if get => list::answer(request, &*self.store, &self.links),
            (_, ["jobs"]) => Err(not_allowed(request, "GET, HEAD")),
            (&Method::POST, ["jobs", "retry"]) => self.retry_all(request),
            (&Method::POST, ["jobs", worker]) => return self.accept(request, worker),
            (&Method::DELETE, ["jobs", id]) => self.delete(request, id),
            (_, ["jobs", id]) if get => return self.status(request, id),
            (_, ["jobs", _]) => Err(not_allowed(request, "GET, HEAD, POST, DELETE")),
            (_, ["jobs", id, "output"]) if get => self.output(id),
            (_, ["jobs", _, "output"]) => Err(not_allowed(request, "GET, HEAD")),
            (_, ["jobs", id, "events"]) if get => return self.events(request, id),
            (_, ["jobs", _, "events"]) => Err(not_allowed(request, "GET, HEAD")),
            (&Method::POST, ["jobs", id, "retry"]) => self.retry(id),
            (_, ["jobs", _, "retry"]) => Err(not_allowed(request, "POST")),
            (&Method::POST, ["jobs", id, "ticket"]) => self.ticket(id),
            (_, ["jobs", _, "ticket"]) => Err(not_allowed(request, "POST")),
            _ => Err(no_resource(request.uri().path())),
        };
        answer.map(Answer::Now)
    }

    /// Sends the answer. One that waits comes with the work begun: it must not wait for somebody else to do
    /// that.
    async fn send(
        &self,
        answer: Result<Answer, Problem>,
        request: &Request<Bytes>,
        reply: Reply,
    ) -> Result<(), Problem> {
        let mark = |ack| cors::mark(ack, request.headers(), &self.config);
        match answer {
            // The continuation begins with a look at files, which is a turn for the host.
            Ok(Answer::Now(ack)) => drop(reply.answer(mark(ack)).await),
            Err(problem) => drop(reply.answer(mark(problem.into())).await),
            Ok(Answer::Ended(id, head, prefer, _admitted)) => {
                self.begin();
                let response = reply.open(mark(head), None)?;
                let body = |found: &Found| status::full(found, &self.links).to_string().into_bytes();
                waiting::answer(response, &*self.store, id, prefer, body).await;
            }
            Ok(Answer::Posted(id, head, prefer, _admitted)) => {
                self.begin();
                let length = waiting::longest_brief(id, &self.links);
                let response = reply.open(mark(head), Some(length as u64))?;
                let body =
                    |found: &Found| waiting::padded(&status::brief(id, found.state(), &self.links), length);
                waiting::answer(response, &*self.store, id, prefer, body).await;
            }
            Ok(Answer::Events(id, heard)) => {
                self.begin();
                let response = reply.open(mark(answers::event_stream()?), None)?;
                if request.method() == Method::HEAD {
                    response.finish();
                } else {
                    let admitted = Admitted::new(&self.store, &*self.host, &self.config);
                    waiting::send_events(response, &*self.store, (id, heard), &self.links, admitted).await;
                }
            }
        }
        Ok(())
    }

    /// Begins what else comes after the answer.
    fn begin(&self) {
        self.work.set(Some(spawn(self.engine.clone().carry_on())));
    }

    /// What comes after the answer, whatever that was.
    async fn carry_on(&self) {
        match self.work.take() {
            Some(work) => work.await,
            None => self.engine.clone().carry_on().await,
        }
    }

    /// `GET /healthz`: 200 as long as requests are answered, the settings are right and jobs can be recorded.
    fn health(&self) -> Result<Ack, Problem> {
        self.store.open()?;
        json(StatusCode::OK, serde_json::json!({ "status": "ok" }))
    }

    /// `GET /metrics`.
    fn metrics(&self) -> Result<Ack, Problem> {
        let counts = self.store.open().and_then(|()| self.store.counts())?;
        let ack = Ack::text(metrics::text(&counts)).status(StatusCode::OK)?;
        Ok(ack.header(CONTENT_TYPE, metrics::CONTENT_TYPE)?)
    }

    /// `POST /drain`: what every request does after its answer is all that this one does.
    fn drain(&self, request: &Request<Bytes>) -> Result<Ack, Problem> {
        self.engine.take_over(request.headers());
        json(StatusCode::ACCEPTED, serde_json::json!({ "status": "draining" }))
    }

    /// `POST /jobs/{worker}`: 202 for a job that is recorded.
    fn accept(&self, request: &mut Request<Bytes>, worker: &str) -> Result<Answer, Problem> {
        let (id, is_new) = accept::accept(request, worker, &self.engine)?;
        let mut state = State::Queued;
        if !is_new && let Some(found) = self.store.find(id)? {
            state = found.state();
        }
        let mut prefer = Prefer::read(request.headers());
        let admitted = self.admit(&mut prefer, state.is_end());
        let ack = json(StatusCode::ACCEPTED, status::brief(id, state, &self.links))?;
        let ack = ack.header(LOCATION, self.links.job(id))?.header(RETRY_AFTER, NEWS)?;
        let ack = applied(ack, &prefer)?;
        Ok(match admitted {
            Some(admitted) => Answer::Posted(id, ack, prefer, admitted),
            None => Answer::Now(ack),
        })
    }

    /// `GET /jobs/{id}`: how the job stands, now or when it has ended.
    fn status(&self, request: &Request<Bytes>, id: &str) -> Result<Answer, Problem> {
        let found = self.find(id)?;
        let mut prefer = Prefer::read(request.headers());
        if request.method() == Method::HEAD {
            prefer.wait = None;
        }
        let admitted = self.admit(&mut prefer, found.is_over());
        let ack = json(StatusCode::OK, status::full(&found, &self.links))?;
        let ack = applied(ack, &prefer)?;
        Ok(match admitted {
            Some(admitted) => Answer::Ended(found.job.id, ack, prefer, admitted),
            None => Answer::Now(ack),
        })
    }

    /// The permission to wait, if the client would like that, there is something to wait for, and not too
    /// many others wait. Otherwise `wait` is not applied, as RFC 7240 allows.
    fn admit(&self, prefer: &mut Prefer, is_over: bool) -> Option<Admitted> {
        let wants = prefer.time().is_some();
        let admitted = (wants && !is_over).then(|| Admitted::new(&self.store, &*self.host, &self.config));
        let admitted = admitted.flatten();
        if wants && !is_over && admitted.is_none() {
            prefer.wait = None;
        }
        admitted
    }

    /// `GET /jobs/{id}/output`: what the job has made, as it is.
    fn output(&self, id: &str) -> Result<Ack, Problem> {
        let found = self.find(id)?;
        let state = found.state();
        let Found { job, .. } = found;
        match job.run.end {
            Some(end) if state == State::Succeeded => {
                let output = self.store.output(job.id)?.ok_or_else(|| no_job(id))?;
                answers::output(output, &end.content_type.unwrap_or_default())
            }
            _ => {
                let detail = format!("no output: job {id} is {} (expected succeeded)", state.name());
                Err(Problem::new(StatusCode::NOT_FOUND, detail))
            }
        }
    }

    /// `GET /jobs/{id}/events`; 204 for a client that has heard the last one, so that it stays away.
    fn events(&self, request: &Request<Bytes>, id: &str) -> Result<Answer, Problem> {
        if let (Some(ticket), Some(token)) = (ticket_of(request), &self.config.token)
            && answers::authorize(request, &self.config).is_err()
        {
            let id = Id::parse(id).ok_or_else(|| no_job(id))?;
            if !ticket::is_valid(&ticket, token, id, self.host.wall()) {
                return Err(answers::unauthorized(
                    "invalid or expired ticket (expected one of the last ten minutes)",
                ));
            }
        }
        let found = self.find(id)?;
        let heard = request.headers().get("last-event-id");
        let heard = heard.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if waiting::is_heard(&found, heard) {
            return Ok(Answer::Now(Ack::empty().status(StatusCode::NO_CONTENT)?));
        }
        Ok(Answer::Events(found.job.id, heard))
    }

    /// `POST /jobs/{id}/ticket`: what opens the events of this job without a token, for ten minutes.
    fn ticket(&self, id: &str) -> Result<Ack, Problem> {
        let id = self.find(id)?.job.id;
        let events = format!("{}/events", self.links.job(id));
        let body = match &self.config.token {
            Some(token) => {
                let (ticket, expires) = ticket::issue(token, id, self.host.wall());
                let events = format!("{events}?ticket={ticket}");
                serde_json::json!({ "events": events, "ticket": ticket, "expires": expires.to_string() })
            }
            None => serde_json::json!({ "events": events, "ticket": null, "expires": null }),
        };
        json(StatusCode::OK, body)
    }

    /// `DELETE /jobs/{id}`: cancels a job that has not ended; with `?purge=true`, removes one that has.
    fn delete(&self, request: &Request<Bytes>, id: &str) -> Result<Ack, Problem> {
        let purges = Query::read(request, &["purge"])?.is_true("purge")?;
        let parsed = Id::parse(id).ok_or_else(|| no_job(id))?;
        if purges {
            return match self.engine.purge(parsed)? {
                Purged::Yes => Ok(Ack::empty().status(StatusCode::NO_CONTENT)?),
                Purged::No(state) => Err(conflict(parsed, state, "succeeded, failed or cancelled")),
                Purged::Unknown => Err(no_job(id)),
            };
        }
        match self.engine.cancel(parsed)? {
            Cancelled::Yes(state) => json(StatusCode::ACCEPTED, status::brief(parsed, state, &self.links)),
            Cancelled::TooLate(state) => Err(conflict(parsed, state, "queued or running")),
            Cancelled::Unknown => Err(no_job(id)),
        }
    }

    /// `POST /jobs/{id}/retry`: queues a job again that has failed or was cancelled.
    fn retry(&self, id: &str) -> Result<Ack, Problem> {
        let parsed = Id::parse(id).ok_or_else(|| no_job(id))?;
        match self.engine.retry(parsed)? {
            Retried::Yes => json(StatusCode::ACCEPTED, status::brief(parsed, State::Queued, &self.links)),
            Retried::No(state) => Err(conflict(parsed, state, "failed or cancelled")),
            Retried::Unknown => Err(no_job(id)),
        }
    }

    /// `POST /jobs/retry?state=failed&worker=…`: queues all such jobs again.
    fn retry_all(&self, request: &Request<Bytes>) -> Result<Ack, Problem> {
        let wanted =
            Query::read(request, &["state", "worker"])?.wanted(&[State::Failed, State::Cancelled])?;
        if wanted.state.is_none() {
            return Err(query::bad("missing parameter: state (expected failed or cancelled)".into()));
        }
        json(StatusCode::ACCEPTED, serde_json::json!({ "retried": self.engine.retry_all(&wanted)? }))
    }

    fn find(&self, id: &str) -> Result<Found, Problem> {
        let parsed = Id::parse(id).ok_or_else(|| no_job(id))?;
        self.store.find(parsed)?.ok_or_else(|| no_job(id))
    }
}

/// The ticket in a request's query, if it has one.
fn ticket_of(request: &Request<Bytes>) -> Option<String> {
    let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    fields::percent_decoded(pairs.into_iter().find(|(name, _)| *name == "ticket")?.1)
}

fn applied(ack: Ack, prefer: &Prefer) -> Result<Ack, Problem> {
    match prefer.applied() {
        Some(applied) => Ok(ack.header("preference-applied", applied)?),
        None => Ok(ack),
    }
}
