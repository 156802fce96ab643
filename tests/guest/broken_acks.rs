//! Streamed acks that are not what they declare. The continuation goes on and tells.

use afterack::{Ack, Bytes, Reply, Request};
use futures_lite::stream;

use crate::{Result, finish};

type Chunk = std::result::Result<Bytes, std::io::Error>;

fn chunks(chunks: impl IntoIterator<Item = Chunk>) -> impl futures_lite::Stream<Item = Chunk> {
    stream::iter(chunks.into_iter().collect::<Vec<_>>())
}

fn five() -> Chunk {
    Ok(Bytes::from_static(b"12345"))
}

/// Declares 20 bytes and has 10.
pub async fn short_stream(request: Request<Bytes>, reply: Reply) -> Result {
    finish(&request, reply, Ack::stream(20, chunks([five(), five()]))).await
}

/// Declares 7 bytes and has 10: the second chunk shows it.
pub async fn long_stream(request: Request<Bytes>, reply: Reply) -> Result {
    finish(&request, reply, Ack::stream(7, chunks([five(), five()]))).await
}

/// Declares 7 bytes and has none, which shows before anything is sent.
pub async fn empty_stream(request: Request<Bytes>, reply: Reply) -> Result {
    finish(&request, reply, Ack::stream(7, chunks([]))).await
}

/// Fails after 5 of 20 bytes.
pub async fn failing_stream(request: Request<Bytes>, reply: Reply) -> Result {
    let failure = Err(std::io::Error::other("the disk is on fire"));
    finish(&request, reply, Ack::stream(20, chunks([five(), failure]))).await
}
