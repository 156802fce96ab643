//! Runs jobs: the only place that changes a job's state.

use wstd::task::sleep;

use super::config::Config;
use super::job::{Job, State};
use super::notify::{self, Outcome, Target};
use super::worker::{Next, Worker};

/// Runs a job to its end, and tells of it whom it is to be told.
pub async fn run(mut job: Job, worker: &Worker, targets: &[Target], config: &Config) {
    job.state = State::Running;
    let outcome = steps(&mut job, worker).await;
    match &outcome {
        Outcome::Succeeded(_) => {
            job.state = State::Succeeded;
            println!("afterack: job {} succeeded", job.id);
        }
        Outcome::Failed(error) => {
            job.state = State::Failed;
            eprintln!("afterack: job {} failed: {error}", job.id);
        }
    }
    notify::tell(&job, &outcome, targets, config).await;
}

async fn steps(job: &mut Job, worker: &Worker) -> Outcome {
    loop {
        match worker.step(job).await {
            Ok(Next::Again(checkpoint)) => job.checkpoint = checkpoint,
            Ok(Next::Wait(time, checkpoint)) => {
                job.checkpoint = checkpoint;
                sleep(time.into()).await;
            }
            Ok(Next::Done(output)) => return Outcome::Succeeded(output),
            Err(error) => return Outcome::Failed(error.0),
        }
    }
}
