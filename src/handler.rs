//! The way from the host's call to the handler: what [`export!`](crate::export) expands to.

use std::fmt::Display;
use std::panic;

use bytes::Bytes;
use http::{Method, Request};
use wasi::http::types::{IncomingRequest, ResponseOutparam};

use crate::request::{self, Incoming};
use crate::{Problem, Reply, reply};

/// How much of a refused body is still read, so that the client reads the refusal: 16 MiB.
const DISCARD: u64 = 16 * 1024 * 1024;

/// Makes an `async fn(Request<Bytes>, Reply) -> Result<(), E>` the component's
/// [`wasi:http/incoming-handler`](https://github.com/WebAssembly/wasi-http/blob/main/wit/handler.wit).
///
/// The handler gets the request with its whole body, and a [`Reply`](crate::Reply); `E` is anything
/// that implements `Display`. An error it returns is logged; if it comes before the answer, the
/// client gets a 500 problem. The body's limit is [`BODY_LIMIT`](crate::BODY_LIMIT) or the `limit`
/// given here, in bytes; a longer one is answered 413 before the handler is called.
///
/// ```no_run
/// # use afterack::{Ack, Bytes, Reply, Request};
/// afterack::export!(handler, limit = 64 * 1024);
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
    ($handler:path) => {
        $crate::export!($handler, limit = $crate::BODY_LIMIT);
    };
    ($handler:path, limit = $limit:expr) => {
        const _: () = {
            struct Component;

            impl $crate::__export::Guest for Component {
                fn handle(
                    request: $crate::__export::IncomingRequest,
                    outparam: $crate::__export::ResponseOutparam,
                ) {
                    $crate::__export::handle($handler, $limit, request, outparam);
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

/// Runs one request: reads it, calls the handler, runs the clean-ups.
pub fn handle<H, E>(handler: H, limit: u64, request: IncomingRequest, outparam: ResponseOutparam)
where
    H: AsyncFnOnce(Request<Bytes>, Reply) -> Result<(), E>,
    E: Display,
{
    // A panic traps the instance, and a trap after this answer leaves the answer standing.
    panic::set_hook(Box::new(|panic| {
        eprintln!("afterack: {panic}");
        reply::answer_unanswered();
    }));
    wstd::runtime::block_on(async {
        let method = request::method(&request);
        let reply = Reply::new(outparam, method.clone());
        let cleanups = reply.cleanups();
        match read(request, method, limit).await {
            Ok(request) => {
                if let Err(error) = handler(request, reply).await {
                    eprintln!("afterack: the handler failed: {error:#}");
                }
                cleanups.run().await;
            }
            Err((problem, rest)) => {
                reply.finish(problem.into()).await;
                if let Some(rest) = rest {
                    rest.discard(DISCARD).await;
                }
            }
        }
    });
}

/// The whole request, or the problem to answer and what of the body is still unread.
async fn read(
    request: IncomingRequest,
    method: Method,
    limit: u64,
) -> Result<Request<Bytes>, (Problem, Option<Incoming>)> {
    let head = request::head(&request, method).map_err(|problem| (problem, None))?;
    let mut incoming = Incoming::new(&request);
    match incoming.read(head.headers(), limit).await {
        Ok(body) => Ok(head.map(|()| body)),
        Err(problem) => Err((problem, Some(incoming))),
    }
}
