//! `Prefer`: what a client would like ([RFC 7240](https://www.rfc-editor.org/rfc/rfc7240)).

use std::time::Duration;

use crate::HeaderMap;

/// The longest time that an answer waits for the end of a job.
const LONGEST: u64 = 60;

/// The preferences that make a difference here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// `respond-async`: which is what happens anyway.
    pub is_async: bool,
    /// `wait=N`: for how many seconds the answer may wait for the job's end, at most 60.
    pub wait: Option<u64>,
}

impl Prefer {
    /// Reads the header; what makes no sense in it counts for nothing, as the RFC wants.
    pub fn read(headers: &HeaderMap) -> Prefer {
        let mut prefer = Prefer::default();
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for preference in values.flat_map(|value| value.split(',')) {
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
            // The first one of a name counts.
            match name.as_str() {
                "respond-async" => prefer.is_async = true,
                "wait" if prefer.wait.is_none() => {
                    prefer.wait = value.parse().ok().map(|seconds: u64| seconds.min(LONGEST));
                }
                _ => {}
            }
        }
        prefer
    }

    /// How long the answer waits.
    pub fn wait(&self) -> Option<Duration> {
        self.wait.map(Duration::from_secs)
    }

    /// The value of `Preference-Applied`, if anything was.
    pub fn applied(&self) -> Option<String> {
        let wait = self.wait.map(|seconds| format!("wait={seconds}"));
        let applied: Vec<_> =
            self.is_async.then(|| "respond-async".to_owned()).into_iter().chain(wait).collect();
        (!applied.is_empty()).then(|| applied.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", value.parse().unwrap());
        Prefer::read(&headers).applied()
    }

    #[test]
    fn preferences_are_read_and_told_back() {
        for (value, told) in [
            ("respond-async", Some("respond-async")),
            ("wait=5", Some("wait=5")),
            ("Respond-Async, WAIT=\"7\"; x=1, wait=9", Some("respond-async, wait=7")),
            ("wait=600", Some("wait=60")),
            ("wait=-1", None),
            ("wait", None),
            ("return=minimal", None),
            ("", None),
        ] {
            assert_eq!(applied(value).as_deref(), told, "{value}");
        }
    }
}
