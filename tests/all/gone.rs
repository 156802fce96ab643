//! Clients that leave.

use std::thread::sleep;
use std::time::Duration;

use crate::host::{Kind, guest, on_every_host};
use crate::wire::Connection;

on_every_host! {
    /// The handler has begun, the client leaves, the ack finds nobody: the continuation runs.
    fn the_work_goes_on_if_the_client_leaves_before_the_ack(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        client.send("GET /sleeps-first?ms=500&key=before HTTP/1.1\r\nHost: localhost\r\n\r\n");
        recorder.wait("before", 1);
        drop(client);
        let effects = recorder.wait("before", 2);
        assert!(["client gone", "delivered"].contains(&effects[1].as_str()), "{effects:?}");
        format!("yes; told \"{}\"", effects[1])
    }

    fn the_work_goes_on_if_the_client_leaves_within_a_large_ack(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        for path in ["bytes?n=50000000", "stream?n=50000000&chunk=100000"] {
            let mut client = Connection::open(host.address);
            client.send(format!("GET /{path}&key={} HTTP/1.1\r\nHost: localhost\r\n\r\n", &path[..5]));
            client.wait_for_bytes();
            drop(client);
            assert_eq!(recorder.wait(&path[..5], 1), ["client gone"]);
        }
        "yes".into()
    }

    fn the_work_goes_on_if_the_client_leaves_right_after_the_ack(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        assert_eq!(client.get("/sleeps?ms=500&key=after").status, 202);
        drop(client);
        assert_eq!(recorder.wait("after", 1), ["awake"]);
        "yes".into()
    }

    /// A reset within the first milliseconds: the request may never reach the guest, and then it was
    /// never acknowledged. How often it does is the host's row.
    fn of_requests_reset_at_once_these_ran(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        const ROUNDS: usize = 50;
        for _ in 0..ROUNDS {
            let mut client = Connection::open(host.address);
            client.send("GET /text?key=reset HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.reset();
        }
        // What has not begun after a second of an idle host will not begin.
        let mut came = usize::MAX;
        while came != recorder.so_far("reset").len() {
            came = recorder.so_far("reset").len();
            sleep(Duration::from_secs(1));
        }
        assert_eq!(Connection::open(host.address).get("/text?key=next").status, 202);
        format!("{came} of {ROUNDS}")
    }
}
