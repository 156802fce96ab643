//! Handlers that fail, before the answer and after it.

use afterack::{Ack, Bytes, Reply, Request};

use crate::{Result, effect};

pub async fn fails_before(_request: Request<Bytes>, _reply: Reply) -> Result {
    Err(anyhow::anyhow!("a secret that only the log should see"))
}

pub async fn fails_after(request: Request<Bytes>, reply: Reply) -> Result {
    reply.finish(Ack::text("ok")).await;
    effect(&request, "about to fail").await?;
    Err(anyhow::anyhow!("too late for the client"))
}

pub async fn panics_before(_request: Request<Bytes>, reply: Reply) -> Result {
    let _unanswered = reply;
    panic!("a panic before the answer")
}

pub async fn panics_after(request: Request<Bytes>, reply: Reply) -> Result {
    reply.finish(Ack::text("ok")).await;
    effect(&request, "about to panic").await?;
    panic!("a panic after the answer")
}

/// Drops the reply, and lives on.
pub async fn drops(request: Request<Bytes>, reply: Reply) -> Result {
    drop(reply);
    effect(&request, "alive").await
}
