//! Routes beside the service.

use afterack::jobs::{Input, submit};
use afterack::{Ack, BoxError, Bytes, Reply, Request, StatusCode};

pub async fn routes(request: Request<Bytes>, reply: Reply) -> Result<(), BoxError> {
    let path = request.uri().path().to_owned();
    let text = str::from_utf8(request.body())?;
    let ack = match path.as_str() {
        // An ack of its own, at once.
        "/slack" => match submit("steps", Input::new("application/json", text)).record() {
            Ok(job) => Ack::json(serde_json::json!({ "text": format!("On it: {}", job.id()) }).to_string()),
            Err(problem) => problem.into(),
        },
        // A browser goes on to the status.
        "/form" => match submit("form", Input::new("application/x-www-form-urlencoded", text)).record() {
            Ok(job) => Ack::empty().status(StatusCode::SEE_OTHER)?.header("location", job.path())?,
            Err(problem) => problem.into(),
        },
        // A delivery that comes again is the same job.
        "/hook" => {
            let delivery =
                request.headers().get("x-delivery").and_then(|id| id.to_str().ok()).unwrap_or_default();
            match submit("steps", Input::new("application/json", text)).key(delivery).record() {
                Ok(job) => Ack::json(
                    serde_json::json!({ "id": job.id().to_string(), "new": job.is_new() }).to_string(),
                ),
                Err(problem) => problem.into(),
            }
        }
        "/unknown-worker" => match submit("nobody", "").record() {
            Ok(_) => Ack::empty(),
            Err(problem) => problem.into(),
        },
        "/mail" => {
            match submit("steps", Input::new("application/json", text)).notify("mailto:a@b.org").record() {
                Ok(_) => Ack::empty(),
                Err(problem) => problem.into(),
            }
        }
        path => Ack::text(format!("the routes' own: {path}")).status(StatusCode::OK)?,
    };
    reply.finish(ack).await;
    Ok(())
}
