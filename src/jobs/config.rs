//! The settings: environment variables, the one kind of configuration that all hosts share.
//!
//! They cannot change while an instance lives, and are read once. A mistake in them is named in every
//! answer: a service that runs with half of its settings is worse than one that says what is wrong.

use std::cell::OnceCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use http::Uri;

use super::notify::{Pattern, Secret, secrets};
use super::store::{Location, SLOTS};
use super::url::Url;
use super::worker::Upstream;
use crate::mail::{Address, MailError, Smtp};
use crate::{BODY_LIMIT, IDLE, Problem, StatusCode};

/// The settings of this invocation.
#[derive(Debug)]
pub struct Config {
    /// `AFTERACK_STORE`: where jobs are kept.
    pub store: Location,
    /// `AFTERACK_DRAINS`: how many instances run jobs at once.
    pub drains: usize,
    /// `AFTERACK_LANES`: how many jobs each of them runs at once.
    pub lanes: usize,
    /// `AFTERACK_QUEUE`: how many jobs may wait.
    pub queue: usize,
    /// `AFTERACK_LEASE`: how long after the last sign of life of an instance its jobs are taken over. At most half
    /// of the budget, if there is one: somebody has to live for so long to see that another gives none.
    pub lease: Duration,
    /// `AFTERACK_BUDGET`: how long an invocation goes on after its answer. wasmCloud ends one that has run for 10 s,
    /// its waiting for a database included.
    pub budget: Option<Duration>,
    /// `AFTERACK_SELF`: where this component is reached, to hand the rest of the work over.
    pub base: Option<Uri>,
    /// `AFTERACK_ATTEMPTS`: how often a step is tried.
    pub attempts: u32,
    /// `AFTERACK_BACKOFF`: the shortest and the longest time between two tries.
    pub backoff: RangeInclusive<Duration>,
    /// `AFTERACK_RECORD`: how many bytes the results of a job's steps may have, all together.
    pub record: usize,
    /// `AFTERACK_STEP`: how long a step may take.
    pub step: Option<Duration>,
    /// `AFTERACK_KEEP`: how long jobs are kept that have ended.
    pub keep: Duration,
    /// `AFTERACK_NOTIFY_FOR`: how long telling a target is tried.
    pub notify_for: Duration,
    /// `AFTERACK_BODY`: the largest input and the largest answer of an upstream, in bytes.
    pub body: u64,
    /// `AFTERACK_IDLE`: how long an upload may make no progress.
    pub idle: Duration,
    /// `AFTERACK_WAITERS`: how many clients may wait for an answer at once.
    pub waiters: usize,
    /// `AFTERACK_TOKEN`: what clients must show.
    pub token: Option<String>,
    /// `AFTERACK_ORIGINS`: whose pages may use this in a browser; `*` is everybody's.
    pub origins: Vec<String>,
    /// `AFTERACK_SMTP`: the server that mail is handed to.
    pub smtp: Option<Smtp>,
    /// `AFTERACK_MAIL_FROM`: whom the mail is from.
    pub mail_from: Option<Address>,
    /// `AFTERACK_NOTIFY_ALLOW`: who may be told of a job's end, by mail or by webhook.
    pub notify_allow: Vec<Pattern>,
    /// `AFTERACK_WEBHOOK_SECRET`: what webhooks are signed with.
    pub webhook_secrets: Vec<Secret>,
    /// `AFTERACK_UPSTREAM_<NAME>`: what jobs are forwarded to.
    pub upstreams: Vec<Rc<Upstream>>,
}

impl Default for Config {
    fn default() -> Config {
        const SECOND: Duration = Duration::from_secs(1);
        Config {
            store: Location::default(),
            drains: 4,
            lanes: 64,
            queue: 100_000,
            lease: 30 * SECOND,
            budget: cfg!(feature = "wasmcloud").then_some(5 * SECOND),
            base: None,
            attempts: 5,
            backoff: SECOND..=300 * SECOND,
            record: 1 << 20,
            step: None,
            keep: 7 * 24 * 3600 * SECOND,
            notify_for: 4 * 24 * 3600 * SECOND,
            body: BODY_LIMIT,
            idle: IDLE,
            waiters: 64,
            token: None,
            origins: Vec::new(),
            smtp: None,
            mail_from: None,
            notify_allow: Vec::new(),
            webhook_secrets: Vec::new(),
            upstreams: Vec::new(),
        }
    }
}

impl Config {
    /// The settings of this instance.
    ///
    /// # Errors
    /// A 500 problem that names every variable that is wrong, its value, and what is expected.
    pub fn get() -> Result<Rc<Config>, Problem> {
        thread_local! {
            static CONFIG: OnceCell<Result<Rc<Config>, String>> = const { OnceCell::new() };
        }
        let read = || Config::parse(settings()).map(Rc::new).map_err(|mistakes| mistakes.join("; "));
        let config = CONFIG.with(|config| config.get_or_init(read).clone());
        config.map_err(|mistakes| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, mistakes))
    }

    fn parse(variables: impl IntoIterator<Item = (String, String)>) -> Result<Config, Vec<String>> {
        let mut config = Config::default();
        let (mut chosen_lease, mut mistakes) = (None, Vec::new());
        for (name, value) in variables {
            let Some(setting) = name.strip_prefix("AFTERACK_") else { continue };
            let wrong = |reason: String| format!("{name}: {reason}");
            let result = match setting {
                "STORE" => value.parse().map(|store| config.store = store),
                "DRAINS" => number(&value, 1..=SLOTS).map(|drains| config.drains = drains),
                "LANES" => number(&value, 1..=10_000).map(|lanes| config.lanes = lanes),
                "QUEUE" => number(&value, 1..=10_000_000).map(|queue| config.queue = queue),
                "LEASE" => lease(&value).map(|lease| chosen_lease = Some(lease)),
                "BUDGET" => budget(&value).map(|budget| config.budget = Some(budget)),
                "SELF" => base(&value).map(|base| config.base = Some(base)),
                "ATTEMPTS" => number(&value, 1..=1000).map(|attempts| config.attempts = attempts as u32),
                "BACKOFF" => durations(&value).map(|backoff| config.backoff = backoff),
                "RECORD" => size(&value).map(|size| config.record = size as usize),
                "STEP" => duration(&value).map(|time| config.step = Some(time)),
                "KEEP" => duration(&value).map(|keep| config.keep = keep),
                "NOTIFY_FOR" => duration(&value).map(|time| config.notify_for = time),
                "BODY" => size(&value).map(|size| config.body = size),
                "IDLE" => duration(&value).map(|idle| config.idle = idle),
                "WAITERS" => number(&value, 0..=10_000).map(|waiters| config.waiters = waiters),
                "TOKEN" => token(&value).map(|token| config.token = Some(token)),
                "ORIGINS" => origins(&value).map(|origins| config.origins = origins),
                "SMTP" => server(&value).map(|server| config.smtp = Some(server)),
                "MAIL_FROM" => address(&value).map(|address| config.mail_from = Some(address)),
                "NOTIFY_ALLOW" => patterns(&value).map(|patterns| config.notify_allow = patterns),
                "WEBHOOK_SECRET" => secrets(&value).map(|secrets| config.webhook_secrets = secrets),
                _ => match setting.strip_prefix("UPSTREAM_") {
                    Some(name) => Upstream::parse(name, &value).and_then(|one| config.add(one)),
                    None => Err("unknown setting".into()),
                },
            };
            mistakes.extend(result.err().map(wrong));
        }
        let longest = config.budget.map_or(Duration::MAX, |budget| budget / 2);
        config.lease = chosen_lease.unwrap_or(config.lease.min(longest));
        if config.lease > longest {
            let [lease, budget] = [config.lease, longest * 2].map(humantime::format_duration);
            mistakes.push(format!("AFTERACK_LEASE: {lease} is more than half of AFTERACK_BUDGET, {budget}"));
        }
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }

    fn add(&mut self, upstream: Upstream) -> Result<(), String> {
        if self.upstreams.iter().any(|other| other.name == upstream.name) {
            return Err(format!("two upstreams are called `{}`", upstream.name));
        }
        self.upstreams.push(Rc::new(upstream));
        Ok(())
    }
}

/// The settings, by their names: environment variables.
#[cfg(not(feature = "spin"))]
fn settings() -> Vec<(String, String)> {
    wasi::cli::environment::get_environment()
}

/// The settings, by their names: in Spin, what spin.toml makes of the application's variables, and environment
/// variables over them.
#[cfg(feature = "spin")]
fn settings() -> Vec<(String, String)> {
    let mut settings = lines(&spin_sdk::variables::get("settings").unwrap_or_default());
    settings.extend(wasi::cli::environment::get_environment());
    settings
}

/// Settings in lines like `lease=30s`. An empty one is none.
#[cfg(any(feature = "spin", test))]
fn lines(text: &str) -> Vec<(String, String)> {
    let settings =
        text.lines().filter_map(|line| line.split_once('=')).filter(|(_, value)| !value.is_empty());
    settings.map(|(name, value)| (format!("AFTERACK_{}", name.to_ascii_uppercase()), value.into())).collect()
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
        Some(_) => Err(format!("{text} is out of range (at most 64MiB)")),
        None => Err(format!("invalid size `{text}` (expected e.g. 1000, 64KiB, 1MiB)")),
    }
}

fn number(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let (least, most) = (range.start(), range.end());
    let number = text.parse().map_err(|_| format!("invalid number `{text}` (expected {least} to {most})"))?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("{text} is out of range ({least} to {most})"))
    }
}

/// `500ms`, `30s`, `5m`, `7d`. At least 1 ms, at most a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    const RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 3600);
    let time = humantime::parse_duration(text)
        .map_err(|_| format!("invalid duration `{text}` (expected e.g. 500ms, 30s, 5m, 7d)"))?;
    if RANGE.contains(&time) { Ok(time) } else { Err(format!("{text} is out of range (1ms to 366d)")) }
}

/// A lease: long enough for a busy instance to renew it, short enough that nobody waits for it for long.
fn lease(text: &str) -> Result<Duration, String> {
    duration_in(text, Duration::from_secs(1)..=Duration::from_secs(600), "1s to 10m")
}

/// How long an invocation goes on: long enough for two of the shortest leases.
fn budget(text: &str) -> Result<Duration, String> {
    duration_in(text, Duration::from_secs(2)..=Duration::MAX, "2s to 366d")
}

fn duration_in(text: &str, range: RangeInclusive<Duration>, words: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if range.contains(&time) { Ok(time) } else { Err(format!("{text} is out of range ({words})")) }
}

fn durations(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (least, most) =
        text.split_once("..").ok_or_else(|| format!("invalid range `{text}` (expected e.g. 1s..5m)"))?;
    let (least, most) = (duration(least)?, duration(most)?);
    if least <= most {
        Ok(least..=most)
    } else {
        Err(format!("invalid range `{text}` (it ends before it begins)"))
    }
}

fn base(text: &str) -> Result<Uri, String> {
    match Url::parse(text) {
        Ok(url) if url.uri.query().is_none() => Ok(url.uri),
        _ => Err(format!("invalid URL `{text}` (expected e.g. http://127.0.0.1:8080)")),
    }
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    for origin in text.split_whitespace().filter(|origin| *origin != "*") {
        check_origin(origin).map_err(|reason| format!("invalid origin `{origin}`: {reason}"))?;
    }
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Scheme, host and port, as browsers write it ([RFC 6454](https://www.rfc-editor.org/rfc/rfc6454#section-6.2)).
fn check_origin(text: &str) -> Result<(), &'static str> {
    let expected = "expected scheme and host in lower case, e.g. https://example.com";
    let (scheme, host) = text.split_once("://").ok_or(expected)?;
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host, None),
    };
    let is_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._~[]:".contains(c);
    match (scheme, port) {
        _ if text.contains('*') => Err("no browser sends a wildcard (name each origin, or * alone)"),
        _ if host.contains('/') || port.is_some_and(|port| port.contains('/')) => {
            Err("no browser sends a path or a slash after the host")
        }
        ("https", Some("443")) | ("http", Some("80")) => Err("no browser sends the default port"),
        _ if scheme.is_empty() || host.is_empty() || !host.chars().all(is_host) => Err(expected),
        _ if !scheme.chars().all(|c| c.is_ascii_lowercase() || "+-.".contains(c)) => Err(expected),
        (_, Some(port)) if !port.parse::<u16>().is_ok_and(|number| number.to_string() == port) => {
            Err("invalid port")
        }
        _ => Ok(()),
    }
}

/// A token, without the white space around it that files and shells bring along.
fn token(text: &str) -> Result<String, String> {
    let token = text.trim();
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        _ if token.is_empty() => Err("empty (it would let everybody in)".into()),
        false => Err("invalid token (expected visible ASCII characters, as a header can have)".into()),
        true => Ok(token.to_owned()),
    }
}

fn server(text: &str) -> Result<Smtp, String> {
    text.parse().map_err(|error: MailError| error.to_string())
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error: MailError| error.to_string())
}

fn patterns(text: &str) -> Result<Vec<Pattern>, String> {
    text.split_whitespace().map(str::parse).collect()
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
            ("AFTERACK_TOKEN", "s3cret\n"),
            ("AFTERACK_SMTP", "smtp://127.0.0.1:2525"),
            ("AFTERACK_MAIL_FROM", "afterack@localhost"),
            ("AFTERACK_NOTIFY_ALLOW", "mailto:*@example.com mailto:Boss@example.org"),
            ("AFTERACK_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("AFTERACK_STORE", "dir:/var/jobs"),
            ("AFTERACK_UPSTREAM_SLOW_REPORT", "http://127.0.0.1:9000/report timeout=1m"),
            ("AFTERACK_UPSTREAM_mail", "https://example.org/mail"),
            ("AFTERACK_LANES", "250"),
            ("AFTERACK_LEASE", "1m"),
            ("AFTERACK_BACKOFF", "10ms..2s"),
            ("AFTERACK_SELF", "http://127.0.0.1:8080/"),
            ("AFTERACK_ORIGINS", "https://a.org http://localhost:3000"),
        ])
        .unwrap();
        assert_eq!(config.store, Location::Dir("/var/jobs".into()));
        assert_eq!((config.lanes, config.lease), (250, Duration::from_secs(60)));
        assert_eq!(config.backoff, Duration::from_millis(10)..=Duration::from_secs(2));
        assert_eq!(config.base, Some(Uri::from_static("http://127.0.0.1:8080")));
        assert_eq!(config.origins, ["https://a.org", "http://localhost:3000"]);
        assert_eq!(config.body, 65_536);
        assert_eq!(config.token.as_deref(), Some("s3cret"));
        assert_eq!(config.smtp.unwrap().to_string(), "127.0.0.1:2525");
        let allowed = ["mailto:*@example.com", "mailto:boss@example.org"];
        assert_eq!(config.notify_allow, allowed.map(|text| Pattern::Mail(text.into())));
        assert_eq!(config.webhook_secrets.len(), 1);
        assert!(config.upstreams.iter().map(|upstream| &*upstream.name).eq(["slow-report", "mail"]));
    }

    #[test]
    fn every_mistake_is_named_with_its_value() {
        let mistakes = config(&[
            ("AFTERACK_BODY", "lots"),
            ("AFTERACK_SMTP", "http://mail"),
            ("AFTERACK_MAIL_FROM", "me"),
            ("AFTERACK_NOTIFY_ALLOW", "https://*x"),
            ("AFTERACK_WEBHOOK_SECRET", "whsec_"),
            ("AFTERACK_TOKEN", ""),
            ("AFTERACK_TOKN", "x"),
            ("AFTERACK_STORE", "sqlite"),
            ("AFTERACK_DRAINS", "9"),
            ("AFTERACK_LANES", "0"),
            ("AFTERACK_QUEUE", "many"),
            ("AFTERACK_LEASE", "30"),
            ("AFTERACK_BUDGET", "1s"),
            ("AFTERACK_SELF", "http://a:b@localhost"),
            ("AFTERACK_BACKOFF", "5m..1s"),
            ("AFTERACK_ORIGINS", "https://a.org/"),
            ("AFTERACK_UPSTREAM_REPORT", "127.0.0.1:9000"),
            ("AFTERACK_UPSTREAM_RETRY", "http://127.0.0.1:9000"),
            ("AFTERACK_UPSTREAM_MAIL", "http://127.0.0.1:9000"),
            ("AFTERACK_UPSTREAM_mail", "http://127.0.0.1:9000"),
            ("AFTERACK_UPSTREAM_SLOW", "http://127.0.0.1:9000 timeout=slow"),
        ])
        .unwrap_err();
        for (mistake, text) in mistakes.iter().zip([
            "AFTERACK_BODY: invalid size `lots` (expected e.g. 1000, 64KiB, 1MiB)",
            "AFTERACK_SMTP: ",
            "AFTERACK_MAIL_FROM: ",
            "AFTERACK_NOTIFY_ALLOW: invalid pattern `https://*x`",
            "AFTERACK_WEBHOOK_SECRET: invalid secret 1 of 1",
            "AFTERACK_TOKEN: empty",
            "AFTERACK_TOKN: unknown setting",
            "AFTERACK_STORE: invalid store `sqlite`",
            "AFTERACK_DRAINS: 9 is out of range (1 to 8)",
            "AFTERACK_LANES: 0 is out of range (1 to 10000)",
            "AFTERACK_QUEUE: invalid number `many` (expected 1 to 10000000)",
            "AFTERACK_LEASE: invalid duration `30`",
            "AFTERACK_BUDGET: 1s is out of range (2s to 366d)",
            "AFTERACK_SELF: invalid URL `http://a:b@localhost`",
            "AFTERACK_BACKOFF: invalid range `5m..1s`",
            "AFTERACK_ORIGINS: invalid origin `https://a.org/`",
            "AFTERACK_UPSTREAM_REPORT: invalid URL `127.0.0.1:9000`",
            "AFTERACK_UPSTREAM_RETRY: `retry` is taken",
            "AFTERACK_UPSTREAM_mail: two upstreams are called `mail`",
            "AFTERACK_UPSTREAM_SLOW: invalid duration `slow`",
        ]) {
            assert!(mistake.starts_with(text), "{mistake}");
        }
        assert_eq!(mistakes.len(), 20);
    }

    #[test]
    fn a_lease_is_at_most_half_of_the_budget() {
        let lease = |variables: &[(&str, &str)]| config(variables).map(|config| config.lease.as_secs());
        assert_eq!(lease(&[("AFTERACK_BUDGET", "20s")]), Ok(10));
        assert_eq!(lease(&[("AFTERACK_BUDGET", "20s"), ("AFTERACK_LEASE", "8s")]), Ok(8));
        assert_eq!(lease(&[("AFTERACK_BUDGET", "5m")]), Ok(30));
        let mistake = lease(&[("AFTERACK_LEASE", "11s"), ("AFTERACK_BUDGET", "20s")]).unwrap_err();
        assert_eq!(mistake, ["AFTERACK_LEASE: 11s is more than half of AFTERACK_BUDGET, 20s"]);
    }

    /// With the defaults that the documentation has.
    #[test]
    fn every_variable_of_the_spin_manifest_is_a_setting_with_its_default() {
        let manifest = include_str!("../../spin.toml");
        let between =
            |begin: &str, end: &str| manifest.split_once(begin).unwrap().1.split_once(end).unwrap().0;
        let mut settings = between("settings = \"\"\"\n", "\"\"\"").to_owned();
        for line in between("[variables]\n", "\n[").lines().filter(|line| line.contains("default")) {
            let (name, rest) = line.split_once(" = { default = \"").unwrap();
            settings = settings.replace(&format!("{{{{ {name} }}}}"), rest.split_once('"').unwrap().0);
        }
        let settings = lines(&settings.replace("store=sqlite:default", ""));
        let config = Config::parse(settings.clone()).unwrap();
        assert_eq!(settings.len(), 14, "{settings:?}"); // And those that have none.
        let expected = Config {
            base: Some(Uri::from_static("http://self.alt")),
            smtp: "smtp://127.0.0.1:2525".parse().ok(),
            mail_from: "afterack@localhost".parse().ok(),
            ..Config::default()
        };
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
    }

    #[test]
    fn a_token_is_what_a_header_can_have() {
        for text in ["s3cret", "s3cret\n", " s3cret\t"] {
            assert_eq!(token(text).as_deref(), Ok("s3cret"));
        }
        for text in ["", " \n", "two words", "a\0b", "pä"] {
            assert!(token(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for text in
            ["https://a.org", "http://localhost:3000", "https://[::1]:8443", "app://local", "* https://b.org"]
        {
            assert!(origins(text).is_ok(), "{text}");
        }
        for text in [
            "https://*.example.com",
            "https://a.org:443",
            "http://a.org:80",
            "https://A.org",
            "HTTPS://a.org",
            "https://a.org/",
            "https://a.org/x",
            "https://",
            "a.org",
            "https://a.org:99999",
            "https://a.org:0443",
            "http://a.org:+80",
            "https://user@a.org",
            "null",
        ] {
            let error = origins(text).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn sizes_have_units_and_a_limit() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("64 MiB"), Ok(64 << 20));
        for text in
            ["", "MiB", "-1", "1.5MiB", "1GB", "65MiB", "99999999999999999999", "18446744073709551615KiB"]
        {
            assert!(size(text).unwrap_err().contains(text));
        }
    }
}
