//! Jobs that go wrong by their own fault.

use std::future::pending;
use std::time::Duration;

use afterack::jobs::{Failure, Job, Output};

use super::effect;
use super::steps::Task;

/// Two steps of one name.
pub async fn twice(job: Job) -> Result<Output, Failure> {
    job.step("same", async || Ok::<_, Failure>(1)).await?;
    job.step("same", async || Ok::<_, Failure>(2)).await?;
    Ok(Output::empty())
}

/// Results that the record has no room for.
pub async fn large(job: Job) -> Result<Output, Failure> {
    for step in 0..100 {
        job.step(format!("part {step}"), async || Ok::<_, Failure>("x".repeat(100_000))).await?;
    }
    Ok(Output::empty())
}

/// 100 MiB of output.
pub async fn huge(_: Job) -> Result<Output, Failure> {
    Ok(Output::new("application/octet-stream", vec![7; 100 << 20]))
}

pub async fn traps(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    job.step("before", || effect(&task.key, "before")).await?;
    job.step::<(), Failure>("trap", async || {
        effect(&task.key, "trap").await?;
        panic!("a step that traps its instance");
    })
    .await?;
    Ok(Output::empty())
}

/// Computes for ever, without a turn for anybody.
pub async fn loops(job: Job) -> Result<Output, Failure> {
    let task: Task = job.json()?;
    job.step("before", || effect(&task.key, "before")).await?;
    job.step::<(), Failure>("loop", async || {
        loop {
            std::hint::black_box(0);
        }
    })
    .await?;
    Ok(Output::empty())
}

/// A step without an end.
pub async fn hangs(job: Job) -> Result<Output, Failure> {
    job.step("short", async || {
        wstd::task::sleep(Duration::from_millis(300).into()).await;
        Ok::<_, Failure>(())
    })
    .await?;
    job.step("hang", pending::<Result<(), Failure>>).await?;
    Ok(Output::empty())
}

/// No end outside of the steps.
pub async fn hangs_outside(job: Job) -> Result<Output, Failure> {
    job.step("short", async || Ok::<_, Failure>(())).await?;
    pending().await
}
