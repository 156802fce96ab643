//! The reply: the right to answer once.
//!
//! A [`Reply`] owns the request's `response-outparam`
//! ([wasi:http/types](https://github.com/WebAssembly/wasi-http/blob/main/wit/types.wit)), and answering
//! consumes it: a second answer, or a write after the end, does not compile.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use wasi::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasi::io::streams::OutputStream;
use wstd::future::FutureExt;
use wstd::runtime::AsyncPollable;

use crate::Problem;
use crate::ack::{Ack, AckError, Body, Chunks};
use crate::log;
use crate::turn::turn_for_the_host;

/// How long a client may take no byte of a large ack before it counts as gone: 30 s. The work must not
/// wait for a client that has lost its network.
const STALLED: Duration = Duration::from_secs(30);

thread_local! {
    /// The outparam of the request that this instance is answering, until it is answered. It is not in
    /// `Reply` because a panic must be able to answer, too, and a trap runs no destructors.
    static UNANSWERED: RefCell<Option<ResponseOutparam>> = const { RefCell::new(None) };
}

/// The right to answer a request, once.
///
/// Dropped unanswered, it answers with a 500 problem, so that no client waits for nothing.
///
/// ```compile_fail
/// # async fn handler(reply: afterack::Reply) {
/// reply.finish(afterack::Ack::text("once")).await;
/// reply.finish(afterack::Ack::text("twice")).await; // use of moved value: `reply`
/// # }
/// ```
pub struct Reply {
    method: Method,
    cleanups: Cleanups,
}

/// How an ack ended. The work goes on in any case, if the handler goes on.
#[derive(Debug)]
pub enum Delivery {
    /// The host took the whole response, and had a turn to send it.
    Delivered,
    /// The client left before it had the whole response, or took none of it for 30 s.
    ClientGone,
    /// The ack was not sent as it was declared: see [`Ack::stream`]. The error is logged, too.
    Failed(AckError),
}

impl Reply {
    pub(crate) fn new(outparam: ResponseOutparam, method: Method) -> Reply {
        UNANSWERED.set(Some(outparam));
        Reply { method, cleanups: Cleanups::default() }
    }

    /// Answers: writes the whole ack, ends the response, and gives the host a turn to send it.
    ///
    /// After this the client has its answer and may leave; what the handler does next is the
    /// continuation. It begins once the host has the last byte, so a large ack takes as long as its
    /// client needs to read it. A client that reads nothing for 30 s counts as gone.
    pub async fn finish(self, ack: Ack) -> Delivery {
        let delivery = self.answer(ack).await;
        turn_for_the_host();
        delivery
    }

    /// The same without the turn: the last word of a handler that ends with it, or waits for something
    /// outside next (a file, the network, a timer), which is a turn as well.
    pub async fn answer(self, ack: Ack) -> Delivery {
        match self.send(ack).await {
            Ok(()) => Delivery::Delivered,
            Err(Broken::ClientGone) => Delivery::ClientGone,
            Err(Broken::Ack(error)) => {
                log::error(&error);
                Delivery::Failed(error)
            }
        }
        // If nothing was sent, the drop of this reply answers.
    }

    /// Registers a clean-up: it runs when the handler has ended, after its continuation and also
    /// when that failed. Clean-ups run in the order of their registration.
    ///
    /// A trap (a panic, too) ends the instance at once, clean-ups included.
    pub fn defer(&self, cleanup: impl Future<Output = ()> + 'static) {
        self.cleanups.0.borrow_mut().push(Box::pin(cleanup));
    }

    /// Answers with the status and headers of `head`, and a body that is written piece by piece. With a
    /// `length` it has to be that many bytes in all.
    ///
    /// # Errors
    /// [`AckError::Refused`] if the host does not take the headers.
    #[doc(hidden)]
    pub fn open(self, head: Ack, length: Option<u64>) -> Result<Open, AckError> {
        let (status, mut fields, _) = head.into_parts(&self.method);
        fields.retain(|(name, _)| name != "content-length");
        fields.extend(length.map(|length| ("content-length".into(), length.to_string().into())));
        Response::start(status, &fields).map(Open)
    }

    pub(crate) fn cleanups(&self) -> Cleanups {
        self.cleanups.clone()
    }

    async fn send(&self, ack: Ack) -> Result<(), Broken> {
        let (status, fields, body) = ack.into_parts(&self.method);
        let (length, first, rest) = match body {
            Body::Bytes(bytes) => (bytes.len() as u64, bytes, None),
            Body::Stream { length, mut chunks } => {
                // Nothing has been sent yet: a length that the first chunk disproves is still a 500.
                let first = next(&mut chunks, length, 0).await?;
                (length, first.unwrap_or_default(), Some(chunks))
            }
        };
        let mut sent = first.len() as u64;
        let response = Response::start(status, &fields)?;
        response.write(&first).await?;
        if let Some(mut chunks) = rest {
            while sent < length {
                let Some(chunk) = next(&mut chunks, length, sent).await? else { break };
                response.write(&chunk).await?;
                sent += chunk.len() as u64;
            }
            // All that was declared is sent: a source with more than that is an error.
            next(&mut chunks, length, sent).await?;
        }
        response.finish();
        Ok(())
    }
}

/// A response that is written piece by piece. Dropped unfinished, it is broken off.
#[doc(hidden)]
pub struct Open(Response);

impl Open {
    /// Writes all of `piece`; tells whether the client takes it.
    pub async fn write(&self, piece: &[u8]) -> bool {
        self.0.write(piece).await.is_ok()
    }

    /// Whether the client has gone, as far as the host can tell without a byte being written.
    ///
    /// It cannot while the client has sent bytes beyond its request: a write then finds out. After the
    /// last byte of a body of known length the stream has ended, client or not.
    pub fn is_gone(&self) -> bool {
        self.0.stream.check_write().is_err()
    }

    /// Ends the response.
    pub fn finish(self) {
        self.0.finish();
    }
}

/// The next chunk that is not empty, or an error if the source's length is not the declared one.
async fn next(chunks: &mut Chunks, declared: u64, sent: u64) -> Result<Option<Bytes>, AckError> {
    loop {
        match poll_fn(|cx| chunks.as_mut().poll_next(cx)).await {
            Some(Ok(chunk)) if chunk.is_empty() => {}
            Some(Ok(chunk)) => {
                let actual = sent + chunk.len() as u64;
                if actual > declared {
                    return Err(AckError::WrongLength { declared, actual, more: true });
                }
                return Ok(Some(chunk));
            }
            Some(Err(error)) => return Err(AckError::Source { declared, sent, error }),
            None if sent < declared => {
                return Err(AckError::WrongLength { declared, actual: sent, more: false });
            }
            None => return Ok(None),
        }
    }
}

/// Why a response did not end as it should have.
enum Broken {
    ClientGone,
    Ack(AckError),
}

impl From<AckError> for Broken {
    fn from(error: AckError) -> Broken {
        Broken::Ack(error)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        answer_unanswered();
    }
}

/// Answers with a 500 problem if the request is still unanswered. It does not wait for the client, as it
/// is called by a destructor and by the panic hook.
pub(crate) fn answer_unanswered() {
    if UNANSWERED.with_borrow(Option::is_none) {
        return;
    }
    let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "request handler failed");
    let (status, fields, body) = Ack::from(problem).into_parts(&Method::GET);
    if let (Ok(response), Body::Bytes(body)) = (Response::start(status, &fields), body) {
        // The body is shorter than the 4096 bytes that this function takes. An error means that the
        // client has gone.
        let _ = response.stream.blocking_write_and_flush(&body);
        response.finish();
    }
}

/// A response that is being sent. Dropped unfinished, it is broken off, which every client can see.
struct Response {
    // Dropped before its body, as wasi:http demands: the order of the fields matters.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Response {
    /// Hands the head to the host, which sends what is written from now on.
    fn start(status: StatusCode, fields: &[(String, Vec<u8>)]) -> Result<Response, AckError> {
        let fields = Fields::from_list(fields).map_err(|error| AckError::Refused(error.to_string()))?;
        let response = OutgoingResponse::new(fields);
        response.set_status_code(status.as_u16()).expect("`StatusCode` is between 100 and 999");
        let body = response.body().expect("a response's body is taken once, here");
        let stream = body.write().expect("a body's stream is taken once, here");
        let outparam = UNANSWERED.take().expect("only `Reply` answers, and answering consumes it");
        ResponseOutparam::set(outparam, Ok(response));
        Ok(Response { stream, body })
    }

    /// Writes all of `bytes`, no faster than the client takes them.
    async fn write(&self, mut bytes: &[u8]) -> Result<(), Broken> {
        while !bytes.is_empty() {
            match self.stream.check_write() {
                Ok(0) => {
                    let permit = AsyncPollable::new(self.stream.subscribe());
                    permit
                        .wait_for()
                        .timeout(wstd::time::Duration::from(STALLED))
                        .await
                        .map_err(|_| Broken::ClientGone)?;
                }
                Ok(permit) => {
                    let (now, later) = bytes.split_at(bytes.len().min(permit as usize));
                    self.stream.write(now).map_err(|_| Broken::ClientGone)?;
                    bytes = later;
                }
                Err(_) => return Err(Broken::ClientGone),
            }
        }
        Ok(())
    }

    /// Ends the response.
    fn finish(self) {
        drop(self.stream);
        // An error here is a body of the wrong size. `Reply::send` has checked it; only for HEAD it is
        // rightly shorter than `Content-Length`.
        let _ = OutgoingBody::finish(self.body, None);
    }
}

/// The clean-ups of one request, in the order of their registration.
#[derive(Clone, Default)]
pub(crate) struct Cleanups(Rc<RefCell<Vec<Cleanup>>>);

type Cleanup = Pin<Box<dyn Future<Output = ()>>>;

impl Cleanups {
    pub(crate) async fn run(self) {
        for cleanup in self.0.take() {
            cleanup.await;
        }
    }
}
