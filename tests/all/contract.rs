//! Jobs over HTTP: what the README promises of each request.

use std::fs;
use std::io::Read;
use std::thread;
use std::time::Duration;

use crate::host::{Folder, Kind, Setup, on_every_host, on_every_host_with_a_folder};
use crate::jobs::{Client, JSON, component};
use crate::wire::Connection;

const FOREVER: &str = r#"{"steps":10000,"step_ms":100}"#;

on_every_host! {
    /// Nothing is mounted: a job that cannot be recorded is never acknowledged.
    fn without_a_store_nothing_is_acknowledged(kind: Kind) -> String {
        let host = Setup::new(kind, "afterack").start();
        let client = Client(&host);
        for answer in [client.post(JSON, "{}"), client.get("/healthz"), client.get("/metrics")] {
            assert!(answer.header("retry-after").is_some());
            assert!(answer.problem(503).contains("/data"));
        }
        "yes".into()
    }
}

on_every_host_with_a_folder! {
    fn a_job_is_shown_from_its_ack_to_its_output(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let ack = client.post(JSON, r#"{"steps":3,"step_ms":300}"#);
        assert_eq!(ack.status, 202);
        let body = ack.json();
        let id = body["id"].as_str().unwrap();
        let url = format!("/jobs/{id}");
        assert_eq!(ack.header("location"), Some(url.as_str()));
        assert_eq!(body["status"], url.as_str());
        assert_eq!(body["state"], "queued");
        assert!(ack.header("retry-after").is_some());
        assert_eq!(ack.header("cache-control"), Some("no-store, no-transform"));
        let job = client.wait_until(id, |job| job["progress"]["done"] == 1);
        assert_eq!((&job["state"], &job["worker"]), (&"running".into(), &"demo".into()));
        assert_eq!((&job["progress"]["total"], &job["attempts"]), (&3.into(), &1.into()));
        assert!(job["finished"].is_null() && job["output"].is_null() && job["error"].is_null());
        client.get(&format!("{url}/output")).problem(404);
        let job = client.wait_for(id, "succeeded");
        assert_eq!(job["progress"]["done"], 3);
        for time in ["created", "updated", "finished"] {
            let time = job[time].as_str().unwrap();
            assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
        }
        let output = client.get(job["output"].as_str().unwrap());
        assert_eq!((output.status, output.text().as_str()), (200, r#"{"steps":3}"#));
        assert_eq!(output.header("content-type"), Some("application/json"));
        assert_eq!(client.request("HEAD", &url).status, 200);
        assert_eq!(client.metric(r#"afterack_jobs_ended_total{state="succeeded"}"#), 1);
        "yes".into()
    }

    fn a_long_poll_ends_with_the_job_or_in_time(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let ack = client.post("Prefer: respond-async, wait=20\r\n", r#"{"steps":1,"step_ms":300}"#);
        assert_eq!((ack.status, &ack.json()["state"]), (202, &"succeeded".into()));
        assert_eq!(ack.header("preference-applied"), Some("respond-async, wait=20"));
        let id = client.job(r#"{"steps":2,"step_ms":1500}"#);
        let wait = |seconds: u64| {
            let mut connection = Connection::open(host.address);
            connection.send(format!(
                "GET /jobs/{id} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait={seconds}\r\n\r\n"
            ));
            connection.response("GET")
        };
        let early = wait(1);
        assert_eq!((&early.json()["state"], early.header("preference-applied")), (&"running".into(), Some("wait=1")));
        assert_eq!(wait(20).json()["state"], "succeeded");
        "yes".into()
    }

    fn events_come_as_they_happen_and_are_resumed(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let id = client.job(r#"{"steps":4,"step_ms":400}"#);
        let events = |heard: &str| {
            let mut connection = Connection::open(host.address);
            connection.send(format!(
                "GET /jobs/{id}/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{heard}\r\n"
            ));
            connection.response("GET")
        };
        let all = events("");
        assert_eq!(all.header("content-type"), Some("text/event-stream"));
        let all = parse(&all.text());
        let dones: Vec<_> = all.iter().map(|event| event.data["progress"]["done"].as_u64()).collect();
        for done in 0..4 {
            assert!(dones.contains(&Some(done)), "{dones:?}");
        }
        let (last, before) = all.split_last().unwrap();
        assert_eq!((last.name.as_str(), &last.data["state"]), ("end", &"succeeded".into()));
        assert!(before.iter().all(|event| event.name == "progress"));
        assert!(all.is_sorted_by_key(|event| event.id));
        let rest = parse(&events(&format!("Last-Event-ID: {}\r\n", before.last().unwrap().id)).text());
        assert_eq!((rest.len(), rest[0].id), (1, last.id));
        assert_eq!(events(&format!("Last-Event-ID: {}\r\n", last.id)).status, 204);
        "yes".into()
    }

    fn a_job_is_cancelled_while_queued_or_running_but_not_after_its_end(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_DRAINS", 1).variable("AFTERACK_LANES", 1).start();
        let client = Client(&host);
        let delete = |id: &str| client.request("DELETE", &format!("/jobs/{id}"));
        let running = client.job(FOREVER);
        client.wait_for(&running, "running");
        let queued = client.job(FOREVER);
        assert_eq!(client.status(&queued)["state"], "queued");
        let answer = delete(&queued);
        assert_eq!((answer.status, &answer.json()["state"]), (202, &"cancelled".into()));
        assert_eq!(client.status(&queued)["state"], "cancelled");
        assert_eq!(delete(&running).status, 202);
        let job = client.wait_for(&running, "cancelled");
        assert!(job["finished"].is_string() && job["output"].is_null());
        assert!(delete(&running).problem(409).contains("cancelled"));
        let ended = client.job(r#"{"steps":1,"step_ms":0}"#);
        client.wait_for(&ended, "succeeded");
        assert!(delete(&ended).problem(409).contains("succeeded"));
        delete("01936f00-0000-7000-8000-000000000000").problem(404);
        assert_eq!(client.metric(r#"afterack_jobs_ended_total{state="cancelled"}"#), 2);
        "yes".into()
    }

    fn a_failing_step_is_tried_again_later_and_a_failed_job_when_it_is_asked_for(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0)
            .variable("AFTERACK_ATTEMPTS", 3)
            .variable("AFTERACK_BACKOFF", "10ms..100ms")
            .start();
        let client = Client(&host);
        let retry = |id: &str| client.request("POST", &format!("/jobs/{id}/retry"));
        let passing = client.job(r#"{"steps":1,"step_ms":0,"failures":2}"#);
        client.wait_for(&passing, "succeeded");
        retry(&passing).problem(409);
        let failing = client.job(r#"{"steps":1,"step_ms":0,"failures":3}"#);
        let job = client.wait_for(&failing, "failed");
        assert_eq!((&job["attempts"], &job["error"]), (&3.into(), &"failure 3 of 3".into()));
        let answer = retry(&failing);
        assert_eq!((answer.status, &answer.json()["state"]), (202, &"queued".into()));
        client.wait_until(&failing, |again| again["state"] == "failed" && again["finished"] != job["finished"]);
        // What an upstream asks for counts more than our own idea of it.
        let patient = client.job(r#"{"steps":1,"step_ms":0,"failures":1,"retry_after_ms":2000}"#);
        let job = client.wait_for(&patient, "succeeded");
        let time = |name: &str| humantime::parse_rfc3339(job[name].as_str().unwrap()).unwrap();
        assert!(time("finished") >= time("created") + Duration::from_secs(2), "{job}");
        let cancelled = client.job(r#"{"steps":2,"step_ms":1000}"#);
        client.wait_until(&cancelled, |job| job["progress"]["done"] == 0);
        assert_eq!(client.request("DELETE", &format!("/jobs/{cancelled}")).status, 202);
        client.wait_for(&cancelled, "cancelled");
        assert_eq!(retry(&cancelled).status, 202);
        client.wait_for(&cancelled, "succeeded");
        retry("01936f00-0000-7000-8000-000000000000").problem(404);
        "yes".into()
    }

    fn an_idempotency_key_stands_for_one_job(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let post = |key: &str, input: &str| client.post(&format!("{JSON}Idempotency-Key: {key}\r\n"), input);
        let input = r#"{"steps":1,"step_ms":0}"#;
        let acks: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = (0..50).map(|_| scope.spawn(|| post("once", input))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        for ack in &acks {
            assert_eq!((ack.status, &ack.body), (202, &acks[0].body), "{}", ack.text());
        }
        let id = acks[0].json()["id"].as_str().unwrap().to_owned();
        client.wait_for(&id, "succeeded");
        assert_eq!(fs::read_dir(data.0.join("jobs")).unwrap().count(), 1);
        assert_eq!(post("once", input).body, acks[0].body);
        assert!(post("once", r#"{"steps":2}"#).problem(422).contains("Idempotency-Key"));
        assert_ne!(post("twice", input).json()["id"], id.as_str());
        post(&"k".repeat(256), input).problem(400);
        post("", input).problem(400);
        "yes".into()
    }

    fn a_full_queue_is_a_429_until_there_is_room(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0)
            .variable("AFTERACK_DRAINS", 1)
            .variable("AFTERACK_LANES", 1)
            .variable("AFTERACK_QUEUE", 3)
            .start();
        let client = Client(&host);
        let running = client.job(FOREVER);
        client.wait_for(&running, "running");
        let queued = [0; 3].map(|_| client.job(FOREVER));
        let refused = client.post(JSON, FOREVER);
        assert!(refused.header("retry-after").is_some());
        assert!(refused.problem(429).contains("AFTERACK_QUEUE"));
        assert_eq!(client.request("DELETE", &format!("/jobs/{}", queued[0])).status, 202);
        client.job(FOREVER);
        "yes".into()
    }

    fn pages_of_named_origins_may_use_it(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_ORIGINS", "https://app.example.com").start();
        let ask = |method: &str, path: &str, headers: &str| {
            let mut connection = Connection::open(host.address);
            connection.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
            connection.response(method)
        };
        let origin = "Origin: https://app.example.com\r\n";
        let preflight = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: notify\r\n";
        let answer = ask("OPTIONS", "/jobs/demo", &format!("{origin}{preflight}"));
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert!(answer.header("access-control-allow-headers").unwrap().contains("notify"));
        assert!(answer.header("access-control-allow-methods").unwrap().contains("DELETE"));
        let answer = ask("GET", "/jobs/nothing", origin);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(answer.header("vary"), Some("origin"));
        answer.problem(404);
        let other = ask("OPTIONS", "/jobs/demo", &format!("Origin: https://evil.example\r\n{preflight}"));
        assert_eq!(other.header("access-control-allow-origin"), None);
        other.problem(405);
        "yes".into()
    }

    fn jobs_are_kept_as_long_as_they_should_be(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_KEEP", "2s").start();
        let client = Client(&host);
        let ack = client.post(&format!("{JSON}Idempotency-Key: k\r\n"), r#"{"steps":1,"step_ms":0}"#);
        let id = ack.json()["id"].as_str().unwrap().to_owned();
        client.wait_for(&id, "succeeded");
        let begun = std::time::Instant::now();
        while client.get(&format!("/jobs/{id}")).status == 200 {
            assert!(begun.elapsed().as_secs() < 20, "it is still there");
            client.job(r#"{"steps":1,"step_ms":0}"#);
            thread::sleep(std::time::Duration::from_millis(200));
        }
        assert!(begun.elapsed().as_secs_f64() > 1.5, "it went after {:?}", begun.elapsed());
        for folder in ["jobs", "done"] {
            assert!(!data.0.join(folder).join(&id).exists(), "{folder}");
        }
        assert_eq!(fs::read_dir(data.0.join("keys")).unwrap().count(), 0);
        "yes".into()
    }
}

struct Event {
    name: String,
    id: u64,
    data: serde_json::Value,
}

/// The events of a stream that came in chunks.
fn parse(text: &str) -> Vec<Event> {
    let mut body = String::new();
    let mut rest = text.as_bytes();
    // The host sends a body of unknown size in chunks (RFC 9112 §7.1).
    while let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        (&rest[end + 2..end + 2 + size]).read_to_string(&mut body).unwrap();
        rest = &rest[(end + 4 + size).min(rest.len())..];
    }
    let events = body.split("\n\n").filter(|event| event.starts_with("event: "));
    events
        .map(|event| {
            let field =
                |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
            Event {
                name: field("event: "),
                id: field("id: ").parse().unwrap(),
                data: serde_json::from_str(&field("data: ")).unwrap(),
            }
        })
        .collect()
}
