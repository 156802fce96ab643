//! `Job-Group`: jobs of one group run one after the other, in the order of their acks.

use std::thread::{self, sleep};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::crashes::{Random, wait_until_idle};
use crate::host::{Folder, Kind, on_every_host, with_every_store};
use crate::jobs::{Client, JSON, SHORT, component, id, request};
use crate::storage::Storage;
use crate::wire::Connection;

/// A job of some 200 ms, in three steps.
const STEPS: &str = r#"{"steps":3,"step_ms":60}"#;

fn group(name: &str) -> String {
    format!("{JSON}Job-Group: {name}\r\n")
}

/// A point in time that a job shows.
fn time(job: &Value, name: &str) -> SystemTime {
    humantime::parse_rfc3339(job[name].as_str().unwrap_or_else(|| panic!("{job}"))).unwrap()
}

/// Each of these jobs began when the one before had ended.
fn assert_one_after_the_other(jobs: &[Value]) {
    for pair in jobs.windows(2) {
        assert!(time(&pair[0], "finished") <= time(&pair[1], "begun"), "{} {}", pair[0], pair[1]);
    }
}

with_every_store! {
    fn jobs_of_a_group_run_one_after_the_other(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let mut connection = Connection::open(host.address);
        // One request right after the other, most of them within the same millisecond or two.
        let ids: Vec<_> = (0..10)
            .map(|_| id(&connection.post("/jobs/demo", &group("user/1"), STEPS.as_bytes())))
            .collect();
        let others = ["user/2", "USER/1"].map(|name| id(&client.post(&group(name), STEPS)));
        let alone = client.job(STEPS);
        // They wait for nobody.
        for job in others.iter().chain([&alone]) {
            client.wait_for(job, "succeeded");
        }
        assert_ne!(client.status(&ids[9])["state"], "succeeded");
        let jobs: Vec<_> = ids.iter().map(|job| client.wait_for(job, "succeeded")).collect();
        assert_one_after_the_other(&jobs);
        assert!(jobs.iter().all(|job| job["attempts"] == 1));
        wait_until_idle(&host);
        assert_eq!(Storage::of(kind, &data.0).groups(), 0);
        "yes".into()
    }

    /// Whatever it waits for: its delay, its next attempt.
    fn a_job_keeps_its_turn_until_it_has_ended(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let first = id(&client.post(&format!("{}Delay: 2\r\n", group("a")), SHORT));
        let second = id(&client.post(&group("a"), r#"{"steps":1,"step_ms":0,"failures":1,"retry_after_ms":2000}"#));
        let third = id(&client.post(&group("a"), SHORT));
        let jobs = [&first, &second, &third].map(|job| client.wait_for(job, "succeeded"));
        assert_one_after_the_other(&jobs);
        let took = time(&jobs[2], "begun").duration_since(time(&jobs[0], "created")).unwrap();
        assert!(took >= Duration::from_secs(4), "{took:?}");
        "yes".into()
    }

    fn a_job_that_fails_or_is_cancelled_or_purged_frees_its_group(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_ATTEMPTS", 1).start();
        let client = Client(&host);
        let long = id(&client.post(&group("a"), r#"{"steps":600,"step_ms":100}"#));
        client.wait_for(&long, "running");
        let failing = id(&client.post(&group("a"), r#"{"steps":1,"step_ms":0,"failures":9}"#));
        let waiting = [0; 3].map(|_| id(&client.post(&group("a"), SHORT)));
        assert_eq!(client.status(&waiting[2])["state"], "queued");
        // One that waits is cancelled, and removed, before its turn.
        for job in [&waiting[0], &waiting[1]] {
            assert_eq!(client.request("DELETE", &format!("/jobs/{job}")).status, 202);
            client.wait_until(job, |job| job["state"] == "cancelled" && job["finished"].is_string());
        }
        let mut purged = client.request("DELETE", &format!("/jobs/{}?purge=true", waiting[0]));
        while purged.status == 409 {
            purged = client.request("DELETE", &format!("/jobs/{}?purge=true", waiting[0]));
        }
        assert_eq!(purged.status, 204, "{}", purged.text());
        assert_eq!(client.status(&waiting[2])["state"], "queued");
        assert_eq!(client.request("DELETE", &format!("/jobs/{long}")).status, 202);
        client.wait_for(&failing, "failed");
        client.wait_for(&waiting[2], "succeeded");
        // One that begins again is the last.
        let busy = id(&client.post(&group("a"), r#"{"steps":10,"step_ms":100}"#));
        assert_eq!(client.request("POST", &format!("/jobs/{}/retry", waiting[1])).status, 202);
        let jobs = [&busy, &waiting[1]].map(|job| client.wait_for(job, "succeeded"));
        assert_one_after_the_other(&jobs);
        "yes".into()
    }

    /// Two hosts on one store, one of which is killed again and again.
    fn a_group_keeps_its_order_though_hosts_are_killed(kind: Kind) -> String {
        let data = Folder::new();
        let mut random = Random(kind as u64 + 7);
        let mut ids = [Vec::new(), Vec::new()];
        let start = || component(kind, &data.0).variable("AFTERACK_LEASE", "1s").start();
        for _ in 0..kind.rounds(5, 3) {
            let hosts = [start(), start()];
            let address = hosts[0].address;
            let client = thread::spawn(move || {
                let mut acked = [Vec::new(), Vec::new()];
                for n in 0..8 {
                    let post = || {
                        let mut connection = Connection::open_if_up(address)?;
                        connection.send_if_taken(request(&group(["a", "b"][n % 2]), STEPS));
                        let ack = connection.try_response()?;
                        ack.complete.then(|| id(&ack))
                    };
                    // Until the host is killed.
                    match post() {
                        Some(job) => acked[n % 2].push(job),
                        None => break,
                    }
                }
                acked
            });
            sleep(Duration::from_millis(30 + random.below(600)));
            let [first, second] = hosts;
            first.kill();
            let acked = client.join().unwrap();
            sleep(Duration::from_millis(random.below(1500)));
            second.kill();
            for (ids, acked) in ids.iter_mut().zip(acked) {
                ids.extend(acked);
            }
        }
        assert!(ids.iter().all(|ids| !ids.is_empty()), "{ids:?}");
        let host = start();
        for ids in ids {
            let jobs: Vec<_> = ids.iter().map(|job| Client(&host).wait_for(job, "succeeded")).collect();
            assert_one_after_the_other(&jobs);
        }
        wait_until_idle(&host);
        let storage = Storage::of(kind, &data.0);
        assert_eq!((storage.waiting(), storage.damaged(), storage.groups()), (0, 0, 0));
        "yes".into()
    }

    /// As they were accepted, not as they failed.
    fn a_retry_of_all_keeps_the_order_of_a_group(kind: Kind) -> String {
        let data = Folder::new();
        let start = |attempts| component(kind, &data.0).variable("AFTERACK_ATTEMPTS", attempts).start();
        let host = start(1);
        let input = r#"{"steps":1,"step_ms":0,"failures":1}"#;
        let ids: Vec<_> = (0..6).map(|_| id(&Client(&host).post(&group("a"), input))).collect();
        for job in &ids {
            Client(&host).wait_for(job, "failed");
        }
        wait_until_idle(&host);
        host.kill();
        let host = start(2);
        assert_eq!(Client(&host).request("POST", "/jobs/retry?state=failed").json()["retried"], 6);
        let jobs: Vec<_> = ids.iter().map(|job| Client(&host).wait_for(job, "succeeded")).collect();
        let ends: Vec<_> = jobs.iter().map(|job| time(job, "finished")).collect();
        assert!(ends.is_sorted(), "{ends:?}");
        "yes".into()
    }
}

on_every_host! {
    fn a_group_has_a_name_that_can_be_seen_and_is_a_part_of_the_request(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let expected = "(expected 1 to 255 visible ASCII characters)";
        for name in ["", "a b", "a\tb", &"g".repeat(256)] {
            let problem = client.post(&format!("Job-Group: {name}\r\n"), SHORT).problem(400);
            assert!(problem.starts_with("invalid Job-Group: ") && problem.ends_with(expected), "{problem}");
        }
        client.post("Job-Group: a\r\nJob-Group: b\r\n", SHORT).problem(400);
        for name in ["../../x", ".", "%2e%2e", "a/b\\c", "'\"<>;--", &"g".repeat(255)] {
            let job = id(&client.post(&format!("Job-Group: {name}\r\n"), SHORT));
            client.wait_for(&job, "succeeded");
        }
        let post = |name: &str| client.post(&format!("{}Idempotency-Key: k\r\n", group(name)), SHORT);
        let job = id(&post("a"));
        assert_eq!(id(&post("a")), job);
        post("b").problem(422);
        wait_until_idle(&host);
        assert_eq!(Storage::of(kind, &data.0).groups(), 0);
        "yes".into()
    }
}
