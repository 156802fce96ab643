//! What the `http` worker costs: the calls of 64 lanes against those of 64 clients without a service in between, and
//! the memory of calls that wait.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::host::{Folder, Kind, Setup};
use crate::job_costs::{ENDED, IDLE, component_on, post_all, wait_for};
use crate::upstream::Upstream;
use crate::wire::Connection;

/// As many clients and lanes.
const LANES: usize = 64;

fn component(data: &Folder, upstream: &str) -> Setup {
    component_on(Kind::Wasmtime, data)
        .variable("AFTERACK_DRAINS", 1)
        .variable("AFTERACK_UPSTREAM_REPORT", upstream)
}

/// How many requests a second come to this path, between the first tenth of so many and the last.
fn rate(upstream: &Upstream, path: &str, requests: usize) -> f64 {
    let begun = Instant::now();
    let wait_for = |count: usize| {
        while upstream.count(path) < count {
            assert!(begun.elapsed() < Duration::from_secs(120), "{} have come", upstream.count(path));
            sleep(Duration::from_millis(2));
        }
        (Instant::now(), upstream.count(path))
    };
    let ((begun, first), (end, last)) = (wait_for(requests / 10), wait_for(requests * 9 / 10));
    (last - first) as f64 / (end - begun).as_secs_f64()
}

/// For upstreams that take so many milliseconds.
pub fn throughput() {
    for (milliseconds, requests) in [(30, 4000), (100, 4000)] {
        let upstream = Upstream::start();
        let (address, direct) = (upstream.address, format!("sleeps/{milliseconds}/direct"));
        let path = format!("/{direct}");
        let clients = (0..LANES).map(|_| {
            let path = path.clone();
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                for _ in 0..requests / LANES {
                    assert_eq!(connection.post(&path, "", b"x").status, 200);
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        let of_clients = rate(&upstream, &direct, requests / LANES * LANES);
        clients.into_iter().for_each(|client| client.join().expect("a client that gets its answers"));

        let data = Folder::new();
        let by_lanes = format!("sleeps/{milliseconds}/lanes");
        // The jobs wait behind one that holds the only lane.
        let waiting = component(&data, &upstream.url("silent")).variable("AFTERACK_LANES", 1).start();
        post_all(&waiting, "report", requests, "x");
        waiting.kill();
        let host = component(&data, &upstream.url(&by_lanes)).variable("AFTERACK_LEASE", "1s").start();
        assert_eq!(Connection::open(host.address).get("/healthz").status, 200);
        let of_lanes = rate(&upstream, &by_lanes, requests);
        println!(
            "an upstream that takes {milliseconds} ms, by {LANES} lanes: {of_lanes:.0} calls a second; by {LANES} \
             keep-alive clients directly: {of_clients:.0}; {:.0} % (at least 80)",
            100.0 * of_lanes / of_clients
        );
    }
}

/// The memory of 1,000 calls in flight in one instance.
pub fn calls_in_flight() {
    const CALLS: usize = 1000;
    let (upstream, data) = (Upstream::start(), Folder::new());
    let host = component(&data, &upstream.url("sleeps/120000")).variable("AFTERACK_LANES", CALLS).start();
    // As many requests before, whose memory is not the calls'.
    post_all(&host, "demo", CALLS, r#"{"steps":1,"step_ms":0}"#);
    wait_for(&host, ENDED, CALLS as u64);
    sleep(IDLE); // Until the host has let go of what they needed.
    let [resident, unshared] = ["VmRSS:", "RssAnon:"].map(|kind| host.memory_kib(kind));
    post_all(&host, "report", CALLS, "x");
    let begun = Instant::now();
    while upstream.count("sleeps/120000") < CALLS {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} came", upstream.count("sleeps/120000"));
        sleep(Duration::from_millis(20));
    }
    sleep(IDLE);
    let each = |kind, before| (host.memory_kib(kind) - before) / CALLS as f64;
    println!(
        "a call in flight, of {CALLS} in one instance: {:.1} KiB resident (at most 24), {:.1} unshared",
        each("VmRSS:", resident),
        each("RssAnon:", unshared)
    );
}
