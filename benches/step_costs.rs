//! What a durable step costs, and whether a later one costs more.

use std::time::Duration;

use crate::Times;
use crate::host::{Folder, Kind, Setup};
use crate::job_costs::write;
use crate::jobs::{Client, JSON, id};
use crate::wire::Connection;

/// How many steps a job has.
const STEPS: usize = 10_000;

/// How many of the first and the last ones are compared.
const ENDS: usize = 200;

/// Steps that do nothing, and synced files on the same disk before and after them.
pub fn all() {
    let (data, files) = (Folder::new(), Folder::new());
    let host = Setup::new(Kind::Wasmtime, "examples/worker").data(&data.0).like_make_up().start();
    let (mut synced, mut steps, mut first, mut last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        synced.extend((0..ENDS).map(|_| write(&files.0)));
        let input = format!(r#"{{"key":"","steps":{STEPS}}}"#);
        let job = id(&Connection::open(host.address).post("/jobs/counts", JSON, input.as_bytes()));
        Client(&host).wait_for(&job, "succeeded");
        let times: Vec<u64> =
            serde_json::from_value(Client(&host).get(&format!("/jobs/{job}/output")).json())
                .expect("the times of the steps");
        let times: Vec<_> = times.into_iter().map(Duration::from_micros).collect();
        first.extend_from_slice(&times[..ENDS]);
        last.extend_from_slice(&times[STEPS - ENDS..]);
        steps.extend(times);
    }
    let [synced, steps, first, last] = [synced, steps, first, last].map(Times::new);
    let (step, growth) = (steps.at(0.5) / synced.at(0.5), last.at(0.5) / first.at(0.5));
    println!("a step: {steps}; a synced file: {synced}; ratio of medians {step:.2} (at most 1)");
    println!(
        "the first steps: {first}; the last of {STEPS}: {last}; ratio of medians {growth:.2} (at most 1.3)"
    );
}
