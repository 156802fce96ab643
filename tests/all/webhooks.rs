//! Webhooks: to a real receiver, which verifies them by the reference implementation.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::{Folder, Kind, Setup, free_address, on_every_host, root, with_every_store};
use crate::jobs::{Client, SHORT, component, id};
use crate::mail::Mailbox;
use crate::server::Server;
use crate::wire::Connection;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How long a webhook may take to come.
const HOOK: Duration = Duration::from_secs(60);

/// A receiver; what it does is in `.setup/webhook_server.py`.
struct Receiver {
    url: String,
    _server: Server,
}

impl Receiver {
    fn start() -> Receiver {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", root().join(".tools/py")).arg(root().join(".setup/webhook_server.py"));
        command.args(["127.0.0.1:0", SECRET]);
        let server = Server::start(command);
        let line = server.wait_for("listening on ");
        Receiver { url: format!("http://{}", line.trim_start_matches("listening on ")), _server: server }
    }

    /// What has come to this path so far.
    fn received(&self, path: &str) -> Vec<Value> {
        let address = self.url.trim_start_matches("http://").parse().unwrap();
        let all = Connection::open(address).get("/").json();
        all.as_array().unwrap().iter().filter(|one| one["path"] == path).cloned().collect()
    }

    /// The same as soon as there are so many.
    fn wait_for(&self, path: &str, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let received = self.received(path);
            if received.len() >= count {
                return received;
            }
            assert!(begun.elapsed() < HOOK, "{count} expected at {path}: {received:#?}");
            sleep(Duration::from_millis(50));
        }
    }
}

/// The component that may tell this receiver.
fn with_webhooks(kind: Kind, data: &Path, allowed: &str) -> Setup {
    component(kind, data)
        .variable("AFTERACK_NOTIFY_ALLOW", allowed)
        .variable("AFTERACK_WEBHOOK_SECRET", SECRET)
        .variable("AFTERACK_BACKOFF", "100ms..1s")
}

fn notify(targets: &[&str]) -> String {
    format!("Notify: {}\r\n", targets.join(", "))
}

/// The job as soon as its target with this index stands like this.
fn wait_for(client: &Client, job: &str, index: usize, state: &str) -> Value {
    client.wait_until(job, |job| job["notifications"][index]["state"] == state)
}

with_every_store! {
    fn a_webhook_is_signed_and_says_how_the_job_has_ended(kind: Kind) -> String {
        let receiver = Receiver::start();
        let data = Folder::new();
        let host = with_webhooks(kind, &data.0, &receiver.url).start();
        let client = Client(&host);
        let job = id(&client.post(&notify(&[&format!("{}/ok?token=x", receiver.url)]), SHORT));
        let told = receiver.wait_for("/ok?token=x", 1).remove(0);
        assert_eq!(told["verified"], true, "{told}");
        assert_eq!(told["headers"]["content-type"], "application/json");
        assert_eq!(told["headers"]["webhook-id"], format!("{job}-0-0"));
        let mut status = wait_for(&client, &job, 0, "delivered");
        assert_eq!(status["notifications"][0]["attempts"], 1, "{status}");
        status.as_object_mut().unwrap().remove("notifications");
        for (field, value) in status.as_object().unwrap() {
            if field != "updated" {
                assert_eq!(&told["body"][field], value, "{field}: {told}");
            }
        }
        assert_eq!(told["body"]["state"], "succeeded");
        assert!(host.output(SECRET).is_empty());
        "yes".into()
    }
}

on_every_host! {
    fn a_webhook_that_fails_is_tried_again_under_its_id(kind: Kind) -> String {
        let receiver = Receiver::start();
        let data = Folder::new();
        let host = with_webhooks(kind, &data.0, &receiver.url).variable("AFTERACK_BACKOFF", "1s..1s").start();
        let client = Client(&host);
        let target = format!("{}/fails/token", receiver.url);
        let job = id(&client.post(&notify(&[&target]), SHORT));
        let failing = client.wait_until(&job, |job| job["notifications"][0]["error"].is_string());
        assert_eq!(failing["state"], "succeeded");
        assert_eq!(failing["notifications"][0]["error"], "it answered 500 Internal Server Error: not yet really");
        let tries = receiver.wait_for("/fails/token", 4);
        let told = wait_for(&client, &job, 0, "delivered");
        assert_eq!((&told["notifications"][0]["attempts"], &told["notifications"][0]["error"]), (&4.into(), &Value::Null));
        let of = |name: &str| tries.iter().map(|one| one["headers"][name].clone()).collect::<Vec<_>>();
        assert!(of("webhook-id").iter().all(|id| *id == format!("{job}-0-0")), "{tries:#?}");
        assert!(tries.iter().all(|one| one["verified"] == true), "{tries:#?}");
        let mut times = of("webhook-timestamp");
        times.dedup();
        assert!(times.len() > 1, "{times:?}");
        // A token in the path stays out of the log.
        host.wait_for_output(&format!("{}: it answered 500", receiver.url));
        assert!(host.output("/fails/token").is_empty());
        "yes".into()
    }

    /// Gone, busy, moved, and where nobody listens; by one job, whose result is what it is.
    fn what_a_receiver_answers_is_heeded(kind: Kind) -> String {
        let receiver = Receiver::start();
        let nobody = format!("http://{}", free_address());
        let data = Folder::new();
        let host = with_webhooks(kind, &data.0, &format!("{} {nobody}", receiver.url))
            .variable("AFTERACK_NOTIFY_FOR", "4s")
            .start();
        let client = Client(&host);
        let paths = ["gone", "busy", "moved"].map(|path| format!("{}/{path}", receiver.url));
        let job = id(&client.post(&notify(&[&paths[0], &paths[1], &paths[2], &nobody]), SHORT));
        let told = wait_for(&client, &job, 0, "failed");
        assert_eq!(told["notifications"][0]["error"], "it answered 410 Gone");
        assert_eq!(told["notifications"][0]["attempts"], 1, "{told}");
        wait_for(&client, &job, 1, "delivered");
        let busy = receiver.received("/busy");
        let between = busy[1]["at"].as_f64().unwrap() - busy[0]["at"].as_f64().unwrap();
        assert!(busy.len() == 2 && between >= 2.0, "{between} s: {busy:#?}");
        let told = wait_for(&client, &job, 2, "failed");
        let error = told["notifications"][2]["error"].as_str().unwrap();
        assert!(error.starts_with("it answered 307 Temporary Redirect to ") && error.ends_with("not followed)"), "{error}");
        assert!(receiver.received("/ok/moved").is_empty());
        let told = wait_for(&client, &job, 3, "failed");
        assert_eq!(told["notifications"][3]["error"], "connection refused", "{told}");
        assert_eq!((&told["state"], receiver.received("/gone").len()), (&"succeeded".into(), 1));
        "yes".into()
    }

    /// It takes a lane of those that tell, for 15 s at a time, and nothing else.
    fn a_receiver_that_never_answers_holds_up_nobody(kind: Kind) -> String {
        let receiver = Receiver::start();
        let data = Folder::new();
        let host = with_webhooks(kind, &data.0, &receiver.url).start();
        let client = Client(&host);
        let [silent, other] = ["silent", "ok"].map(|path| format!("{}/{path}", receiver.url));
        let job = id(&client.post(&notify(&[&silent, &other]), SHORT));
        receiver.wait_for("/silent", 1);
        let begun = Instant::now();
        wait_for(&client, &job, 1, "delivered");
        let next = id(&client.post(&notify(&[&format!("{other}/next")]), SHORT));
        wait_for(&client, &next, 0, "delivered");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let told = client.wait_until(&job, |job| job["notifications"][0]["error"].is_string());
        assert_eq!(told["notifications"][0]["error"], "no answer within 15s", "{told}");
        assert_eq!(told["state"], "succeeded");
        "yes".into()
    }

    /// Both signatures are sent, the old one and the new one; this receiver knows the old one.
    fn two_secrets_serve_a_rotation(kind: Kind) -> String {
        let receiver = Receiver::start();
        let data = Folder::new();
        let both = format!("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD {SECRET}");
        let host = with_webhooks(kind, &data.0, &receiver.url).variable("AFTERACK_WEBHOOK_SECRET", both).start();
        Client(&host).post(&notify(&[&format!("{}/ok", receiver.url)]), SHORT);
        let told = receiver.wait_for("/ok", 1).remove(0);
        assert_eq!(told["verified"], true, "{told}");
        assert_eq!(told["headers"]["webhook-signature"].as_str().unwrap().matches("v1,").count(), 2);
        "yes".into()
    }

    fn mail_and_webhook_go_together(kind: Kind) -> String {
        let (receiver, mailbox) = (Receiver::start(), Mailbox::start());
        let data = Folder::new();
        let host = with_webhooks(kind, &data.0, &format!("{} mailto:*@example.com", receiver.url))
            .variable("AFTERACK_SMTP", &mailbox.url)
            .variable("AFTERACK_MAIL_FROM", "afterack@example.org")
            .start();
        let targets = ["mailto:visitor@example.com".to_owned(), format!("{}/ok", receiver.url)];
        let headers: String = targets.iter().map(|target| notify(&[target])).collect();
        let job = id(&Client(&host).post(&headers, r#"{"failures":9,"retry_after_ms":0}"#));
        assert_eq!(receiver.wait_for("/ok", 1)[0]["body"]["state"], "failed");
        wait_for(&Client(&host), &job, 1, "delivered");
        if kind.is_wash() {
            return "yes, but for the mail: a guest's loopback is not the machine's".into();
        }
        mailbox.wait_for(&["Sorry, that did not work.", &job]);
        "yes".into()
    }

    fn a_webhook_goes_only_where_it_may(kind: Kind) -> String {
        let data = Folder::new();
        let host = with_webhooks(kind, &data.0, "https://*.example.org/hooks https://*:8443 http://127.0.0.1:9").start();
        let post = |target: &str| Client(&host).post(&notify(&[target]), SHORT);
        for target in [
            "https://example.org/hooks",
            "http://a.example.org/hooks",
            "https://a.example.org/hooks2",
            "https://127.0.0.1:8443/",
            "https://[::ffff:10.0.0.1]:8443/",
            "https://169.254.169.254:8443/latest",
            "https://localhost:8443/",
            "http://127.0.0.1/",
        ] {
            let detail = post(target).problem(403);
            assert!(detail.contains("AFTERACK_NOTIFY_ALLOW"), "{target}: {detail}");
        }
        for target in ["https://", "https://u:p@a.example.org/hooks", "https://127.1:8443/", "https://a.example.org/hooks/%2e%2e/x"] {
            assert!(post(target).problem(400).starts_with("invalid Notify: "), "{target}");
        }
        host.kill();
        let host = component(kind, &data.0).variable("AFTERACK_NOTIFY_ALLOW", "https://*").start();
        let detail = Client(&host).post(&notify(&["https://example.org/"]), SHORT).problem(403);
        assert!(detail.contains("AFTERACK_WEBHOOK_SECRET"), "{detail}");
        "yes".into()
    }
}
