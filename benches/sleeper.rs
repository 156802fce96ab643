//! A continuation that does nothing but sleep, to see what one costs its host.

use std::convert::Infallible;

use afterack::{Ack, Bytes, Reply, Request};
use wstd::{task::sleep, time::Duration};

afterack::export!(handler);

async fn handler(_request: Request<Bytes>, reply: Reply) -> Result<(), Infallible> {
    reply.finish(Ack::text("ok")).await;
    sleep(Duration::from_secs(60)).await;
    Ok(())
}
