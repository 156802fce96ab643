//! Continuations that compute.

use std::hint::black_box;
use std::time::Duration;

use afterack::{Ack, Bytes, Reply, Request, Slices};
use wstd::time::Instant;

use crate::{Result, effect, number};

/// A piece of work of some microseconds.
fn piece(seed: u64) -> u64 {
    (0..10_000u64).fold(seed, |hash, n| (hash ^ n).wrapping_mul(0x100_0000_01b3))
}

fn elapsed(begun: Instant) -> Duration {
    begun.elapsed().into()
}

/// Computes for `ms` without a pause, right after the ack.
pub async fn computes(request: Request<Bytes>, reply: Reply) -> Result {
    let time = Duration::from_millis(number(&request, "ms"));
    reply.finish(Ack::text("ok")).await;
    let (begun, mut pieces) = (Instant::now(), 0u64);
    while elapsed(begun) < time {
        black_box(piece(pieces));
        pieces += 1;
    }
    // Output needs no turn of the host's, as an effect does.
    println!("computed");
    effect(&request, pieces).await
}

/// Computes for `ms` in slices; tells how many pieces it did.
pub async fn slices(request: Request<Bytes>, reply: Reply) -> Result {
    let time = Duration::from_millis(number(&request, "ms"));
    reply.finish(Ack::text("ok")).await;
    let (begun, mut pieces, mut slices) = (Instant::now(), 0u64, Slices::new());
    while elapsed(begun) < time {
        black_box(piece(pieces));
        pieces += 1;
        slices.turn().await;
    }
    effect(&request, pieces).await
}
