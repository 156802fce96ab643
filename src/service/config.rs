//! The settings: environment variables, the one kind of configuration that all hosts share.
//!
//! They are read anew by every invocation, which costs microseconds, and every mistake in them is named
//! at once: a service that runs with half of its settings is worse than one that says what is wrong.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::store::SLOTS;
use crate::mail::{Address, MailError, Smtp};
use crate::{BODY_LIMIT, Problem, StatusCode};

/// The settings of this invocation.
#[derive(Debug)]
pub struct Config {
    /// `AFTERACK_STORE`: the directory that jobs are kept in.
    pub store: String,
    /// `AFTERACK_DRAINS`: how many instances run jobs at once.
    pub drains: usize,
    /// `AFTERACK_LANES`: how many jobs each of them runs at once.
    pub lanes: usize,
    /// `AFTERACK_QUEUE`: how many jobs may wait.
    pub queue: usize,
    /// `AFTERACK_LEASE`: how long after the last sign of life of an instance its jobs are taken over.
    pub lease: Duration,
    /// `AFTERACK_BUDGET`: how long an invocation goes on after its answer.
    pub budget: Option<Duration>,
    /// `AFTERACK_SELF`: where this component is reached, to hand the rest of the work over.
    pub base: Option<String>,
    /// `AFTERACK_ATTEMPTS`: how often a step is tried.
    pub attempts: u32,
    /// `AFTERACK_BACKOFF`: the shortest and the longest time between two tries.
    pub backoff: RangeInclusive<Duration>,
    /// `AFTERACK_KEEP`: how long jobs are kept that have ended.
    pub keep: Duration,
    /// `AFTERACK_NOTIFY_FOR`: how long telling a target is tried.
    pub notify_for: Duration,
    /// `AFTERACK_BODY`: the largest input, in bytes.
    pub body: u64,
    /// `AFTERACK_TOKEN`: what clients must show.
    pub token: Option<String>,
    /// `AFTERACK_ORIGINS`: whose pages may use this in a browser; `*` is everybody's.
    pub origins: Vec<String>,
    /// `AFTERACK_SMTP`: the server that mail is handed to.
    pub smtp: Option<Smtp>,
    /// `AFTERACK_MAIL_FROM`: whom the mail is from.
    pub mail_from: Option<Address>,
    /// `AFTERACK_NOTIFY_ALLOW`: whom it may go to, patterns with `*` at one end of the address.
    pub notify_allow: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        const SECOND: Duration = Duration::from_secs(1);
        Config {
            store: "/data".into(),
            drains: 4,
            lanes: 64,
            queue: 100_000,
            lease: 30 * SECOND,
            budget: None,
            base: None,
            attempts: 5,
            backoff: SECOND..=300 * SECOND,
            keep: 7 * 24 * 3600 * SECOND,
            notify_for: 4 * 24 * 3600 * SECOND,
            body: BODY_LIMIT,
            token: None,
            origins: Vec::new(),
            smtp: None,
            mail_from: None,
            notify_allow: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// A 500 problem that names every variable that is wrong, its value, and why.
    pub fn read() -> Result<Config, Problem> {
        Config::parse(wasi::cli::environment::get_environment())
            .map_err(|mistakes| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, mistakes.join("; ")))
    }

    fn parse(variables: impl IntoIterator<Item = (String, String)>) -> Result<Config, Vec<String>> {
        let mut config = Config::default();
        let mut mistakes = Vec::new();
        for (name, value) in variables {
            let Some(setting) = name.strip_prefix("AFTERACK_") else { continue };
            let wrong = |reason: String| format!("{name}: {reason}");
            let result = match setting {
                "STORE" => store(&value).map(|store| config.store = store),
                "DRAINS" => number(&value, 1..=SLOTS).map(|drains| config.drains = drains),
                "LANES" => number(&value, 1..=10_000).map(|lanes| config.lanes = lanes),
                "QUEUE" => number(&value, 1..=10_000_000).map(|queue| config.queue = queue),
                "LEASE" => duration(&value).map(|lease| config.lease = lease),
                "BUDGET" => duration(&value).map(|budget| config.budget = Some(budget)),
                "SELF" => base(&value).map(|base| config.base = Some(base)),
                "ATTEMPTS" => number(&value, 1..=1000).map(|attempts| config.attempts = attempts as u32),
                "BACKOFF" => durations(&value).map(|backoff| config.backoff = backoff),
                "KEEP" => duration(&value).map(|keep| config.keep = keep),
                "NOTIFY_FOR" => duration(&value).map(|time| config.notify_for = time),
                "BODY" => size(&value).map(|size| config.body = size),
                "TOKEN" => token(value).map(|token| config.token = Some(token)),
                "ORIGINS" => origins(&value).map(|origins| config.origins = origins),
                "SMTP" => server(&value).map(|server| config.smtp = Some(server)),
                "MAIL_FROM" => address(&value).map(|address| config.mail_from = Some(address)),
                "NOTIFY_ALLOW" => patterns(&value).map(|patterns| config.notify_allow = patterns),
                _ => Err("there is no such setting".into()),
            };
            mistakes.extend(result.err().map(wrong));
        }
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }
}

/// A number of bytes: `1000`, `64KiB`, `1MiB`. At most 64 MiB, which an instance can still hold.
fn size(text: &str) -> Result<u64, String> {
    const MOST: u64 = 64 << 20;
    let (number, unit) = match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
        (Some(number), _) => (number, 1 << 10),
        (_, Some(number)) => (number, 1 << 20),
        _ => (text, 1),
    };
    let size = number.trim_end().parse().ok().and_then(|number: u64| number.checked_mul(unit));
    match size {
        Some(size) if size <= MOST => Ok(size),
        Some(_) => Err(format!("`{text}` is more than 64MiB")),
        None => Err(format!("`{text}` is no size; it is written like 1000, 64KiB or 1MiB")),
    }
}

fn store(text: &str) -> Result<String, String> {
    match text.strip_prefix("dir:") {
        Some(path) if path.starts_with('/') => Ok(path.into()),
        _ => Err(format!("`{text}` is no store; there is: dir:/data, a directory that the host mounts")),
    }
}

fn number(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let (least, most) = (range.start(), range.end());
    let number = text.parse().map_err(|_| format!("`{text}` is no number; it may be {least} to {most}"))?;
    if range.contains(&number) { Ok(number) } else { Err(format!("`{text}` is not {least} to {most}")) }
}

/// `500ms`, `30s`, `5m`, `7d`. At least 1 ms, at most a year.
fn duration(text: &str) -> Result<Duration, String> {
    const RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 3600);
    let time = humantime::parse_duration(text)
        .map_err(|error| format!("`{text}` is no time like 500ms, 30s, 5m or 7d: {error}"))?;
    if RANGE.contains(&time) { Ok(time) } else { Err(format!("`{text}` is not 1ms to 366d")) }
}

fn durations(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (least, most) = text.split_once("..").ok_or_else(|| format!("`{text}` is no range like 1s..5m"))?;
    let (least, most) = (duration(least)?, duration(most)?);
    if least <= most { Ok(least..=most) } else { Err(format!("`{text}` begins after its end")) }
}

fn base(text: &str) -> Result<String, String> {
    match text.parse::<http::Uri>() {
        Ok(uri) if uri.scheme().is_some() && uri.query().is_none() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("`{text}` is no URL like http://127.0.0.1:8080")),
    }
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    let wrong = |origin: &&str| *origin != "*" && !is_origin(origin);
    match text.split_whitespace().find(wrong) {
        Some(origin) => Err(format!("`{origin}` is no origin like https://example.com")),
        None => Ok(text.split_whitespace().map(str::to_owned).collect()),
    }
}

/// Scheme, host and port, as browsers write it ([RFC 6454](https://www.rfc-editor.org/rfc/rfc6454#section-6.2)).
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    !scheme.is_empty() && !host.is_empty() && !host.contains('/') && text == text.to_ascii_lowercase()
}

fn token(text: String) -> Result<String, String> {
    if text.is_empty() { Err("it is empty, which would let everybody in".into()) } else { Ok(text) }
}

fn server(text: &str) -> Result<Smtp, String> {
    text.parse().map_err(|error: MailError| error.to_string())
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error: MailError| error.to_string())
}

fn patterns(text: &str) -> Result<Vec<String>, String> {
    let wrong = |pattern: &&str| !pattern.starts_with("mailto:");
    match text.split_whitespace().find(wrong) {
        Some(pattern) => Err(format!("`{pattern}` is no mailto: pattern, like mailto:*@example.com")),
        None => Ok(text.split_whitespace().map(str::to_ascii_lowercase).collect()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn config(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        Config::parse(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())))
    }

    #[test]
    fn settings_are_read_and_others_ignored() {
        let config = config(&[
            ("PATH", "/bin"),
            ("AFTERACK_BODY", "64KiB"),
            ("AFTERACK_TOKEN", "s3cret"),
            ("AFTERACK_SMTP", "smtp://127.0.0.1:2525"),
            ("AFTERACK_MAIL_FROM", "afterack@localhost"),
            ("AFTERACK_NOTIFY_ALLOW", "mailto:*@example.com mailto:Boss@example.org"),
            ("AFTERACK_STORE", "dir:/var/jobs"),
            ("AFTERACK_LANES", "250"),
            ("AFTERACK_LEASE", "1m"),
            ("AFTERACK_BACKOFF", "10ms..2s"),
            ("AFTERACK_SELF", "http://127.0.0.1:8080/"),
            ("AFTERACK_ORIGINS", "https://a.org http://localhost:3000"),
        ])
        .unwrap();
        assert_eq!(config.store, "/var/jobs");
        assert_eq!((config.lanes, config.lease), (250, Duration::from_secs(60)));
        assert_eq!(config.backoff, Duration::from_millis(10)..=Duration::from_secs(2));
        assert_eq!(config.base.as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(config.origins, ["https://a.org", "http://localhost:3000"]);
        assert_eq!(config.body, 65_536);
        assert_eq!(config.token.as_deref(), Some("s3cret"));
        assert_eq!(config.smtp.unwrap().to_string(), "127.0.0.1:2525");
        assert_eq!(config.notify_allow, ["mailto:*@example.com", "mailto:boss@example.org"]);
    }

    #[test]
    fn every_mistake_is_named_with_its_value() {
        let mistakes = config(&[
            ("AFTERACK_BODY", "lots"),
            ("AFTERACK_SMTP", "http://mail"),
            ("AFTERACK_MAIL_FROM", "me"),
            ("AFTERACK_NOTIFY_ALLOW", "https://*"),
            ("AFTERACK_TOKEN", ""),
            ("AFTERACK_TOKN", "x"),
            ("AFTERACK_STORE", "sqlite"),
            ("AFTERACK_DRAINS", "9"),
            ("AFTERACK_LANES", "0"),
            ("AFTERACK_QUEUE", "many"),
            ("AFTERACK_LEASE", "30"),
            ("AFTERACK_BUDGET", "0s"),
            ("AFTERACK_SELF", "localhost"),
            ("AFTERACK_BACKOFF", "5m..1s"),
            ("AFTERACK_ORIGINS", "https://a.org/"),
        ])
        .unwrap_err();
        for (mistake, text) in mistakes.iter().zip([
            "AFTERACK_BODY: `lots`",
            "AFTERACK_SMTP: `http://mail`",
            "AFTERACK_MAIL_FROM: `me`",
            "AFTERACK_NOTIFY_ALLOW: `https://*`",
            "AFTERACK_TOKEN: it is empty",
            "AFTERACK_TOKN: there is no such setting",
            "AFTERACK_STORE: `sqlite` is no store",
            "AFTERACK_DRAINS: `9` is not 1 to 8",
            "AFTERACK_LANES: `0` is not 1 to 10000",
            "AFTERACK_QUEUE: `many` is no number",
            "AFTERACK_LEASE: `30` is no time",
            "AFTERACK_BUDGET: `0s` is not 1ms to 366d",
            "AFTERACK_SELF: `localhost` is no URL",
            "AFTERACK_BACKOFF: `5m..1s` begins after its end",
            "AFTERACK_ORIGINS: `https://a.org/` is no origin",
        ]) {
            assert!(mistake.starts_with(text), "{mistake}");
        }
        assert_eq!(mistakes.len(), 15);
    }

    #[test]
    fn sizes_have_units_and_a_limit() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("64 MiB"), Ok(64 << 20));
        for text in
            ["", "MiB", "-1", "1.5MiB", "1GB", "65MiB", "99999999999999999999", "18446744073709551615KiB"]
        {
            assert!(size(text).unwrap_err().contains(&format!("`{text}`")));
        }
    }
}
