//! Hands the rest of the work to a fresh invocation when this one's budget is spent.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use http::Uri;
use wasi::http::outgoing_handler::handle;
use wasi::http::types::{Fields, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme};
use wstd::runtime::AsyncPollable;

use super::Engine;
use crate::jobs::store::Result;
use crate::log;

/// How long the fresh invocation may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

impl Engine {
    /// Asks for another drain, if anything is left to do and this component knows where it is reached.
    /// If that fails, the next request of anybody's goes on.
    pub(super) async fn relay(&self) -> Result<()> {
        let Some(base) = &self.config.base else { return Ok(()) };
        if !self.is_all_done(&self.store.slots()?, None)?
            && let Err(error) = ask(base, self.config.token.as_deref()).await
        {
            log::error(format_args!("the work could not be handed over to {base}/drain: {error:#}"));
        }
        Ok(())
    }
}

/// `POST {base}/drain`.
async fn ask(base: &str, token: Option<&str>) -> anyhow::Result<()> {
    let refused = |part: &'static str| move |()| anyhow!("the host refused its {part}");
    let url: Uri = format!("{base}/drain").parse()?;
    let mut fields = vec![("content-length".to_owned(), b"0".to_vec())];
    fields.extend(token.map(|token| ("authorization".to_owned(), format!("Bearer {token}").into_bytes())));
    let scheme = match url.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        other => Scheme::Other(other.unwrap_or_default().to_owned()),
    };
    let request = OutgoingRequest::new(Fields::from_list(&fields)?);
    request.set_method(&Method::Post).map_err(refused("method"))?;
    request.set_scheme(Some(&scheme)).map_err(refused("scheme"))?;
    request.set_authority(url.authority().map(|authority| authority.as_str())).map_err(refused("host"))?;
    request.set_path_with_query(Some(url.path())).map_err(refused("path"))?;
    let options = RequestOptions::new();
    for set in [RequestOptions::set_connect_timeout, RequestOptions::set_first_byte_timeout] {
        set(&options, Some(ANSWER.as_nanos() as u64)).map_err(refused("time limit"))?;
    }
    let body = request.body().map_err(refused("body"))?;
    let response = handle(request, Some(options))?;
    OutgoingBody::finish(body, None)?;
    AsyncPollable::new(response.subscribe()).wait_for().await;
    let response = response.get().and_then(|response| response.ok());
    let status = response.ok_or_else(|| anyhow!("the host gave no response"))??.status();
    ensure!((200..300).contains(&status), "it answered {status}");
    Ok(())
}
