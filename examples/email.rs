use afterack::{Ack, Bytes, Reply, Request};
async fn handler(_r: Request<Bytes>, reply: Reply) -> Result<(), std::io::Error> {
    reply.finish(Ack::text("We'll email you as soon as this is done.")).await;
    Ok(())
}
afterack::export!(handler);
