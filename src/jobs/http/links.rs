//! The URLs that answers refer to: absolute paths, below the prefix that a proxy has taken away.

use super::fields::percent_encoded;
use crate::HeaderMap;
use crate::jobs::config::Config;
use crate::jobs::job::Id;
use crate::jobs::store::Wanted;

/// The longest prefix that a proxy may name, in bytes.
const LONGEST: usize = 200;

/// Where this component is, as its clients see it.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Empty, or a path like `/api`.
    prefix: String,
}

impl Links {
    /// By `X-Forwarded-Prefix`, which proxies set that serve the component below a path; else by the path
    /// of `AFTERACK_SELF`.
    pub fn of(headers: &HeaderMap, config: &Config) -> Links {
        let plain =
            |path: &str| Some(path.trim().trim_end_matches('/').to_owned()).filter(|path| is_prefix(path));
        let named = headers.get("x-forwarded-prefix").and_then(|value| plain(value.to_str().ok()?));
        let own = || plain(config.base.as_ref()?.path());
        Links { prefix: named.or_else(own).unwrap_or_default() }
    }

    /// The URL of a job.
    pub fn job(&self, id: impl std::fmt::Display) -> String {
        format!("{}/jobs/{id}", self.prefix)
    }

    /// The URL of a list of jobs, those before this one.
    pub fn jobs(&self, wanted: &Wanted, before: Id) -> String {
        let state = wanted.state.map(|state| format!("state={}&", state.name())).unwrap_or_default();
        let worker = wanted.worker.as_ref().map(|worker| format!("worker={}&", percent_encoded(worker)));
        format!("{}/jobs?{state}{}before={before}", self.prefix, worker.unwrap_or_default())
    }
}

/// Whether this is a path of plain segments, which can do no harm in a URL of ours.
fn is_prefix(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let is_segment =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(is_plain);
    path.len() <= LONGEST && path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::host::tests::Native;
    use crate::jobs::job::State;

    fn links(forwarded: Option<&'static str>, base: Option<&str>) -> Links {
        let mut headers = HeaderMap::new();
        headers.extend(forwarded.map(|prefix| {
            (crate::HeaderName::from_static("x-forwarded-prefix"), crate::HeaderValue::from_static(prefix))
        }));
        let config = Config { base: base.map(|base| base.parse().unwrap()), ..Config::default() };
        Links::of(&headers, &config)
    }

    fn job(forwarded: Option<&'static str>, base: Option<&str>) -> String {
        links(forwarded, base).job(7)
    }

    #[test]
    fn the_link_to_a_page_asks_for_the_same_jobs() {
        let id = Id::new(&Native);
        let wanted = |state, worker: &str| Wanted { state, worker: Some(worker.into()) };
        let links = links(Some("/api"), None);
        assert_eq!(links.jobs(&Wanted::default(), id), format!("/api/jobs?before={id}"));
        let both = links.jobs(&wanted(Some(State::Failed), "a&b>é"), id);
        assert_eq!(both, format!("/api/jobs?state=failed&worker=a%26b%3E%C3%A9&before={id}"));
    }

    #[test]
    fn links_are_below_the_prefix_of_the_proxy() {
        assert_eq!(job(None, None), "/jobs/7");
        assert_eq!(job(Some("/api/"), None), "/api/jobs/7");
        assert_eq!(job(None, Some("https://example.org/a/b-c")), "/a/b-c/jobs/7");
        assert_eq!(job(Some("/x"), Some("https://example.org/y")), "/x/jobs/7");
        assert_eq!(job(Some("//evil"), Some("https://example.org/y")), "/y/jobs/7");
        for evil in ["//evil.example", "https://evil.example", "/a/../b", "/a b", "a", "/%2e", "/a\\b"] {
            assert_eq!(job(Some(evil), None), "/jobs/7", "{evil}");
        }
    }
}
