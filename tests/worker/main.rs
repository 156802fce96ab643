//! The workers under test: a module per behaviour, each chosen by its name.
//!
//! A step shows that it ran by an *effect*, a request to the test's own recorder, whose address is in `EFFECTS`,
//! under the key that the job's input names.

mod bad;
mod routes;
mod steps;

use std::env;
use std::time::Duration;

use afterack::jobs::{Failure, Service, Worker};
use afterack::{Problem, Request, StatusCode};
use wstd::http::{Body, Client};

afterack::jobs!(
    Service::new()
        .worker(Worker::new("steps", steps::steps))
        .worker(Worker::new("pair", steps::pair))
        .worker(Worker::new("refunds", steps::refunds))
        .worker(Worker::new("changes", steps::changes))
        .worker(Worker::new("tells", steps::tells))
        .worker(Worker::new("counts", steps::counts))
        .worker(Worker::new("year", steps::year))
        .worker(Worker::new("form", steps::form))
        .worker(Worker::new("twice", bad::twice))
        .worker(Worker::new("large", bad::large))
        .worker(Worker::new("huge", bad::huge))
        .worker(Worker::new("traps", bad::traps))
        .worker(Worker::new("loops", bad::loops))
        .worker(Worker::new("hangs", bad::hangs).step(Duration::from_millis(500)).attempts(2))
        .worker(Worker::new("hangs-outside", bad::hangs_outside).step(Duration::from_millis(500)).attempts(2))
        .worker(Worker::new("picky", steps::steps).body(2000).attempts(1).check(|input| {
            match (input.content_type(), input.bytes().is_empty()) {
                (Some("application/json"), false) => {
                    input.json::<steps::Task>().map(drop).map_err(Problem::from)
                }
                (Some("application/json"), true) => {
                    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "there is nothing to do"))
                }
                _ => Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected application/json")),
            }
        }),)
        .routes(routes::routes)
);

/// Tells the recorder that something happened.
async fn effect(key: &str, what: &str) -> Result<(), Failure> {
    let recorder = env::var("EFFECTS")?;
    let post = Request::post(format!("{recorder}/{key}")).body(Body::from(what.to_owned()))?;
    match Client::new().send(post).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::retry(format!("{error:#}"))),
    }
}
