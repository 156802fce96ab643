//! The `http` worker: jobs whose work another program does, in any language, behind a URL of its own.
//!
//! Its input is posted there, and what is answered becomes its output. A call that is cut off is made again: the
//! job's id goes along as `Idempotency-Key`, by which the upstream can tell.

use std::rc::Rc;
use std::time::Duration;

use super::{Failure, Job, Output, Worker};
use crate::jobs::config::duration;
use crate::jobs::host::{Host, Real};
use crate::jobs::job::Id;
use crate::jobs::outgoing::{Answer, Call, USER_AGENT, field};
use crate::jobs::url::Url;

/// How long an upstream may take if its setting does not say.
const TIME: Duration = Duration::from_secs(300);

/// The longest name of a worker, in bytes.
const NAME: usize = 64;

/// The fields of a request that are recorded with its job and sent along, beside its `Content-Type`.
const FORWARDED: [&str; 5] = ["accept", "accept-language", "traceparent", "tracestate", "x-request-id"];

/// The longest content type of an answer, in bytes.
const CONTENT_TYPE: usize = 1024;

/// What an answer is that does not say.
const BINARY: &str = "application/octet-stream";

/// An endpoint that jobs are forwarded to.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The worker's name.
    pub name: String,
    url: Url,
    time: Duration,
}

impl Upstream {
    /// By a setting: `NAME` of `AFTERACK_UPSTREAM_NAME`, and its value like `http://127.0.0.1:9000/report
    /// timeout=60s`. The worker's name is the variable's in lower case, with `-` for `_`.
    ///
    /// # Errors
    /// In words: what is wrong with the one or the other.
    pub fn parse(name: &str, value: &str) -> Result<Upstream, String> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_plain || name.len() > NAME || name.split('-').any(str::is_empty) {
            return Err(format!(
                "invalid name `{name}` (expected letters, digits and single `_`, at most {NAME})"
            ));
        }
        if name == "retry" {
            return Err("`retry` is taken: POST /jobs/retry is about jobs that have failed".into());
        }
        let mut parts = value.split_whitespace();
        let url = parts.next().unwrap_or_default();
        // A URL with a password in it is not repeated.
        let shown = if url.contains('@') { "…" } else { url };
        let url = Url::parse(url).map_err(|reason| {
            format!(
                "invalid URL `{shown}`: {reason} (expected e.g. http://127.0.0.1:9000/report timeout=60s)"
            )
        })?;
        let mut time = TIME;
        for part in parts {
            let text = part.strip_prefix("timeout=");
            time = duration(text.ok_or_else(|| format!("unknown option `{part}` (expected timeout=60s)"))?)?;
        }
        Ok(Upstream { name, url, time })
    }
}

/// The worker that forwards jobs to this upstream, whose answer has at most so many bytes.
pub fn worker(upstream: Rc<Upstream>, most: usize) -> Worker {
    let (name, time) = (upstream.name.clone(), upstream.time);
    let work = async move |job: Job| call(&upstream, &job, most).await;
    // The call has a limit of its own, in better words.
    Worker::new(name, work).headers(FORWARDED).step(time + Duration::from_secs(60))
}

/// [W3C Trace Context §3.2](https://www.w3.org/TR/trace-context/#traceparent-header).
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id =
        |part: &str, length| part.len() == length && is_hex(part) && part.bytes().any(|byte| byte != b'0');
    let parts: Vec<_> = text.split('-').collect();
    match parts[..] {
        ["00", trace, parent, flags] => {
            is_id(trace, 32) && is_id(parent, 16) && flags.len() == 2 && is_hex(flags)
        }
        // Of later versions this is the beginning.
        [version, trace, parent, flags, ..] => {
            let is_later = version.len() == 2 && is_hex(version) && !["00", "ff"].contains(&version);
            is_later && is_id(trace, 32) && is_id(parent, 16) && flags.len() == 2 && is_hex(flags)
        }
        _ => false,
    }
}

/// A trace that begins with the job, whose id it has: the same for all tries.
fn traceparent(id: Id) -> String {
    let digits: String = id.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("00-{digits}-{}-01", &digits[16..])
}

/// Posts the input and takes the answer, of at most `most` bytes, for the output.
async fn call(upstream: &Upstream, job: &Job, most: usize) -> Result<Output, Failure> {
    let (name, input, now) = (&upstream.name, job.input(), Real::new().wall());
    let mut headers = vec![
        field("idempotency-key", job.id().to_string()),
        field("user-agent", USER_AGENT),
        // What comes encoded could not be told from what does not.
        field("accept-encoding", "identity"),
    ];
    headers.extend(input.content_type.as_deref().map(|value| field("content-type", value)));
    let trace = input.header("traceparent").filter(|value| is_traceparent(value));
    let is_kept = |name: &str| trace.is_some() || !name.starts_with("trace");
    let kept = input.headers.iter().filter(|(name, _)| is_kept(name));
    headers.extend(kept.map(|(name, value)| field(name, value)));
    if trace.is_none() {
        headers.push(field("traceparent", traceparent(job.id())));
    }
    let call = Call { url: &upstream.url.uri, headers, body: &input.body, time: upstream.time, most };
    let answer = call.send().await.map_err(|error| Failure::retry(format!("upstream `{name}`: {error}")))?;
    if (200..300).contains(&answer.status) {
        return output(answer, most).map_err(|error| Failure::fatal(format!("upstream `{name}`: {error}")));
    }
    let error = format!("upstream `{name}` answered {}", answer.words());
    match answer.status {
        408 | 425 | 429 | 500..600 => Err(Failure::retry(error).after(answer.retry_after(now))),
        _ => Err(Failure::fatal(error)),
    }
}

fn output(answer: Answer, most: usize) -> Result<Output, String> {
    if !answer.is_whole {
        let size = answer.header("content-length").unwrap_or("more");
        return Err(format!("its answer is too long: {size} bytes (limit {most}, see AFTERACK_BODY)"));
    }
    if let Some(encoding) = answer.header("content-encoding").filter(|encoding| *encoding != "identity") {
        let encoding: String = encoding.chars().take(20).collect();
        return Err(format!("its answer is encoded: {encoding} (expected none, as Accept-Encoding says)"));
    }
    let is_plain = |value: &&str| {
        (1..=CONTENT_TYPE).contains(&value.len()) && !value.bytes().any(|byte| byte.is_ascii_control())
    };
    let content_type = answer.header("content-type").filter(is_plain).unwrap_or(BINARY).to_owned();
    Ok(Output::new(content_type, answer.body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeaderMap;
    use crate::jobs::host::tests::Native;

    #[test]
    fn an_upstream_has_a_name_a_url_and_a_time() {
        let upstream =
            Upstream::parse("SEND_Mail2", " http://127.0.0.1:9000/report?x  timeout=90s ").unwrap();
        assert_eq!((upstream.name.as_str(), upstream.time), ("send-mail2", Duration::from_secs(90)));
        assert_eq!(upstream.url.uri, "http://127.0.0.1:9000/report?x");
        assert_eq!(Upstream::parse("a", "https://example.org").unwrap().time, TIME);
        for (name, value, named) in [
            ("Retry", "http://a", "`retry` is taken"),
            ("", "http://a", "invalid name ``"),
            ("_A", "http://a", "invalid name `-a`"),
            ("A__B", "http://a", "invalid name `a--b`"),
            ("A.B", "http://a", "invalid name `a.b`"),
            ("Ä", "http://a", "invalid name"),
            ("A", "", "invalid URL ``"),
            ("A", "127.0.0.1:9000", "invalid URL `127.0.0.1:9000`"),
            ("A", "ftp://a", "invalid URL `ftp://a`"),
            ("A", "http://a timeout", "unknown option `timeout`"),
            ("A", "http://a timeout=x", "invalid duration `x`"),
        ] {
            let error = Upstream::parse(name, value).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        let error = Upstream::parse("A", "http://user:s3cret@a/").unwrap_err();
        assert!(error.contains("user information") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_trace_is_kept_if_it_is_one() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for text in [
            valid,
            &traceparent(Id::new(&Native)),
            &valid.replacen("00", "01", 1),
            &format!("cc{}-x", &valid[2..]),
        ] {
            assert!(is_traceparent(text), "{text}");
        }
        for text in [
            "",
            &valid[1..],
            &valid.to_uppercase(),
            &format!("{valid}-x"),
            &valid.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_traceparent(text), "{text}");
        }
    }

    #[test]
    fn few_fields_are_kept_and_none_that_is_a_secret() {
        let upstream = Upstream::parse("A", "http://a").unwrap();
        let worker = worker(Rc::new(upstream), 1);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "text/csv"),
            ("accept", "text/plain"),
            ("tracestate", "a=1"),
            ("authorization", "Bearer s3cret"),
            ("cookie", "session=s3cret"),
            ("host", "localhost"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        headers.insert("x-request-id", "x".repeat(513).parse().unwrap());
        let kept = [("accept", "text/csv, text/plain"), ("tracestate", "a=1")];
        assert_eq!(worker.kept(&headers), kept.map(|(name, value)| (name.into(), value.into())));
    }
}
