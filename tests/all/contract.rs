//! Jobs over HTTP: what the README promises of each request.

use std::thread;
use std::time::Duration;

use crate::host::{Folder, Kind, Setup, on_every_host, on_every_host_with_a_folder, with_every_store};
use crate::jobs::{Client, JSON, component, id};
use crate::storage::Storage;
use crate::wire::Connection;

const FOREVER: &str = r#"{"steps":10000,"step_ms":100}"#;

on_every_host_with_a_folder! {
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

with_every_store! {
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
        // Shorter than a proxy's patience, and at once when there is nothing to wait for.
        assert_eq!(wait(600).header("preference-applied"), Some("wait=50"));
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
        // Whatever else a client has heard, it hears the end.
        for heard in ["0", "999999", "-1", "x", "18446744073709551616", ""] {
            let rest = events(&format!("Last-Event-ID: {heard}\r\n"));
            assert_eq!(rest.header("x-accel-buffering"), Some("no"));
            let rest = parse(&rest.text());
            assert_eq!((rest.len(), rest[0].name.as_str(), rest[0].id), (1, "end", last.id), "{heard}");
        }
        assert_eq!(client.request("HEAD", &format!("/jobs/{id}/events")).status, 200);
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
            assert_eq!(ack.status, 202, "{}", ack.text());
            assert_eq!(ack.json()["id"], acks[0].json()["id"]);
        }
        let id = acks[0].json()["id"].as_str().unwrap().to_owned();
        client.wait_for(&id, "succeeded");
        assert_eq!(Storage::of(kind, &data.0).jobs().len(), 1);
        // Its real state, and quotes make no difference.
        assert_eq!(post("\"once\"", input).json()["state"], "succeeded");
        assert_eq!(post("once", input).json()["id"], id.as_str());
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
            // One that is handed over meanwhile would wait, too.
            .variable("AFTERACK_BUDGET", "60s")
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
        let storage = Storage::of(kind, &data.0);
        assert!(!storage.jobs().contains(&id));
        assert_eq!(storage.keys(), 0);
        "yes".into()
    }
}

on_every_host! {
    fn pages_of_named_origins_may_use_it(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0)
            .variable("AFTERACK_ORIGINS", "https://app.example.com")
            .variable("AFTERACK_BODY", "1KiB")
            .start();
        let ask = |method: &str, path: &str, headers: &str, body: &str| {
            let mut connection = Connection::open(host.address);
            let length = body.len();
            connection.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
            ));
            connection.response(method)
        };
        let origin = "Origin: https://app.example.com\r\n";
        let preflight = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: notify\r\n";
        let answer = ask("OPTIONS", "/jobs/demo", &format!("{origin}{preflight}"), "");
        assert_eq!(answer.status, 204);
        assert!(answer.header("access-control-allow-headers").unwrap().contains("notify"));
        assert!(answer.header("access-control-allow-methods").unwrap().contains("DELETE"));
        // Also what does not reach the service: a body that is too large, a chunk that is none.
        let too_large = ask("POST", "/jobs/demo", origin, &" ".repeat(1025));
        assert_eq!(too_large.status, 413);
        let broken = ask("POST", "/jobs/demo", &format!("{origin}Transfer-Encoding: chunked\r\n"), "zz\r\n");
        assert_eq!(broken.status, 400, "{}", broken.text());
        for answer in [&answer, &too_large, &ask("GET", "/jobs/nothing", origin, "")] {
            assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
            assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
            assert!(answer.header("access-control-expose-headers").unwrap().contains("retry-after"));
            assert_eq!(answer.header("vary"), Some("origin"));
        }
        let other = ask("OPTIONS", "/jobs/demo", &format!("Origin: https://evil.example\r\n{preflight}"), "");
        assert_eq!(other.header("access-control-allow-origin"), None);
        other.problem(405);
        "yes".into()
    }

    /// A field that may come in several lines means the same joined by commas; one that may not is refused.
    fn fields_are_read_as_their_rfcs_say(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0)
            .variable("AFTERACK_SMTP", "smtp://127.0.0.1:9")
            .variable("AFTERACK_MAIL_FROM", "afterack@example.org")
            .variable("AFTERACK_NOTIFY_ALLOW", "mailto:*")
            .start();
        let client = Client(&host);
        let input = r#"{"steps":1,"step_ms":0}"#;
        for notify in [
            "Notify: mailto:a@b.org\r\nNotify: mailto:c@d.org\r\n",
            "Notify: mailto:a@b.org, mailto:c@d.org\r\n",
            "Notify: MAILTO:a@b.org mailto:c@d.org,mailto:a@B.ORG\r\n",
        ] {
            let job = client.status(&id(&client.post(notify, input)));
            assert_eq!(job["notifications"].as_array().unwrap().len(), 2, "{job}");
        }
        for (headers, status) in [
            ("Content-Type: a/b\r\nContent-Type: c/d\r\n", 400),
            ("Idempotency-Key: a\r\nIdempotency-Key: b\r\n", 400),
            ("Content-Encoding: gzip\r\n", 415),
            ("Content-Encoding: gzïp\r\n", 415),
            ("Content-Encoding: identity\r\n", 202),
            ("Prefer: wait=\"5\"\r\nPrefer: respond-async\r\n", 202),
        ] {
            let answer = client.post(headers, input);
            assert_eq!(answer.status, status, "{headers} {}", answer.text());
        }
        let long = format!("Content-Type: {}\r\n", "x".repeat(9000));
        assert!(client.post(&long, input).problem(400).contains("limit 1024"));
        let path = Connection::open(host.address).post("/jobs/%64emo", JSON, input.as_bytes());
        assert_eq!(path.status, 202, "{}", path.text());
        let nothing = |path: &str| client.get(path).problem(404);
        assert_eq!(nothing("/"), "no resource at `/`");
        nothing("/jobs/demo/");
        nothing("/jobs%2Fdemo");
        "yes".into()
    }

    /// `EventSource` cannot send a token.
    fn a_ticket_opens_the_events_of_one_job(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_TOKEN", "s3cret\n").start();
        let mut connection = Connection::open(host.address);
        let token = "Authorization: bearer   s3cret\r\n";
        let job = id(&connection.post("/jobs/demo", token, br#"{"steps":1,"step_ms":0}"#));
        let other = id(&connection.post("/jobs/demo", token, br#"{"steps":1,"step_ms":0}"#));
        let ticket = connection.post(&format!("/jobs/{job}/ticket"), token, b"");
        assert_eq!(ticket.status, 200, "{}", ticket.text());
        assert!(!ticket.text().contains("s3cret"));
        let events = ticket.json()["events"].as_str().unwrap().to_owned();
        assert!(Client(&host).get(&events).text().contains("event: end"));
        Client(&host).get(&format!("/jobs/{job}/events")).problem(401);
        Client(&host).get(&format!("/jobs/{job}/events?ticket=old")).problem(401);
        let with_token = format!("GET /jobs/{job}/events?ticket=old HTTP/1.1\r\nHost: localhost\r\n{token}\r\n");
        connection.send(with_token);
        assert_eq!(connection.response("GET").status, 200);
        Client(&host).get(&events.replace(&job, &other)).problem(401);
        Client(&host).get(&events.replace("/events", "")).problem(401);
        Client(&host).get(&events.replace("/events", "/output")).problem(401);
        Client(&host).request("POST", &format!("/jobs/{job}/ticket")).problem(401);
        "yes".into()
    }
}

struct Event {
    name: String,
    id: u64,
    data: serde_json::Value,
}

/// The events of a stream.
fn parse(text: &str) -> Vec<Event> {
    let events = text.split("\n\n").filter(|event| event.starts_with("event: "));
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
