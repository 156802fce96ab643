//! The ack: a response whose size is known before its first byte is sent.
//!
//! Knowing the size is what lets a client stop waiting: once `Content-Length` bytes have arrived the
//! response has ended ([RFC 9112 §6.3](https://www.rfc-editor.org/rfc/rfc9112#section-6.3)), whatever
//! the server goes on doing. So whatever would make the declared size untrue is an error here, when the
//! ack is built, and not on one host or another when it is sent.

use std::error::Error;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

/// A complete response of known size, which is sent before the work.
///
/// The status is `202 Accepted` unless [`status`](Ack::status) sets another. `Cache-Control` is
/// `no-transform` unless [`header`](Ack::header) sets it, so that no proxy compresses the body and
/// changes its size
/// ([RFC 9111 §5.2.2.6](https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2.6)).
///
/// ```
/// use afterack::{Ack, StatusCode};
///
/// # fn main() -> Result<(), afterack::AckError> {
/// let ack = Ack::text("We'll email you as soon as this is done.")
///     .status(StatusCode::OK)?
///     .header("x-request-id", "7")?;
/// # Ok(()) }
/// ```
pub struct Ack {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The chunks of a streamed ack.
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>>>>;

/// What a streamed ack's source may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

pub(crate) enum Body {
    Bytes(Bytes),
    Stream { length: u64, chunks: Chunks },
}

/// Why an [`Ack`] cannot be built, or was not sent as it was declared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The header belongs to the connection, which wasi:http leaves to the host.
    #[error("forbidden header: `{}` (only the host sets it)", .0.as_str())]
    ForbiddenHeader(HeaderName),
    /// The header's name or value is not valid HTTP.
    #[error("invalid header `{name}`: {reason}")]
    InvalidHeader {
        /// The name, as it was given.
        name: String,
        /// What is wrong with it or with its value.
        reason: String,
    },
    /// The body is not as long as was declared.
    #[error("wrong Content-Length: {declared} bytes declared, {at_least}{actual} in the body",
        at_least = if *.more { "at least " } else { "" })]
    WrongLength {
        /// The declared length, in bytes.
        declared: u64,
        /// The length of the body, in bytes, as far as it is known.
        actual: u64,
        /// Whether the body went on after `actual` bytes.
        more: bool,
    },
    /// A 1xx status announces the response; it cannot be that of an ack.
    #[error("interim status: {0} (an ack is the final response)")]
    NotFinal(StatusCode),
    /// The status allows no body ([RFC 9110 §6.4.1](https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1)).
    #[error("body not allowed: {length} bytes with {status}")]
    Bodiless {
        /// The status that allows no body.
        status: StatusCode,
        /// The length of the body, in bytes.
        length: u64,
    },
    /// The source of a streamed ack failed.
    #[error("body stream failed after {sent} of {declared} bytes: {error}")]
    Source {
        /// The declared length, in bytes.
        declared: u64,
        /// How many bytes the source gave before it failed.
        sent: u64,
        /// The source's own error.
        #[source]
        error: BoxError,
    },
    /// The host accepts no response with these headers (`wasi:http/types`, `header-error`).
    #[error("headers refused by the host: {0}")]
    Refused(String),
}

impl Ack {
    /// An ack with this body and `Content-Type`, or none if the content type is empty.
    fn bytes(content_type: &'static str, body: Bytes) -> Ack {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Ack { status: StatusCode::ACCEPTED, headers, body: Body::Bytes(body) }
    }

    /// Plain text, in UTF-8.
    pub fn text(body: impl Into<String>) -> Ack {
        Ack::bytes("text/plain; charset=utf-8", body.into().into())
    }

    /// HTML, in UTF-8.
    pub fn html(body: impl Into<String>) -> Ack {
        Ack::bytes("text/html; charset=utf-8", body.into().into())
    }

    /// JSON text as it is, such as `serde_json::Value::to_string` gives it.
    pub fn json(body: impl Into<String>) -> Ack {
        Ack::bytes("application/json", body.into().into())
    }

    /// Bytes of any kind: `application/octet-stream` unless [`header`](Ack::header) says otherwise.
    pub fn binary(body: impl Into<Bytes>) -> Ack {
        Ack::bytes("application/octet-stream", body.into())
    }

    /// No body: `Content-Length: 0`, or no length at all with a status that has none (204, 304).
    pub fn empty() -> Ack {
        Ack::bytes("", Bytes::new())
    }

    /// A body of exactly `length` bytes that is produced while it is sent, in chunks of any size.
    ///
    /// No `Content-Type` is set. If the first chunk shows that `length` is wrong, the client gets a 500
    /// problem instead of the ack. If a later one does, the response is broken off, so that no client
    /// takes it for complete. [`Delivery::Failed`](crate::Delivery::Failed) holds the error, which names
    /// both numbers.
    pub fn stream<S, E>(length: u64, chunks: S) -> Ack
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Into<BoxError>,
    {
        Ack {
            status: StatusCode::ACCEPTED,
            headers: HeaderMap::new(),
            body: Body::Stream { length, chunks: Box::pin(BoxErrors(Box::pin(chunks))) },
        }
    }

    /// Sets the status.
    ///
    /// # Errors
    /// [`AckError::NotFinal`] for a 1xx status; [`AckError::Bodiless`] for 204, 205 or 304 if the
    /// ack has a body.
    pub fn status(mut self, status: StatusCode) -> Result<Ack, AckError> {
        if status.is_informational() {
            return Err(AckError::NotFinal(status));
        }
        if is_bodiless(status) && self.length() > 0 {
            return Err(AckError::Bodiless { status, length: self.length() });
        }
        self.status = status;
        Ok(self)
    }

    /// Adds a header; `Content-Type` and `Cache-Control` are replaced instead of doubled.
    ///
    /// # Errors
    /// [`AckError::ForbiddenHeader`] for the headers that the host sets, on every host alike:
    /// `Connection`, `Host`, `HTTP2-Settings`, `Keep-Alive`, `Proxy-…`, `Transfer-Encoding`, `Upgrade`.
    /// [`AckError::InvalidHeader`] if the name or value is not valid. [`AckError::WrongLength`] for
    /// a `Content-Length` that is not the body's.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Ack, AckError> {
        let length = self.length();
        add(&mut self.headers, length, name.as_ref(), value.as_ref())?;
        Ok(self)
    }

    /// The length of the body, in bytes.
    pub fn length(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Stream { length, .. } => *length,
        }
    }

    /// The status, the headers as they go to the host, and the body: nothing of it if `method` is
    /// HEAD, whose answer has the length of the body that GET would get.
    pub(crate) fn into_parts(self, method: &Method) -> (StatusCode, Vec<(String, Vec<u8>)>, Body) {
        let length = self.length();
        let mut fields = Vec::with_capacity(self.headers.len() + 2);
        if !is_bodiless(self.status) || self.status == StatusCode::RESET_CONTENT {
            fields.push((header::CONTENT_LENGTH.as_str().to_owned(), length.to_string().into_bytes()));
        }
        if !self.headers.contains_key(header::CACHE_CONTROL) {
            fields.push((header::CACHE_CONTROL.as_str().to_owned(), b"no-transform".to_vec()));
        }
        for (name, value) in &self.headers {
            fields.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
        }
        let body = if method == Method::HEAD { Body::Bytes(Bytes::new()) } else { self.body };
        (self.status, fields, body)
    }
}

/// Adds a header to those of a response whose body has `length` bytes, by the rules of [`Ack::header`].
pub(crate) fn add(headers: &mut HeaderMap, length: u64, name: &str, value: &[u8]) -> Result<(), AckError> {
    let invalid = |reason: String| AckError::InvalidHeader { name: name.into(), reason };
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("not a header name".into()))?;
    let value =
        HeaderValue::from_bytes(value).map_err(|_| invalid("control character in the value".into()))?;
    if is_forbidden(&parsed) {
        return Err(AckError::ForbiddenHeader(parsed));
    }
    match parsed {
        header::CONTENT_LENGTH => {
            let text = String::from_utf8_lossy(value.as_bytes());
            let declared = text.parse().map_err(|_| invalid(format!("`{text}` is not a number of bytes")))?;
            if declared != length {
                return Err(AckError::WrongLength { declared, actual: length, more: false });
            }
            // It is set when the response is sent, from the body itself.
        }
        header::CONTENT_TYPE | header::CACHE_CONTROL => drop(headers.insert(parsed, value)),
        _ => drop(headers.append(parsed, value)),
    }
    Ok(())
}

/// 204 and 304 end at their headers, 205 has an empty body (RFC 9110 §15.3.5, §15.3.6, §15.4.5).
fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The headers that wasi:http hosts set themselves: those of the connection.
fn is_forbidden(name: &HeaderName) -> bool {
    const FORBIDDEN: [&str; 6] =
        ["connection", "host", "http2-settings", "keep-alive", "transfer-encoding", "upgrade"];
    FORBIDDEN.contains(&name.as_str()) || name.as_str().starts_with("proxy-")
}

/// A stream whose errors are boxed.
struct BoxErrors<S>(Pin<Box<S>>);

impl<S, E> Stream for BoxErrors<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<BoxError>,
{
    type Item = Result<Bytes, BoxError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx).map(|chunk| chunk.map(|chunk| chunk.map_err(Into::into)))
    }
}

impl std::fmt::Debug for Ack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ack")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("length", &self.length())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(ack: Ack) -> Vec<(String, String)> {
        let (_, fields, _) = ack.into_parts(&Method::GET);
        fields.into_iter().map(|(name, value)| (name, String::from_utf8(value).unwrap())).collect()
    }

    fn field(ack: Ack, name: &str) -> Option<String> {
        fields(ack).into_iter().find(|field| field.0 == name).map(|field| field.1)
    }

    #[test]
    fn every_constructor_declares_its_length_and_type() {
        for (ack, length, content_type) in [
            (Ack::text("höre"), "5", Some("text/plain; charset=utf-8")),
            (Ack::html("<p>"), "3", Some("text/html; charset=utf-8")),
            (Ack::json("{}"), "2", Some("application/json")),
            (Ack::binary(vec![0; 7]), "7", Some("application/octet-stream")),
            (Ack::empty(), "0", None),
        ] {
            let fields = fields(ack);
            let get = |name: &str| fields.iter().find(|f| f.0 == name).map(|f| f.1.as_str());
            assert_eq!(get("content-length"), Some(length));
            assert_eq!(get("content-type"), content_type);
            assert_eq!(get("cache-control"), Some("no-transform"));
        }
    }

    #[test]
    fn forbidden_headers_are_named() {
        for name in [
            "Connection",
            "Transfer-Encoding",
            "Keep-Alive",
            "Upgrade",
            "Host",
            "HTTP2-Settings",
            "Proxy-Connection",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "proxy-anything",
        ] {
            let error = Ack::text("x").header(name, "1").unwrap_err();
            assert!(matches!(error, AckError::ForbiddenHeader(_)));
            assert!(error.to_string().contains(&format!("`{}`", name.to_lowercase())), "{error}");
        }
    }

    #[test]
    fn invalid_headers_are_named() {
        let error = Ack::text("x").header("a b", "1").unwrap_err();
        assert_eq!(error.to_string(), "invalid header `a b`: not a header name");
        let error = Ack::text("x").header("x-split", "1\r\nSet-Cookie: a").unwrap_err();
        assert!(error.to_string().starts_with("invalid header `x-split`: "), "{error}");
    }

    #[test]
    fn a_wrong_declared_length_names_both_numbers() {
        let error = Ack::text("abcd").header("Content-Length", "5").unwrap_err();
        assert_eq!(error.to_string(), "wrong Content-Length: 5 bytes declared, 4 in the body");
        let error = Ack::text("abcd").header("Content-Length", "-5").unwrap_err();
        assert_eq!(error.to_string(), "invalid header `Content-Length`: `-5` is not a number of bytes");
        let ack = Ack::text("abcd").header("Content-Length", "4").unwrap();
        assert_eq!(fields(ack).iter().filter(|f| f.0 == "content-length").count(), 1);
    }

    #[test]
    fn statuses_without_a_body_refuse_one() {
        for status in [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED] {
            let error = Ack::text("abcd").status(status).unwrap_err();
            assert!(error.to_string().contains("4 bytes"), "{error}");
        }
        let no_content = Ack::empty().status(StatusCode::NO_CONTENT).unwrap();
        assert_eq!(field(no_content, "content-length"), None);
        let error = Ack::empty().status(StatusCode::CONTINUE).unwrap_err();
        assert_eq!(error.to_string(), "interim status: 100 Continue (an ack is the final response)");
    }

    #[test]
    fn head_keeps_the_length_and_drops_the_body() {
        let (_, fields, body) = Ack::text("abcd").into_parts(&Method::HEAD);
        assert!(fields.contains(&("content-length".into(), b"4".to_vec())));
        assert!(matches!(body, Body::Bytes(bytes) if bytes.is_empty()));
    }

    #[test]
    fn cache_control_and_content_type_are_replaced_and_others_added() {
        let ack = Ack::text("x").header("Cache-Control", "no-store").unwrap();
        assert_eq!(field(ack, "cache-control").unwrap(), "no-store");
        let ack = Ack::text("x").header("Content-Type", "text/csv").unwrap();
        assert_eq!(field(ack, "content-type").unwrap(), "text/csv");
        let ack = Ack::text("x").header("Set-Cookie", "a=1").unwrap().header("Set-Cookie", "b=2").unwrap();
        assert_eq!(fields(ack).iter().filter(|f| f.0 == "set-cookie").count(), 2);
    }
}
