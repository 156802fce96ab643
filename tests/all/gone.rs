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

    /// Nothing is written meanwhile: the host tells by the stream alone.
    fn a_response_without_a_reader_is_told_within(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut longest = 0;
        for (path, reset) in [("n=0", false), ("n=1000", false), ("n=0&by=reset", true)] {
            let key = path.replace(['=', '&'], "-");
            let mut client = Connection::open(host.address);
            client.send(format!("GET /open-until-gone?{path}&key={key} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            client.wait_for_bytes();
            recorder.wait(&key, 1);
            sleep(Duration::from_millis(300));
            assert_eq!(recorder.so_far(&key).len(), 1, "told while the client was there");
            if reset { client.reset() } else { drop(client) }
            let told = recorder.wait(&key, 2).remove(1);
            let Ok(after) = told.parse::<u64>() else { return format!("never: {told}") };
            longest = longest.max(after - 300);
        }
        assert!(longest < 2000, "{longest} ms");
        "a second".into()
    }

    fn a_response_of_known_size_may_be_written_piece_by_piece(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        let answer = client.get("/open-sized?n=20&key=sized");
        assert_eq!(answer.header("content-length"), Some("20"));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.text(), "x".repeat(20));
        assert_eq!(recorder.wait("sized", 1), ["20"]);
        assert_eq!(client.get("/text?key=next").status, 202);
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
