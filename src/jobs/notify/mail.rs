//! The mail that tells of a job's end.

use super::Untold;
use crate::jobs::config::Config;
use crate::jobs::job::{Job, State};
use crate::mail::{Address, Mail};

/// How much of an output or an error stands in the mail, in characters.
const EXCERPT: usize = 10_000;

pub async fn send(job: &Job, index: usize, to: &Address, config: &Config) -> Result<(), Untold> {
    let never = |error: String| Untold { error, is_temporary: false, delay: None };
    let smtp = config.smtp.as_ref().ok_or_else(|| never("no mail server (see AFTERACK_SMTP)".into()))?;
    let from = config.mail_from.as_ref().ok_or_else(|| never("no sender (see AFTERACK_MAIL_FROM)".into()))?;
    let (subject, text) = words(job);
    // The same for all tries: whoever gets the mail twice, since a reply was lost, can tell.
    let id = format!("{}.{}.{index}@{}", job.id, job.run.round, from.domain());
    let mail = Mail::new(from.as_str(), to.as_str(), subject, text)
        .and_then(|mail| mail.message_id(&id))
        .map_err(|error| never(error.to_string()))?;
    smtp.send(&mail).await.map_err(|error| Untold {
        error: error.to_string(),
        is_temporary: error.is_temporary(),
        delay: None,
    })
}

fn words(job: &Job) -> (&'static str, String) {
    let excerpt = |text: &str| text.chars().take(EXCERPT).collect::<String>();
    match job.run.end.as_ref().map(|end| end.state) {
        Some(State::Succeeded) => {
            let output = str::from_utf8(&job.run.bytes).map_or("The output is not text.".into(), excerpt);
            ("Yup, all done.", format!("Job {} is done.\n\n{output}\n", job.id))
        }
        _ => {
            let error = excerpt(job.run.error.as_deref().unwrap_or_default());
            ("Sorry, that did not work.", format!("Job {} has failed.\n\n{error}\n", job.id))
        }
    }
}
