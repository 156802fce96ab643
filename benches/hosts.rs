//! What the mechanism costs, on `wasmtime serve`. These machines are noisy: what counts are ratios of
//! figures taken in turns within one run.

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/cluster.rs"]
mod cluster;
#[expect(dead_code, unused_macros, unused_imports, reason = "the tests use more of it")]
#[path = "../tests/all/host.rs"]
mod host;
mod http_costs;
mod job_costs;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/all/jobs.rs"]
mod jobs;
mod plug_in_costs;
mod postgres_costs;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/all/recorder.rs"]
mod recorder;
#[path = "../tests/all/server.rs"]
mod server;
mod spin_costs;
mod step_costs;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/all/upstream.rs"]
mod upstream;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/all/wire.rs"]
mod wire;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::{Host, Kind, REUSE, Setup, guest, options_of_make_up, root};
use wire::Connection;

fn main() {
    let benches: [(&str, fn()); 20] = [
        ("sizes", sizes),
        ("time-to-ack", || against_hello("time-to-ack", time_to_ack, [0.85, 1.15])),
        ("back-to-back", || {
            against_hello("1 client, back to back", |hosts| acks_in_turns(hosts, 1, 3000), [0.9, 1.15])
        }),
        ("back-to-back", || {
            against_hello("50 clients, back to back", |hosts| acks_in_turns(hosts, 50, 60), [0.8, 1.5])
        }),
        ("back-to-back", reused_instances),
        ("computing", acks_beside_computing),
        ("sleepers", sleepers),
        ("durable", || job_costs::durable_time_to_ack_by_files(Kind::Wasmtime, 2.0)),
        ("full-store", || job_costs::full_store(Kind::Wasmtime)),
        ("lists", job_costs::lists),
        ("much-to-remove", job_costs::much_to_remove),
        ("sleeping-jobs", job_costs::sleeping_jobs),
        ("throughput", job_costs::throughput),
        ("steps", step_costs::all),
        ("plug-ins", plug_in_costs::all),
        ("upstream", http_costs::throughput),
        ("calls", http_costs::calls_in_flight),
        ("spin", spin_costs::all),
        ("postgres", postgres_costs::all),
        ("two-hosts", postgres_costs::by_two_hosts),
    ];
    // cargo's own arguments begin with dashes. `cargo test --benches` asks whether this runs at all; that
    // is `make bench`'s question.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    for (name, bench) in benches {
        if named.is_empty() || named.iter().any(|named| *named == name) {
            bench();
        }
    }
}

fn sizes() {
    for (component, limit) in [("examples/minimal", 160), ("examples/email", 700), ("afterack", 600)] {
        let file = root().join(format!("target/wasm32-wasip2/release/{component}.wasm"));
        let bytes = fs::metadata(file).expect("`make build` made it").len();
        println!("{component}.wasm: {:.1} KiB (at most {limit})", bytes as f64 / 1024.0);
    }
}

/// Between two requests, so that what follows the one is over before the other.
const PAUSE: Duration = Duration::from_millis(5);

/// The acks of a component on each of these hosts, in turns.
type Measure = fn(&[Host; 3]) -> [Vec<Duration>; 3];

/// The library's acks on a host as `make up` starts it: one after which work goes on, by `finish`, and a last word, by
/// `answer`. Against hello world by the raw bindings on wasmtime's defaults, and with the same options; each with the
/// limit of their ratio.
fn against_hello(what: &str, measure: Measure, limits: [f64; 2]) {
    let same = options_of_make_up();
    for (host, options, limit) in
        [("on wasmtime's defaults", "", limits[0]), ("with the same options", &same, limits[1])]
    {
        let hosts = [("hello", options), ("minimal", &same), ("answer", &same)].map(|(name, options)| {
            Setup::new(Kind::Wasmtime, &format!("examples/{name}")).arguments(options).start()
        });
        let [hello, finish, answer] = measure(&hosts).map(Times::new);
        println!("{what}: hello world {host}: {hello}");
        for (way, ack) in [("finish", finish), ("answer", answer)] {
            let [medians, p99] = [0.5, 0.99].map(|part| ack.at(part) / hello.at(part));
            println!("  `{way}`: {ack}; ratio of medians {medians:.2} (at most {limit:.2}), of p99 {p99:.2}");
        }
    }
}

/// Of one client.
fn time_to_ack(hosts: &[Host; 3]) -> [Vec<Duration>; 3] {
    let mut connections = hosts.each_ref().map(|host| Connection::open(host.address));
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..1000 {
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            times.push(ack(connection));
            thread::sleep(PAUSE);
        }
    }
    times
}

/// Of clients that send the next request as soon as they have an answer: then it also counts what a host does after its
/// answers.
fn acks_in_turns<const N: usize>(hosts: &[Host; N], clients: usize, requests: usize) -> [Vec<Duration>; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..10 {
        for (host, times) in hosts.iter().zip(&mut times) {
            times.extend(acks(host, clients, requests / 10));
        }
    }
    times
}

/// The library's ack by instances that serve one request, and by those that serve one after the other.
fn reused_instances() {
    let once = options_of_make_up().replace(REUSE, "");
    let hosts = [once, options_of_make_up()]
        .map(|options| Setup::new(Kind::Wasmtime, "examples/minimal").arguments(&options).start());
    let [once, reused] = acks_in_turns(&hosts, 1, 3000).map(Times::new);
    let ratio = reused.at(0.5) / once.at(0.5);
    println!("1 client, back to back, instances reused: {reused}; not: {once}; ratio of medians {ratio:.2}");
}

/// The time that an ack takes.
fn ack(connection: &mut Connection) -> Duration {
    let begun = Instant::now();
    assert_eq!(connection.get("/bytes?n=14&key=bench").status, 202);
    begun.elapsed()
}

/// The times of `requests` acks for each of `clients` connections.
fn acks(host: &Host, clients: usize, requests: usize) -> Vec<Duration> {
    let address = host.address;
    let client = move || {
        let mut connection = Connection::open(address);
        (0..requests).map(|_| ack(&mut connection)).collect::<Vec<_>>()
    };
    let clients: Vec<_> = (0..clients).map(|_| thread::spawn(client)).collect();
    clients.into_iter().flat_map(|client| client.join().expect("a client that gets its acks")).collect()
}

/// Other clients' acks while four continuations compute in slices, and what the slices cost them.
fn acks_beside_computing() {
    const MS: u64 = 5000;
    let (host, recorder) = guest(Kind::Wasmtime);
    let start = |path: &str, key: &str| {
        for _ in 0..4 {
            assert_eq!(Connection::open(host.address).get(&format!("/{path}?ms={MS}&key={key}")).status, 202);
        }
    };
    let pieces =
        |key: &str| -> u64 { recorder.wait(key, 4).iter().filter_map(|n| n.parse::<u64>().ok()).sum() };
    start("computes", "without");
    let without = pieces("without");
    start("slices", "slices");
    let with = pieces("slices");

    start("slices", "beside");
    let done = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                times.extend(acks(&host, 1, 1));
            }
            times
        });
        thread::sleep(Duration::from_millis(MS - 500));
        done.store(true, Ordering::Relaxed);
        client.join().expect("a client that gets its acks")
    });
    recorder.wait("beside", 4);
    println!(
        "acks beside 4 computing continuations: {} (p50 at most 15 ms, p99 at most 40 ms)",
        Times::new(times)
    );
    // Without slices each has a core to itself for its time, the last ones when the first have ended; in
    // slices all four share the cores for that time.
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get()).min(4);
    let lost = 100.0 * (1.0 - with as f64 / (without as f64 * cores as f64 / 4.0));
    println!("computing speed lost to turns: {lost:.1} % (at most 15)");
}

/// Memory of continuations that sleep, in a host whose pool is large enough for them. Resident memory
/// counts pages of the component's image that all instances share once for each.
fn sleepers() {
    const SLEEPERS: usize = 1000;
    let pool = ["core-instances", "component-instances", "memories", "tables", "stacks"];
    let options = pool.map(|limit| format!("pooling-total-{limit}=10000")).join(",");
    let host = Setup::new(Kind::Wasmtime, "examples/sleeper").arguments(&format!("-O {options}")).start();
    let sleep = |sleepers| {
        for _ in 0..sleepers {
            assert_eq!(Connection::open(host.address).get("/").status, 202);
        }
        thread::sleep(Duration::from_millis(500));
        ["VmRSS:", "RssAnon:"].map(|kind| host.memory_kib(kind))
    };
    let before = sleep(10);
    let after = sleep(SLEEPERS);
    let [resident, unshared] = [0, 1].map(|kind| (after[kind] - before[kind]) / SLEEPERS as f64);
    println!(
        "a sleeping continuation, of {SLEEPERS}: {resident:.1} KiB resident (at most 100), {unshared:.1} unshared"
    );
}

struct Times(Vec<Duration>);

impl Times {
    fn new(mut times: Vec<Duration>) -> Times {
        times.sort();
        Times(times)
    }

    /// The time that this part of them does not exceed, in milliseconds.
    fn at(&self, part: f64) -> f64 {
        let index = ((self.0.len() as f64 * part) as usize).min(self.0.len() - 1);
        self.0[index].as_secs_f64() * 1000.0
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.3} ms, p99 {:.3} ms", self.at(0.5), self.at(0.99))
    }
}
