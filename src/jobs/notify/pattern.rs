//! Whom a service may tell: the patterns of `AFTERACK_NOTIFY_ALLOW`.

use std::str::FromStr;

use crate::jobs::url::{Host, Url, host_and_port};
use crate::mail::Address;

/// Targets that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `mailto:` and an address, in lower case, in which one `*` stands for anything.
    Mail(String),
    /// `https://*.example.org:8443/hooks/`.
    Web(Web),
}

/// Webhooks of one scheme, with hosts, ports and paths like these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    is_https: bool,
    hosts: Hosts,
    /// `None` for any.
    port: Option<u16>,
    /// What the path begins with, up to the end of a segment.
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// `*`: all but those that are local.
    Public,
    /// `*.example.org`: all below that name, which is written as `.example.org` here.
    Below(String),
    /// This one, wherever it is.
    One(Host),
}

impl Pattern {
    pub fn allows_mail(&self, address: &Address) -> bool {
        let Pattern::Mail(pattern) = self else { return false };
        let uri = format!("mailto:{}", address.as_str().to_ascii_lowercase());
        match pattern.split_once('*') {
            Some((start, end)) => {
                uri.len() >= start.len() + end.len() && uri.starts_with(start) && uri.ends_with(end)
            }
            None => *pattern == uri,
        }
    }

    pub fn allows(&self, url: &Url) -> bool {
        let Pattern::Web(web) = self else { return false };
        let host = match (&web.hosts, &url.host) {
            (Hosts::Public, host) => !host.is_local(),
            (Hosts::Below(suffix), Host::Name(name)) => name.ends_with(suffix.as_str()),
            (Hosts::Below(_), Host::Address(_)) => false,
            (Hosts::One(one), host) => one == host,
        };
        let path = url.uri.path().strip_prefix(web.path.as_str()).is_some_and(|rest| {
            web.path.is_empty() || web.path.ends_with('/') || rest.is_empty() || rest.starts_with('/')
        });
        host && path && web.is_https == url.is_https && web.port.is_none_or(|port| port == url.port)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        let (is_https, rest) = match (scheme, rest.strip_prefix("//")) {
            ("mailto", None) => return Ok(Pattern::Mail(text.to_ascii_lowercase())),
            ("https", Some(rest)) => (true, rest),
            ("http", Some(rest)) => (false, rest),
            _ => {
                return Err(format!(
                    "invalid pattern `{text}` (expected e.g. mailto:*@example.com, https://*.example.com/hooks/)"
                ));
            }
        };
        web(is_https, rest).map(Pattern::Web).map_err(|reason| format!("invalid pattern `{text}`: {reason}"))
    }
}

fn web(is_https: bool, rest: &str) -> Result<Web, &'static str> {
    if rest.contains(['?', '#', '\\', '%']) {
        return Err("only scheme, host, port and the beginning of a path are compared");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if path.contains('*') {
        return Err("a path has no wildcard (it is what a target's begins with)");
    }
    let (host, port) = host_and_port(authority)?;
    let hosts = match (host, host.strip_prefix('*')) {
        ("*", _) => Hosts::Public,
        (_, Some(suffix)) => match suffix.strip_prefix('.').map(Host::parse) {
            Some(Ok(Host::Name(name))) => Hosts::Below(format!(".{name}")),
            _ => return Err("invalid host (expected e.g. *.example.com)"),
        },
        _ => Hosts::One(Host::parse(host)?),
    };
    let port = match port {
        Some("*") => None,
        Some(port) => Some(port.parse().map_err(|_| "invalid port")?),
        None if is_https => Some(443),
        None => Some(80),
    };
    Ok(Web { is_https, hosts, port, path: if path == "/" { String::new() } else { path.into() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_are_allowed_by_scheme_host_port_and_path() {
        for (pattern, allowed, refused) in [
            (
                "https://example.org",
                &["https://example.org", "https://EXAMPLE.org:443/any?x", "https://example.org./"][..],
                &[
                    "http://example.org",
                    "https://example.org:8443",
                    "https://a.example.org",
                    "https://example.org.evil.com",
                ][..],
            ),
            (
                "https://*.example.org/hooks",
                &["https://a.example.org/hooks", "https://a.b.example.org/hooks/1?x"],
                &[
                    "https://example.org/hooks",
                    "https://evilexample.org/hooks",
                    "https://a.example.org/hooksevil",
                    "https://a.example.org/",
                ],
            ),
            (
                "https://example.org:8443/hooks/",
                &["https://example.org:8443/hooks/", "https://example.org:8443/hooks/1"],
                &[
                    "https://example.org/hooks/1",
                    "https://example.org:8443/hooks",
                    "https://example.org:8443/Hooks/1",
                ],
            ),
            (
                "https://*:*",
                &["https://example.org:1/", "https://8.8.8.8/", "https://[2a00::1]/"],
                &[
                    "https://localhost/",
                    "https://printer/",
                    "https://127.0.0.1/",
                    "https://[::1]/",
                    "https://10.0.0.1:8080/",
                    "http://example.org/",
                ],
            ),
            (
                "http://127.0.0.1:*",
                &["http://127.0.0.1/", "http://127.0.0.1:9000/x"],
                &[
                    "http://127.0.0.2/",
                    "http://localhost/",
                    "https://127.0.0.1/",
                    "http://[::ffff:127.0.0.1]/",
                ],
            ),
            ("http://[0:0::1]:80", &["http://[::1]/"], &["http://[::2]/"]),
            ("https://*.svc.internal", &["https://a.svc.internal/"], &["https://a.internal/"]),
            ("mailto:*", &[], &["https://example.org/"]),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            for (targets, is_allowed) in [(allowed, true), (refused, false)] {
                for target in targets {
                    assert_eq!(
                        pattern.allows(&Url::parse(target).unwrap()),
                        is_allowed,
                        "{target} by {pattern:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_pattern_that_could_mean_something_else_is_refused() {
        for text in [
            "",
            "example.org",
            "*",
            "ftp://example.org",
            "https:example.org",
            "https://",
            "https://a.*.org",
            "https://*example.org",
            "https://*.",
            "https://*.1.2.3",
            "https://a@example.org",
            "https://example.org:x",
            "https://example.org/*",
            "https://example.org/%2e",
            "https://example.org/?a",
            "https://127.1",
        ] {
            let error = text.parse::<Pattern>().unwrap_err();
            assert!(error.starts_with(&format!("invalid pattern `{text}`")), "{error}");
        }
    }
}
