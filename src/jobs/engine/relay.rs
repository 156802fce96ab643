//! Hands the rest of the work to a fresh invocation when this one's budget is spent.

use std::time::Duration;

use super::Engine;
use crate::jobs::outgoing::{Call, field};
use crate::jobs::store::Result;
use crate::log;

/// How long the fresh invocation may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The field of a request by which an invocation hands over that waits for a store that fails.
pub const WAITS: &str = "afterack-waits";

impl Engine {
    /// Asks for another drain, if anything is left to do.
    pub(super) async fn relay(&self) -> Result<()> {
        if self.config.base.is_some() && !self.is_all_done(&self.store.slots()?, None)? {
            self.hand_over(false).await;
        }
        Ok(())
    }

    /// Asks for another drain, which waits for the store if that fails, if this component knows where it is reached.
    /// If that fails, too, the next request of anybody's goes on.
    pub(super) async fn hand_over(&self, waits: bool) {
        let Some(base) = &self.config.base else { return };
        let url = format!("{}/drain", base.to_string().trim_end_matches('/'));
        if let Err(error) = ask(&url, self.config.token.as_deref(), waits).await {
            log::error(format_args!("the work could not be handed over to {url}: {error}"));
        }
    }
}

/// `POST {url}`.
async fn ask(url: &str, token: Option<&str>, waits: bool) -> std::result::Result<(), String> {
    let url = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let mut headers = Vec::from_iter(token.map(|token| field("authorization", format!("Bearer {token}"))));
    headers.extend(waits.then(|| field(WAITS, "store")));
    let answer = Call { url: &url, headers, body: b"", time: ANSWER, most: 0 }.send().await?;
    if answer.is_success() { Ok(()) } else { Err(format!("it answered {}", answer.words())) }
}
