//! A GitHub webhook. GitHub waits 10 s for an answer and sends nothing again by itself, so a delivery is recorded
//! before it is acknowledged: once, however often somebody presses *Redeliver*.
//!
//! ```sh
//! body='{"repository":{"full_name":"octo/repo"},"ref":"refs/heads/main"}'
//! sign=$(printf %s "$body" | openssl dgst -sha256 -hmac secret | sed 's/.* //')
//! curl -si http://127.0.0.1:8080/github -d "$body" -H 'Content-Type: application/json' \
//!     -H 'X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958' -H "X-Hub-Signature-256: sha256=$sign"
//! ```

use std::env;
use std::time::Duration;

use afterack::jobs::{Failure, Input, Job, Output, Service, Worker, submit};
use afterack::{Ack, BoxError, Bytes, Problem, Reply, Request, StatusCode};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;

afterack::jobs!(Service::new().worker(Worker::new("push", push)).routes(github));

/// What GitHub sends, as far as it is needed here.
#[derive(Deserialize)]
struct Push {
    repository: Repository,
    r#ref: String,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

async fn github(request: Request<Bytes>, reply: Reply) -> Result<(), BoxError> {
    let ack = match accept(&request) {
        Ok(path) => Ack::empty().header("location", path)?,
        Err(problem) => problem.into(),
    };
    reply.finish(ack).await;
    Ok(())
}

/// Records a delivery: where its job is.
fn accept(request: &Request<Bytes>) -> Result<String, Problem> {
    if !is_githubs(request) {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "invalid X-Hub-Signature-256"));
    }
    let event = Input::new("application/json", request.body().to_vec());
    Ok(submit("push", event).key(header(request, "x-github-delivery")).record()?.path())
}

/// Whether GitHub has signed this (<https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>).
fn is_githubs(request: &Request<Bytes>) -> bool {
    let secret = env::var("GITHUB_SECRET").unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
    mac.update(request.body());
    let signature =
        header(request, "x-hub-signature-256").strip_prefix("sha256=").and_then(|hex| hex::decode(hex).ok());
    !secret.is_empty() && signature.is_some_and(|signature| mac.verify_slice(&signature).is_ok())
}

fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn push(job: Job) -> Result<Output, Failure> {
    let push: Push = job.json()?;
    let (name, branch) = (&push.repository.full_name, &push.r#ref);
    job.step("build", || build(name, branch)).await?;
    Ok(Output::text(format!("{name} is built at {branch}")))
}

/// Takes longer than GitHub would wait.
async fn build(_name: &str, _branch: &str) -> Result<(), Failure> {
    wstd::task::sleep(Duration::from_secs(2).into()).await;
    Ok(())
}
