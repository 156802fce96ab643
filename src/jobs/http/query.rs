//! What stands behind the `?` of a URL.

use super::fields::percent_decoded;
use crate::jobs::job::{Id, State};
use crate::jobs::store::Wanted;
use crate::{Bytes, Problem, Request, StatusCode};

/// How much of what a client has sent is said back.
const EXCERPT: usize = 100;

/// The parameters of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads them. `names` are those that the request may have, each once.
    ///
    /// # Errors
    /// A 400 problem that names what was not expected.
    pub fn read(request: &Request<Bytes>, names: &[&str]) -> Result<Query, Problem> {
        Query::parse(request.uri().query().unwrap_or_default(), names).map_err(bad)
    }

    fn parse(text: &str, names: &[&str]) -> Result<Query, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (percent_decoded(name), percent_decoded(value)) else {
                return Err(format!("invalid parameter: {} (expected percent-encoded UTF-8)", shown(pair)));
            };
            if !names.contains(&name.as_str()) {
                return Err(format!("unknown parameter: {} (expected {})", shown(&name), names.join(", ")));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(format!("parameter given twice: `{name}` (expected once)"));
            }
            pairs.push((name, value));
        }
        Ok(Query { pairs })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The jobs that `state` and `worker` ask for, in one of these states.
    pub fn wanted(&self, states: &[State]) -> Result<Wanted, Problem> {
        let state = self.get("state").map(|name| {
            let state = State::parse(name).filter(|state| states.contains(state));
            let names = || states.iter().map(|state| state.name()).collect::<Vec<_>>().join(", ");
            state.ok_or_else(|| bad(format!("unexpected state: {} (expected {})", shown(name), names())))
        });
        Ok(Wanted { state: state.transpose()?, worker: self.get("worker").map(str::to_owned) })
    }

    /// The job that a page begins behind.
    pub fn before(&self) -> Result<Option<Id>, Problem> {
        let id = self.get("before").map(|text| {
            let expected = "expected what a `Link: rel=\"next\"` has";
            Id::parse(text).ok_or_else(|| bad(format!("invalid before: {} ({expected})", shown(text))))
        });
        id.transpose()
    }

    /// Whether this is asked for: by `true`, and not by `false`.
    pub fn is_true(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(bad(format!("invalid {name}: {} (expected true or false)", shown(other)))),
        }
    }
}

pub fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn shown(text: &str) -> String {
    format!("`{}`", text.chars().take(EXCERPT).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Query, String> {
        Query::parse(text, &["state", "worker"])
    }

    #[test]
    fn parameters_are_read_once_each_and_only_those_that_are_known() {
        let query = read("worker=a%2Fb&state=failed&").unwrap();
        assert_eq!((query.get("worker"), query.get("state")), (Some("a/b"), Some("failed")));
        assert_eq!(read(""), Ok(Query::default()));
        for (text, problem) in [
            ("stat=failed", "unknown parameter: `stat` (expected state, worker)"),
            ("state=a&state=b", "parameter given twice: `state` (expected once)"),
            ("state=%zz", "invalid parameter: `state=%zz` (expected percent-encoded UTF-8)"),
            ("=", "unknown parameter: `` (expected state, worker)"),
        ] {
            assert_eq!(read(text), Err(problem.to_owned()));
        }
    }

    #[test]
    fn a_state_is_one_of_those_that_make_sense() {
        let wanted = |text: &str| {
            let wanted = read(text).unwrap().wanted(&[State::Failed, State::Cancelled]);
            wanted.map_err(|problem| problem.detail().to_owned())
        };
        assert_eq!(wanted("state=failed").unwrap().state, Some(State::Failed));
        assert_eq!(wanted("worker=x"), Ok(Wanted { state: None, worker: Some("x".into()) }));
        for state in ["queued", "Failed", ""] {
            let problem = format!("unexpected state: `{state}` (expected failed, cancelled)");
            assert_eq!(wanted(&format!("state={state}")), Err(problem));
        }
    }
}
