//! Instances that serve one request after the other, as `make up` has them: nothing of a request is left to
//! the next. (`make test` runs all the other tests on such a host, too.)

use crate::host::{Folder, Host, Kind, REUSE, guest_setup};
use crate::jobs::component;
use crate::wire::Connection;

const MARKER: &str = "m4rk3r";

/// Posts bodies to a worker that there is not, every tenth of 1 MiB.
fn post_bodies(host: &Host, count: usize) {
    let mut connection = Connection::open(host.address);
    for n in 0..count {
        let length = if n % 10 == 0 { 1024 * 1024 } else { n * 37 % 4096 };
        assert_eq!(connection.post("/jobs/nobody", "", &vec![b'x'; length]).status, 404);
    }
}

/// An instance keeps the memory that its largest request has needed, and some more of them come into use.
#[test]
fn what_requests_leave_in_an_instance_is_bounded() {
    let data = Folder::new();
    let host = component(Kind::Wasmtime, &data.0).arguments(REUSE).start();
    let memory = |requests| {
        post_bodies(&host, requests);
        host.memory_kib("VmRSS:") / 1024.0
    };
    let [hundred, first, second] = [100, 10_000, 10_000].map(memory);
    assert!(first < hundred + 192.0, "{hundred} MiB after 100 requests, {first} after 10,000 more");
    assert!(second < first + 32.0, "{first} MiB, and {second} after another 10,000");
}

#[test]
fn nothing_of_one_clients_input_is_in_anothers_answer_or_log() {
    let data = Folder::new();
    let host = component(Kind::Wasmtime, &data.0)
        .variable("AFTERACK_NOTIFY_ALLOW", "mailto:*@example.org")
        .variable("AFTERACK_ORIGINS", "https://a.org")
        .arguments(REUSE)
        .start();
    let mut marked = Connection::open(host.address);
    let mut other = Connection::open(host.address);
    let headers = format!(
        "Notify: mailto:{MARKER}@b.org\r\nX-Forwarded-Prefix: /{MARKER}\r\nOrigin: https://a.org\r\n"
    );
    for _ in 0..20 {
        let body = MARKER.repeat(1000);
        marked.post("/jobs/demo", &headers, body.as_bytes());
        marked.post(&format!("/jobs/{MARKER}?ticket={MARKER}"), &headers, body.as_bytes());
        marked.post("/jobs/demo", &format!("Idempotency-Key: {MARKER}\r\n"), br#"{"steps":1,"step_ms":0}"#);
        let said = host.output(MARKER).len();
        let answers = [
            other.get("/"),
            other.get("/healthz"),
            other.get("/metrics"),
            other.get("/jobs/x/events"),
            other.post("/jobs/demo", "", b"{"),
            other.post("/jobs/demo", "Prefer: wait=1\r\n", br#"{"steps":1,"step_ms":0}"#),
            other.post("/jobs/demo", "Notify: a\r\n", b""),
        ];
        for answer in answers {
            assert!(!format!("{:?} {}", answer.headers, answer.text()).contains(MARKER), "{}", answer.text());
        }
        assert_eq!(host.output(MARKER).len(), said);
    }
}

#[test]
fn who_ends_his_instance_disturbs_nobody_else() {
    let (setup, recorder) = guest_setup(Kind::Wasmtime);
    let host = setup.arguments(REUSE).start();
    let mut client = Connection::open(host.address);
    assert_eq!(client.get("/sleeps?ms=3000&key=sleeper").status, 202);
    for (round, behaviour) in
        ["panics-before", "panics-after", "fails-before", "fails-after", "drops"].iter().enumerate()
    {
        for n in 0..5 {
            let key = format!("{behaviour}-{n}");
            let is_late = behaviour.ends_with("after");
            let answer = Connection::open(host.address).get(&format!("/{behaviour}?key={key}"));
            assert_eq!(answer.status, if is_late { 202 } else { 500 }, "{behaviour}: {}", answer.text());
            assert!(!answer.text().contains("secret"), "{}", answer.text());
            let text = client.get(&format!("/text?key=text-{round}-{n}"));
            assert_eq!(
                (text.status, text.text().as_str()),
                (202, "We'll email you as soon as this is done.")
            );
        }
    }
    recorder.wait("sleeper", 1);
}

#[test]
fn a_wrong_setting_is_named_at_every_request() {
    let data = Folder::new();
    let host = component(Kind::Wasmtime, &data.0).variable("AFTERACK_LANES", 0).arguments(REUSE).start();
    let mut client = Connection::open(host.address);
    for _ in 0..5 {
        assert!(client.get("/healthz").problem(500).contains("AFTERACK_LANES"));
    }
}
