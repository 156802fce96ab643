//! Cross-origin requests by pages that `AFTERACK_ORIGINS` names
//! ([the Fetch standard](https://fetch.spec.whatwg.org/#http-cors-protocol)).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};

use crate::jobs::config::Config;
use crate::{Ack, Bytes, Method, Request, StatusCode};

/// What a page may send beyond what every page may.
const HEADERS: &str =
    "authorization, content-type, delay, idempotency-key, job-group, last-event-id, notify, prefer";

/// What a page may read beyond what every page may.
const EXPOSED: &str =
    "allow, content-length, link, location, preference-applied, retry-after, www-authenticate";

/// The answer to a browser's question whether a page may send a request, if this is one.
pub fn preflight(request: &Request<Bytes>, config: &Config) -> Option<Ack> {
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && allowed(request.headers(), config).is_some();
    if !asks {
        return None;
    }
    let mut ack = Ack::empty().status(StatusCode::NO_CONTENT).ok()?;
    ack.headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, DELETE"));
    ack.headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    ack.headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    Some(ack)
}

/// Lets the page read the answer, if it may.
pub fn mark(mut ack: Ack, request: &HeaderMap, config: &Config) -> Ack {
    if !config.origins.is_empty() {
        ack.headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = allowed(request, config) {
        if origin != "*" {
            // `sendBeacon` and `credentials: "include"` need it, and no browser takes it with `*`.
            ack.headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        ack.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        ack.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    ack
}

/// The same for answers to requests that do not reach the service.
pub fn mark_early(ack: Ack, request: &HeaderMap) -> Ack {
    match Config::get() {
        Ok(config) => mark(ack, request, &config),
        Err(_) => ack,
    }
}

/// Whose pages may read the answer: those of the request's origin, if that is allowed, or everybody's.
fn allowed(request: &HeaderMap, config: &Config) -> Option<HeaderValue> {
    let origin = request.get(ORIGIN)?;
    let allowed = config.origins.iter().find(|allowed| *allowed == "*" || origin == allowed.as_str())?;
    HeaderValue::from_str(allowed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(origins: &[&str], origin: &'static str) -> HeaderMap {
        let config = Config { origins: origins.iter().map(|o| o.to_string()).collect(), ..Config::default() };
        let mut request = HeaderMap::new();
        request.insert(ORIGIN, HeaderValue::from_static(origin));
        mark(Ack::text(""), &request, &config).headers
    }

    #[test]
    fn only_origins_that_are_named_are_allowed() {
        for (origins, origin, allowed, credentials) in [
            (&["https://a.org"][..], "https://a.org", Some("https://a.org"), Some("true")),
            (&["*"], "https://b.org", Some("*"), None),
            (&[], "https://a.org", None, None),
            (&["https://a.org"], "https://a.org.evil.com", None, None),
            (&["https://a.org"], "http://a.org", None, None),
            (&["https://a.org"], "null", None, None),
        ] {
            let headers = marked(origins, origin);
            let get = |name| headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(get(ACCESS_CONTROL_ALLOW_ORIGIN), allowed, "{origin}");
            assert_eq!(get(ACCESS_CONTROL_ALLOW_CREDENTIALS), credentials, "{origin}");
        }
    }
}
