//! A Slack slash command. Slack waits 3 s for an answer, so it hears at once that the work has begun; what comes
//! of that goes to the command's `response_url`, whatever happens to the host meanwhile.
//!
//! ```sh
//! body='text=eu-west&response_url=http://127.0.0.1:9000/slack'; time=$(date +%s)
//! sign=$(printf 'v0:%s:%s' "$time" "$body" | openssl dgst -sha256 -hmac secret | sed 's/.* //')
//! curl -si http://127.0.0.1:8080/slack -d "$body" \
//!     -H "X-Slack-Request-Timestamp: $time" -H "X-Slack-Signature: v0=$sign"
//! ```

use std::env;
use std::time::{Duration, SystemTime};

use afterack::jobs::{Failure, Input, Job, Output, Service, Worker, submit};
use afterack::{Ack, BoxError, Bytes, Problem, Reply, Request, StatusCode};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;
use wstd::http::{Body, Client};

afterack::jobs!(Service::new().worker(Worker::new("report", report)).routes(slack));

/// What Slack sends, as far as it is needed here.
#[derive(Deserialize)]
struct Command {
    text: String,
    response_url: String,
}

async fn slack(request: Request<Bytes>, reply: Reply) -> Result<(), BoxError> {
    let ack = match accept(&request) {
        Ok(words) => Ack::json(json!({ "text": words }).to_string()).status(StatusCode::OK)?,
        Err(problem) => problem.into(),
    };
    reply.finish(ack).await;
    Ok(())
}

/// Records the command: what its user hears.
fn accept(request: &Request<Bytes>) -> Result<String, Problem> {
    if !is_slacks(request) {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "invalid X-Slack-Signature"));
    }
    let command = Input::new("application/x-www-form-urlencoded", request.body().to_vec());
    let job = submit("report", command).record()?;
    Ok(format!("On it: {}", job.id()))
}

/// Whether Slack has signed this, in the last five minutes (<https://api.slack.com/authentication/verifying-requests-from-slack>).
fn is_slacks(request: &Request<Bytes>) -> bool {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let time = header("x-slack-request-timestamp");
    let secret = env::var("SLACK_SIGNING_SECRET").unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let is_recent = time.parse().is_ok_and(|time: u64| now.abs_diff(time) < 300);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
    mac.update(format!("v0:{time}:").as_bytes());
    mac.update(request.body());
    let signature = header("x-slack-signature").strip_prefix("v0=").and_then(|hex| hex::decode(hex).ok());
    !secret.is_empty() && is_recent && signature.is_some_and(|signature| mac.verify_slice(&signature).is_ok())
}

async fn report(job: Job) -> Result<Output, Failure> {
    let command: Command = job.form()?;
    let report = job.step("report", || make_report(&command.text)).await?;
    job.step("answer", || answer(&command.response_url, &report)).await?;
    Ok(Output::text(report))
}

/// Takes longer than Slack would wait.
async fn make_report(region: &str) -> Result<String, Failure> {
    wstd::task::sleep(Duration::from_secs(4).into()).await;
    Ok(format!("All is well in {region}."))
}

async fn answer(url: &str, text: &str) -> Result<(), Failure> {
    let body = json!({ "response_type": "in_channel", "text": text }).to_string();
    let post = Request::post(url).header("content-type", "application/json").body(Body::from(body))?;
    match Client::new().send(post).await {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(Failure::retry(format!("Slack answered {}", response.status()))),
        Err(error) => Err(Failure::retry(format!("{error:#}"))),
    }
}
