//! `GET /jobs`: the jobs, newest first, in pages.

use serde_json::json;

use super::links::Links;
use super::query::Query;
use super::{answers, status};
use crate::jobs::job::State;
use crate::jobs::store::{Range, Store};
use crate::{Ack, Bytes, Problem, Request, StatusCode};

/// How many jobs a page has.
const PAGE: usize = 50;

/// A page of the jobs that the query asks for, and the link to the next one
/// ([RFC 8288](https://www.rfc-editor.org/rfc/rfc8288)).
pub fn answer(request: &Request<Bytes>, store: &dyn Store, links: &Links) -> Result<Ack, Problem> {
    let query = Query::read(request, &["state", "worker", "before"])?;
    let (wanted, before) = (query.wanted(&State::ALL)?, query.before()?);
    let mut jobs = store.list(&wanted, Range::Before(before), PAGE + 1)?;
    let has_more = jobs.len() > PAGE;
    jobs.truncate(PAGE);
    let shown: Vec<_> = jobs.iter().map(|found| status::full(found, links)).collect();
    let ack = answers::json(StatusCode::OK, json!({ "jobs": shown }))?;
    match jobs.last().filter(|_| has_more) {
        Some(last) => {
            let next = links.jobs(&wanted, last.job.id);
            Ok(ack.header("link", format!("<{next}>; rel=\"next\""))?)
        }
        None => Ok(ack),
    }
}
