//! The request, read whole and within a limit before anything is answered.
//!
//! An ack says "I have it": that is only true once the last byte of the request is here. And what is
//! read is bounded, because an instance's memory is.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use wasi::http::types::{Fields, IncomingBody, IncomingRequest, Method as WasiMethod};
use wasi::io::streams::{InputStream, StreamError};
use wstd::runtime::AsyncPollable;

use crate::Problem;

/// The largest request body that is read unless [`export!`](crate::export) is told otherwise: 1 MiB.
pub const BODY_LIMIT: u64 = 1024 * 1024;

/// The most bytes asked for in one read.
const READ: u64 = 64 * 1024;

/// A request that is being read. Dropping it tells the host that the rest is not wanted.
pub(crate) struct Incoming {
    stream: InputStream,
    // The host lets go of the connection's read side when the body is dropped; a stream must be
    // dropped before its body, so the order of these two fields matters.
    _body: IncomingBody,
}

/// The method of a request, whose answer depends on it (HEAD).
pub(crate) fn method(request: &IncomingRequest) -> Method {
    match request.method() {
        WasiMethod::Get => Method::GET,
        WasiMethod::Head => Method::HEAD,
        WasiMethod::Post => Method::POST,
        WasiMethod::Put => Method::PUT,
        WasiMethod::Delete => Method::DELETE,
        WasiMethod::Connect => Method::CONNECT,
        WasiMethod::Options => Method::OPTIONS,
        WasiMethod::Trace => Method::TRACE,
        WasiMethod::Patch => Method::PATCH,
        // A name that is no token never gets through a host's own parser.
        WasiMethod::Other(name) => Method::from_bytes(name.as_bytes()).unwrap_or(Method::OPTIONS),
    }
}

/// Everything of a request but its body.
pub(crate) fn head(request: &IncomingRequest, method: Method) -> Result<Request<()>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let mut head = Request::new(());
    *head.method_mut() = method;
    // The origin form, as servers get it (RFC 9112 §3.2.1); the authority is in the `host` header.
    let path = request.path_with_query().unwrap_or_else(|| "/".into());
    *head.uri_mut() =
        Uri::from_maybe_shared(path).map_err(|error| bad(format!("the request's path: {error}")))?;
    *head.headers_mut() = headers(&request.headers()).map_err(|name| {
        bad(format!("the request's header `{name}` has a character that no header may have"))
    })?;
    Ok(head)
}

fn headers(fields: &Fields) -> Result<HeaderMap, String> {
    let entries = fields.entries();
    let mut headers = HeaderMap::with_capacity(entries.len());
    for (name, value) in entries {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_maybe_shared(Bytes::from(value))) {
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => return Err(name),
        }
    }
    Ok(headers)
}

impl Incoming {
    /// Begins to read the body of `request`.
    pub(crate) fn new(request: &IncomingRequest) -> Incoming {
        let body = request.consume().expect("a request's body is consumed once, here");
        let stream = body.stream().expect("a body's stream is taken once, here");
        Incoming { stream, _body: body }
    }

    /// Reads the body to its end, or gives the problem that the client should see: 413 if it is
    /// longer than `limit` bytes, 400 if it was cut off.
    pub(crate) async fn read(&mut self, headers: &HeaderMap, limit: u64) -> Result<Bytes, Problem> {
        let too_large = |size: String| {
            let detail = format!("the request's body is {size} bytes; {limit} are allowed");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(declared) = declared.filter(|declared: &u64| *declared > limit) {
            return Err(too_large(declared.to_string()));
        }
        let mut body = Vec::with_capacity(declared.unwrap_or(0) as usize);
        while let Some(chunk) = self.chunk().await.map_err(|error| {
            let detail = format!("the request's body broke off after {} bytes: {error}", body.len());
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large(format!("at least {}", body.len() + chunk.len())));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    /// Reads up to `most` bytes more and throws them away.
    ///
    /// A client that is refused while it still sends does not read the refusal if the connection is
    /// reset under it, and a host resets a connection whose request it has not read.
    pub(crate) async fn discard(mut self, most: u64) {
        let mut read = 0;
        while let Ok(Some(chunk)) = self.chunk().await {
            read += chunk.len() as u64;
            if read > most {
                break;
            }
        }
    }

    /// The next bytes, at least one; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            match self.stream.read(READ) {
                Ok(chunk) if chunk.is_empty() => {
                    // Nothing yet. Only `Closed` is the end.
                    AsyncPollable::new(self.stream.subscribe()).wait_for().await;
                }
                Ok(chunk) => return Ok(Some(chunk)),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
            }
        }
    }
}
