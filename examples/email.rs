//! Answers at once, works, and sends a mail when it is done.

use std::{env, error::Error, time::Duration};

use afterack::mail::{Mail, Smtp};
use afterack::{Ack, Bytes, Problem, Reply, Request, StatusCode};

afterack::export!(handler);

async fn handler(request: Request<Bytes>, reply: Reply) -> Result<(), Box<dyn Error>> {
    let visitor = str::from_utf8(request.body())?.trim();
    let mail = match Mail::new(&env::var("AFTERACK_MAIL_FROM")?, visitor, "Yup, all done.", "It is ready.") {
        Ok(mail) => mail,
        Err(error) => {
            let problem = Problem::new(StatusCode::BAD_REQUEST, error.to_string());
            reply.finish(problem.into()).await;
            return Ok(());
        }
    };
    reply.finish(Ack::text("We'll email you as soon as this is done.")).await;

    // The visitor has the answer and may leave.
    long_process().await;
    env::var("AFTERACK_SMTP")?.parse::<Smtp>()?.send(&mail).await?;
    Ok(())
}

async fn long_process() {
    wstd::task::sleep(Duration::from_secs(3).into()).await;
}
