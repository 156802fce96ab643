//! The way from the host's call to the handler: what [`export!`](crate::export) expands to.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::panic;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use wasi::http::types::{IncomingRequest, ResponseOutparam};

use crate::request::{self, Incoming};
use crate::{Ack, BODY_LIMIT, IDLE, Problem, Reply, log, reply};

/// Makes an `async fn(Request<Bytes>, Reply) -> Result<(), E>` the component's
/// [`wasi:http/incoming-handler`](https://github.com/WebAssembly/wasi-http/blob/main/wit/handler.wit).
///
/// The handler gets the request with its whole body, and a [`Reply`](crate::Reply). The body of a GET or HEAD
/// request that declares no length is empty: what may come all the same cannot have a meaning
/// ([RFC 9110 §9.3.1](https://www.rfc-editor.org/rfc/rfc9110#section-9.3.1)). `E` is anything that
/// implements `Display`. An error is logged; if nothing was answered before, the client gets a 500
/// problem.
///
/// Two parameters, in any order, bound the body. A request beyond them is answered without the handler:
///
/// | parameter | type | default | answer |
/// | --- | --- | --- | --- |
/// | `limit` | `u64`, bytes | [`BODY_LIMIT`](crate::BODY_LIMIT) | 413 |
/// | `idle` | [`Duration`](std::time::Duration) | [`IDLE`](crate::IDLE) | 408 |
///
/// ```no_run
/// # use std::time::Duration;
/// # use afterack::{Ack, Bytes, Reply, Request};
/// afterack::export!(handler, limit = 64 * 1024, idle = Duration::from_secs(10));
///
/// async fn handler(request: Request<Bytes>, reply: Reply) -> Result<(), afterack::AckError> {
///     reply.finish(Ack::text("Thank you.")).await;
///     println!("{} bytes to go through", request.body().len());
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($handler:path $(, $parameter:ident = $value:expr)* $(,)?) => {
        const _: () = {
            struct Component;

            impl $crate::__export::Guest for Component {
                fn handle(
                    request: $crate::__export::IncomingRequest,
                    outparam: $crate::__export::ResponseOutparam,
                ) {
                    let parameters = $crate::__export::Parameters::new()$(.$parameter($value))*;
                    $crate::__export::handle($handler, parameters, request, outparam);
                }
            }

            #[cfg(target_arch = "wasm32")]
            $crate::__export::proxy!(Component with_types_in $crate::__export::wasi);

            // No other target has a host to export to; the handler is compiled and linted all the same.
            #[cfg(not(target_arch = "wasm32"))]
            #[used]
            static HANDLE: fn($crate::__export::IncomingRequest, $crate::__export::ResponseOutparam) =
                <Component as $crate::__export::Guest>::handle;
        };
    };
}

/// The parameters of [`export!`](crate::export), a method for each.
pub struct Parameters<P> {
    limit: u64,
    limits: Option<fn(&Request<()>) -> u64>,
    /// In milliseconds.
    idle: u64,
    patience: P,
    early: fn(Ack, &HeaderMap) -> Ack,
}

impl Parameters<()> {
    /// The defaults.
    pub fn new() -> Parameters<impl FnOnce() -> Option<()>> {
        Parameters {
            limit: BODY_LIMIT,
            limits: None,
            idle: millis(IDLE),
            patience: || Some(()),
            early: |ack, _| ack,
        }
    }
}

impl<P> Parameters<P> {
    /// The largest body, in bytes.
    pub fn limit(self, limit: u64) -> Parameters<P> {
        Parameters { limit, ..self }
    }

    /// The largest body of a request that begins like this, in bytes, instead of `limit`.
    pub fn limits(self, limits: fn(&Request<()>) -> u64) -> Parameters<P> {
        Parameters { limits: Some(limits), ..self }
    }

    /// How long an upload may go without progress.
    pub fn idle(self, idle: Duration) -> Parameters<P> {
        Parameters { idle: millis(idle), ..self }
    }

    /// Asked once for an upload that is slow: one that has made no progress for 1 s, or has come at less
    /// than 64 KiB/s. With `None` it is answered 503; a guard is kept until the upload has ended.
    pub fn patience<G, Q: FnOnce() -> Option<G>>(self, patience: Q) -> Parameters<Q> {
        let Parameters { limit, limits, idle, early, .. } = self;
        Parameters { limit, limits, idle, patience, early }
    }

    /// Completes the answers to requests that do not reach the handler, given the request's headers, or
    /// none if they are invalid.
    pub fn early(self, early: fn(Ack, &HeaderMap) -> Ack) -> Parameters<P> {
        Parameters { early, ..self }
    }
}

/// A duration in milliseconds, of at most a century, so that sums of it do not overflow.
fn millis(time: Duration) -> u64 {
    time.as_secs().min(1 << 32) * 1000 + u64::from(time.subsec_millis())
}

/// Runs one request: reads it, calls the handler, runs the clean-ups.
pub fn handle<H, E, P, G>(
    handler: H,
    parameters: Parameters<P>,
    request: IncomingRequest,
    outparam: ResponseOutparam,
) where
    H: AsyncFnOnce(Request<Bytes>, Reply) -> Result<(), E>,
    E: Display,
    P: FnOnce() -> Option<G>,
{
    // A panic traps the instance, but not before the host has this answer.
    panic::set_hook(Box::new(|panic| {
        log::error(panic);
        reply::answer_unanswered();
    }));
    wstd::runtime::block_on(async {
        let method = request::method(&request);
        let reply = Reply::new(outparam, method.clone());
        let cleanups = reply.cleanups();
        let mut incoming = Incoming::new(request);
        match read(&mut incoming, method, parameters) {
            Ok(request) => {
                let mut handler = pin!(handler(request, reply));
                let mut incoming = Some(incoming);
                let result = poll_fn(|cx| {
                    let poll = handler.as_mut().poll(cx);
                    // No sooner, since each of the host's calls for that would hold the answer up; and no later, since
                    // its connection takes no other request before.
                    incoming = None;
                    poll
                });
                if let Err(error) = result.await {
                    log::error(format_args!("handler failed: {error:#}"));
                }
                cleanups.run().await;
            }
            Err(answer) => {
                let is_coming = answer.status == StatusCode::PAYLOAD_TOO_LARGE;
                reply.answer(*answer).await;
                if is_coming {
                    incoming.discard();
                }
            }
        }
    });
}

/// The whole request; or the answer to one that cannot be read.
fn read<G>(
    incoming: &mut Incoming,
    method: Method,
    Parameters { limit, limits, idle, patience, early }: Parameters<impl FnOnce() -> Option<G>>,
) -> Result<Request<Bytes>, Box<Ack>> {
    let refuse = |problem: Problem, headers: &HeaderMap| Box::new(early(problem.into(), headers));
    let head = incoming.head(method).map_err(|problem| refuse(problem, &HeaderMap::new()))?;
    let limit = limits.map_or(limit, |limits| limits(&head));
    match incoming.read(&head, limit, idle, patience) {
        Ok(body) => Ok(head.map(|()| body)),
        Err(problem) => Err(refuse(problem, head.headers())),
    }
}
