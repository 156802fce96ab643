//! The demo worker: a long process without a purpose.
//!
//! Its input says how long: `{"steps":5,"step_ms":1000}`. With `"cpu":true` its steps compute instead
//! of waiting, in slices, so that the host can answer others meanwhile.

use std::hint::black_box;
use std::time::Duration;

use serde::Deserialize;
use wstd::time::Instant;

use super::Next;
use crate::Slices;
use crate::service::job::Job;

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// How many steps: 1 to 10,000.
    steps: u64,
    /// How long each takes, in milliseconds: at most an hour.
    step_ms: u64,
    /// Whether they compute.
    cpu: bool,
}

impl Default for Input {
    fn default() -> Input {
        Input { steps: 5, step_ms: 1000, cpu: false }
    }
}

impl Input {
    pub fn parse(input: &[u8]) -> Result<Input, String> {
        const STEPS: u64 = 10_000;
        const STEP_MS: u64 = 3_600_000;
        if input.is_empty() {
            return Ok(Input::default());
        }
        let input: Input = serde_json::from_slice(input).map_err(|error| {
            format!("the demo worker's input is like {{\"steps\":5,\"step_ms\":1000}}: {error}")
        })?;
        if !(1..=STEPS).contains(&input.steps) {
            return Err(format!("steps is {}; it may be 1 to {STEPS}", input.steps));
        }
        if input.step_ms > STEP_MS {
            return Err(format!("step_ms is {}; it may be 0 to {STEP_MS}", input.step_ms));
        }
        Ok(input)
    }
}

/// One step. The checkpoint is the number of finished ones.
pub async fn step(job: &Job) -> Result<Next, String> {
    let input = Input::parse(&job.input)?;
    let finished = match job.checkpoint.as_slice() {
        [] => 0,
        bytes => u64::from_be_bytes(bytes.try_into().map_err(|_| "its checkpoint is no number of steps")?),
    };
    if finished == input.steps {
        return Ok(Next::Done(serde_json::json!({ "steps": finished }).to_string()));
    }
    let time = Duration::from_millis(input.step_ms);
    let checkpoint = (finished + 1).to_be_bytes().to_vec();
    if input.cpu {
        compute(time).await;
        Ok(Next::Again(checkpoint))
    } else {
        Ok(Next::Wait(time, checkpoint))
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
    use futures_lite::future::block_on;

    #[test]
    fn inputs_are_parsed_and_wrong_ones_named() {
        assert_eq!(Input::parse(b"").unwrap(), Input::default());
        assert_eq!(Input::parse(br#"{"steps":2}"#).unwrap(), Input { steps: 2, ..Input::default() });
        for (input, named) in [
            ("{", "EOF"),
            ("[]x", "trailing"),
            (r#"{"steps":0}"#, "steps is 0; it may be 1 to 10000"),
            (r#"{"step_ms":3600001}"#, "step_ms is 3600001; it may be 0 to 3600000"),
            (r#"{"steps":-1}"#, "-1"),
            (r#"{"sleep":1}"#, "sleep"),
            ("\u{ff}", "expected value"),
        ] {
            let error = Input::parse(input.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{input}: {error}");
        }
    }

    #[test]
    fn each_step_leaves_the_number_of_finished_ones() {
        let mut job = Job::new(br#"{"steps":2,"step_ms":7}"#.as_slice().into());
        for finished in 1..=2u64 {
            let checkpoint = finished.to_be_bytes().to_vec();
            let next = block_on(step(&job)).unwrap();
            assert_eq!(next, Next::Wait(Duration::from_millis(7), checkpoint.clone()));
            job.checkpoint = checkpoint;
        }
        assert_eq!(block_on(step(&job)), Ok(Next::Done(r#"{"steps":2}"#.into())));
        job.checkpoint = vec![1];
        assert!(block_on(step(&job)).unwrap_err().contains("checkpoint"));
    }
}
