//! Responses that are written piece by piece.

use afterack::{Ack, Bytes, Reply, Request, StatusCode};
use wstd::task::sleep;
use wstd::time::{Duration, Instant};

use crate::{Result, effect, number};

/// Writes nothing, and asks every 50 ms for up to 10 s whether the client has gone. Tells how many
/// milliseconds it took, or `still there`.
pub async fn until_gone(request: Request<Bytes>, reply: Reply) -> Result {
    let length = number(&request, "n");
    let response = reply.open(Ack::empty().status(StatusCode::OK)?, (length > 0).then_some(length))?;
    effect(&request, "open").await?;
    let begun = Instant::now();
    for _ in 0..200 {
        if response.is_gone() {
            return effect(&request, begun.elapsed().as_millis()).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
    effect(&request, "still there").await
}

/// Writes `n` bytes one by one, with the exact `Content-Length`.
pub async fn sized(request: Request<Bytes>, reply: Reply) -> Result {
    let length = number(&request, "n");
    let response = reply.open(Ack::text(""), Some(length))?;
    let mut taken = 0;
    for _ in 0..length {
        taken += u64::from(!response.is_gone() && response.write(b"x").await);
    }
    response.finish();
    effect(&request, taken).await
}
