//! `Prefer`: what a client would like ([RFC 7240](https://www.rfc-editor.org/rfc/rfc7240)).

use std::time::Duration;

use super::fields;
use crate::HeaderMap;

/// The longest time that an answer waits for the end of a job, in seconds: less than the 60 s after which
/// nginx and most load balancers give up.
const LONGEST: u64 = 50;

/// The preferences that make a difference here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// `respond-async`: which is what happens anyway.
    pub is_async: bool,
    /// `wait=N`: for how many seconds the answer may wait for the job's end, at most 50.
    pub wait: Option<u64>,
}

impl Prefer {
    /// Reads the header. A preference that is unknown or malformed is ignored, as the RFC demands.
    pub fn read(headers: &HeaderMap) -> Prefer {
        let mut prefer = Prefer::default();
        for preference in fields::list(headers, "prefer") {
            // Parameters of a preference come after a semicolon.
            let preference = fields::split(&preference, ';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            // The first one of a name counts.
            match name.trim().to_ascii_lowercase().as_str() {
                "respond-async" => prefer.is_async = true,
                "wait" if prefer.wait.is_none() => {
                    let seconds = fields::unquote(value.trim()).parse().ok();
                    prefer.wait = seconds.map(|seconds: u64| seconds.min(LONGEST));
                }
                _ => {}
            }
        }
        prefer
    }

    /// How long the answer waits; `None` if it does not.
    pub fn time(&self) -> Option<Duration> {
        self.wait.filter(|seconds| *seconds > 0).map(Duration::from_secs)
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

    fn applied(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", value.parse().unwrap());
        }
        Prefer::read(&headers).applied()
    }

    #[test]
    fn preferences_are_read_and_told_back() {
        for (values, told) in [
            (&["respond-async"][..], Some("respond-async")),
            (&["wait=5"], Some("wait=5")),
            (&["Respond-Async, WAIT=\"7\"; x=1, wait=9"], Some("respond-async, wait=7")),
            (&["foo=\"a, wait=3\"", "wait = 4"], Some("wait=4")),
            (&["wait=600"], Some("wait=50")),
            (&["wait=-1"], None),
            (&["wait"], None),
            (&["return=minimal"], None),
            (&[""], None),
        ] {
            assert_eq!(applied(values).as_deref(), told, "{values:?}");
        }
    }
}
