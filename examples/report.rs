//! A report that takes a while to compute: in parts, each of them recorded, so that a restart costs one part at
//! most; in slices, so that others get their answers meanwhile; with progress, for whoever waits.
//!
//! ```sh
//! curl -si http://127.0.0.1:8080/jobs/report -H 'Content-Type: application/json' -d '{"below":2000000,"parts":8}'
//! ```

use afterack::Slices;
use afterack::jobs::{Failure, Job, Output};
use serde::Deserialize;
use serde_json::json;

afterack::jobs!(report);

/// How many primes there are below a number, computed in so many parts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    below: u64,
    parts: u64,
}

async fn report(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    if task.parts == 0 || task.below > 1_000_000_000 {
        return Err(Failure::fatal(
            "expected at least one part, and not more than a thousand million numbers",
        ));
    }
    let mut primes = 0;
    for part in 0..task.parts {
        let border = |part| task.below * part / task.parts;
        primes += job.step(format!("part {part}"), || count(border(part), border(part + 1))).await?;
        job.progress(part + 1, task.parts, "parts are counted");
    }
    Output::json(&json!({ "below": task.below, "primes": primes }))
}

/// How many primes there are from one number up to another.
async fn count(from: u64, to: u64) -> Result<u64, Failure> {
    let (mut slices, mut primes) = (Slices::new(), 0);
    for number in from.max(2)..to {
        primes += u64::from(
            (2..).take_while(|factor| factor * factor <= number).all(|factor| number % factor != 0),
        );
        slices.turn().await;
    }
    Ok(primes)
}
