//! Jobs as they should be.

use std::time::{Duration, Instant};

use afterack::jobs::{Failure, Job, Output};
use futures_lite::future;
use serde::{Deserialize, Serialize};

use super::effect;

#[derive(Deserialize)]
pub struct Task {
    /// Where the effects go.
    pub key: String,
    /// How many steps come before the sleep, and how many after it.
    #[serde(default = "two")]
    pub steps: usize,
    /// How long the sleep is.
    #[serde(default)]
    pub sleep_ms: u64,
    /// How often the first step fails.
    #[serde(default)]
    pub failures: u32,
}

fn two() -> usize {
    2
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    number: usize,
    text: String,
}

/// Some steps, a sleep, some steps: the output is what they came to.
pub async fn steps(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    let mut receipts = Vec::new();
    for number in 0..2 * task.steps {
        if number == task.steps {
            job.sleep("sleep", Duration::from_millis(task.sleep_ms)).await?;
        }
        let work = async || {
            effect(&task.key, &format!("step {number}")).await?;
            if number == 0 && job.attempt() <= task.failures {
                return Err(Failure::retry(format!("attempt {} fails", job.attempt())));
            }
            Ok(Receipt { number, text: format!("receipt {number}") })
        };
        let receipt: Receipt = job.step(format!("step {number}"), work).await?;
        receipts.push(receipt.number);
        job.progress(number + 1, 2 * task.steps, receipt.text);
    }
    Output::json(&receipts)
}

/// Two steps side by side, the first of which fails once: the other one goes on.
pub async fn pair(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    let one = job.step("one", async || {
        effect(&task.key, "one").await?;
        if job.attempt() == 1 { Err(Failure::retry("once")) } else { Ok(1) }
    });
    let two = job.step("two", async || {
        effect(&task.key, "two begins").await?;
        wstd::task::sleep(Duration::from_millis(task.sleep_ms).into()).await;
        effect(&task.key, "two ends").await?;
        Ok::<_, Failure>(2)
    });
    let (one, two): (u32, u32) = future::try_zip(one, two).await?;
    Ok(Output::text((one + two).to_string()))
}

/// A step that fails for good, and what makes up for it.
pub async fn refunds(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    job.step("charge", || effect(&task.key, "charge")).await?;
    let shipped = job
        .step("ship", async || {
            effect(&task.key, "ship").await?;
            Err::<(), _>(Failure::retry("out of stock"))
        })
        .await;
    if let Err(failure) = shipped {
        job.step("refund", || effect(&task.key, "refund")).await?;
        return Err(Failure::fatal(format!("refunded: {failure}")));
    }
    Ok(Output::empty())
}

/// Its code is another one as soon as `CHANGED` is set.
pub async fn changes(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    if std::env::var_os("CHANGED").is_none() {
        job.step("price", async || Ok::<_, Failure>("ten".to_owned())).await?;
    } else {
        job.step("price", async || Ok::<_, Failure>(10)).await?;
    }
    job.sleep("sleep", Duration::from_millis(task.sleep_ms)).await?;
    Ok(Output::empty())
}

/// Says how far it has come in the middle of a step.
pub async fn tells(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    job.progress(1, 2, "half of it");
    job.step("long", async || {
        wstd::task::sleep(Duration::from_millis(task.sleep_ms).into()).await;
        Ok::<_, Failure>(())
    })
    .await?;
    Ok(Output::empty())
}

/// How long each of so many steps took that do nothing, in microseconds.
pub async fn counts(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    let mut times = Vec::new();
    for number in 0..task.steps {
        let begun = Instant::now();
        job.step(format!("step {number}"), async || Ok::<_, Failure>(number)).await?;
        times.push(begun.elapsed().as_micros() as u64);
    }
    Output::json(&times)
}

pub async fn year(job: Job) -> Result<Output, Failure> {
    job.sleep("a year", Duration::from_secs(365 * 24 * 3600)).await?;
    Ok(Output::empty())
}

/// What an HTML form sends.
pub async fn form(job: Job) -> Result<Output, Failure> {
    let fields: Vec<(String, String)> = job.form()?;
    Output::json(&fields)
}
