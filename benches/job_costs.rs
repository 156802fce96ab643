//! What jobs cost: recording them, keeping many, sleeping, running them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::Times;
use crate::host::{Folder, Host, Kind, Setup};
use crate::jobs::{Client, SHORT};
use crate::wire::Connection;

/// Between two measurements, so that the rest of the one does not slow down the other.
pub const PAUSE: Duration = Duration::from_millis(10);

/// How many jobs have succeeded, in the metrics.
pub const ENDED: &str = r#"afterack_jobs_ended_total{state="succeeded"}"#;

fn component(data: &Folder) -> Setup {
    component_on(Kind::Wasmtime, data)
}

/// The component; on `wasmtime serve` as `make up` starts it.
pub fn component_on(kind: Kind, data: &Folder) -> Setup {
    Setup::new(kind, "afterack").data(&data.0).like_make_up()
}

/// The time that the ack of a job takes.
pub fn post(connection: &mut Connection, input: &str) -> Duration {
    post_to(connection, "demo", input)
}

/// The same for a job of this worker.
fn post_to(connection: &mut Connection, worker: &str, input: &str) -> Duration {
    let begun = Instant::now();
    let ack = connection.post(&format!("/jobs/{worker}"), "", input.as_bytes());
    assert_eq!(ack.status, 202, "{}", ack.text());
    begun.elapsed()
}

/// Posts this many jobs for this worker by 20 clients.
pub fn post_all(host: &Host, worker: &'static str, jobs: usize, input: &'static str) {
    let address = host.address;
    let client = move || {
        let mut connection = Connection::open(address);
        for _ in 0..jobs / 20 {
            post_to(&mut connection, worker, input);
        }
    };
    let clients: Vec<_> = (0..20).map(|_| thread::spawn(client)).collect();
    for client in clients {
        client.join().expect("a client that gets its acks");
    }
}

pub fn wait_for(host: &Host, name: &str, count: u64) {
    let (begun, client) = (Instant::now(), Client(host));
    while client.metric(name) != count {
        assert!(begun.elapsed() < Duration::from_secs(120), "{name} is {}", client.metric(name));
        sleep(Duration::from_millis(20));
    }
}

/// Creates, writes, syncs and renames one file of a record's size.
pub fn write(folder: &Path) -> Duration {
    let begun = Instant::now();
    let mut file = File::create_new(folder.join("tmp")).expect("a folder to write to");
    file.write_all(&[b'x'; 150]).and_then(|()| file.sync_all()).expect("a disk with room");
    fs::rename(folder.join("tmp"), folder.join("file")).expect("a folder to write to");
    begun.elapsed()
}

/// The least that a job asks of the disk, natively: it is claimed by a rename, stored with a sync when its
/// step waits, in a file that was empty until then, and when it has ended, in half of that file, and moved
/// away by a rename.
fn least(folder: &Path) -> Times {
    let folders = ["queue", "slot", "done"].map(|name| folder.join(name));
    for folder in &folders {
        fs::create_dir(folder).expect("a folder to write to");
    }
    let [queue, slot, done] = folders;
    let job = |number: i32| {
        let name = number.to_string();
        File::create(queue.join(&name)).expect("a folder to write to");
        let begun = Instant::now();
        fs::rename(queue.join(&name), slot.join(&name)).expect("what was just made");
        for (length, at) in [(2048, 0), (320, 1024)] {
            let file = File::options().write(true).open(slot.join(&name)).expect("what was just moved");
            file.write_all_at(&vec![b'x'; length], at)
                .and_then(|()| file.sync_data())
                .expect("a disk with room");
        }
        fs::rename(slot.join(&name), done.join(&name)).expect("what was just written");
        begun.elapsed()
    };
    Times::new((0..500).map(job).collect())
}

/// Something that an ack's time is compared with: its name, how many of it an ack may take, and one of it.
pub type Yardstick<'a> = (&'a str, f64, &'a mut dyn FnMut());

/// The ack of a job that is recorded first, in turns with hello world and these. It may take as long as hello
/// world and so many of them.
pub fn durable_time_to_ack(kind: Kind, data: &Folder, yardsticks: &mut [Yardstick]) {
    let hello = Setup::new(kind, "examples/hello").start();
    let host = component_on(kind, data).start();
    let (mut to_hello, mut to_host) = (Connection::open(hello.address), Connection::open(host.address));
    let (mut hellos, mut acks, mut others) = (Vec::new(), Vec::new(), vec![Vec::new(); yardsticks.len()]);
    for _ in 0..500 {
        let begun = Instant::now();
        assert_eq!(to_hello.get("/").status, 202);
        hellos.push(begun.elapsed());
        for ((_, _, one), times) in yardsticks.iter_mut().zip(&mut others) {
            let begun = Instant::now();
            one();
            times.push(begun.elapsed());
        }
        acks.push(post(&mut to_host, SHORT));
        sleep(PAUSE);
    }
    let [hello, ack] = [hellos, acks].map(Times::new);
    println!("durable time-to-ack on {kind:?}: {ack}; hello world: {hello};");
    let mut limit = hello.at(0.5);
    for ((name, count, _), times) in yardsticks.iter().zip(others.into_iter().map(Times::new)) {
        println!("  {name}: {times}, of which it may take {count}");
        limit += count * times.at(0.5);
    }
    println!("  median {:.3} ms (at most hello world and those: {limit:.3} ms)", ack.at(0.5));
}

/// The same against files that are written and synced.
pub fn durable_time_to_ack_by_files(kind: Kind, count: f64) {
    let (data, files) = (Folder::new(), Folder::new());
    let mut one = || {
        write(&files.0);
    };
    durable_time_to_ack(kind, &data, &mut [("a file written and synced", count, &mut one)]);
}

/// 50 clients that post at once, all the time.
pub fn many_clients(kind: Kind) {
    let data = Folder::new();
    let host = component_on(kind, &data).start();
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
        "50 clients post at once on {kind:?}: {times}, {rate:.0} acks per second; p99 / p50 {:.1} (at most 10)",
        times.at(0.99) / times.at(0.5)
    );
}

/// Acks with 10,000 finished jobs and 1,000 waiting ones, against an empty store, in turns.
pub fn full_store(kind: Kind) {
    let folders = [Folder::new(), Folder::new()];
    let hosts = folders.each_ref().map(|data| component_on(kind, data).start());
    post_all(&hosts[1], "demo", 10_000, r#"{"steps":1,"step_ms":0}"#);
    wait_for(&hosts[1], ENDED, 10_000);
    post_all(&hosts[1], "demo", 1000, r#"{"failures":1,"retry_after_ms":3600000}"#);
    wait_for(&hosts[1], r#"afterack_jobs{state="queued"}"#, 1000);
    wait_for(&hosts[1], r#"afterack_jobs{state="running"}"#, 0);
    let mut connections = hosts.each_ref().map(|host| Connection::open(host.address));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..10 {
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            for _ in 0..100 {
                times.push(post(connection, r#"{"steps":1,"step_ms":0}"#));
                sleep(PAUSE);
            }
        }
    }
    let [empty, full] = times.map(Times::new);
    println!(
        "10,000 finished and 1,000 waiting jobs on {kind:?}: {full}; none: {empty}; ratio of p99 {:.2} (at most 1.3)",
        full.at(0.99) / empty.at(0.99)
    );
}

/// The same, and ten steps of 10 ms, while 2,000,000 finished jobs are removed. They are copies of one, as
/// far as file systems allow a file to have many names.
pub fn much_to_remove() {
    const JOBS: usize = 2_000_000;
    const NAMES: usize = 60_000;
    const STEPS: &str = r#"{"steps":10,"step_ms":10}"#;
    let folders = [Folder::new(), Folder::new()];
    let start = |data: &Folder, keep| {
        component(data).variable("AFTERACK_KEEP", keep).variable("AFTERACK_LEASE", "1s").start()
    };
    let root = &folders[1].0;
    let host = start(&folders[1], "32s");
    let job = Client(&host).job(r#"{"steps":1,"step_ms":0}"#);
    Client(&host).wait_for(&job, "succeeded");
    host.kill();
    let logs = || fs::read_dir(root.join("ended")).expect("a store").map(|entry| entry.unwrap().path());
    let path = logs().next().expect("a job has ended");
    let mut entries = fs::read(&path).expect("a log");
    let version = entries[16..24].to_owned();
    let mut original = root.join("done").join(&job);
    for n in 0..JOBS {
        let id = format!("01900000-0000-7000-8000-{n:012x}");
        let digits = id.replace('-', "");
        let [done, input] = ["done", "jobs"].map(|folder| root.join(folder).join(&id));
        if n % (NAMES / 2) == 0 {
            fs::copy(&original, &done).expect("a disk with room");
            original.clone_from(&done);
        } else {
            fs::hard_link(&original, &done).expect("a file may have 60,000 names");
        }
        fs::hard_link(&original, &input).expect("a file may have 60,000 names");
        entries.extend((0..32).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()));
        entries.extend_from_slice(&version);
    }
    fs::write(&path, entries).expect("a disk with room");
    let hosts = folders.each_ref().map(|data| start(data, "1s"));
    // How many are removed is the last part of the log's name.
    let removed = || {
        let removed = |path: PathBuf| path.file_name()?.to_str()?.split('.').nth(4)?.parse::<u64>().ok();
        logs().filter_map(removed).max()
    };
    let begun = Instant::now();
    assert_eq!(Client(&hosts[1]).get("/healthz").status, 200);
    while removed().is_none_or(|removed| removed == 0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is removed");
        sleep(PAUSE);
    }
    let (begun, before) = (Instant::now(), removed().unwrap_or_default());
    let mut connections = hosts.each_ref().map(|host| Connection::open(host.address));
    let (mut acks, mut steps) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..10 {
        for (index, connection) in connections.iter_mut().enumerate() {
            for _ in 0..30 {
                acks[index].push(post(connection, r#"{"steps":1,"step_ms":0}"#));
                sleep(PAUSE);
            }
            let (client, begun) = (Client(&hosts[index]), Instant::now());
            client.wait_for(&client.job(STEPS), "succeeded");
            steps[index].push(begun.elapsed());
        }
    }
    let rate = (removed().expect("they are still removed") - before) as f64 / begun.elapsed().as_secs_f64();
    let [few, many] = acks.map(Times::new);
    println!(
        "2,000,000 finished jobs, {rate:.0} a second removed: acks {many}; none: {few}; ratio of p99 {:.2}",
        many.at(0.99) / few.at(0.99)
    );
    let [few, many] = steps.map(Times::new);
    println!(
        "  ten steps of 10 ms meanwhile: {many}; none: {few}; ratio of medians {:.2}",
        many.at(0.5) / few.at(0.5)
    );
}

/// Pages of `GET /jobs` beside 100,000 jobs that are not shown, against 100, in turns. They are copies of one, as
/// far as file systems allow a file to have many names.
pub fn lists() {
    const LISTS: [&str; 6] =
        ["", "?state=succeeded", "?state=cancelled", "?state=queued", "?state=running", "?worker=rare"];
    let folders = [Folder::new(), Folder::new()];
    let start = |data: &Folder| {
        let setup = component(data).variable("AFTERACK_DRAINS", 1).variable("AFTERACK_LANES", 1);
        setup.variable("AFTERACK_ATTEMPTS", 1).start()
    };
    for (data, count) in folders.iter().zip([100, 100_000]) {
        let host = start(data);
        let client = Client(&host);
        let failed = client.job(r#"{"failures":1}"#);
        client.wait_for(&failed, "failed");
        let done = client.job(SHORT);
        client.wait_for(&done, "succeeded");
        let running = client.job(r#"{"steps":10000,"step_ms":3000}"#);
        client.wait_for(&running, "running");
        let queued = client.job(SHORT);
        host.kill();
        copy(&data.0, &done, "done", "succeeded", count, 0);
        copy(&data.0, &queued, "queue", "open", count, 1);
        copy(&data.0, &failed, "done", "failed", count, 2);
    }
    let hosts = folders.each_ref().map(start);
    let mut connections = hosts.each_ref().map(|host| Connection::open(host.address));
    sleep(Duration::from_secs(3));
    for list in LISTS {
        let mut times = [Vec::new(), Vec::new()];
        let mut shown = [0; 2];
        for _ in 0..100 {
            for (index, connection) in connections.iter_mut().enumerate() {
                let begun = Instant::now();
                let page = connection.get(&format!("/jobs{list}"));
                times[index].push(begun.elapsed());
                assert_eq!(page.status, 200, "{}", page.text());
                shown[index] = page.json()["jobs"].as_array().map_or(0, Vec::len);
                sleep(PAUSE);
            }
        }
        let [few, many] = times.map(Times::new);
        println!(
            "GET /jobs{list} with 100,000 finished and 100,000 queued jobs: {many}, {} shown; with 100 each: {few}, {} shown; ratio of medians {:.2}",
            shown[1],
            shown[0],
            many.at(0.5) / few.at(0.5)
        );
    }
    let [few, many] = connections.each_mut().map(retry_all);
    println!("POST /jobs/retry?state=failed: {many}; {few}");
}

/// What a retry of all says, and how long that takes, in a store with so many failed jobs.
fn retry_all(connection: &mut Connection) -> String {
    let begun = Instant::now();
    let answer = connection.post("/jobs/retry?state=failed", "", b"");
    assert_eq!(answer.status, 202, "{}", answer.text());
    format!("{} in {:.1} ms", answer.text(), begun.elapsed().as_secs_f64() * 1000.0)
}

/// Makes so many copies of a job in this folder of a store, listed like this, each a millisecond after the other.
fn copy(root: &Path, job: &str, folder: &str, class: &str, count: usize, kind: usize) {
    const NAMES: usize = 20_000;
    let names = fs::read_dir(root.join(folder)).expect("a store").map(|entry| entry.unwrap().path());
    let mut original = names.into_iter().find(|path| path.to_string_lossy().ends_with(job)).expect("the job");
    for n in 0..count {
        let time = 0x0190_0000_0000_u64 + n as u64;
        let digits = format!("{time:012x}");
        let id = format!("{}-{}-7000-8000-{kind:012x}", &digits[..8], &digits[8..]);
        let name = if folder == "queue" { format!("{time:013}.{id}") } else { id.clone() };
        let place = root.join(folder).join(name);
        let second = format!("{}/{:03x}", &digits[..7], (time >> 10) & 0x3ff);
        let listed = root.join("list").join(class).join("demo").join(second);
        if n % NAMES == 0 {
            fs::copy(&original, &place).expect("a disk with room");
            original.clone_from(&place);
        } else {
            fs::hard_link(&original, &place).expect("a file may have 60,000 names");
        }
        fs::create_dir_all(&listed).expect("a disk with room");
        fs::hard_link(&original, listed.join(&id)).expect("a file may have 60,000 names");
        fs::hard_link(&original, root.join("jobs").join(&id)).expect("a file may have 60,000 names");
    }
}

/// Longer than the host keeps an instance that nobody needs.
pub const IDLE: Duration = Duration::from_secs(3);

/// Memory of jobs that sleep, 250 in each of 4 instances: what the host has less once they have ended. What it had less
/// before they came is mostly what posting them at once has left in it.
pub fn sleeping_jobs() {
    const JOBS: usize = 1000;
    let data = Folder::new();
    let host = component(&data).variable("AFTERACK_LANES", JOBS / 4).start();
    post_all(&host, "demo", JOBS, r#"{"steps":2,"step_ms":9000}"#);
    wait_for(&host, r#"afterack_jobs{state="running"}"#, JOBS as u64);
    sleep(IDLE); // Until the host has let go of what the requests needed.
    let sleeping = host.memory_kib("VmRSS:");
    wait_for(&host, ENDED, JOBS as u64);
    sleep(IDLE);
    let each = (sleeping - host.memory_kib("VmRSS:")) / JOBS as f64;
    println!("a sleeping job, of {JOBS} in 4 instances: {each:.1} KiB resident (at most 4.8)");
}

/// Jobs of 10 ms by one instance with 64 lanes.
pub fn throughput() {
    const JOBS: usize = 4000;
    let (data, files) = (Folder::new(), Folder::new());
    let waiting = component(&data).variable("AFTERACK_DRAINS", 1).variable("AFTERACK_LANES", 1).start();
    post_all(&waiting, "demo", 20, r#"{"steps":2,"step_ms":5000}"#);
    post_all(&waiting, "demo", JOBS, r#"{"steps":1,"step_ms":10}"#);
    waiting.kill();
    let host = component(&data).variable("AFTERACK_DRAINS", 1).variable("AFTERACK_LEASE", "1s").start();
    // One request that brings a drain; then nobody asks for anything.
    assert_eq!(Connection::open(host.address).get("/healthz").status, 200);
    let ended = || {
        // The store's own log of them, 24 bytes each.
        let logs = fs::read_dir(data.0.join("ended")).expect("the host has made it").flatten();
        logs.map(|log| log.metadata().map_or(0, |log| log.len() as usize / 24)).sum::<usize>()
    };
    let wait_for = |count: usize| {
        let begun = Instant::now();
        while ended() < count {
            assert!(begun.elapsed() < Duration::from_secs(120), "{} have ended", ended());
            sleep(Duration::from_millis(5));
        }
        (Instant::now(), ended())
    };
    let ((begun, first), (end, last)) = (wait_for(JOBS / 10), wait_for(JOBS * 9 / 10));
    let rate = (last - first) as f64 / (end - begun).as_secs_f64();
    drop(host);
    let files_written = Times::new((0..300).map(|_| write(&files.0)).collect());
    let (synced, least) = (1000.0 / files_written.at(0.5) / 2.0, 1000.0 / least(&files.0).at(0.5));
    let of = |rate_of: f64| 100.0 * rate / rate_of;
    println!(
        "10 ms jobs in 64 lanes: {rate:.0} per second; {:.0} % of lanes ÷ time; {:.0} % of what the disk's syncs allow, two files written, synced and renamed per job, {synced:.0} (at least 70); {:.0} % of a native program that does the least, {least:.0}",
        of(6400.0),
        of(synced),
        of(least)
    );
}
