//! Hands the rest of the work to a fresh invocation when this one's budget is spent.

use std::time::Duration;

use super::Engine;
use crate::jobs::outgoing::{Call, field};
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
            log::error(format_args!("the work could not be handed over to {base}/drain: {error}"));
        }
        Ok(())
    }
}

/// `POST {base}/drain`.
async fn ask(base: &str, token: Option<&str>) -> std::result::Result<(), String> {
    let url = format!("{base}/drain").parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let headers = token.map(|token| field("authorization", format!("Bearer {token}"))).into_iter().collect();
    let answer = Call { url: &url, headers, body: b"", time: ANSWER, most: 0 }.send().await?;
    if answer.is_success() { Ok(()) } else { Err(format!("it answered {}", answer.words())) }
}
