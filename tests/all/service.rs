//! The component: jobs over HTTP, their mails, and its problem answers.

use std::path::Path;

use crate::host::{Folder, Host, Kind, Setup, on_every_host, with_every_store};
use crate::jobs::{JSON, component};
use crate::mail::Mailbox;
use crate::wire::Connection;

const NOTIFY: &str = "Notify: mailto:visitor@example.com\r\n";

fn with_mail(kind: Kind, data: &Path, mailbox: &Mailbox) -> Host {
    component(kind, data)
        .variable("AFTERACK_SMTP", &mailbox.url)
        .variable("AFTERACK_MAIL_FROM", "afterack@example.org")
        .variable("AFTERACK_NOTIFY_ALLOW", "mailto:*@example.com")
        .start()
}

with_every_store! {
    fn a_job_is_acknowledged_at_once_and_mailed_about_when_it_is_done(kind: Kind) -> String {
        let mailbox = Mailbox::start();
        let data = Folder::new();
        let host = with_mail(kind, &data.0, &mailbox);
        let mut client = Connection::open(host.address);
        let ack = client.post("/jobs/demo", &format!("{JSON}{NOTIFY}"), br#"{"steps":3,"step_ms":300}"#);
        assert_eq!(ack.status, 202, "{}", ack.text());
        assert_eq!(ack.header("content-length"), Some(ack.body.len().to_string().as_str()));
        assert_eq!(ack.header("cache-control"), Some("no-store, no-transform"));
        let id = ack.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(ack.json()["state"], "queued");
        assert!(mailbox.mails().is_empty());
        drop(client);
        if kind.is_wash() {
            return "yes, but for the mail: a guest's loopback is not the machine's".into();
        }
        mailbox.wait_for(&["To: <visitor@example.com>", "Subject: Yup, all done.", &id]);
        "yes".into()
    }
}

on_every_host! {
    fn a_computing_job_is_done_too(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let mut client = Connection::open(host.address);
        let job = br#"{"steps":2,"step_ms":300,"cpu":true}"#;
        let id = client.post("/jobs/demo", JSON, job).json()["id"].as_str().unwrap().to_owned();
        host.wait_for_output(&format!("{id} succeeded"));
        "yes".into()
    }

    fn what_is_wrong_with_a_request_is_named(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_BODY", "1000").start();
        let mut client = Connection::open(host.address);
        assert_eq!(client.get("/healthz").status, 200);
        assert_eq!(client.request("HEAD", "/healthz").status, 200);
        assert!(client.get("/nowhere").problem(404).contains("/nowhere"));
        assert!(client.post("/jobs/mailer", JSON, b"{}").problem(404).contains("mailer"));
        let not_allowed = client.request("PUT", "/jobs/demo");
        assert_eq!(not_allowed.header("allow"), Some("GET, HEAD, POST, DELETE"));
        not_allowed.problem(405);
        let not_allowed = client.request("DELETE", "/healthz");
        assert_eq!(not_allowed.header("allow"), Some("GET, HEAD"));
        for (input, named) in [
            ("{", "EOF"),
            (r#"{"steps":0}"#, "steps"),
            (r#"{"steps":100000000}"#, "10000"),
            (r#"{"step_ms":-1}"#, "-1"),
            (r#"{"stpes":1}"#, "stpes"),
        ] {
            let detail = client.post("/jobs/demo", JSON, input.as_bytes()).problem(400);
            assert!(detail.contains(named), "{input}: {detail}");
        }
        let detail = Connection::open(host.address).post("/jobs/demo", JSON, &[b' '; 1001]).problem(413);
        assert!(detail.contains("1001") && detail.contains("1000"), "{detail}");
        let detail = client.post("/jobs/demo", NOTIFY, b"{}").problem(403);
        assert!(detail.contains("AFTERACK_"), "{detail}");
        "yes".into()
    }

    fn a_notify_target_must_be_allowed_and_be_one(kind: Kind) -> String {
        let mailbox = Mailbox::start();
        let data = Folder::new();
        let host = with_mail(kind, &data.0, &mailbox);
        let mut client = Connection::open(host.address);
        let mut notify = |target: &str| client.post("/jobs/demo", &format!("Notify: {target}\r\n"), b"{}");
        assert!(notify("mailto:visitor@example.net").problem(403).contains("visitor@example.net"));
        for target in ["mailto:", "mailto:nobody", "mailto:a@example.com%0D%0ABcc:b@example.com", "gopher:x"] {
            notify(target).problem(400);
        }
        "yes".into()
    }

    fn a_token_is_asked_for_where_one_is_set(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_TOKEN", "s3cret").start();
        let mut client = Connection::open(host.address);
        let job = br#"{"steps":1,"step_ms":0}"#;
        for header in ["", "Authorization: Bearer s3cre\r\n", "Authorization: Basic s3cret\r\n"] {
            let answer = client.post("/jobs/demo", header, job);
            assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
            answer.problem(401);
        }
        assert_eq!(client.post("/jobs/demo", "Authorization: Bearer s3cret\r\n", job).status, 202);
        assert_eq!(client.get("/healthz").status, 200);
        "yes".into()
    }

    fn a_bad_setting_stops_every_request_and_is_named(kind: Kind) -> String {
        let host = Setup::new(kind, "afterack")
            .variable("AFTERACK_BODY", "lots")
            .variable("AFTERACK_SMTP", "http://mail")
            .start();
        for path in ["/healthz", "/", "/jobs/demo"] {
            let detail = Connection::open(host.address).get(path).problem(500);
            for text in ["AFTERACK_BODY", "lots", "AFTERACK_SMTP", "http://mail"] {
                assert!(detail.contains(text), "{detail}");
            }
        }
        host.wait_for_output("AFTERACK_BODY");
        "yes".into()
    }
}
