//! Calls to others over HTTP: one `POST`, bounded in time and in what is read of its answer.
//!
//! By [wasi:http's `outgoing-handler`](https://github.com/WebAssembly/wasi-http) itself, not by wstd's client:
//! that one gives up an answer that comes before the request's body was wanted to its end (an early 413), and
//! says no more of an answer that breaks off than what its host would print.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Uri;
use wasi::http::outgoing_handler::handle;
use wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    http_error_code,
};
use wasi::io::streams::{OutputStream, StreamError};
use wstd::io::AsyncOutputStream;
use wstd::runtime::AsyncPollable;
use wstd::time::Instant;

use super::engine::Room;
use super::limit::Limit;
use super::time::Time;

/// What calls to others say of who makes them.
pub const USER_AGENT: &str = concat!("afterack/", env!("CARGO_PKG_VERSION"));

/// How long connecting may take, if the whole call may take longer.
const CONNECT: Duration = Duration::from_secs(10);

/// How much is read of an answer that is no success, for its words.
const EXCERPT: usize = 1024;

/// How many characters of an answer stand in an error.
const WORDS: usize = 200;

/// The most bytes asked for in one read.
const READ: u64 = 64 * 1024;

/// Answers that may be longer than this wait until there is room for them.
const LARGE: usize = 64 * 1024;

/// The longest time that an answer's `Retry-After` is heeded for.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 3600);

thread_local! {
    /// What this instance reads of answers at once.
    static ROOM: Rc<Room> = Rc::default();
}

/// A `POST`.
pub struct Call<'a> {
    /// `http` or `https`, without user information.
    pub url: &'a Uri,
    /// The fields beside `Content-Length`.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: &'a [u8],
    /// How long all of it may take, to the last byte of the answer.
    pub time: Duration,
    /// How much is read of the answer's body, in bytes, if it is a success.
    pub most: usize,
}

/// What was answered. Redirects are answers, too: none is followed.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, Vec<u8>)>,
    /// As much of its body as was to be read.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub is_whole: bool,
    /// How long it took to come.
    took: Duration,
}

/// A field as a host takes it.
pub fn field(name: &str, value: impl Into<String>) -> (String, Vec<u8>) {
    (name.to_owned(), value.into().into_bytes())
}

impl Call<'_> {
    /// Sends it.
    ///
    /// # Errors
    /// In words: why there is no answer, or not all of it.
    pub async fn send(mut self) -> Result<Answer, String> {
        let (request, begun, received) = (self.request()?, Instant::now(), Cell::new(None));
        let Call { body, time, most, .. } = self; // Its fields are not kept while it waits.
        let mut exchange = pin!(exchange(request, body, time, most, &received));
        let mut limit = pin!(Limit::new(time));
        let in_time = poll_fn(|context| match exchange.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => limit.as_mut().poll(context).map(|()| None),
        });
        let Some(result) = in_time.await else {
            let time = humantime::format_duration(time);
            return Err(match received.get() {
                None => format!("no answer within {time}"),
                Some(bytes) => format!("its answer was not complete within {time}: {bytes} bytes so far"),
            });
        };
        result.map(|answer| Answer { took: begun.elapsed().into(), ..answer })
    }

    fn request(&mut self) -> Result<OutgoingRequest, String> {
        let mut fields = mem::take(&mut self.headers);
        fields.push(field("content-length", self.body.len().to_string()));
        let fields =
            Fields::from_list(&fields).map_err(|error| format!("the host refused a header: {error}"))?;
        let scheme = if self.url.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let request = OutgoingRequest::new(fields);
        request.set_method(&Method::Post).map_err(|()| refused("method"))?;
        request.set_scheme(Some(&scheme)).map_err(|()| refused("scheme"))?;
        let authority = self.url.authority().map(|authority| authority.as_str());
        request.set_authority(authority).map_err(|()| refused("host"))?;
        request.set_path_with_query(Some(path)).map_err(|()| refused("path"))?;
        Ok(request)
    }
}

/// Sends a request and receives its answer. `received` is how much of the answer's body has come, as soon as the
/// answer has begun.
async fn exchange(
    request: OutgoingRequest,
    bytes: &[u8],
    time: Duration,
    most: usize,
    received: &Cell<Option<usize>>,
) -> Result<Answer, String> {
    let body = request.body().map_err(|()| refused("body"))?;
    let rest = begin_body(body, bytes)?;
    let response = handle(request, Some(options(time))).map_err(|code| words(code, time))?;
    // What stops the sending stops the answer, too, which says why.
    let mut is_sent = rest.is_none();
    let mut sending = pin!(async {
        if let Some(rest) = rest {
            send(rest).await;
        }
    });
    let mut receiving = pin!(receive(response, time, most, received));
    poll_fn(|context| {
        is_sent = is_sent || sending.as_mut().poll(context).is_ready();
        receiving.as_mut().poll(context)
    })
    .await
}

async fn receive(
    response: FutureIncomingResponse,
    time: Duration,
    most: usize,
    received: &Cell<Option<usize>>,
) -> Result<Answer, String> {
    AsyncPollable::new(response.subscribe()).wait_for().await;
    let Some(Ok(result)) = response.get() else { return Err("the host gave no answer".into()) };
    let response = result.map_err(|code| words(code, time))?;
    received.set(Some(0));
    let headers = response.headers().entries();
    let mut answer = Answer { status: response.status(), headers, ..Answer::default() };
    let most = if answer.is_success() { most } else { EXCERPT };
    let declared = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
    if answer.is_success() && declared.is_some_and(|declared| declared > most) {
        return Ok(answer);
    }
    let room = ROOM.with(Rc::clone);
    let needed = declared.unwrap_or(most).min(most);
    let _taken = room.take(if needed > LARGE { needed } else { 0 }).await;
    // A stream is dropped before its body, and its pollable before it: the order matters.
    let Ok(body) = response.consume() else { return Err(refused("answer's body")) };
    let Ok(stream) = body.stream() else { return Err(refused("answer's body")) };
    let pollable = AsyncPollable::new(stream.subscribe());
    let broken = loop {
        match stream.read(READ) {
            // Nothing yet: only `Closed` is the end.
            Ok(chunk) if chunk.is_empty() => pollable.wait_for().await,
            Ok(mut chunk) => {
                let rest = most - answer.body.len();
                let is_all = chunk.len() <= rest;
                chunk.truncate(rest);
                answer.body.append(&mut chunk);
                received.set(Some(answer.body.len()));
                if !is_all {
                    return Ok(answer);
                }
            }
            Err(StreamError::Closed) => break None,
            Err(StreamError::LastOperationFailed(error)) => break Some(http_error_code(&error)),
        }
    };
    let is_short = declared.is_some_and(|declared| answer.body.len() < declared);
    answer.is_whole = broken.is_none() && !is_short;
    if answer.is_success() && !answer.is_whole {
        let of = declared.map(|declared| format!(" of {declared}")).unwrap_or_default();
        let why = broken.flatten().map(|code| format!(" ({})", words(code, time))).unwrap_or_default();
        return Err(format!("its answer broke off after {}{of} bytes{why}", answer.body.len()));
    }
    Ok(answer)
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The value of a field, if it is ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|field| field.0.eq_ignore_ascii_case(name))?;
        Some(str::from_utf8(value).ok().filter(|value| value.is_ascii())?.trim())
    }

    /// How long its `Retry-After` asks to wait ([RFC 9110 §10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)):
    /// seconds, or a date. At most a day. `begun` is when it was called.
    pub fn retry_after(&self, begun: Time) -> Option<Duration> {
        let value = self.header("retry-after")?;
        let time = match value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
            true => Duration::from_secs(value.parse().unwrap_or(u64::MAX)),
            false => date(value)?.since(begun + self.took),
        };
        Some(time.min(LONGEST_RETRY))
    }

    /// What an answer that is no success says, in one line: its status, and its body's first words.
    pub fn words(&self) -> String {
        let status = http::StatusCode::from_u16(self.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).map(|reason| format!(" {reason}"));
        let (reason, words) = (reason.unwrap_or_default(), first_words(&self.body));
        match self.header("location").filter(|_| (300..400).contains(&self.status)) {
            Some(location) => {
                let target = first_words(host_of(location).as_bytes());
                format!("{}{reason} to {target} (redirects are not followed)", self.status)
            }
            None if words.is_empty() => format!("{}{reason}", self.status),
            None => format!("{}{reason}: {words}", self.status),
        }
    }
}

/// Scheme and host of a `Location`; its path may be nobody else's business.
fn host_of(location: &str) -> String {
    match location
        .parse::<Uri>()
        .ok()
        .and_then(|uri| Some((uri.scheme_str()?.to_owned(), uri.host()?.to_owned())))
    {
        Some((scheme, host)) => format!("{scheme}://{host}"),
        None => "a path of its own".into(),
    }
}

/// An HTTP date as everybody has to write it
/// ([RFC 9110 §5.6.7](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7)): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<Time> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, rest) = text.split_once(", ")?;
    let parts: Vec<_> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at % 3 == 0)? / 3 + 1;
    let time = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Time(u64::try_from(since.as_millis()).ok()?))
}

/// The beginning of a text from elsewhere: one line, nothing that does not show.
fn first_words(bytes: &[u8]) -> String {
    // Marks that turn text around, or that do not show (Unicode's Bidi_Control and default ignorables).
    let is_hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}');
    let text = String::from_utf8_lossy(bytes);
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .filter(|c| !is_hidden(*c))
        .collect();
    let words = shown.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// What is left of a body that did not fit at first. A stream is dropped before its body.
struct Rest<'a> {
    bytes: &'a [u8],
    stream: OutputStream,
    body: OutgoingBody,
}

/// Writes as much of a body as the host takes before the call has begun. A head that goes out alone waits for its
/// acknowledgement before the body follows (Nagle), which its receiver delays: 40 ms for every call.
fn begin_body(body: OutgoingBody, bytes: &[u8]) -> Result<Option<Rest<'_>>, String> {
    let stream = body.write().map_err(|()| refused("body"))?;
    let permit = usize::try_from(stream.check_write().unwrap_or_default()).unwrap_or(usize::MAX);
    let (first, bytes) = bytes.split_at(bytes.len().min(permit));
    if !first.is_empty() {
        stream.write(first).map_err(|_| refused("body"))?;
    }
    if !bytes.is_empty() {
        return Ok(Some(Rest { bytes, stream, body }));
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|_| refused("body"))?;
    Ok(None)
}

async fn send(rest: Rest<'_>) {
    let Rest { bytes, stream, body } = rest;
    if AsyncOutputStream::new(stream).write_all(bytes).await.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}

/// The host's own time limits, as far as it has any: a call ends by its own in any case.
fn options(time: Duration) -> RequestOptions {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(Some(nanoseconds(time.min(CONNECT))));
    let _ = options.set_first_byte_timeout(Some(nanoseconds(time)));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds(time)));
    options
}

fn refused(part: &str) -> String {
    format!("the host refused the {part}")
}

/// What a host's error means ([wasi:http/types.error-code]).
///
/// [wasi:http/types.error-code]: https://github.com/WebAssembly/wasi-http/blob/main/wit/types.wit
fn words(code: ErrorCode, time: Duration) -> String {
    let [connect, time] = [time.min(CONNECT), time].map(humantime::format_duration);
    let text = match code {
        ErrorCode::DnsTimeout => "looking up its name took too long",
        ErrorCode::DnsError(_) => "its name has no address",
        ErrorCode::DestinationNotFound | ErrorCode::DestinationUnavailable => "it cannot be reached",
        ErrorCode::DestinationIpProhibited => "the host does not allow its address",
        ErrorCode::DestinationIpUnroutable => "there is no route to its address",
        ErrorCode::ConnectionRefused => "connection refused",
        ErrorCode::ConnectionTerminated => "the connection broke",
        ErrorCode::ConnectionTimeout => return format!("no connection within {connect}"),
        ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => return format!("no answer within {time}"),
        ErrorCode::ConnectionLimitReached => "the host has too many connections",
        ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => "TLS failed",
        ErrorCode::TlsCertificateError => "TLS failed: invalid certificate",
        ErrorCode::HttpRequestDenied => {
            "the host refused to connect (is it among those that the host allows? in Spin, allowed_outbound_hosts)"
        }
        ErrorCode::HttpRequestUriInvalid => "the host does not take its URL",
        ErrorCode::HttpResponseIncomplete => "its answer broke off",
        // What wasmtime says of everything that goes wrong once it is connected.
        ErrorCode::HttpProtocolError => "the connection broke, or what it answered is not HTTP",
        ErrorCode::InternalError(Some(text)) => {
            return format!("the host failed: {}", first_words(text.as_bytes()));
        }
        other => return format!("the host failed: {}", first_words(other.to_string().as_bytes())),
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        Answer {
            status,
            headers: headers.collect(),
            body: body.into(),
            is_whole: true,
            took: Duration::from_secs(1),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Time(784_111_777_000); // 1994-11-06T08:49:37Z
        let after = |value: &str| answer(429, &[("Retry-After", value)], "").retry_after(now);
        assert_eq!(after("2"), Some(Duration::from_secs(2)));
        assert_eq!(after(" 0 "), Some(Duration::ZERO));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(29)));
        assert_eq!(after("Sat, 05 Nov 1994 08:50:07 GMT"), Some(Duration::ZERO));
        for long in ["86401", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(after(long), Some(Duration::from_secs(86_400)), "{long}");
        }
        for none in [
            "",
            "-1",
            "+1",
            "1.5",
            "soon",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 ovD 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Thu, 01 Jan 1960 00:00:00 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(after(none), None, "{none}");
        }
        assert_eq!(answer(429, &[], "").retry_after(now), None);
    }

    #[test]
    fn the_words_of_an_answer_are_one_line_that_shows() {
        assert_eq!(answer(404, &[], "").words(), "404 Not Found");
        assert_eq!(answer(599, &[], "  no\r\n\treport \u{202e}\u{0}x").words(), "599: no report x");
        assert_eq!(
            answer(400, &[], &"ä".repeat(300)).words(),
            format!("400 Bad Request: {}…", "ä".repeat(200))
        );
        let redirect = |location| answer(302, &[("location", location)], "x").words();
        assert_eq!(
            redirect("https://user:pass@evil.example/secret?x"),
            "302 Found to https://evil.example (redirects are not followed)"
        );
        assert_eq!(redirect("/login"), "302 Found to a path of its own (redirects are not followed)");
    }
}
