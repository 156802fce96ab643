//! Many jobs at once, and jobs longer than a host lets an invocation live.

use std::process::Command;
use std::sync::Mutex;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::host::{Folder, Host, Kind, free_address, with_every_store};
use crate::jobs::{Client, JSON, component, id, request};
use crate::upstream::Upstream;
use crate::wire::Connection;

const JOBS: usize = 2000;

/// A second.
const INPUT: &str = r#"{"steps":3,"step_ms":333}"#;

/// A burst has the machine for itself, but for smaller tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

with_every_store! {
    /// On `wasmtime serve`, as `make up` starts it, with all connections open at once; on the others, which have
    /// no limit to queue them behind, by 100 clients; on `wash dev` with PostgreSQL by 50, since its 333 instances wait
    /// for connections.
    fn a_burst_of_2000_jobs_is_acknowledged_and_done(kind: Kind) -> String {
        let _alone = ONE_AT_A_TIME.lock();
        let data = Folder::new();
        let setup = component(kind, &data.0);
        let host = if kind == Kind::Wasmtime {
            let limit = Command::new("prlimit").args(["--nofile=8192", "--pid", &std::process::id().to_string()]).status();
            assert!(limit.is_ok_and(|limit| limit.success()), "8192 open files are needed");
            setup.like_make_up().start()
        } else {
            // It kills an instance that has run for ten seconds, a drain, too.
            let address = free_address();
            let url = format!("http://{address}");
            setup.address(address).variable("AFTERACK_BUDGET", "5s").variable("AFTERACK_SELF", url).start()
        };
        let ids = match kind {
            Kind::Wasmtime => all_at_once(&host),
            Kind::WashPostgres => by_clients(&host, 50),
            _ => by_clients(&host, 100),
        };
        assert_eq!(ids.len(), JOBS);
        let client = Client(&host);
        let begun = Instant::now();
        loop {
            let [drains, done] = client.metrics(["afterack_drains", r#"afterack_jobs_ended_total{state="succeeded"}"#]);
            assert!(drains <= 4 && begun.elapsed() < Duration::from_secs(180), "{drains} drains, {done} jobs are done");
            if done == JOBS as u64 {
                break;
            }
            sleep(Duration::from_millis(300));
        }
        for id in ids {
            assert_eq!(client.status(&id)["state"], "succeeded");
        }
        "yes".into()
    }

    /// As their upstream sees it: what `/metrics` says is not of one moment where it is a listing of files.
    fn at_most_as_many_jobs_run_at_once_as_there_are_lanes(kind: Kind) -> String {
        let (upstream, data) = (Upstream::start(), Folder::new());
        let host = component(kind, &data.0)
            .variable("AFTERACK_DRAINS", 2)
            .variable("AFTERACK_LANES", 3)
            .variable("AFTERACK_UPSTREAM_SLEEPS", upstream.url("sleeps/300"))
            .start();
        let mut connection = Connection::open(host.address);
        let jobs: Vec<_> = (0..40).map(|_| id(&connection.post("/jobs/sleeps", "", b""))).collect();
        for job in jobs {
            Client(&host).wait_for(&job, "succeeded");
        }
        let most = upstream.most_asleep();
        assert!((4..=6).contains(&most), "{most} jobs ran at once in 2 drains with 3 lanes each");
        "yes".into()
    }

    /// `-W timeout=5s` kills a request's instance five seconds after the request, and wash one that has
    /// computed for ten; with a budget below that, each hands over to the next before.
    fn a_job_longer_than_an_invocation_may_live_is_done_by_relay(kind: Kind) -> String {
        let (data, address) = (Folder::new(), free_address());
        let setup = component(kind, &data.0)
            .address(address)
            .variable("AFTERACK_BUDGET", "3s")
            .variable("AFTERACK_LEASE", "1500ms")
            .variable("AFTERACK_SELF", format!("http://{address}"));
        let (host, input) = match kind {
            Kind::Wasmtime => (setup.arguments("-W timeout=5s").start(), r#"{"steps":12,"step_ms":1000}"#),
            _ => (setup.start(), r#"{"steps":30,"step_ms":500,"cpu":true}"#),
        };
        let id = Client(&host).job(input);
        // Nobody asks for anything until it is done.
        host.wait_for_output(&format!("{id} succeeded"));
        assert!(host.output("its instance was lost").is_empty());
        let job = Client(&host).status(&id);
        assert_eq!(job["progress"]["done"], job["progress"]["total"]);
        "yes".into()
    }
}

/// The ids of jobs that are posted by connections which are all open before the first answer is read.
fn all_at_once(host: &Host) -> Vec<String> {
    let mut connections: Vec<_> = (0..JOBS).map(|_| Connection::open(host.address)).collect();
    for connection in &mut connections {
        connection.send(request(JSON, INPUT));
    }
    connections.iter_mut().map(|connection| id(&connection.response("POST"))).collect()
}

fn by_clients(host: &Host, clients: usize) -> Vec<String> {
    let address = host.address;
    let client = move || {
        let mut connection = Connection::open(address);
        let post = |_| {
            connection.send(request(JSON, INPUT));
            id(&connection.response("POST"))
        };
        (0..JOBS / clients).map(post).collect::<Vec<_>>()
    };
    let clients: Vec<_> = (0..clients).map(|_| thread::spawn(client)).collect();
    clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
}
