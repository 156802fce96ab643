//! What goes wrong with one job, one mail or one mark, and what concerns nobody else.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::crashes::Random;
use crate::host::{Folder, Kind, Setup, free_address, on_every_host_with_a_folder, with_every_store};
use crate::jobs::{Client, JSON, SHORT, component, id};
use crate::mail::Mailbox;
use crate::server::serve;
use crate::wait::within;
use crate::wire::Connection;

const NOTIFY: &str = "Notify: mailto:a@example.com\r\n";

fn with_mail(setup: Setup, server: SocketAddr) -> Setup {
    setup
        .variable("AFTERACK_SMTP", format!("smtp://{server}"))
        .variable("AFTERACK_MAIL_FROM", "afterack@example.org")
        .variable("AFTERACK_NOTIFY_ALLOW", "mailto:*")
}

/// A mail server that says nothing after its greeting, or after QUIT.
struct Silent {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<String>>>,
}

impl Silent {
    /// `takes` mails, and takes so long for the final dot, or is silent from the beginning.
    fn start(takes: bool, pause: Duration) -> Silent {
        let mails = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&mails);
        let address = serve(move |connection| {
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
            let say = |text: &str| (&connection).write_all(format!("{text}\r\n").as_bytes());
            if !takes {
                lines.by_ref().for_each(drop);
                return;
            }
            let _ = say("220 hello");
            while let Some(line) = lines.next() {
                match line.split(' ').next().unwrap_or_default() {
                    "DATA" => {
                        let _ = say("354 go on");
                        let mail: Vec<_> = lines.by_ref().take_while(|line| line != ".").collect();
                        kept.lock().unwrap().push(mail.join("\n"));
                        sleep(pause);
                        let _ = say("250 kept");
                    }
                    "QUIT" => {} // Silence.
                    _ => drop(say("250 ok")),
                }
            }
        });
        Silent { address, mails }
    }

    fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap().clone()
    }
}

with_every_store! {
    fn a_key_never_answers_for_a_job_that_is_not_there(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_KEEP", "1s").start();
        let client = Client(&host);
        let headers = format!("Idempotency-Key: once\r\nContent-Type: {}\r\n", "x".repeat(1000));
        let first = id(&client.post(&headers, SHORT));
        client.wait_for(&first, "succeeded");
        // Only by what asks for it.
        within(Duration::from_secs(20), "it is gone", || client.get(&format!("/jobs/{first}")).status != 200);
        let second = id(&client.post(&headers, SHORT));
        assert_ne!(first, second);
        assert_eq!(client.get(&format!("/jobs/{second}")).status, 200);
        "yes".into()
    }

    fn a_setting_that_is_changed_applies_to_what_is_there(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_KEEP", "2s").start();
        let ids: Vec<_> = (0..5).map(|_| Client(&host).job(SHORT)).collect();
        for id in &ids {
            Client(&host).wait_for(id, "succeeded");
        }
        host.kill();
        let host = component(kind, &data.0).variable("AFTERACK_KEEP", "5s").start();
        let is_there = |id: &String| Client(&host).get(&format!("/jobs/{id}")).status == 200;
        within(Duration::from_secs(30), "they are gone", || !ids.iter().any(is_there));
        "yes".into()
    }

    /// Each on its way back into the queue, where it would wait for an hour.
    fn no_cancellation_is_lost(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let input = r#"{"steps":1,"step_ms":0,"failures":1,"retry_after_ms":3600000}"#;
        let ids: Vec<_> = (0..100)
            .map(|_| {
                let id = client.job(input);
                assert_eq!(client.request("DELETE", &format!("/jobs/{id}")).status, 202);
                id
            })
            .collect();
        for id in ids {
            let job = client.wait_for(&id, "cancelled");
            client.wait_until(&id, |job| job["finished"].is_string());
            assert!(job["output"].is_null());
        }
        "yes".into()
    }

    /// By many at once, on hosts that are killed meanwhile.
    fn every_job_stays_in_reach_of_those_who_cancel_and_retry(kind: Kind) -> String {
        let data = Folder::new();
        let mut random = Random(kind as u64 + 7);
        let mut ids: Vec<String> = Vec::new();
        for _ in 0..4 {
            let host = component(kind, &data.0).start();
            ids.extend((0..6).map(|_| Client(&host).job(r#"{"steps":3,"step_ms":400}"#)));
            let address = host.address;
            let clients: Vec<_> = (0..8)
                .map(|client| {
                    let ids = ids.clone();
                    thread::spawn(move || {
                        for (number, id) in ids.iter().enumerate().skip(client % 3) {
                            let (method, path) = match (number + client) % 2 {
                                0 => ("DELETE", format!("/jobs/{id}")),
                                _ => ("POST", format!("/jobs/{id}/retry")),
                            };
                            let Some(mut connection) = Connection::open_if_up(address) else { return };
                            connection.send_if_taken(format!(
                                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                            ));
                            let Some(answer) = connection.try_response() else { return };
                            assert!([202, 409].contains(&answer.status), "{method} {path}: {}", answer.text());
                        }
                    })
                })
                .collect();
            sleep(Duration::from_millis(50 + random.below(300)));
            host.kill();
            for client in clients {
                client.join().unwrap();
            }
        }
        let host = component(kind, &data.0).start();
        for id in &ids {
            let is_over = |job: &serde_json::Value| ["succeeded", "cancelled"].iter().any(|end| job["state"] == *end);
            let job = Client(&host).wait_until(id, is_over);
            let retry = Client(&host).request("POST", &format!("/jobs/{id}/retry")).status;
            assert_eq!(retry, if job["state"] == "cancelled" { 202 } else { 409 }, "{job}");
            Client(&host).wait_for(id, "succeeded");
        }
        "yes".into()
    }

    /// GET, retry and the metrics say the same of a job that has failed and whose mail still waits.
    fn a_job_has_ended_though_nobody_has_been_told_yet(kind: Kind) -> String {
        let data = Folder::new();
        let setup = component(kind, &data.0).variable("AFTERACK_ATTEMPTS", 1).variable("AFTERACK_BACKOFF", "1s..1s");
        let host = with_mail(setup, free_address()).start();
        let client = Client(&host);
        let job = id(&client.post(NOTIFY, r#"{"steps":1,"step_ms":0,"failures":1}"#));
        client.wait_for(&job, "failed");
        let told = client.wait_until(&job, |job| job["notifications"][0]["attempts"].as_u64() > Some(1));
        assert_eq!(told["notifications"][0]["state"], "waiting");
        assert!(told["notifications"][0]["error"].is_string());
        assert_eq!(client.metric(r#"afterack_jobs_ended_total{state="failed"}"#), 1);
        assert_eq!(client.metric(r#"afterack_jobs{state="running"}"#), 0);
        assert_eq!(client.metric("afterack_untold"), 1);
        assert_eq!(host.output(&format!("job {job} failed")).len(), 1);
        let events = client.get(&format!("/jobs/{job}/events")).text();
        assert_eq!(events.matches("event: end").count(), 1, "{events}");
        assert_eq!(client.request("POST", &format!("/jobs/{job}/retry")).status, 202);
        client.wait_for(&job, "failed");
        client.wait_until(&job, |job| job["finished"] != told["finished"]);
        assert_eq!(client.metric(r#"afterack_jobs_ended_total{state="failed"}"#), 2);
        "yes".into()
    }

    /// They hold all lanes, and wait.
    fn jobs_that_sleep_give_way_to_one_that_is_due(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_LANES", 8).start();
        let client = Client(&host);
        for _ in 0..50 {
            client.job(r#"{"steps":1000,"step_ms":9000}"#);
        }
        sleep(Duration::from_secs(1));
        let begun = Instant::now();
        let id = client.job(SHORT);
        client.wait_for(&id, "succeeded");
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        "yes".into()
    }

    /// A slice of each of them, all together, is longer than a lease.
    fn the_lease_is_kept_while_jobs_compute(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0)
            .variable("AFTERACK_LANES", 160)
            .variable("AFTERACK_DRAINS", 1)
            .variable("AFTERACK_LEASE", "1s")
            .start();
        let ids: Vec<_> = (0..160).map(|_| Client(&host).job(r#"{"steps":1,"step_ms":60,"cpu":true}"#)).collect();
        if kind == Kind::Wasmtime {
            for id in ids {
                Client(&host).wait_for(&id, "succeeded");
            }
        } else {
            sleep(Duration::from_secs(8)); // It traps whoever has computed for ten.
        }
        assert!(host.output("its instance was lost").is_empty());
        "yes".into()
    }

    /// Nobody answers for as long as it is tried.
    fn a_target_that_is_given_up_shows_in_the_job_and_in_the_metrics(kind: Kind) -> String {
        let data = Folder::new();
        let setup = component(kind, &data.0).variable("AFTERACK_NOTIFY_FOR", "2s").variable("AFTERACK_BACKOFF", "1s..1s");
        let host = with_mail(setup, free_address()).start();
        let client = Client(&host);
        let job = id(&client.post(NOTIFY, SHORT));
        let told = client.wait_until(&job, |job| job["notifications"][0]["state"] == "failed");
        assert_eq!(told["state"], "succeeded", "{told}");
        assert!(told["notifications"][0]["error"].is_string(), "{told}");
        assert_eq!((client.metric("afterack_notifications_failed_total"), client.metric("afterack_untold")), (1, 0));
        "yes".into()
    }
}

on_every_host_with_a_folder! {
    /// A folder without its empty folders, and one that is not there at all.
    fn a_store_is_made_where_it_is_missing(kind: Kind) -> String {
        let data = Folder::new();
        let setup = || component(kind, &data.0).variable("AFTERACK_STORE", "dir:/data/some/jobs");
        let host = setup().start();
        let before = Client(&host).job(SHORT);
        let store = data.0.join("some/jobs");
        within(Duration::from_secs(20), "it has ended", || store.join("done").join(&before).exists());
        host.kill();
        for entry in fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.file_name().unwrap() == "slots" {
                fs::remove_dir_all(&entry).unwrap();
            } else {
                let _ = fs::remove_dir(&entry); // As a backup does that knows files only.
            }
        }
        let host = setup().start();
        let after = Client(&host).job(SHORT);
        Client(&host).wait_for(&after, "succeeded");
        assert_eq!(Client(&host).status(&before)["state"], "succeeded");
        host.kill();
        for folder in ["tmp", "fresh"] {
            fs::remove_dir_all(store.join(folder)).unwrap();
        }
        let host = setup().start();
        assert_eq!(Client(&host).get("/healthz").status, 200);
        Client(&host).job(SHORT);
        "yes".into()
    }
}

/// Silence after QUIT, and a final dot that takes its time.
#[test]
fn a_mail_comes_once_however_slow_its_server_is() {
    let server = Silent::start(true, Duration::from_secs(35));
    let data = Folder::new();
    let host = with_mail(component(Kind::Wasmtime, &data.0), server.address).start();
    let client = Client(&host);
    let twice = "Notify: mailto:a@example.com, mailto:a@Example.com\r\nNotify: MAILTO:a@example.com\r\n";
    let job = id(&client.post(twice, SHORT));
    client.wait_for(&job, "succeeded");
    client.wait_until(&job, |job| job["notifications"][0]["state"] == "delivered");
    let mails = server.mails();
    assert_eq!(mails.len(), 1, "{mails:#?}");
    assert!(mails[0].contains(&format!("Message-ID: <{job}.0.0@example.org>")), "{}", mails[0]);
    assert_eq!(host.output(&format!("job {job} succeeded")).len(), 1);
}

#[test]
fn telling_takes_no_lane_from_work() {
    let server = Silent::start(false, Duration::ZERO);
    let data = Folder::new();
    let setup = component(Kind::Wasmtime, &data.0).variable("AFTERACK_LANES", 8);
    let host = with_mail(setup, server.address).start();
    let client = Client(&host);
    for _ in 0..100 {
        id(&client.post(NOTIFY, SHORT));
    }
    let begun = Instant::now();
    let job = client.job(SHORT);
    client.wait_for(&job, "succeeded");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Kept for less time than their mails take.
#[test]
fn a_drain_goes_on_whatever_expires() {
    let mailbox = Mailbox::start();
    let data = Folder::new();
    let server = mailbox.url.trim_start_matches("smtp://").parse().unwrap();
    let host = with_mail(component(Kind::Wasmtime, &data.0).variable("AFTERACK_KEEP", "2s"), server).start();
    let client = Client(&host);
    let long = client.job(r#"{"steps":60,"step_ms":100}"#);
    for number in 0..10 {
        client.post(&format!("Notify: mailto:busy-{number}@example.com\r\n"), SHORT);
    }
    let begun = Instant::now();
    client.wait_until(&long, |job| job["state"] == "succeeded");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    for trouble in ["the store failed", "its instance was lost"] {
        assert!(host.output(trouble).is_empty(), "{:?}", host.output(trouble));
    }
}

/// In as many lanes as would hold 1.2 GiB of them at once.
#[test]
fn large_inputs_do_not_fill_an_instance() {
    const JOBS: usize = 20;
    let data = Folder::new();
    let setup =
        component(Kind::Wasmtime, &data.0).variable("AFTERACK_BODY", "64MiB").variable("AFTERACK_DRAINS", 1);
    let host = setup.start();
    let client = Client(&host);
    let input = format!("{}{}", r#"{"steps":1,"step_ms":20}"#, " ".repeat(63 << 20));
    let ids: Vec<_> = (0..JOBS).map(|_| id(&client.post(JSON, &input))).collect();
    for id in ids {
        client.wait_for(&id, "succeeded");
    }
    assert!(host.output("wasm trap").is_empty());
    let most = host.memory_kib("VmHWM:") / 1024.0;
    assert!(most < 1000.0, "{most} MiB");
}
