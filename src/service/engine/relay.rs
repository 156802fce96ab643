//! Hands the rest of the work to a fresh invocation when this one's budget is spent.

use std::time::Duration;
use wstd::http::{Body, Client, Request};

use super::Engine;
use crate::service::store::Result;

/// How long the fresh invocation may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

impl Engine {
    /// Asks for another drain, if anything is left to do and this component knows where it is reached.
    /// If that fails, the next request of anybody's goes on.
    pub(super) async fn relay(&self) -> Result<()> {
        let Some(base) = &self.config.base else { return Ok(()) };
        if self.is_anything_left()?
            && let Err(error) = self.ask(base).await
        {
            eprintln!("afterack: the work could not be handed over to {base}/drain: {error:#}");
        }
        Ok(())
    }

    async fn ask(&self, base: &str) -> anyhow::Result<()> {
        let mut request = Request::post(format!("{base}/drain"));
        if let Some(token) = &self.config.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut client = Client::new();
        client.set_connect_timeout(wstd::time::Duration::from(ANSWER));
        client.set_first_byte_timeout(wstd::time::Duration::from(ANSWER));
        let response = client.send(request.body(Body::empty())?).await?;
        anyhow::ensure!(response.status().is_success(), "it answered {}", response.status());
        Ok(())
    }
}
