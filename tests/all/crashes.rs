//! Hosts that are killed: what was acknowledged is done all the same, once.

use std::collections::{HashMap, HashSet};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::host::{Folder, Host, Kind, with_every_store};
use crate::jobs::{Client, JSON, component, id, request, with_faults};
use crate::mail::Mailbox;
use crate::storage::Storage;
use crate::wait::within;
use crate::wire::Connection;

/// What the component says of its jobs in a build with faults, over the lives of all hosts.
#[derive(Default)]
pub struct Traces {
    /// The version that each job was stored with last.
    stored: HashMap<String, u64>,
    settled: HashSet<String>,
}

impl Traces {
    /// Takes in what one host has said, and checks that nothing was done that had been done before.
    pub fn take(&mut self, host: &Host) {
        for line in host.output("trace: ") {
            let (_, trace) = line.split_once("trace: ").unwrap();
            let [event, id, version] = trace.split(' ').collect::<Vec<_>>()[..] else { panic!("{trace}") };
            let version: u64 = version.parse().unwrap();
            let stored = self.stored.entry(id.to_owned()).or_default();
            match event {
                "loaded" | "step" => assert!(version >= *stored, "job {id}: again after {stored}: {trace}"),
                "adopted" | "relieved" | "lost" => {}
                "stored" => {
                    assert!(version > *stored, "job {id}: stored twice after {stored}: {trace}");
                    *stored = version;
                }
                "settled" => assert!(self.settled.insert(id.to_owned()), "job {id} ended twice"),
                _ => panic!("{trace}"),
            }
        }
    }
}

with_every_store! {
    /// At random moments, while jobs are posted and run. SOAK=1000 for more rounds than 50, or 15 on wash.
    fn no_acknowledged_job_is_lost_or_done_twice_by_killed_hosts(kind: Kind) -> String {
        const JOBS: usize = 20;
        let rounds = std::env::var("SOAK").map_or(kind.rounds(50, 15), |rounds| rounds.parse().unwrap());
        let data = Folder::new();
        let mut traces = Traces::default();
        let mut random = Random(kind as u64 + 1);
        let mut ids = Vec::new();
        for _ in 0..rounds {
            let host = with_faults(kind, &data.0).start();
            let lifetime = Duration::from_millis(random.below(700));
            let address = host.address;
            let inputs: Vec<_> = (0..JOBS)
                .map(|_| format!(r#"{{"steps":{},"step_ms":{}}}"#, 1 + random.below(6), random.below(80)))
                .collect();
            let client = thread::spawn(move || {
                let post = |input: &String| {
                    let mut connection = Connection::open_if_up(address)?;
                    connection.send_if_taken(request(JSON, input));
                    let ack = connection.try_response()?;
                    assert_eq!(ack.status, 202, "{}", ack.text());
                    ack.complete.then(|| id(&ack))
                };
                // Until the host is killed.
                inputs.iter().map_while(post).collect::<Vec<_>>()
            });
            sleep(lifetime);
            traces.take(&host);
            host.kill();
            ids.extend(client.join().unwrap());
        }
        assert!(ids.len() > rounds * JOBS / 5, "only {} jobs were accepted", ids.len());
        let host = with_faults(kind, &data.0).start();
        for id in &ids {
            let job = Client(&host).wait_for(id, "succeeded");
            assert_eq!(job["progress"]["done"], job["progress"]["total"]);
        }
        wait_until_idle(&host);
        traces.take(&host);
        // Those that were recorded and not acknowledged are done, too.
        let storage = Storage::of(kind, &data.0);
        assert!(storage.done() >= ids.len() && storage.done() == storage.jobs().len());
        assert_eq!((storage.waiting(), storage.damaged()), (0, 0));
        "yes".into()
    }

    /// In its bucket, which nobody has listed when the host dies. Nobody asks after the restart, either.
    fn a_job_that_is_due_later_runs_at_its_time_though_its_host_dies_before(kind: Kind) -> String {
        const WAIT: Duration = Duration::from_secs(11);
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let begun = Instant::now();
        let input = format!(r#"{{"steps":1,"step_ms":0,"failures":1,"retry_after_ms":{}}}"#, WAIT.as_millis());
        let job = Client(&host).job(&input);
        Client(&host).wait_until(&job, |job| job["state"] == "queued" && job["attempts"] == 1);
        host.kill();
        assert_eq!(Storage::of(kind, &data.0).waiting(), 1);
        let host = component(kind, &data.0).start();
        Client(&host).get("/healthz");
        host.wait_for_output(&format!("job {job} succeeded"));
        assert!((WAIT..WAIT * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(Storage::of(kind, &data.0).waiting(), 0);
        "yes".into()
    }

    /// Exactly between two steps of a job's way, and over the jobs of those who died before.
    fn a_host_may_die_between_any_two_steps(kind: Kind) -> String {
        let (data, mailbox) = (Folder::new(), Mailbox::start());
        // The mail server is out of wash's reach: nobody can be told.
        let mail = !kind.is_wash();
        let setup = || {
            with_faults(kind, &data.0)
                .variable("AFTERACK_ATTEMPTS", 20)
                .variable("AFTERACK_SMTP", &mailbox.url)
                .variable("AFTERACK_MAIL_FROM", "afterack@example.org")
                .variable("AFTERACK_NOTIFY_ALLOW", "mailto:*")
        };
        let notify = if mail { "Notify: mailto:visitor@example.com\r\n" } else { "" };
        let mut traces = Traces::default();
        let mut points = vec!["recorded", "answered", "claimed", "worked", "stored", "ended"];
        points.extend(mail.then_some("told"));
        for (number, point) in points.iter().enumerate() {
            let host = setup().variable("FAULT", point).start();
            let mut client = Connection::open(host.address);
            client.send(request(notify, r#"{"steps":2,"step_ms":50}"#));
            host.wait_for_output(&format!("fault: at {point}"));
            if *point != "recorded" {
                assert_eq!(client.response("POST").status, 202, "{point}");
            }
            traces.take(&host);
            host.kill();
            assert_eq!(Storage::of(kind, &data.0).jobs().len(), number + 1, "{point}");
        }
        let host = setup().start();
        let ids = Storage::of(kind, &data.0).jobs();
        for id in &ids {
            Client(&host).wait_for(id, "succeeded");
            if mail {
                mailbox.wait_for(&["Subject: Yup, all done.", id]);
            }
        }
        wait_until_idle(&host);
        // By this host, if not by one before.
        for id in ids.iter().filter(|id| !traces.settled.contains(*id)) {
            host.wait_for_output(&format!("trace: settled {id}"));
        }
        traces.take(&host);
        assert!(ids.iter().all(|id| traces.settled.contains(id)), "{ids:?}: {:?}", traces.settled);
        "yes".into()
    }

    /// Each runs jobs of both, none of them twice, and takes over when the other is killed.
    fn two_hosts_share_a_store(kind: Kind) -> String {
        let data = Folder::new();
        let mut traces = Traces::default();
        let mut first = with_faults(kind, &data.0).start();
        for round in 0..2 {
            let second = with_faults(kind, &data.0).start();
            let mut ids = Vec::new();
            for _ in 0..20 {
                for host in [&first, &second] {
                    ids.push(Client(host).job(r#"{"steps":10,"step_ms":100}"#));
                }
            }
            sleep(Duration::from_millis(300));
            traces.take(&first);
            first.kill();
            for id in &ids {
                Client(&second).wait_for(id, "succeeded");
            }
            wait_until_idle(&second);
            traces.take(&second);
            if round == 1 {
                break;
            }
            // What it said until now must not be taken twice.
            second.kill();
            first = with_faults(kind, &data.0).start();
        }
        "yes".into()
    }

    /// Its neighbours share its instance, and lose nothing but time.
    fn a_job_that_traps_its_instance_fails_and_its_neighbours_do_not(kind: Kind) -> String {
        let data = Folder::new();
        let host = with_faults(kind, &data.0)
            .variable("AFTERACK_DRAINS", 1)
            .variable("AFTERACK_LEASE", "1s")
            .variable("AFTERACK_ATTEMPTS", 3)
            .variable("AFTERACK_BACKOFF", "10ms..50ms")
            .start();
        let client = Client(&host);
        let neighbours: Vec<_> =
            (0..50).map(|_| client.job(r#"{"steps":20,"step_ms":100}"#)).collect();
        let trapping = client.job(r#"{"trap":true}"#);
        for id in neighbours {
            let job = client.wait_for(&id, "succeeded");
            assert_eq!(job["attempts"], 1, "{job}");
        }
        let job = client.wait_for(&trapping, "failed");
        assert_eq!(job["attempts"], 3, "{job}");
        assert!(job["error"].as_str().unwrap().contains("instance"), "{job}");
        "yes".into()
    }

    /// `/healthz` alone, as a probe asks for it, is enough.
    fn a_health_probe_brings_back_what_a_crash_left(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let id = Client(&host).job(r#"{"steps":3,"step_ms":500}"#);
        Client(&host).wait_until(&id, |job| job["progress"]["done"] == 1);
        host.kill();
        let host = component(kind, &data.0).start();
        assert_eq!(Client(&host).get("/healthz").status, 200);
        host.wait_for_output(&format!("{id} succeeded"));
        "yes".into()
    }

    /// It seems to be alive, but its host died a moment ago: the one request that comes then must not leave
    /// the work to it.
    fn a_watch_that_has_just_died_is_not_relied_on(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let id = Client(&host).job(r#"{"steps":3,"step_ms":300}"#);
        Client(&host).wait_until(&id, |job| job["progress"]["done"] == 1);
        host.kill();
        let host = component(kind, &data.0).start();
        Storage::of(kind, &data.0).hold_watch();
        assert_eq!(Client(&host).get("/healthz").status, 200);
        host.wait_for_output(&format!("{id} succeeded"));
        "yes".into()
    }
}

/// Waits until no job is queued or running.
pub fn wait_until_idle(host: &Host) {
    let names = [r#"afterack_jobs{state="queued"}"#, r#"afterack_jobs{state="running"}"#, "afterack_drains"];
    within(Duration::from_secs(60), "no job waits or runs", || Client(host).metrics(names) == [0; 3]);
}

/// A fixed sequence that looks random (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        for shift in [(13, true), (7, false), (17, true)] {
            self.0 ^= if shift.1 { self.0 << shift.0 } else { self.0 >> shift.0 };
        }
        self.0 % limit
    }
}
