//! The mail that tells of a job's end.

use std::time::Duration;

use anyhow::Context;
use wstd::task::sleep;

use super::Outcome;
use crate::mail::{Address, Mail};
use crate::service::config::Config;
use crate::service::job::Job;

/// The waits between the attempts to send a mail that the server may take later.
const RETRIES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// How much of an output or an error stands in the mail, in characters.
const EXCERPT: usize = 10_000;

pub async fn send(job: &Job, outcome: &Outcome, to: &Address, config: &Config) -> anyhow::Result<()> {
    let smtp = config.smtp.as_ref().context("AFTERACK_SMTP is not set")?;
    let from = config.mail_from.as_ref().context("AFTERACK_MAIL_FROM is not set")?;
    let (subject, text) = words(job, outcome);
    let mail = Mail::new(from.as_str(), to.as_str(), subject, text)?;
    for wait in RETRIES {
        match smtp.send(&mail).await {
            Err(error) if error.is_temporary() => {
                eprintln!("afterack: job {}: {error}; trying again in {} s", job.id, wait.as_secs());
                sleep(wait.into()).await;
            }
            result => return Ok(result?),
        }
    }
    Ok(smtp.send(&mail).await?)
}

fn words(job: &Job, outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Succeeded(output) => {
            let output: String = output.chars().take(EXCERPT).collect();
            ("Yup, all done.", format!("Job {} is done.\n\n{output}\n", job.id))
        }
        Outcome::Failed(error) => {
            let error: String = error.chars().take(EXCERPT).collect();
            ("Sorry, that did not work.", format!("Job {} has failed.\n\n{error}\n", job.id))
        }
    }
}
