//! The request, read to its end before it is answered, within limits.
//!
//! An ack says that the request has arrived, which is true once its last byte has. An instance's memory
//! is limited, and so is the number of instances: a body has a largest size and a slowest pace.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use wasi::clocks::monotonic_clock;
use wasi::http::types::{Fields, IncomingBody, IncomingRequest, Method as WasiMethod};
use wasi::io::poll::poll;
use wasi::io::streams::{InputStream, StreamError};

use crate::Problem;
use crate::upload::{STALL, Upload};

/// The largest request body unless [`export!`](crate::export) is told otherwise: 1 MiB.
pub const BODY_LIMIT: u64 = 1024 * 1024;

/// How long a refused body is still read, in milliseconds: 3 s in all.
const LINGER: u64 = 3000;

/// How much of a refused body is still read, in bytes: 16 MiB.
const DISCARD: u64 = 16 * 1024 * 1024;

/// The most bytes asked for in one read.
const READ: u64 = 64 * 1024;

/// A request as the host has it. Dropping it tells the host that what is not read is not wanted.
pub(crate) struct Incoming {
    // wasi:http demands that children are dropped before their parents: the order of the fields matters.
    /// None until it is asked for.
    body: Option<(InputStream, IncomingBody)>,
    fields: Fields,
    request: IncomingRequest,
}

/// The method of a request.
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
        // A host's own parser refuses a name that is not a token.
        WasiMethod::Other(name) => Method::from_bytes(name.as_bytes()).unwrap_or(Method::OPTIONS),
    }
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
    pub(crate) fn new(request: IncomingRequest) -> Incoming {
        Incoming { body: None, fields: request.headers(), request }
    }

    fn stream(&mut self) -> &InputStream {
        let (stream, _) = self.body.get_or_insert_with(|| {
            let body = self.request.consume();
            body.and_then(|body| Ok((body.stream()?, body))).expect("a request's body is taken once, here")
        });
        stream
    }

    /// Everything of it but its body.
    pub(crate) fn head(&self, method: Method) -> Result<Request<()>, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let mut head = Request::new(());
        *head.method_mut() = method;
        // The origin form (RFC 9112 §3.2.1): the authority is in the `host` header.
        let path = self.request.path_with_query().unwrap_or_else(|| "/".into());
        *head.uri_mut() =
            Uri::from_maybe_shared(path).map_err(|error| bad(format!("invalid request path: {error}")))?;
        *head.headers_mut() = headers(&self.fields).map_err(|name| {
            bad(format!("invalid request header `{name}`: character not allowed in its name or value"))
        })?;
        Ok(head)
    }

    /// Reads the body to its end. `idle` is in milliseconds.
    ///
    /// A GET or HEAD request that declares no length is taken to have none: to look is a third of what reading a
    /// request takes.
    ///
    /// # Errors
    /// The problem to answer: 413 if the body is longer than `limit` bytes, 400 if it was cut off, 408 if
    /// it came too slowly, 503 if it was slow and `patience` gave nothing. What `patience` gives is kept
    /// until the upload has ended.
    pub(crate) fn read<G>(
        &mut self,
        head: &Request<()>,
        limit: u64,
        idle: u64,
        patience: impl FnOnce() -> Option<G>,
    ) -> Result<Bytes, Problem> {
        let too_large = |size: String| {
            let detail = format!("request body too large: {size} bytes (limit {limit})");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        let declared = head.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_none() && matches!(*head.method(), Method::GET | Method::HEAD) {
            return Ok(Bytes::new());
        }
        if let Some(declared) = declared.filter(|declared: &u64| *declared > limit) {
            return Err(too_large(declared.to_string()));
        }
        let mut body = Vec::with_capacity(declared.unwrap_or(0) as usize);
        let mut upload = Upload::begin(declared, now());
        let mut patience = Some(patience);
        let mut _guard = None;
        loop {
            match self.stream().read(READ) {
                // Nothing yet: only `Closed` is the end.
                Ok(chunk) if chunk.is_empty() => {
                    let now = now();
                    let left = upload.left(idle, now);
                    if left == 0 {
                        return Err(upload.timed_out(idle, now));
                    }
                    let left_for_patience = upload.left(STALL, now);
                    match patience.take_if(|_| left_for_patience == 0) {
                        Some(patience) => _guard = Some(patience().ok_or_else(|| upload.refused())?),
                        None if patience.is_some() => self.wait(left.min(left_for_patience)),
                        None => self.wait(left),
                    }
                }
                Ok(chunk) => {
                    if (body.len() + chunk.len()) as u64 > limit {
                        return Err(too_large(format!("at least {}", body.len() + chunk.len())));
                    }
                    body.extend_from_slice(&chunk);
                    upload.progress(chunk.len(), now());
                }
                Err(StreamError::Closed) => return Ok(body.into()),
                // The host's error may hold a backtrace of the host, which is not the client's business.
                Err(StreamError::LastOperationFailed(_)) => {
                    let detail = format!("request body broken off: {upload} could be read");
                    return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
                }
            }
        }
    }

    /// Reads what a refused client still sends, for [`LINGER`] and up to [`DISCARD`] bytes.
    ///
    /// A host resets a connection whose request is not read, and a client whose connection is reset while
    /// it sends does not get to read why it was refused.
    pub(crate) fn discard(mut self) {
        let (begun, mut read) = (now(), 0);
        while read < DISCARD {
            let left = LINGER.saturating_sub(now() - begun);
            match self.stream().read(READ) {
                Ok(_) if left == 0 => break,
                Ok(chunk) if chunk.is_empty() => self.wait(left),
                Ok(chunk) => read += chunk.len() as u64,
                Err(_) => break,
            }
        }
    }

    /// Waits for the next bytes, but for no longer than `limit`, in milliseconds. Nothing else of this
    /// instance has to run meanwhile.
    fn wait(&mut self, limit: u64) {
        let limit = monotonic_clock::subscribe_duration(limit * 1_000_000);
        poll(&[&self.stream().subscribe(), &limit]);
    }
}

/// The time by the monotonic clock, in milliseconds.
fn now() -> u64 {
    monotonic_clock::now() / 1_000_000
}
