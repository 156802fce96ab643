//! The demo worker: a long process without a purpose.
//!
//! Its input says how long: `{"steps":5,"step_ms":1000}`. With `"cpu":true` its steps compute instead
//! of waiting, in slices, so that the host can answer others meanwhile. With `"failures":2` its first
//! step fails twice before it works, as a busy upstream would; `"retry_after_ms":500` says when it asks
//! to be tried again.

use std::hint::black_box;
use std::time::Duration;

use serde::Deserialize;
use wstd::time::Instant;

use super::{Failure, Job, Output, Worker};
use crate::{Problem, Slices, StatusCode};

/// The worker `demo`.
pub fn demo() -> Worker {
    Worker::new("demo", run).check(|input| {
        let task = Task::parse(input.bytes());
        task.map(drop).map_err(|detail| Problem::new(StatusCode::BAD_REQUEST, detail))
    })
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Task {
    /// How many steps: 1 to 10,000.
    steps: u64,
    /// How long each takes, in milliseconds: at most an hour.
    step_ms: u64,
    /// Whether they compute.
    cpu: bool,
    /// How often the first one fails before it works.
    failures: u32,
    /// When it asks to be tried again, in milliseconds: at most an hour.
    retry_after_ms: Option<u64>,
    /// Whether the first one traps its instance.
    #[cfg(feature = "faults")]
    trap: bool,
}

impl Default for Task {
    fn default() -> Task {
        Task {
            steps: 5,
            step_ms: 1000,
            cpu: false,
            failures: 0,
            retry_after_ms: None,
            #[cfg(feature = "faults")]
            trap: false,
        }
    }
}

impl Task {
    pub fn parse(input: &[u8]) -> Result<Task, String> {
        const STEPS: u64 = 10_000;
        const MS: u64 = 3_600_000;
        if input.is_empty() {
            return Ok(Task::default());
        }
        let task: Task = serde_json::from_slice(input).map_err(|error| {
            format!("invalid input: {error} (expected e.g. {{\"steps\":5,\"step_ms\":1000}})")
        })?;
        if !(1..=STEPS).contains(&task.steps) {
            return Err(format!("steps: {} is out of range (1 to {STEPS})", task.steps));
        }
        for (name, ms) in [("step_ms", task.step_ms), ("retry_after_ms", task.retry_after_ms.unwrap_or(0))] {
            if ms > MS {
                return Err(format!("{name}: {ms} is out of range (0 to {MS})"));
            }
        }
        Ok(task)
    }
}

async fn run(job: Job) -> Result<Output, Failure> {
    let task = Task::parse(job.bytes()).map_err(Failure::fatal)?;
    #[cfg(feature = "faults")]
    assert!(!task.trap, "a job that traps its instance");
    if task.failures > 0 {
        job.step("begin", || fail(&job, &task)).await?;
    }
    let time = Duration::from_millis(task.step_ms);
    for step in 1..=task.steps {
        job.progress(step - 1, task.steps, format!("{} of {} steps are done", step - 1, task.steps));
        match (task.cpu, task.step_ms) {
            (true, _) => job.step(step.to_string(), || compute(time)).await?,
            (false, 0) => job.step(step.to_string(), async || Ok::<_, Failure>(())).await?,
            (false, _) => job.sleep(step.to_string(), time).await?,
        }
    }
    Output::json(&serde_json::json!({ "steps": task.steps }))
}

/// Fails as often as it is told to.
async fn fail(job: &Job, task: &Task) -> Result<(), Failure> {
    if job.attempt() > task.failures {
        return Ok(());
    }
    let failure = Failure::retry(format!("failure {} of {}", job.attempt(), task.failures));
    Err(failure.after(task.retry_after_ms.map(Duration::from_millis)))
}

async fn compute(time: Duration) -> Result<(), Failure> {
    let (begun, mut slices, mut hash) = (Instant::now(), Slices::new(), 0u64);
    while Duration::from(begun.elapsed()) < time {
        hash = (0..10_000).fold(hash, |hash, n| (hash ^ n).wrapping_mul(0x100_0000_01b3));
        slices.turn().await;
    }
    black_box(hash);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_parsed_and_wrong_ones_named() {
        assert_eq!(Task::parse(b"").unwrap(), Task::default());
        assert_eq!(Task::parse(br#"{"steps":2}"#).unwrap(), Task { steps: 2, ..Task::default() });
        for (input, named) in [
            ("{", "EOF"),
            ("[]x", "trailing"),
            (r#"{"steps":0}"#, "steps: 0 is out of range (1 to 10000)"),
            (r#"{"step_ms":3600001}"#, "step_ms: 3600001 is out of range (0 to 3600000)"),
            (r#"{"retry_after_ms":3600001}"#, "retry_after_ms: 3600001 is out of range"),
            (r#"{"steps":-1}"#, "-1"),
            (r#"{"sleep":1}"#, "sleep"),
            ("\u{ff}", "expected value"),
        ] {
            let error = Task::parse(input.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{input}: {error}");
        }
    }
}
