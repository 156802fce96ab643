//! The `http` worker: jobs that an upstream does, which may do anything.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::host::{Folder, Host, Kind, Setup, free_address, on_every_host, with_every_store};
use crate::jobs::{Client, component, id};
use crate::upstream::Upstream;
use crate::wait::within;
use crate::wire::{Connection, Response};

/// The component with an upstream's behaviours as its workers.
fn with_upstream(kind: Kind, data: &Path, upstream: &Upstream, behaviours: &[&str]) -> Setup {
    let setup = component(kind, data).variable("AFTERACK_BACKOFF", "50ms..200ms");
    behaviours.iter().fold(setup, |setup, name| {
        let url = format!("{} timeout=3s", upstream.url(name));
        setup.variable(&format!("AFTERACK_UPSTREAM_{}", name.to_uppercase()), url)
    })
}

fn post(host: &Host, worker: &str, headers: &str, input: &str) -> Response {
    Connection::open(host.address).post(&format!("/jobs/{worker}"), headers, input.as_bytes())
}

with_every_store! {
    /// By `kill -9`: the call is made again, with the same key.
    fn a_call_that_a_killed_host_had_made_is_made_again(kind: Kind) -> String {
        let (upstream, data) = (Upstream::start(), Folder::new());
        let setup = || {
            let url = format!("{} timeout=1h", upstream.url("hangs"));
            component(kind, &data.0).variable("AFTERACK_UPSTREAM_REPORT", url)
        };
        let host = setup().start();
        let job = id(&post(&host, "report", "", "x"));
        within(Duration::from_secs(60), "it is called", || upstream.count("hangs") == 1);
        assert_eq!(Client(&host).status(&job)["state"], "running");
        host.kill();
        let host = setup().start();
        Client(&host).wait_for(&job, "succeeded");
        let keys: Vec<_> = upstream.requests("hangs");
        assert_eq!(keys.len(), 2, "{keys:#?}");
        assert!(keys.iter().all(|request| request.header("idempotency-key") == Some(&job)), "{keys:#?}");
        "yes".into()
    }
}

on_every_host! {
    fn an_upstreams_answer_becomes_the_output(kind: Kind) -> String {
        let (upstream, data) = (Upstream::start(), Folder::new());
        let host = with_upstream(kind, &data.0, &upstream, &["works", "nothing"])
            .variable("AFTERACK_UPSTREAM_SLOW_REPORT", upstream.url("works/2?of=all"))
            .start();
        let client = Client(&host);
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = format!(
            "Content-Type: text/csv; header=present\r\nTraceparent: {trace}\r\nAccept-Language: de\r\n\
             Cookie: session=s3cret\r\nAuthorization: Bearer s3cret\r\n"
        );
        let job = id(&post(&host, "works", &headers, "a,b"));
        client.wait_for(&job, "succeeded");
        let output = client.get(&format!("/jobs/{job}/output"));
        assert_eq!(output.header("content-type"), Some("text/x-report; charset=utf-8"));
        assert_eq!(output.text(), "a report of a,b");
        let request = upstream.requests("works").remove(0);
        for (name, value) in [
            ("content-type", Some("text/csv; header=present")),
            ("content-length", Some("3")),
            ("idempotency-key", Some(job.as_str())),
            ("traceparent", Some(trace)),
            ("accept-language", Some("de")),
            ("host", Some(upstream.address.to_string().as_str())),
            ("cookie", None),
            ("authorization", None),
        ] {
            assert_eq!(request.header(name), value, "{name}: {request:?}");
        }
        assert_eq!(request.body, b"a,b");
        let job = id(&post(&host, "slow-report", "", ""));
        client.wait_for(&job, "succeeded");
        let request = upstream.requests("works/2?of=all").remove(0);
        let trace = format!("00-{}-", job.replace('-', ""));
        assert!(request.header("traceparent").unwrap().starts_with(&trace), "{request:?}");
        assert_eq!((request.header("content-type"), request.body.len()), (None, 0));
        let job = id(&post(&host, "nothing", "", "x"));
        client.wait_for(&job, "succeeded");
        let output = client.get(&format!("/jobs/{job}/output"));
        assert_eq!((output.header("content-type"), output.body.len()), (Some("application/octet-stream"), 0));
        let detail = post(&host, "report", "", "").problem(404);
        for text in ["no worker `report` (available: demo, ", "nothing", "slow-report", "works"] {
            assert!(detail.contains(text), "{detail}");
        }
        "yes".into()
    }

    /// Three times 500, and one that is busy.
    fn an_upstream_that_recovers_is_asked_again(kind: Kind) -> String {
        let (upstream, data) = (Upstream::start(), Folder::new());
        let host = with_upstream(kind, &data.0, &upstream, &["fails", "busy"]).start();
        let client = Client(&host);
        let [fails, busy] = ["fails", "busy"].map(|worker| id(&post(&host, worker, "", "")));
        let failing = client.wait_until(&fails, |job| job["error"].is_string() || job["state"] == "succeeded");
        if failing["state"] != "succeeded" {
            assert_eq!(failing["error"], "upstream `fails` answered 500 Internal Server Error: not yet really");
        }
        for (job, path, count) in [(&fails, "fails", 4), (&busy, "busy", 2)] {
            client.wait_for(job, "succeeded");
            assert_eq!(client.get(&format!("/jobs/{job}/output")).text(), "at last");
            let requests = upstream.requests(path);
            assert_eq!(requests.len(), count, "{requests:#?}");
            assert!(requests.iter().all(|one| one.header("idempotency-key") == Some(job)), "{requests:#?}");
        }
        let busy = upstream.requests("busy");
        assert!(busy[1].at - busy[0].at >= Duration::from_secs(2), "{:?}", busy[1].at - busy[0].at);
        "yes".into()
    }

    /// Longer than wasmCloud lets an instance compute, and than its budget is there.
    fn a_slow_upstream_is_waited_for(kind: Kind) -> String {
        let (upstream, data) = (Upstream::start(), Folder::new());
        let host = component(kind, &data.0)
            .variable("AFTERACK_UPSTREAM_SLOW", upstream.url("sleeps/13000"))
            .start();
        let job = id(&post(&host, "slow", "", "x"));
        Client(&host).wait_for(&job, "succeeded");
        assert_eq!(upstream.count("sleeps/13000"), 1);
        assert!(host.output("its instance was lost").is_empty());
        "yes".into()
    }

    /// Each in the words of the status; an error that may pass is tried as often as it may be.
    fn what_an_upstream_does_wrong_is_in_the_status(kind: Kind) -> String {
        let (upstream, data) = (Upstream::start(), Folder::new());
        let behaviours = [
            "down", "missing", "moved", "encoded", "nonsense", "resets", "half", "chunk", "drips", "large", "endless",
            "silent",
        ];
        let host = with_upstream(kind, &data.0, &upstream, &behaviours)
            .variable("AFTERACK_UPSTREAM_NOBODY", format!("http://{}", free_address()))
            .variable("AFTERACK_UPSTREAM_NOWHERE", "http://nowhere.invalid/")
            .variable("AFTERACK_ATTEMPTS", 2)
            .start();
        let client = Client(&host);
        let fatal = [
            ("missing", "upstream `missing` answered 404 Not Found: no [31mreport of that name"),
            ("moved", "upstream `moved` answered 302 Found to http://elsewhere.example (redirects are not followed)"),
            ("encoded", "upstream `encoded`: its answer is encoded: gzip (expected none, as Accept-Encoding says)"),
            ("large", "upstream `large`: its answer is too long: 1073741824 bytes (limit 1048576, see AFTERACK_BODY)"),
            ("endless", "upstream `endless`: its answer is too long: more bytes (limit 1048576, see AFTERACK_BODY)"),
        ];
        let passing = [
            ("down", "upstream `down` answered 503 Service Unavailable"),
            ("nonsense", "upstream `nonsense`: the connection broke"),
            ("resets", "upstream `resets`: the connection broke"),
            ("half", "upstream `half`: its answer broke off after 10 of 1000 bytes"),
            ("chunk", "upstream `chunk`: its answer broke off after 10 bytes"),
            ("drips", "upstream `drips`: its answer was not complete within 3s: "),
            ("silent", "upstream `silent`: no answer within 3s"),
            ("nobody", "upstream `nobody`: connection refused"),
            ("nowhere", "upstream `nowhere`: its name has no address"),
        ];
        let cases = fatal.map(|case| (case, 1)).into_iter().chain(passing.map(|case| (case, 2)));
        let jobs: Vec<_> = cases.map(|(case, tries)| (id(&post(&host, case.0, "", "x")), case, tries)).collect();
        let beside = client.job(r#"{"steps":1,"step_ms":0}"#);
        client.wait_for(&beside, "succeeded");
        let mut wrong = Vec::new();
        for (job, (worker, words), tries) in &jobs {
            let job = client.wait_for(job, "failed");
            let is_right = job["error"].as_str().unwrap().starts_with(words) && job["attempts"] == *tries;
            if !is_right {
                wrong.push(format!("{worker}: {job}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(upstream.sent() < 32 << 20, "{} bytes were taken", upstream.sent());
        let error = |job: &Value| job["error"].as_str().unwrap().len();
        assert!(jobs.iter().all(|(job, ..)| error(&client.status(job)) < 300));
        for trap in ["wasm trap", "its instance was lost"] {
            assert!(host.output(trap).is_empty(), "{:?}", host.output(trap));
        }
        "yes".into()
    }

    fn a_wrong_upstream_stops_every_request_and_is_named(kind: Kind) -> String {
        let host = Setup::new(kind, "afterack")
            .variable("AFTERACK_UPSTREAM_REPORT", "http://a:s3cret@127.0.0.1")
            .start();
        let detail = Client(&host).get("/healthz").problem(500);
        assert!(detail.contains("AFTERACK_UPSTREAM_REPORT") && detail.contains("user information"), "{detail}");
        let taken = Setup::new(kind, "afterack").variable("AFTERACK_UPSTREAM_DEMO", "http://127.0.0.1").start();
        let problem = Client(&taken).get("/healthz").problem(500);
        assert_eq!(problem, "AFTERACK_UPSTREAM_DEMO: `demo` is a worker of this service");
        assert!(!detail.contains("s3cret") && host.output("s3cret").is_empty(), "{detail}");
        "yes".into()
    }
}
