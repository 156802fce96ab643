//! Telling of a job's end: what the `Notify` header asks for.

mod mail;

use crate::mail::Address;
use crate::service::config::Config;
use crate::service::job::Job;
use crate::{HeaderMap, Problem, StatusCode};

/// Whom a job's end is told to.
#[derive(Debug)]
pub enum Target {
    /// `mailto:` ([RFC 6068](https://www.rfc-editor.org/rfc/rfc6068)), without header fields.
    Mail(Address),
}

/// Why a target was not told.
#[derive(Debug)]
pub struct Untold {
    pub error: String,
    /// Whether it may work another time.
    pub is_temporary: bool,
}

/// The targets that a request names, as URIs, all of them allowed and possible.
///
/// # Errors
/// A 400 problem for what is no target, and a 403 problem for one that the settings do not allow.
pub fn targets(headers: &HeaderMap, config: &Config) -> Result<Vec<String>, Problem> {
    let mut targets = Vec::new();
    for value in headers.get_all("notify") {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let text = value.to_str().map_err(|_| bad("Notify: a URI is ASCII".into()))?;
        for uri in text.split_whitespace() {
            let target = parse(uri).map_err(|reason| bad(format!("Notify: {reason}")))?;
            allow(&target, config).map_err(|detail| Problem::new(StatusCode::FORBIDDEN, detail))?;
            targets.push(uri.to_owned());
        }
    }
    Ok(targets)
}

fn parse(uri: &str) -> Result<Target, String> {
    let Some(address) = uri.strip_prefix("mailto:") else {
        return Err(format!("`{uri}` is no mailto: URI, the one kind of target there is"));
    };
    if address.contains('?') {
        return Err(format!("`{uri}` has header fields; afterack writes its mails itself"));
    }
    let address = percent_decoded(address).ok_or_else(|| format!("`{uri}` has a broken percent escape"))?;
    address.parse().map(Target::Mail).map_err(|error: crate::mail::MailError| error.to_string())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut decoded = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(decoded).ok()
}

fn allow(target: &Target, config: &Config) -> Result<(), String> {
    let Target::Mail(address) = target;
    let uri = format!("mailto:{}", address.as_str().to_ascii_lowercase());
    let matches = |pattern: &String| match pattern.split_once('*') {
        Some((start, end)) => {
            uri.len() >= start.len() + end.len() && uri.starts_with(start) && uri.ends_with(end)
        }
        None => *pattern == uri,
    };
    if !config.notify_allow.iter().any(matches) {
        return Err(format!("Notify: AFTERACK_NOTIFY_ALLOW does not allow `{uri}`"));
    }
    match (&config.smtp, &config.mail_from) {
        (None, _) => Err("Notify: no mail can be sent, AFTERACK_SMTP is not set".into()),
        (_, None) => Err("Notify: no mail can be sent, AFTERACK_MAIL_FROM is not set".into()),
        _ => Ok(()),
    }
}

/// Tells the target with this index of a job's end.
pub async fn tell(job: &Job, index: usize, uri: &str, config: &Config) -> Result<(), Untold> {
    match parse(uri) {
        Ok(Target::Mail(to)) => mail::send(job, index, &to, config).await,
        Err(error) => Err(Untold { error, is_temporary: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::config::tests::config;

    fn check(allowed: &str, notify: &str) -> Result<usize, (StatusCode, String)> {
        let config = config(&[
            ("AFTERACK_NOTIFY_ALLOW", allowed),
            ("AFTERACK_SMTP", "smtp://127.0.0.1"),
            ("AFTERACK_MAIL_FROM", "a@b.org"),
        ])
        .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("notify", notify.parse().unwrap());
        let targets = targets(&headers, &config).map_err(|p| (p.status(), p.detail().to_owned()))?;
        Ok(targets.len())
    }

    #[test]
    fn targets_are_read_and_allowed_by_pattern() {
        assert_eq!(check("mailto:*", "mailto:a@b.org  mailto:c%2Bd@e.org"), Ok(2));
        assert_eq!(check("mailto:*@b.org", "mailto:A@B.org"), Ok(1));
        assert_eq!(check("mailto:a@b.org", "mailto:a@b.org"), Ok(1));
        for (allowed, notify) in [
            ("", "mailto:a@b.org"),
            ("mailto:*@b.org", "mailto:a@b.org.evil.com"),
            ("mailto:a@b.org", "mailto:aa@b.org"),
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
            "https://b.org",
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
            assert!(detail.starts_with("Notify: ") && !detail.contains('\n'), "{detail}");
        }
    }
}
