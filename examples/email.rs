//! Answers at once, works, and sends a mail when it is done, whatever happens to its host meanwhile.

use std::{env, time::Duration};

use afterack::jobs::{Failure, Job, Output};
use afterack::mail::{Mail, Smtp};

afterack::jobs!(email); // POST /jobs/email, with the visitor's address

async fn email(job: Job) -> Result<Output, Failure> {
    // The visitor has the answer and may leave. What is recorded here is not done again.
    for part in 1..=3 {
        job.step(format!("part {part}"), || long_process(part)).await?;
        job.progress(part, 3, "parts are done");
    }
    job.step("mail", || mail(&job)).await?;
    Ok(Output::text("Yup, all done."))
}

async fn long_process(_part: u32) -> Result<(), Failure> {
    wstd::task::sleep(Duration::from_secs(1).into()).await;
    Ok(())
}

async fn mail(job: &Job) -> Result<(), Failure> {
    let from = env::var("AFTERACK_MAIL_FROM")?;
    let mail = Mail::new(&from, job.text()?.trim(), "Yup, all done.", "It is ready.")
        .and_then(|mail| mail.message_id(&format!("{}@afterack", job.id()))) // The same at each attempt.
        .map_err(Failure::fatal)?;
    env::var("AFTERACK_SMTP")?.parse::<Smtp>()?.send(&mail).await?;
    Ok(())
}
