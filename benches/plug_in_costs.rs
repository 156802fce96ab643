//! What a worker costs that is plugged in, against one that is built in.

use std::thread::sleep;
use std::time::Duration;

use crate::Times;
use crate::host::{Folder, Host, Kind, Setup};
use crate::job_costs::{PAUSE, component_on, post};
use crate::jobs::{Client, JSON, id};
use crate::wire::Connection;

/// How many steps a job has.
const STEPS: u32 = 2000;

/// Steps that do nothing, of jobs in turns; acks of the same worker by both components, in turns.
pub fn all() {
    let (data, plain_data) = (Folder::new(), Folder::new());
    let plugged = Setup::new(Kind::Wasmtime, "plugged").data(&data.0).like_make_up().start();
    let (mut own, mut large, mut built_in) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..7 {
        let input = |bytes: usize| format!(r#"{{"what":"steps","steps":{STEPS},"bytes":{bytes}}}"#);
        own.push(step(&plugged, "root", &input(8)));
        large.push(step(&plugged, "root", &input(4096)));
        built_in.push(step(&plugged, "demo", &format!(r#"{{"steps":{STEPS},"step_ms":0}}"#)));
    }
    let [own, large, built_in] = [own, large, built_in].map(Times::new);
    let more = (own.at(0.5) - built_in.at(0.5)) * 1000.0;
    println!("a plug-in's step: {own}; a built-in worker's: {built_in}; {more:.0} µs more (at most 200)");
    println!("a plug-in's step with a checkpoint of 4 KiB: {large}");

    let plain = component_on(Kind::Wasmtime, &plain_data).start();
    let mut connections = [&plugged, &plain].map(|host| Connection::open(host.address));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..1000 {
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            times.push(post(connection, r#"{"steps":1,"step_ms":0}"#));
            sleep(PAUSE);
        }
    }
    let [composed, plain] = times.map(Times::new);
    let ratio = composed.at(0.5) / plain.at(0.5);
    println!(
        "ack of a composed component: {composed}; of the plain one: {plain}; ratio of medians {ratio:.2} (at most 1.15)"
    );
}

/// How long each of a job's steps takes.
fn step(host: &Host, worker: &str, input: &str) -> Duration {
    let id = id(&Connection::open(host.address).post(&format!("/jobs/{worker}"), JSON, input.as_bytes()));
    let status = Client(host).wait_for(&id, "succeeded");
    let time = |name: &str| humantime::parse_rfc3339(status[name].as_str().expect("a time")).expect("a time");
    time("finished").duration_since(time("begun")).expect("one after the other") / STEPS
}
