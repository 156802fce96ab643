//! Requests are read whole, within a limit, before anything is answered.

use crate::host::{Kind, guest, on_every_host};
use crate::wire::Connection;

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
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.response("POST").text(), "15 bytes");
        "yes".into()
    }

    fn a_body_over_the_limit_is_a_413_with_both_numbers(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        for length in [256 * 1024 + 1, 3_000_000] {
            let answer = Connection::open(host.address).post("/echo?key=x", "", &vec![b'x'; length]);
            let detail = answer.problem(413);
            assert_eq!(detail, format!("the request's body is {length} bytes; 262144 are allowed"));
        }
        // Without a declared length it is refused where it passes the limit.
        let mut client = Connection::open(host.address);
        client.send("POST /echo?key=x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..5 {
            client.send_if_taken(format!("10000\r\n{}\r\n", "x".repeat(65_536)));
        }
        client.send_if_taken("0\r\n\r\n");
        assert!(client.response("POST").problem(413).contains("262144 are allowed"));
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
