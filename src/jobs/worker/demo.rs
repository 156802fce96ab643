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

use super::{Failure, Next, Output};
use crate::Slices;
use crate::jobs::job::{Job, Progress};

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

/// One step. The checkpoint is the number of steps that have begun: a step that waits has begun when its
/// wait is stored, and ended when the next one is asked for.
pub async fn step(job: &Job) -> Result<Next, Failure> {
    let task = Task::parse(&job.input.body).map_err(Failure::Fatal)?;
    let begun = match job.run.bytes.as_slice() {
        [] => 0,
        bytes => {
            let bytes = bytes.try_into();
            u64::from_be_bytes(
                bytes.map_err(|_| Failure::Fatal("invalid checkpoint (expected 8 bytes)".into()))?,
            )
        }
    };
    #[cfg(feature = "faults")]
    assert!(!task.trap, "a job that traps its instance");
    if begun == 0 && job.run.tries < task.failures {
        let delay = task.retry_after_ms.map(Duration::from_millis);
        return Err(Failure::Retry(format!("failure {} of {}", job.run.tries + 1, task.failures), delay));
    }
    if begun == task.steps {
        let bytes = serde_json::json!({ "steps": begun }).to_string().into();
        return Ok(Next::Done(Output { content_type: "application/json".into(), bytes }));
    }
    let time = Duration::from_millis(task.step_ms);
    let checkpoint = (begun + 1).to_be_bytes().to_vec();
    let progress = |done| Progress {
        done,
        total: task.steps,
        message: format!("{done} of {} steps are done", task.steps),
    };
    if task.cpu {
        compute(time).await;
        Ok(Next::Again(checkpoint, progress(begun + 1)))
    } else {
        Ok(Next::Wait(time, checkpoint, progress(begun)))
    }
}

async fn compute(time: Duration) {
    let (begun, mut slices, mut hash) = (Instant::now(), Slices::new(), 0u64);
    while Duration::from(begun.elapsed()) < time {
        hash = (0..10_000).fold(hash, |hash, n| (hash ^ n).wrapping_mul(0x100_0000_01b3));
        slices.turn().await;
    }
    black_box(hash);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::host::tests::Native;
    use crate::jobs::job::{Id, Input, Run};
    use crate::jobs::store::Kind;
    use futures_lite::future::block_on;

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

    fn job(input: &str) -> Job {
        let input = Input { worker: "demo".into(), body: input.into(), ..Input::default() };
        Job { id: Id::new(&Native), input, run: Run::default(), claim: Kind::Work }
    }

    #[test]
    fn each_step_leaves_the_number_of_begun_ones() {
        let mut job = job(r#"{"steps":2,"step_ms":7}"#);
        for begun in 0..2u64 {
            let Ok(Next::Wait(time, checkpoint, progress)) = block_on(step(&job)) else { panic!() };
            assert_eq!(time, Duration::from_millis(7));
            assert_eq!((progress.done, progress.total), (begun, 2));
            assert_eq!(checkpoint, (begun + 1).to_be_bytes());
            job.run.bytes = checkpoint;
        }
        let output = Output { content_type: "application/json".into(), bytes: br#"{"steps":2}"#.into() };
        assert_eq!(block_on(step(&job)), Ok(Next::Done(output)));
        job.run.bytes = vec![1];
        assert!(matches!(block_on(step(&job)), Err(Failure::Fatal(error)) if error.contains("checkpoint")));
    }

    #[test]
    fn the_first_step_fails_as_often_as_it_is_told_to() {
        let mut job = job(r#"{"failures":2,"retry_after_ms":9}"#);
        for tries in 0..2 {
            job.run.tries = tries;
            let Err(Failure::Retry(_, delay)) = block_on(step(&job)) else { panic!() };
            assert_eq!(delay, Some(Duration::from_millis(9)));
        }
        job.run.tries = 2;
        assert!(matches!(block_on(step(&job)), Ok(Next::Wait(..))));
    }
}
