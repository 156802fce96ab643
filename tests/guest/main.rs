//! The component under test: a module per behaviour, chosen by the request's path.
//!
//! A continuation shows that it ran by an *effect*, a request to the test's own recorder, whose
//! address is in `EFFECTS`. Every test sends a key of its own, so that tests can share a host.

mod answers;
mod broken_acks;
mod cleanups;
mod computes;
mod failures;
mod opens;
mod uploads;
mod waits;

use std::env;
use std::fmt::Display;
use std::time::Duration;

use afterack::{Ack, Bytes, Delivery, Problem, Reply, Request, StatusCode};
use wstd::http::{Body, Client};

/// What a behaviour may fail with.
type Result = anyhow::Result<()>;

// Limits that tests can reach with a small body and soon.
afterack::export!(
    handler,
    limit = 256 * 1024,
    idle = Duration::from_secs(2),
    patience = uploads::patience,
    early = uploads::early,
);

async fn handler(request: Request<Bytes>, reply: Reply) -> Result {
    match request.uri().path() {
        "/echo" => answers::echo(request, reply).await,
        "/text" => answers::text(request, reply).await,
        "/long-text" => answers::long_text(request, reply).await,
        "/bytes" => answers::bytes(request, reply).await,
        "/stream" => answers::stream(request, reply).await,
        "/status" => answers::status(request, reply).await,
        "/header" => answers::header(request, reply).await,
        "/prints" => answers::prints(request, reply).await,
        "/short-stream" => broken_acks::short_stream(request, reply).await,
        "/long-stream" => broken_acks::long_stream(request, reply).await,
        "/empty-stream" => broken_acks::empty_stream(request, reply).await,
        "/failing-stream" => broken_acks::failing_stream(request, reply).await,
        "/cleanups" => cleanups::cleanups(request, reply).await,
        "/computes" => computes::computes(request, reply).await,
        "/slices" => computes::slices(request, reply).await,
        "/fails-before" => failures::fails_before(request, reply).await,
        "/fails-after" => failures::fails_after(request, reply).await,
        "/panics-before" => failures::panics_before(request, reply).await,
        "/panics-after" => failures::panics_after(request, reply).await,
        "/open-until-gone" => opens::until_gone(request, reply).await,
        "/open-sized" => opens::sized(request, reply).await,
        "/drops" => failures::drops(request, reply).await,
        "/sleeps" => waits::sleeps(request, reply).await,
        "/sleeps-first" => waits::sleeps_first(request, reply).await,
        path => {
            let detail = format!("there is no behaviour `{path}`");
            reply.finish(Problem::new(StatusCode::NOT_FOUND, detail).into()).await;
            Ok(())
        }
    }
}

/// The value of a query parameter, empty if it is not there.
fn query(request: &Request<Bytes>, name: &str) -> String {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    let value = pairs.filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name);
    value.map(|pair| pair.1.to_owned()).unwrap_or_default()
}

fn number(request: &Request<Bytes>, name: &str) -> u64 {
    query(request, name).parse().unwrap_or_default()
}

/// Tells the recorder, under this request's key, that something happened.
async fn effect(request: &Request<Bytes>, what: impl Display) -> Result {
    effect_for(&query(request, "key"), what).await
}

async fn effect_for(key: &str, what: impl Display) -> Result {
    let recorder = env::var("EFFECTS")?;
    let post = Request::post(format!("{recorder}/{key}")).body(Body::from(what.to_string()))?;
    Client::new().send(post).await?;
    Ok(())
}

/// How an ack ended, in a word, or in the error's own.
fn outcome(delivery: Delivery) -> String {
    match delivery {
        Delivery::Delivered => "delivered".into(),
        Delivery::ClientGone => "client gone".into(),
        Delivery::Failed(error) => error.to_string(),
    }
}

/// Answers, and records how the ack ended as the first effect after it.
async fn finish(request: &Request<Bytes>, reply: Reply, ack: Ack) -> Result {
    let delivery = reply.finish(ack).await;
    effect(request, outcome(delivery)).await
}
