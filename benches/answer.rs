//! The ack of `examples/minimal.rs` as a last word: without the turn for the host, as the component gives its own.

use std::convert::Infallible;

use afterack::{Ack, Bytes, Reply, Request};

afterack::export!(handler);

async fn handler(_request: Request<Bytes>, reply: Reply) -> Result<(), Infallible> {
    reply.answer(Ack::text("Hello, world!\n")).await;
    Ok(())
}
