//! Handlers that fail: before the answer the client gets a 500, after it nothing changes.

use crate::host::{Kind, guest, guest_setup, on_every_host};
use crate::wire::Connection;

on_every_host! {
    fn a_handler_that_fails_before_the_answer_is_a_500(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let mut client = Connection::open(host.address);
        let detail = client.get("/fails-before?key=x").problem(500);
        assert!(!detail.contains("secret"), "the log's text went to the client: {detail}");
        client.get("/drops?key=drops").problem(500);
        assert_eq!(recorder.wait("drops", 1), ["alive"]);
        "yes".into()
    }

    fn a_panic_before_the_answer_is_a_500(kind: Kind) -> String {
        let (host, _recorder) = guest(kind);
        let answer = Connection::open(host.address).get("/panics-before?key=x");
        assert_eq!(answer.status, 500);
        let problem = answer.header("content-type") == Some("application/problem+json");
        assert_eq!(Connection::open(host.address).get("/text?key=next").status, 202);
        if problem { "yes".into() } else { "the host's own 500".into() }
    }

    fn a_failure_after_the_answer_leaves_the_client_alone(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        for path in ["fails-after", "panics-after"] {
            let mut client = Connection::open(host.address);
            assert_eq!(client.get(&format!("/{path}?key={path}")).text(), "ok");
            recorder.wait(path, 1);
            assert_eq!(client.get("/text?key=next").status, 202);
        }
        "yes".into()
    }

    fn cleanups_run_in_order_after_a_failed_continuation(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        assert_eq!(Connection::open(host.address).get("/cleanups?key=c").text(), "ok");
        assert_eq!(recorder.wait("c", 3), ["continuation", "first clean-up", "second clean-up"]);
        "yes".into()
    }
}

/// `wasmtime serve` gives an instance one request, but for those who ask for more: nothing of a request,
/// however it ended, may stay for the next one.
#[test]
fn an_instance_may_serve_one_request_after_the_other() {
    let (setup, recorder) = guest_setup(Kind::Wasmtime);
    let host = setup.arguments("--max-instance-reuse-count 100").start();
    let mut client = Connection::open(host.address);
    for round in 0..10 {
        client.get("/fails-before?key=x").problem(500);
        assert_eq!(client.get(&format!("/fails-after?key=fails-{round}")).text(), "ok");
        client.get(&format!("/drops?key=drops-{round}")).problem(500);
        assert_eq!(client.get(&format!("/cleanups?key=cleanups-{round}")).text(), "ok");
        assert_eq!(client.get(&format!("/text?key=text-{round}")).status, 202);
        for (key, effects) in [("fails", 1), ("drops", 1), ("cleanups", 3), ("text", 1)] {
            recorder.wait(&format!("{key}-{round}"), effects);
        }
    }
}
