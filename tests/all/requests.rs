//! Requests are read whole, within a limit, before anything is answered.

use std::time::{Duration, Instant};

use crate::host::{Kind, guest, guest_setup, on_every_host};
use crate::wire::Connection;

/// The head of a request with a body of 23 bytes that comes slowly.
const SLOW: &str =
    "POST /echo?key=x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.org\r\nContent-Length: 23\r\n\r\n";

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

on_every_host! {
    fn a_request_is_read_whole_before_it_is_answered(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        for length in [0, 1, 65_537, 256 * 1024] {
            assert_eq!(client.post("/echo?key=x", "", &vec![b'x'; length]).text(), format!("{length} bytes"));
        }
        // In chunks, with a pause between them: an empty read is not the end.
        client.send("POST /echo?key=x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            client.send("5\r\n12345\r\n");
            pause(50);
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.response("POST").text(), "15 bytes");
        "yes".into()
    }

    /// RFC 9110 §9.3.1: it cannot have a meaning. It is no request either, and who uses the connection next does not
    /// wait for a continuation.
    fn a_get_whose_body_declares_no_length_is_answered_without_it(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        client.send("GET /sleeps?ms=4000&key=x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send("5\r\n12345\r\n");
        assert_eq!(client.response("GET").status, 202);
        client.send_if_taken("0\r\n\r\nGET /echo?key=y HTTP/1.1\r\nHost: localhost\r\n\r\n");
        if let Some(answer) = client.try_response() {
            assert_eq!(answer.text(), "0 bytes");
        }
        assert!(recorder.so_far("x").is_empty());
        // One whose length is declared is read.
        let mut client = Connection::open(host.address);
        client.send("GET /echo?key=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345");
        assert_eq!(client.response("GET").text(), "5 bytes");
        "yes".into()
    }

    fn a_body_over_the_limit_is_a_413_with_both_numbers(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        for length in [256 * 1024 + 1, 3_000_000] {
            let answer = Connection::open(host.address).post("/echo?key=x", "", &vec![b'x'; length]);
            let detail = answer.problem(413);
            assert_eq!(detail, format!("request body too large: {length} bytes (limit 262144)"));
        }
        // Without a declared length it is refused where it passes the limit.
        let mut client = Connection::open(host.address);
        client.send("POST /echo?key=x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..5 {
            client.send_if_taken(format!("10000\r\n{}\r\n", "x".repeat(65_536)));
        }
        client.send_if_taken("0\r\n\r\n");
        assert!(client.response("POST").problem(413).contains("(limit 262144)"));
        "yes".into()
    }

    /// The guest allows 2 s without progress.
    fn an_upload_that_stands_still_is_a_408_and_holds_no_connection(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        let begun = Instant::now();
        let mut client = Connection::open(host.address);
        client.send(format!("{SLOW}1"));
        let answer = client.response("POST");
        assert_eq!(answer.problem(408), "request body timed out: 1 of 23 bytes after 2 s without progress");
        assert_eq!(answer.header("x-origin"), Some("https://a.org"));
        client.wait_for_end();
        let took = begun.elapsed();
        assert!((2..10).contains(&took.as_secs()), "{took:?}");
        host.wait_for_output("a slow upload is over");
        "yes".into()
    }

    fn an_upload_that_drips_is_a_408_in_bounded_time(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        let begun = Instant::now();
        let mut client = Connection::open(host.address);
        client.send(SLOW);
        // A byte every 200 ms, as far as they are taken: 23 of them would take 4.6 s.
        while !client.has_arrived() && begun.elapsed() < Duration::from_secs(20) {
            client.send_if_taken("x");
            pause(200);
        }
        let detail = client.response("POST").problem(408);
        assert!(detail.ends_with("of 23 bytes after 2 s (at least 65536 every 2 s)"), "{detail}");
        host.wait_for_output("a slow upload is over");
        assert_eq!(host.output("a slow upload asks for room").len(), 1);
        "yes".into()
    }

    fn an_upload_with_a_pause_is_read_to_its_end(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        client.send(format!("{SLOW}1"));
        pause(1500);
        client.send([b'x'; 22]);
        assert_eq!(client.response("POST").text(), "23 bytes");
        host.wait_for_output("a slow upload is over");
        assert_eq!(client.post("/echo?key=x", "", b"12345").text(), "5 bytes");
        "yes".into()
    }

    fn a_slow_upload_without_room_is_a_503_and_a_fast_one_needs_none(kind: Kind) -> String {
        let (setup, _recorder) = guest_setup(kind);
        let host = setup.variable("ROOM", "none").start();
        let mut client = Connection::open(host.address);
        assert_eq!(client.post("/echo?key=x", "", &[b'x'; 200_000]).text(), "200000 bytes");
        assert!(host.output("a slow upload asks for room").is_empty());
        let begun = Instant::now();
        client.send(format!("{SLOW}1"));
        let answer = client.response("POST");
        assert!(answer.problem(503).contains("1 of 23 bytes"), "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert_eq!(answer.header("x-origin"), Some("https://a.org"));
        client.wait_for_end();
        let took = begun.elapsed();
        assert!((1..10).contains(&took.as_secs()), "{took:?}");
        "yes".into()
    }

    /// It is still read, so that the client gets the refusal, but not for long.
    fn a_refused_body_that_stands_still_holds_no_connection(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        let begun = Instant::now();
        let mut client = Connection::open(host.address);
        client.send("POST /echo?key=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\nx");
        client.response("POST").problem(413);
        client.wait_for_end();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        "yes".into()
    }

    /// A host that keeps backtraces puts them into its errors.
    fn a_malformed_body_is_a_400_without_the_hosts_own_words(kind: Kind) -> String {
        let (setup, _recorder) = guest_setup(kind);
        let host = setup.process_variable("RUST_BACKTRACE", "1").start();
        let mut client = Connection::open(host.address);
        client.send("POST /echo?key=x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send("5\r\n12345\r\nno size\r\n");
        assert_eq!(client.response("POST").problem(400), "request body broken off: 5 bytes could be read");
        "yes".into()
    }

    fn a_body_that_breaks_off_does_not_reach_the_handler(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        client.send("POST /echo?key=cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n12345");
        drop(client);
        assert_eq!(Connection::open(host.address).get("/sleeps?ms=300&key=next").status, 202);
        recorder.wait("next", 1);
        assert!(recorder.so_far("cut").is_empty());
        "yes".into()
    }
}
