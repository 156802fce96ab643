//! What jobs cost on Spin, whose SQLite keeps them. Says that it was skipped where `spin` is not on PATH.

use std::thread;
use std::time::Instant;

use crate::Times;
use crate::host::{Folder, Kind, is_on_path};
use crate::job_costs::{component_on, durable_time_to_ack, full_store, post};
use crate::wire::Connection;

const SHORT: &str = r#"{"steps":1,"step_ms":0}"#;

pub fn all() {
    if !is_on_path("spin") {
        println!("skipped: Spin, since `spin` is not on PATH");
        return;
    }
    durable_time_to_ack(Kind::Spin, 3.0);
    many_clients();
    full_store(Kind::Spin);
}

/// 50 clients that post at once, all the time.
fn many_clients() {
    let data = Folder::new();
    let host = component_on(Kind::Spin, &data).start();
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
