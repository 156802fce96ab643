//! Acks that are not as long as they declare.

use crate::host::{Kind, guest, on_every_host};
use crate::wire::Connection;

on_every_host! {
    fn a_wrong_length_that_shows_at_once_is_a_500(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        Connection::open(host.address).get("/empty-stream?key=empty").problem(500);
        let error = "wrong Content-Length: 7 bytes declared, 0 in the body";
        assert_eq!(recorder.wait("empty", 1), [error]);
        "yes".into()
    }

    /// What shows later breaks the response off, names both numbers, and the continuation goes on.
    fn a_wrong_length_that_shows_later_breaks_the_response_off(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        for (path, error) in [
            ("short-stream", "wrong Content-Length: 20 bytes declared, 10 in the body"),
            ("long-stream", "wrong Content-Length: 7 bytes declared, at least 10 in the body"),
            ("failing-stream", "body stream failed after 5 of 20 bytes: the disk is on fire"),
        ] {
            let mut client = Connection::open(host.address);
            client.send(format!("GET /{path}?key={path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            assert_eq!(recorder.wait(path, 1), [error]);
            let complete = client.try_response().is_some_and(|response| response.complete);
            assert!(!complete, "{path}: a client takes this for complete");
        }
        "yes".into()
    }
}
