//! The ack: complete at the client before the work, of the right size, on a connection that lives on.

use crate::host::{Kind, guest, on_every_host};
use crate::wire::Connection;

on_every_host! {
    /// The client does not read until the continuation has had its first effect; then the whole
    /// response must lie ready.
    fn the_ack_has_arrived_before_the_first_effect(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        for round in 0..20 {
            let mut client = Connection::open(host.address);
            client.send(format!("GET /text?key={round} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            assert_eq!(recorder.wait(&round.to_string(), 1), ["delivered"]);
            assert!(client.has_arrived(), "round {round}: the effect came before the ack");
            let ack = client.response("GET");
            assert_eq!((ack.status, ack.text().as_str()), (202, "We'll email you as soon as this is done."));
            assert_eq!(ack.header("content-length"), Some("40"));
            assert_eq!(ack.header("cache-control"), Some("no-transform"));
            assert_eq!(ack.header("transfer-encoding"), None);
        }
        "yes".into()
    }

    /// Bodies of every size, at once and in chunks: complete, with the declared length.
    fn an_ack_of_any_size_is_complete(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        for size in [0, 1, 4095, 4096, 4097, 65_536, 1_048_577, 5_000_000] {
            for path in [format!("/bytes?n={size}"), format!("/stream?n={size}&chunk=10000")] {
                let key = path.replace(['/', '?', '&', '='], "-");
                let ack = client.get(&format!("{path}&key={key}"));
                assert_eq!(ack.header("content-length"), Some(size.to_string().as_str()), "{path}");
                assert!(ack.complete && ack.body.iter().all(|byte| *byte == b'x'), "{path}");
                assert_eq!(recorder.wait(&key, 1), ["delivered"], "{path}");
            }
        }
        "yes".into()
    }

    /// HEAD, 204, 304 and an empty 202: no body, the right length, and the next request is answered
    /// on the same connection.
    fn an_ack_without_a_body_leaves_the_connection_usable(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        let head = client.request("HEAD", "/bytes?n=100000&key=head");
        assert_eq!((head.status, head.header("content-length")), (202, Some("100000")));
        assert_eq!(recorder.wait("head", 1), ["delivered"]);
        let head = client.request("HEAD", "/stream?n=100000&chunk=1000&key=head-stream");
        assert_eq!((head.status, head.header("content-length")), (202, Some("100000")));
        assert_eq!(recorder.wait("head-stream", 1), ["delivered"]);
        for (status, length) in [(202, Some("0")), (204, None), (304, None)] {
            let ack = client.get(&format!("/status?status={status}&key={status}"));
            assert_eq!((ack.status, ack.header("content-length")), (status, length));
            assert_eq!(ack.header("transfer-encoding"), None);
            assert_eq!(recorder.wait(&status.to_string(), 1), ["delivered"]);
        }
        assert_eq!(client.get("/text?key=last").status, 202);
        "yes".into()
    }

    /// While a continuation sleeps, the same connection and another one are answered.
    fn the_next_request_is_answered_while_the_continuation_runs(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        assert_eq!(client.get("/sleeps?ms=3000&key=long").status, 202);
        assert_eq!(client.get("/text?key=same").status, 202);
        assert_eq!(Connection::open(host.address).get("/text?key=other").status, 202);
        recorder.wait("same", 1);
        recorder.wait("other", 1);
        assert!(recorder.so_far("long").is_empty(), "the first continuation has ended already");
        assert_eq!(recorder.wait("long", 1), ["awake"]);
        "yes".into()
    }

    fn the_headers_of_the_connection_are_refused_by_name(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        for name in ["Connection", "Transfer-Encoding", "Keep-Alive", "Upgrade", "Host", "Proxy-Connection"] {
            let text = client.get(&format!("/header?name={name}&key=x")).text();
            assert!(text.contains(&format!("`{}`", name.to_lowercase())), "{text}");
        }
        assert_eq!(client.get("/header?name=X-Fine&key=x").text(), "none");
        "yes".into()
    }

    fn output_after_the_ack_does_no_harm(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        assert_eq!(client.get("/prints?key=prints").text(), "quiet");
        assert_eq!(recorder.wait("prints", 1), ["delivered"]);
        assert_eq!(client.get("/text?key=next").status, 202);
        "yes".into()
    }
}
