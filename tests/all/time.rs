//! Wall clocks that are wrong, or leap.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::crashes::{Traces, wait_until_idle};
use crate::host::{Folder, Host, Kind, Setup, root, with_every_store};
use crate::jobs::{Client, component, with_faults};

const HOUR: i64 = 3_600_000;

/// Of a host that reads the clock without the C library.
const UNSHIFTED: &str = "not tried: its clock cannot be shifted";

/// The clock of hosts, which the test sets.
struct Clock(Folder);

impl Clock {
    fn new() -> Clock {
        let clock = Clock(Folder::new());
        let built = Command::new("gcc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(clock.0.0.join("clock.so"))
            .arg(root().join("tests/clock.c"))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "gcc cannot build tests/clock.c");
        clock.set(0);
        clock
    }

    /// Sets it this many milliseconds ahead.
    fn set(&self, ahead: i64) {
        let new = self.0.0.join("new");
        fs::write(&new, ahead.to_string()).unwrap();
        fs::rename(new, self.0.0.join("shift")).unwrap();
    }

    fn start(&self, setup: Setup) -> Host {
        let path = |name: &str| self.0.0.join(name).to_str().unwrap().to_owned();
        setup
            .process_variable("LD_PRELOAD", &path("clock.so"))
            .process_variable("CLOCK_SHIFT", &path("shift"))
            .start()
    }
}

with_every_store! {
    /// Its slots and its watch seem to be held for an hour to come.
    fn what_a_host_leaves_that_was_an_hour_ahead_goes_on_within_a_lease(kind: Kind) -> String {
        if kind.is_wash() {
            return UNSHIFTED.into();
        }
        let (data, clock) = (Folder::new(), Clock::new());
        clock.set(HOUR);
        let host = clock.start(component(kind, &data.0));
        let ids: Vec<_> = (0..8).map(|_| Client(&host).job(r#"{"steps":3,"step_ms":700}"#)).collect();
        let created = Client(&host).status(&ids[0])["created"].as_str().unwrap().to_owned();
        let ahead = humantime::parse_rfc3339(&created).unwrap().duration_since(std::time::SystemTime::now());
        assert!(ahead.unwrap() > Duration::from_secs(3500), "the host's clock does not follow");
        let waiting = Client(&host).job(r#"{"steps":1,"step_ms":0,"failures":1,"retry_after_ms":11000}"#);
        Client(&host).wait_until(&ids[0], |job| job["progress"]["done"] == 1);
        host.kill();
        clock.set(0);
        let host = clock.start(component(kind, &data.0));
        for _ in 0..50 {
            assert_eq!(Client(&host).get("/healthz").status, 200);
        }
        let begun = Instant::now();
        for id in ids.iter().chain([&waiting]) {
            Client(&host).wait_for(id, "succeeded");
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
        "yes".into()
    }

    fn a_host_that_is_set_back_by_an_hour_goes_on(kind: Kind) -> String {
        if kind.is_wash() {
            return UNSHIFTED.into();
        }
        let (data, clock) = (Folder::new(), Clock::new());
        let host = clock.start(component(kind, &data.0));
        let client = Client(&host);
        let running = client.job(r#"{"steps":20,"step_ms":200}"#);
        let cancelled = client.job(r#"{"steps":10000,"step_ms":500}"#);
        client.wait_until(&running, |job| job["progress"]["done"].as_u64() > Some(2));
        clock.set(-HOUR);
        let begun = Instant::now();
        let new = client.job(r#"{"steps":2,"step_ms":100}"#);
        assert_eq!(client.request("DELETE", &format!("/jobs/{cancelled}")).status, 202);
        client.wait_for(&cancelled, "cancelled");
        client.wait_for(&new, "succeeded");
        client.wait_for(&running, "succeeded");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        "yes".into()
    }

    /// Shorter than a lease, by an hour and by eight days, while finished jobs are kept for seven.
    fn a_leap_for_a_moment_loses_repeats_and_removes_nothing(kind: Kind) -> String {
        if kind.is_wash() {
            return UNSHIFTED.into();
        }
        let (data, clock) = (Folder::new(), Clock::new());
        let host = clock.start(with_faults(kind, &data.0));
        let client = Client(&host);
        let finished = client.job(r#"{"steps":1,"step_ms":0}"#);
        client.wait_for(&finished, "succeeded");
        let running: Vec<_> = (0..20).map(|_| client.job(r#"{"steps":20,"step_ms":200}"#)).collect();
        let waiting = client.job(r#"{"steps":1,"step_ms":0,"failures":1,"retry_after_ms":30000}"#);
        for leap in [HOUR, -HOUR, 8 * 24 * HOUR, -8 * 24 * HOUR] {
            clock.set(leap);
            sleep(Duration::from_millis(500));
            clock.set(0);
            sleep(Duration::from_millis(500));
        }
        for id in running.iter().chain([&finished]) {
            client.wait_for(id, "succeeded");
        }
        assert_eq!(client.status(&waiting)["state"], "queued");
        assert!(host.output("its instance was lost").is_empty());
        Traces::default().take(&host);
        for id in &running {
            assert_eq!(host.output(&format!("job {id} succeeded")).len(), 1);
        }
        "yes".into()
    }

    fn leaps_to_and_fro_lose_nothing(kind: Kind) -> String {
        if kind.is_wash() {
            return UNSHIFTED.into();
        }
        let (data, clock) = (Folder::new(), Clock::new());
        let host = clock.start(with_faults(kind, &data.0));
        let client = Client(&host);
        let mut ids = Vec::new();
        for round in 0..16 {
            clock.set([HOUR, -HOUR, 0, 60_000][round % 4]);
            for _ in 0..3 {
                ids.push(client.job(r#"{"steps":3,"step_ms":100}"#));
            }
            sleep(Duration::from_millis(300));
        }
        clock.set(0);
        let begun = Instant::now();
        for id in &ids {
            client.wait_for(id, "succeeded");
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        wait_until_idle(&host);
        Traces::default().take(&host);
        "yes".into()
    }
}
