//! The smallest user of the library: an answer, and work after it.

use std::convert::Infallible;

use afterack::{Ack, Bytes, Reply, Request};

afterack::export!(handler);

async fn handler(_request: Request<Bytes>, reply: Reply) -> Result<(), Infallible> {
    reply.finish(Ack::text("Hello, world!\n")).await;
    // The client has its answer. The work goes here.
    Ok(())
}
