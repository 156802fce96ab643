//! Jobs in PostgreSQL: hosts share them, and the server may go and come back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cluster::{self, Cluster};
use crate::host::{Folder, Host, Kind, Setup, behaviour};
use crate::jobs::{Client, JSON};

const SHORT: &str = r#"{"steps":1,"step_ms":0}"#;

fn host(kind: Kind, cluster: &Cluster, folder: &Folder) -> Host {
    let setup = Setup::new(kind, "afterack").data(&folder.0);
    setup.variable("AFTERACK_STORE", cluster.url()).variable("AFTERACK_LEASE", "2s").start()
}

/// Each takes over what the other has left.
fn two_hosts(kind: Kind) -> String {
    let (cluster, folders) = (Cluster::start(""), [Folder::new(), Folder::new()]);
    let mut first = host(kind, &cluster, &folders[0]);
    for round in 0..2 {
        let second = host(kind, &cluster, &folders[1 - round % 2]);
        let input = r#"{"steps":10,"step_ms":100}"#;
        let ids: Vec<_> =
            (0..20).flat_map(|_| [&first, &second].map(|host| Client(host).job(input))).collect();
        sleep(Duration::from_millis(300));
        first.kill();
        for id in &ids {
            let job = Client(&second).wait_for(id, "succeeded");
            assert_eq!(job["progress"]["done"], job["progress"]["total"]);
        }
        first = second;
    }
    "yes".into()
}

/// Killed amid jobs: nothing is acknowledged until it is back, and then everything goes on by itself.
fn the_server_dies(kind: Kind) -> String {
    let (mut cluster, folder) = (Cluster::start(""), Folder::new());
    let host = host(kind, &cluster, &folder);
    let client = Client(&host);
    let ids: Vec<_> = (0..10).map(|_| client.job(r#"{"steps":20,"step_ms":100}"#)).collect();
    client.wait_until(&ids[0], |job| job["progress"]["done"].as_u64() > Some(2));
    cluster.kill();
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = client.post(JSON, SHORT);
        assert!(answer.header("retry-after").is_some());
        let detail = answer.problem(503);
        assert!(begun.elapsed() < Duration::from_secs(10) && !detail.contains(cluster::PASSWORD), "{detail}");
    }
    cluster.restart();
    for id in &ids {
        host.wait_for_output(&format!("{id} succeeded"));
    }
    client.wait_for(&client.job(SHORT), "succeeded");
    assert!(host.output(cluster::PASSWORD).is_empty(), "the password is in the log");
    "yes".into()
}

#[test]
fn two_hosts_share_a_database() {
    behaviour("two_hosts_share_a_postgresql_database", Kind::Spin, two_hosts);
}

#[test]
fn a_database_that_dies_is_a_503_until_it_is_back() {
    behaviour("a_database_that_dies_is_a_503_until_it_is_back", Kind::Spin, the_server_dies);
}
