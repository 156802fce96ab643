//! Acks of every kind, each with an effect after it.

use afterack::{Ack, Bytes, Reply, Request, StatusCode};
use futures_lite::stream;

use crate::{Result, finish, number, query};

/// How long the request's body was.
pub async fn echo(request: Request<Bytes>, reply: Reply) -> Result {
    let length = request.body().len();
    finish(&request, reply, Ack::text(format!("{length} bytes"))).await
}

pub async fn text(request: Request<Bytes>, reply: Reply) -> Result {
    finish(&request, reply, Ack::text("We'll email you as soon as this is done.")).await
}

/// A long text with the status 200, which proxies like to compress; with a `Cache-Control` of its
/// own if `cache-control` is there.
pub async fn long_text(request: Request<Bytes>, reply: Reply) -> Result {
    let mut ack = Ack::text("We'll email you. ".repeat(1000)).status(StatusCode::OK)?;
    let cache_control = query(&request, "cache-control");
    if !cache_control.is_empty() {
        ack = ack.header("cache-control", cache_control)?;
    }
    finish(&request, reply, ack).await
}

/// `n` bytes at once.
pub async fn bytes(request: Request<Bytes>, reply: Reply) -> Result {
    let body = vec![b'x'; number(&request, "n") as usize];
    finish(&request, reply, Ack::binary(body)).await
}

/// `n` bytes in chunks of `chunk`.
pub async fn stream(request: Request<Bytes>, reply: Reply) -> Result {
    let (length, chunk) = (number(&request, "n"), number(&request, "chunk").max(1));
    let chunks = (0..length).step_by(chunk as usize).map(move |at| {
        let chunk = vec![b'x'; chunk.min(length - at) as usize];
        Ok::<_, std::io::Error>(Bytes::from(chunk))
    });
    finish(&request, reply, Ack::stream(length, stream::iter(chunks))).await
}

/// An empty ack with this status.
pub async fn status(request: Request<Bytes>, reply: Reply) -> Result {
    let status = StatusCode::from_u16(number(&request, "status") as u16)?;
    finish(&request, reply, Ack::empty().status(status)?).await
}

/// What setting the header `name` gives: the error's text, or `none`.
pub async fn header(request: Request<Bytes>, reply: Reply) -> Result {
    let error = Ack::empty().header(query(&request, "name"), "1").err();
    let text = error.map_or("none".to_owned(), |error| error.to_string());
    finish(&request, reply, Ack::text(text)).await
}

/// Output after the ack, which `fastcgi_finish_request` does not forgive.
pub async fn prints(request: Request<Bytes>, reply: Reply) -> Result {
    let delivery = reply.finish(Ack::text("quiet")).await;
    println!("this goes to the host's standard output");
    eprintln!("this goes to the host's standard error");
    crate::effect(&request, crate::outcome(delivery)).await
}
