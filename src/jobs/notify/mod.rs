//! Telling of a job's end: what the `Notify` header asks for.

mod mail;
mod pattern;
mod webhook;

use std::time::Duration;

use crate::jobs::config::Config;
use crate::jobs::http::fields::percent_decoded;
use crate::jobs::job::Job;
use crate::jobs::time::Time;
use crate::jobs::url::Url;
use crate::mail::Address;
use crate::{HeaderMap, Problem, StatusCode};
pub use pattern::Pattern;
pub use webhook::{Secret, secrets};

/// Whom a job's end is told to.
#[derive(Debug, PartialEq)]
pub enum Target {
    /// `mailto:` ([RFC 6068](https://www.rfc-editor.org/rfc/rfc6068)), without header fields.
    Mail(Address),
    /// `https:` or `http:`.
    Webhook(Url),
}

/// Why a target was not told.
#[derive(Debug)]
pub struct Untold {
    pub error: String,
    /// Whether it may work another time.
    pub is_temporary: bool,
    /// How long the target would like to be left alone.
    pub delay: Option<Duration>,
}

/// The most targets of a job.
const TARGETS: usize = 16;

/// The targets that a request names, as URIs, all of them allowed and possible. They are divided by commas
/// or white space, in one line or several; who is named twice is told once.
///
/// # Errors
/// A 400 problem for what is no target and for too many, and a 403 problem for one that the settings do not
/// allow.
pub fn targets(headers: &HeaderMap, config: &Config) -> Result<Vec<String>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, format!("invalid Notify: {detail}"));
    let mut uris = Vec::new();
    for value in headers.get_all("notify") {
        let text = value.to_str().map_err(|_| bad("not ASCII".into()))?;
        let parts = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
        uris.extend(parts.filter(|uri| !uri.is_empty()));
    }
    check(uris.into_iter(), config)
}

/// These targets, all of them allowed and possible. Who is named twice is told once.
///
/// # Errors
/// As [`targets`].
pub fn check<'a>(uris: impl Iterator<Item = &'a str>, config: &Config) -> Result<Vec<String>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, format!("invalid Notify: {detail}"));
    let (mut targets, mut known) = (Vec::new(), Vec::new());
    for uri in uris {
        let target = parse(uri).map_err(bad)?;
        allow(&target, config).map_err(|detail| Problem::new(StatusCode::FORBIDDEN, detail))?;
        if known.contains(&target) {
            continue;
        }
        known.push(target);
        targets.push(uri.to_owned());
    }
    match targets.len() {
        0..=TARGETS => Ok(targets),
        count => Err(bad(format!("too many targets: {count} (limit {TARGETS})"))),
    }
}

fn parse(uri: &str) -> Result<Target, String> {
    let invalid = |reason: String| format!("`{uri}`: {reason}");
    let (scheme, address) = uri.split_once(':').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") {
        return Url::parse(uri).map(Target::Webhook).map_err(|reason| invalid(reason.into()));
    }
    if !scheme.eq_ignore_ascii_case("mailto") {
        return Err(invalid("unknown kind of target (expected mailto:address or https://host/path)".into()));
    }
    if address.contains('?') {
        return Err(invalid("header fields are not supported (expected mailto:address)".into()));
    }
    let address = percent_decoded(address).ok_or_else(|| invalid("invalid percent escape".into()))?;
    // RFC 5321 §2.4: only what stands before the @ may depend on case.
    let address = match address.split_once('@') {
        Some((name, domain)) => format!("{name}@{}", domain.to_ascii_lowercase()),
        None => address,
    };
    address.parse().map(Target::Mail).map_err(|error: crate::mail::MailError| error.to_string())
}

fn allow(target: &Target, config: &Config) -> Result<(), String> {
    let (is_allowed, uri) = match target {
        Target::Mail(address) => (
            config.notify_allow.iter().any(|pattern| pattern.allows_mail(address)),
            format!("mailto:{}", address.as_str().to_ascii_lowercase()),
        ),
        Target::Webhook(url) => {
            (config.notify_allow.iter().any(|pattern| pattern.allows(url)), url.uri.to_string())
        }
    };
    if !is_allowed {
        return Err(format!("Notify target not allowed: `{uri}` (see AFTERACK_NOTIFY_ALLOW)"));
    }
    let missing = match target {
        Target::Mail(_) if config.smtp.is_none() => "no mail server (see AFTERACK_SMTP)",
        Target::Mail(_) if config.mail_from.is_none() => "no sender (see AFTERACK_MAIL_FROM)",
        Target::Webhook(_) if config.webhook_secrets.is_empty() => {
            "no secret to sign with (see AFTERACK_WEBHOOK_SECRET)"
        }
        _ => return Ok(()),
    };
    Err(format!("Notify target not available: {missing}"))
}

/// Tells the target with this index of a job's end.
pub async fn tell(job: &Job, index: usize, uri: &str, config: &Config, now: Time) -> Result<(), Untold> {
    let never = |error| Untold { error, is_temporary: false, delay: None };
    let target = parse(uri).map_err(never)?;
    // Who has withdrawn a permission expects no more of it.
    allow(&target, config).map_err(never)?;
    match target {
        Target::Mail(to) => mail::send(job, index, &to, config).await,
        Target::Webhook(url) => webhook::send(job, index, &url, config, now).await,
    }
}

/// A target as the log has it: the path of a webhook may be a secret.
pub fn shown(uri: &str) -> String {
    match parse(uri) {
        Ok(Target::Webhook(url)) => url.origin(),
        _ => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::config::tests::config;

    fn check(allowed: &str, notify: &str) -> Result<usize, (StatusCode, String)> {
        let config = config(&[
            ("AFTERACK_NOTIFY_ALLOW", allowed),
            ("AFTERACK_SMTP", "smtp://127.0.0.1"),
            ("AFTERACK_MAIL_FROM", "a@b.org"),
            ("AFTERACK_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ])
        .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("notify", notify.parse().unwrap());
        let targets = targets(&headers, &config).map_err(|p| (p.status(), p.detail().to_owned()))?;
        Ok(targets.len())
    }

    #[test]
    fn targets_are_read_and_allowed_by_pattern() {
        assert_eq!(check("mailto:*", "mailto:a@b.org  mailto:c%2Bd@e.org,MAILTO:x@b.org ,"), Ok(3));
        assert_eq!(check("mailto:*", &"mailto:a@b.org,mailto:a@B.org ".repeat(100)), Ok(1));
        let many: String = (0..17).map(|n| format!("mailto:a{n}@b.org ")).collect();
        assert!(check("mailto:*", &many).unwrap_err().1.contains("too many targets: 17 (limit 16)"));
        assert_eq!(check("mailto:*@b.org", "mailto:A@B.org"), Ok(1));
        assert_eq!(check("mailto:a@b.org", "mailto:a@b.org"), Ok(1));
        assert_eq!(
            check("mailto:* https://*.b.org", "https://a.b.org/x,mailto:a@b.org HTTPS://A.b.org/x"),
            Ok(2)
        );
        for (allowed, notify) in [
            ("", "mailto:a@b.org"),
            ("mailto:*@b.org", "mailto:a@b.org.evil.com"),
            ("mailto:a@b.org", "mailto:aa@b.org"),
            ("mailto:*", "https://b.org/"),
            ("https://b.org", "http://b.org/"),
            ("https://*", "https://127.0.0.1/"),
        ] {
            let (status, detail) = check(allowed, notify).unwrap_err();
            assert_eq!(status, StatusCode::FORBIDDEN);
            assert!(detail.contains(notify) && detail.contains("AFTERACK_NOTIFY_ALLOW"), "{detail}");
        }
    }

    #[test]
    fn what_is_no_target_is_named() {
        for notify in [
            "a@b.org",
            "ftp://b.org",
            "https://",
            "https://a:b@b.org",
            "https://127.1/",
            "mailto:",
            "mailto:a@b.org?bcc=c@d.org",
            "mailto:a%0Ab@c.org",
            "mailto:a%4",
            "mailto:a%zz@b.org",
            "mailto:a%+1@b.org",
            "mailto:a%c3%28@b.org",
        ] {
            let (status, detail) = check("mailto:*", notify).unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST, "{notify}: {detail}");
            assert!(detail.starts_with("invalid Notify: ") && !detail.contains('\n'), "{detail}");
        }
    }
}
