//! What jobs cost on Spin, whose SQLite keeps them. Says that it was skipped where `spin` is not on PATH.

use std::thread::{self, sleep};
use std::time::Instant;

use crate::Times;
use crate::host::{Folder, Host, Kind, Setup, is_on_path};
use crate::job_costs::{PAUSE, post, post_all, wait_for, write};
use crate::wire::Connection;

const SHORT: &str = r#"{"steps":1,"step_ms":0}"#;

fn component(data: &Folder) -> Host {
    Setup::new(Kind::Spin, "afterack").data(&data.0).start()
}

pub fn all() {
    if !is_on_path("spin") {
        println!("skipped: Spin, since `spin` is not on PATH");
        return;
    }
    durable_time_to_ack();
    many_clients();
    full_store();
}

/// The ack of a job that is recorded first, against Spin's hello world and the disk, in turns.
fn durable_time_to_ack() {
    let (data, files) = (Folder::new(), Folder::new());
    let hello = Setup::new(Kind::Spin, "examples/hello").start();
    let host = component(&data);
    let (mut to_hello, mut to_host) = (Connection::open(hello.address), Connection::open(host.address));
    let [mut hellos, mut acks, mut writes] = [const { Vec::new() }; 3];
    for _ in 0..500 {
        let begun = Instant::now();
        assert_eq!(to_hello.get("/").status, 202);
        hellos.push(begun.elapsed());
        writes.push(write(&files.0));
        acks.push(post(&mut to_host, SHORT));
        sleep(PAUSE);
    }
    let [hello, ack, write] = [hellos, acks, writes].map(Times::new);
    let limit = hello.at(0.5) + 3.0 * write.at(0.5);
    println!("durable time-to-ack on Spin: {ack}; hello world: {hello}; a file written and synced: {write};");
    println!("  median of the first {:.3} ms (at most hello + 3 files = {limit:.3} ms)", ack.at(0.5));
}

/// 50 clients that post at once, all the time.
fn many_clients() {
    let data = Folder::new();
    let host = component(&data);
    let address = host.address;
    let client = move || {
        let mut connection = Connection::open(address);
        (0..40).map(|_| post(&mut connection, SHORT)).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    let clients: Vec<_> = (0..50).map(|_| thread::spawn(client)).collect();
    let times = clients.into_iter().flat_map(|client| client.join().expect("a client that gets its acks"));
    let times = Times::new(times.collect());
    let rate = 2000.0 / begun.elapsed().as_secs_f64();
    println!(
        "50 clients post at once on Spin: {times}, {rate:.0} acks per second; p99 / p50 {:.1} (at most 10)",
        times.at(0.99) / times.at(0.5)
    );
}

/// The ack with 10,000 finished jobs and 1,000 waiting ones, against an empty store, in turns.
fn full_store() {
    let folders = [Folder::new(), Folder::new()];
    let hosts = folders.each_ref().map(component);
    post_all(&hosts[1], 10_000, SHORT);
    wait_for(&hosts[1], r#"afterack_jobs_ended_total{state="succeeded"}"#, 10_000);
    post_all(&hosts[1], 1000, r#"{"failures":1,"retry_after_ms":3600000}"#);
    wait_for(&hosts[1], r#"afterack_jobs{state="running"}"#, 0);
    let mut connections = hosts.each_ref().map(|host| Connection::open(host.address));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..10 {
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            for _ in 0..100 {
                times.push(post(connection, SHORT));
                sleep(PAUSE);
            }
        }
    }
    let [empty, full] = times.map(Times::new);
    println!(
        "10,000 finished and 1,000 waiting jobs on Spin: {full}; none: {empty}; ratio of p99 {:.2} (at most 1.3)",
        full.at(0.99) / empty.at(0.99)
    );
}
