//! Handlers that sleep.

use afterack::{Ack, Bytes, Reply, Request};
use wstd::task::sleep;
use wstd::time::Duration;

use crate::{Result, effect, finish, number};

/// Answers, sleeps for `ms`, and tells.
pub async fn sleeps(request: Request<Bytes>, reply: Reply) -> Result {
    reply.finish(Ack::text("ok")).await;
    sleep(Duration::from_millis(number(&request, "ms"))).await;
    effect(&request, "awake").await
}

/// Tells that it has begun, sleeps for `ms`, and only then answers.
pub async fn sleeps_first(request: Request<Bytes>, reply: Reply) -> Result {
    effect(&request, "begun").await?;
    sleep(Duration::from_millis(number(&request, "ms"))).await;
    finish(&request, reply, Ack::text("ok")).await
}
