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
use crate::turn::turn_for_the_host;

/// How long a client may take no byte of a large ack before it counts as gone: 30 s. A phone in a
/// tunnel must not keep the work from beginning.
const STALLED: Duration = Duration::from_secs(30);

thread_local! {
    /// The outparam of the request that this instance is answering, until it is answered. It is here
    /// and not in `Reply` so that a panic can still answer: a trap runs no destructors.
    static UNANSWERED: RefCell<Option<ResponseOutparam>> = const { RefCell::new(None) };
}

/// The right to answer a request, once.
///
/// Dropped unanswered, it answers with a 500 problem, so that no client is left hanging.
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
    /// The ack was not what it had declared: see [`Ack::stream`]. It is logged, too.
    Failed(AckError),
}

impl Reply {
    pub(crate) fn new(outparam: ResponseOutparam, method: Method) -> Reply {
        UNANSWERED.set(Some(outparam));
        Reply { method, cleanups: Cleanups::default() }
    }

    /// Answers: sends the whole ack, ends the response, and gives the host a turn to get it out.
    ///
    /// After this the client has its answer and may leave; what the handler does next is the
    /// continuation. It begins when the last byte is with the host, so a large ack takes as long as
    /// its client does to read it, and a client that reads nothing for 30 s counts as gone.
    pub async fn finish(self, ack: Ack) -> Delivery {
        let delivery = match self.send(ack).await {
            Ok(()) => Delivery::Delivered,
            Err(Broken::ClientGone) => Delivery::ClientGone,
            Err(Broken::Ack(error)) => {
                eprintln!("afterack: {error}");
                Delivery::Failed(error)
            }
        };
        drop(self); // If nothing was sent, this answers.
        turn_for_the_host();
        delivery
    }

    /// Registers a clean-up: it runs when the handler has ended, after its continuation and also
    /// when that failed. Clean-ups run in the order of their registration.
    ///
    /// A trap (a panic, too) ends the instance at once, clean-ups included.
    pub fn defer(&self, cleanup: impl Future<Output = ()> + 'static) {
        self.cleanups.0.borrow_mut().push(Box::pin(cleanup));
    }

    /// Answers with the head of `head`, and a body of `length` bytes, if that is known, that is written
    /// piece by piece.
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
                // Nothing is sent yet: a length that the first chunk gives the lie is still a 500.
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
            // The last bytes are sent; a source that still goes on is found out here.
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

    /// Whether the client has gone, as far as the host knows. Nothing is written for it.
    ///
    /// It is not to be asked after the last byte of a body of known length, whose stream has ended.
    pub fn is_gone(&self) -> bool {
        self.0.stream.check_write().is_err()
    }

    /// Ends the response.
    pub fn finish(self) {
        self.0.finish();
    }
}

/// The next chunk that is not empty, if the source gives what was declared.
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

/// Answers with a 500 problem if the request is still unanswered. Never waits for the client, so that
/// it can stand in a destructor and in a panic hook.
pub(crate) fn answer_unanswered() {
    if UNANSWERED.with_borrow(Option::is_none) {
        return;
    }
    let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "request handler failed");
    let (status, fields, body) = Ack::from(problem).into_parts(&Method::GET);
    if let (Ok(response), Body::Bytes(body)) = (Response::start(status, &fields), body) {
        // At most 4096 bytes, as this function demands. An error means that the client has gone.
        let _ = response.stream.blocking_write_and_flush(&body);
        response.finish();
    }
}

/// A response on its way. Dropped unfinished, it is broken off, which every client can see.
struct Response {
    // Dropped before its body, as wasi:http demands: the order of the fields matters.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Response {
    /// Hands the head to the host, which from now on sends what is written.
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
        // An error here would be a body of the wrong size. `Reply::send` has seen to that, but for
        // HEAD, whose body is rightly shorter than its `Content-Length` says.
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
