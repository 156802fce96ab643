//! Clients that stand still, or wait, or have gone while they waited: acks find room beside them.

use std::time::{Duration, Instant};

use crate::host::{Folder, Host, Kind, on_every_host, with_every_store};
use crate::jobs::{Client, JSON, SHORT, component};
use crate::wait::within;
use crate::wire::Connection;

const FOREVER: &str = r#"{"steps":10000,"step_ms":500}"#;
/// How many may wait, about: those who come at once may miss each other by a few.
const BOUND: std::ops::RangeInclusive<usize> = 10..=40;

/// A host as `make up` starts it.
fn host(kind: Kind, data: &Folder) -> Host {
    let setup = component(kind, &data.0).variable("AFTERACK_IDLE", "6s").variable("AFTERACK_WAITERS", 20);
    setup.like_make_up().start()
}

/// This many connections on which this was sent.
fn connections(host: &Host, count: usize, request: &str) -> Vec<Connection> {
    let open = |_| {
        let mut connection = Connection::open(host.address);
        connection.send(request);
        connection
    };
    (0..count).map(open).collect()
}

/// Whether a job is acknowledged and done before the others have given up.
fn an_ack_comes(host: &Host) {
    let begun = Instant::now();
    let id = Client(host).job(SHORT);
    Client(host).wait_for(&id, "succeeded");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

with_every_store! {
    fn long_polls_hold_up_no_ack(kind: Kind) -> String {
        let data = Folder::new();
        let host = host(kind, &data);
        let id = Client(&host).job(FOREVER);
        let request = format!("GET /jobs/{id} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n\r\n");
        let mut polls = connections(&host, 100, &request);
        an_ack_comes(&host);
        for connection in &mut polls {
            connection.wait_for("\r\n\r\n");
        }
        let waiting = polls.iter().filter(|poll| poll.has_received("preference-applied: wait=50")).count();
        assert!(BOUND.contains(&waiting), "{waiting}");
        // They have gone: others may wait.
        drop(polls);
        within(Duration::from_secs(20), "one may wait again", || waits(&host, &request));
        "yes".into()
    }

    fn event_streams_hold_up_no_ack(kind: Kind) -> String {
        let data = Folder::new();
        let host = host(kind, &data);
        let id = Client(&host).job(FOREVER);
        let request = format!("GET /jobs/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut streams = connections(&host, 100, &request);
        an_ack_comes(&host);
        let mut early = 0;
        for stream in &mut streams {
            stream.wait_for("event: progress");
            if stream.has_received("retry: 5000") {
                assert!(stream.response("GET").complete);
                early += 1;
            }
        }
        assert!(BOUND.contains(&(100 - early)), "{early}");
        "yes".into()
    }
}

on_every_host! {
    fn uploads_that_stand_still_hold_up_no_ack(kind: Kind) -> String {
        let data = Folder::new();
        let host = host(kind, &data);
        let request = "POST /jobs/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 23\r\n\r\n{";
        let mut standing = connections(&host, 200, request);
        an_ack_comes(&host);
        let statuses: Vec<_> = standing.iter_mut().map(|client| client.response("POST").status).collect();
        let count = |status| statuses.iter().filter(|other| **other == status).count();
        // As many as may wait are waited for; who is one too many may try again.
        assert!(count(408) + count(503) == 200 && BOUND.contains(&count(408)), "{statuses:?}");
        "yes".into()
    }
}

/// Whether a new client may wait.
fn waits(host: &Host, request: &str) -> bool {
    let mut poll = Connection::open(host.address);
    poll.send(request);
    poll.wait_for("\r\n\r\n");
    poll.has_received("preference-applied: wait=50")
}

/// Many more than `wasmtime serve` without options has instances for.
#[test]
fn long_polls_whose_clients_have_gone_are_gone() {
    let data = Folder::new();
    let host = component(Kind::Wasmtime, &data.0).start();
    let id = Client(&host).job(FOREVER);
    for _ in 0..4 {
        let request = format!("GET /jobs/{id} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n\r\n");
        drop(connections(&host, 85, &request));
    }
    for _ in 0..20 {
        assert_eq!(Client(&host).post(JSON, SHORT).status, 202);
    }
}
