//! Clean-ups: after the continuation, in order, also when it fails.

use afterack::{Ack, Bytes, Reply, Request};

use crate::{Result, effect, effect_for, query};

pub async fn cleanups(request: Request<Bytes>, reply: Reply) -> Result {
    for cleanup in ["first clean-up", "second clean-up"] {
        let key = query(&request, "key");
        reply.defer(async move {
            if let Err(error) = effect_for(&key, cleanup).await {
                eprintln!("{error}");
            }
        });
    }
    reply.finish(Ack::text("ok")).await;
    effect(&request, "continuation").await?;
    Err(anyhow::anyhow!("the continuation failed"))
}
