//! The settings: environment variables, the one kind of configuration that all hosts share.
//!
//! They are read anew by every invocation, which costs microseconds, and every mistake in them is named
//! at once: a service that runs with half of its settings is worse than one that says what is wrong.

use crate::mail::{Address, MailError, Smtp};
use crate::{BODY_LIMIT, Problem, StatusCode};

/// The settings of this invocation.
#[derive(Debug)]
pub struct Config {
    /// `AFTERACK_BODY`: the largest input, in bytes.
    pub body: u64,
    /// `AFTERACK_TOKEN`: what clients must show to post jobs.
    pub token: Option<String>,
    /// `AFTERACK_SMTP`: the server that mail is handed to.
    pub smtp: Option<Smtp>,
    /// `AFTERACK_MAIL_FROM`: whom the mail is from.
    pub mail_from: Option<Address>,
    /// `AFTERACK_NOTIFY_ALLOW`: whom it may go to, patterns with `*` at one end of the address.
    pub notify_allow: Vec<String>,
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
        let mut config =
            Config { body: BODY_LIMIT, token: None, smtp: None, mail_from: None, notify_allow: Vec::new() };
        let mut mistakes = Vec::new();
        for (name, value) in variables {
            let Some(setting) = name.strip_prefix("AFTERACK_") else { continue };
            let wrong = |reason: String| format!("{name}: {reason}");
            let result = match setting {
                "BODY" => size(&value).map(|size| config.body = size),
                "TOKEN" => token(value).map(|token| config.token = Some(token)),
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
        None => Ok(text.split_whitespace().map(str::to_lowercase).collect()),
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
        ])
        .unwrap();
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
        ])
        .unwrap_err();
        for (mistake, text) in mistakes.iter().zip([
            "AFTERACK_BODY: `lots`",
            "AFTERACK_SMTP: `http://mail`",
            "AFTERACK_MAIL_FROM: `me`",
            "AFTERACK_NOTIFY_ALLOW: `https://*`",
            "AFTERACK_TOKEN: it is empty",
            "AFTERACK_TOKN: there is no such setting",
        ]) {
            assert!(mistake.starts_with(text), "{mistake}");
        }
        assert_eq!(mistakes.len(), 6);
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
