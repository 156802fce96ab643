//! What jobs cost in PostgreSQL, by wasmCloud and, where `spin` is on PATH, by Spin.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Times;
use crate::cluster::{connect, database_of};
use crate::host::{Folder, Kind, is_on_path};
use crate::job_costs::{
    ENDED, PAUSE, component_on, durable_time_to_ack, many_clients, post, post_all, wait_for,
};
use crate::jobs::{Client, SHORT};
use crate::wire::Connection;

pub fn all() {
    by_each_host(|kind| {
        durable(kind);
        many_clients(kind);
        finished_jobs(kind);
    });
}

pub fn by_two_hosts() {
    by_each_host(two_hosts);
}

fn by_each_host(bench: fn(Kind)) {
    for kind in [Kind::WashPostgres, Kind::SpinPostgres] {
        if kind.is_spin() && !is_on_path("spin") {
            println!("skipped: {kind:?}, since `spin` is not on PATH");
        } else {
            bench(kind);
        }
    }
}

/// The ack of a job that is recorded first, against what a native client of the database needs for an empty
/// statement and for a small row.
fn durable(kind: Kind) {
    let data = Folder::new();
    let run = |statement: &str| {
        let mut client = connect(&database_of(&data.0));
        let prepared = client.prepare(statement).expect("a right statement");
        move || {
            client.execute(&prepared, &[]).expect("a server that is up");
        }
    };
    let table = "CREATE TABLE bench (row TEXT)";
    connect(&database_of(&data.0)).batch_execute(table).expect("a database of its own");
    let (mut select, mut insert) = (run("SELECT 1"), run("INSERT INTO bench VALUES ('x')"));
    durable_time_to_ack(kind, &data, &mut [("SELECT 1", 3.0, &mut select), ("a row", 1.0, &mut insert)]);
}

/// Acks, claims and statuses beside 100,000 jobs that have ended, against an empty store, in turns.
fn finished_jobs(kind: Kind) {
    let folders = [Folder::new(), Folder::new()];
    let hosts = folders.each_ref().map(|data| component_on(kind, data).start());
    let connections = || hosts.each_ref().map(|host| Connection::open(host.address));
    for mut connection in connections() {
        post(&mut connection, SHORT);
    }
    let mut client = connect(&database_of(&folders[1].0));
    wait_for(&hosts[1], ENDED, 1);
    client
        .batch_execute(
            "CREATE TEMP TABLE old AS SELECT * FROM afterack_runs; \
             INSERT INTO afterack_jobs (id, created, delay, worker, head, size, body) \
             SELECT '01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'), created, delay, worker, head, size, body \
             FROM afterack_jobs, generate_series(1, 100000) n; \
             INSERT INTO afterack_runs (id, kind, waits, number, worker, ended, finished, run) \
             SELECT j.id, o.kind, o.waits, o.number, o.worker, o.ended, o.finished, o.run \
             FROM afterack_jobs j, old o WHERE j.id LIKE '01900000-%'",
        )
        .expect("a store");
    // As it would be by itself a minute later.
    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(statement).expect("a superuser");
    }
    let mut connections = connections();
    let [mut acks, mut ends, mut statuses] = [const { [const { Vec::new() }; 2] }; 3];
    for _ in 0..500 {
        for (host, connection) in connections.iter_mut().enumerate() {
            let begun = Instant::now();
            let answer = connection.post("/jobs/demo", "", SHORT.as_bytes());
            acks[host].push(begun.elapsed());
            let status = format!("/jobs/{}", answer.json()["id"].as_str().expect("an id"));
            loop {
                let asked = Instant::now();
                let job = connection.get(&status).json();
                statuses[host].push(asked.elapsed());
                if job["state"] == "succeeded" {
                    break;
                }
                assert!(begun.elapsed() < Duration::from_secs(60), "still {job}");
            }
            ends[host].push(begun.elapsed());
            sleep(PAUSE);
        }
    }
    for (what, times) in [("ack", acks), ("end of a job", ends), ("status", statuses)] {
        let [empty, full] = times.map(Times::new);
        println!(
            "100,000 finished jobs on {kind:?}: {what} {full}; none: {empty}; ratio of p99 {:.2} (at most 1.3)",
            full.at(0.99) / empty.at(0.99)
        );
    }
}

/// Jobs of 10 ms in 64 lanes, by one host and by two.
fn two_hosts(kind: Kind) {
    const JOBS: usize = 12_000;
    let rates = [1, 2].map(|count| {
        let data = Folder::new();
        let setup = |drains| {
            component_on(kind, &data).variable("AFTERACK_DRAINS", drains).variable("AFTERACK_LEASE", "2s")
        };
        let start = || setup(count).start();
        let mut hosts = vec![setup(1).variable("AFTERACK_LANES", 1).start()];
        post_all(&hosts[0], "demo", 20, r#"{"steps":2,"step_ms":3000}"#);
        post_all(&hosts[0], "demo", JOBS, r#"{"steps":1,"step_ms":10}"#);
        hosts.clear();
        hosts.extend((0..count).map(|_| start()));
        for host in &hosts {
            assert_eq!(Connection::open(host.address).get("/healthz").status, 200);
        }
        let wait_for = |least: u64| {
            let begun = Instant::now();
            loop {
                match Client(&hosts[0]).metric(ENDED) {
                    ended if ended >= least => return (Instant::now(), ended),
                    ended => assert!(begun.elapsed() < Duration::from_secs(180), "{ended} have ended"),
                }
                sleep(Duration::from_millis(50));
            }
        };
        // By then a lease is over, and the slot of the first host, which has been killed, is another's.
        let (begun, first) = wait_for(JOBS as u64 / 2);
        let before = Processors::now();
        let (end, last) = wait_for(JOBS as u64 * 9 / 10);
        println!("10 ms jobs by {count} host(s) on {kind:?}: {}", Processors::now().since(&before));
        (last - first) as f64 / (end - begun).as_secs_f64()
    });
    println!(
        "10 ms jobs in 64 lanes on {kind:?}: {:.0} per second by one host, {:.0} by two: {:.2} times as many (at least 1.6)",
        rates[0],
        rates[1],
        rates[1] / rates[0]
    );
}

/// What the machine's processors have done so far, in the kernel's ticks.
struct Processors {
    all: u64,
    idle: u64,
    database: u64,
}

impl Processors {
    fn now() -> Processors {
        // proc_stat(5): user, nice, system, idle, iowait, …; of a process, its name is the 2nd field, and its time the
        // 14th and 15th.
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let numbers = |line: &str| line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let all: Vec<u64> = numbers(read("/proc/stat").lines().next().unwrap_or_default());
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let database = processes.filter_map(|process| {
            let line = read(process.path().join("stat").to_str()?);
            let fields: Vec<&str> = line.split_once("(postgres) ")?.1.split(' ').collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        });
        Processors { all: all.iter().sum(), idle: all[3] + all[4], database: database.sum() }
    }

    fn since(&self, before: &Processors) -> String {
        let all = (self.all - before.all) as f64 / 100.0;
        let [idle, database] =
            [self.idle - before.idle, self.database - before.database].map(|ticks| ticks as f64 / all);
        format!("all processors {:.0} % busy, {database:.0} % with the database", 100.0 - idle)
    }
}
