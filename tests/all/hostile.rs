//! Input that nobody should send, and a store that is not as it should be.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::thread::sleep;
use std::time::Duration;

use crate::crashes::Random;
use crate::host::{Folder, Kind, on_every_host, on_every_host_with_a_folder, with_every_store};
use crate::jobs::{Client, JSON, component};
use crate::storage::Storage;
use crate::wire::Connection;

/// The user `nobody`.
const NOBODY: u32 = 65534;

with_every_store! {
    fn ids_that_are_none_lead_nowhere(kind: Kind) -> String {
        let folder = Folder::new();
        fs::create_dir(folder.0.join("data")).unwrap();
        fs::write(folder.0.join("secret"), "secret").unwrap();
        let host = component(kind, &folder.0.join("data")).start();
        let client = Client(&host);
        client.job(r#"{"steps":1,"step_ms":0}"#);
        let long = "a".repeat(10 * 1024);
        for id in [
            "..", ".", "%2e%2e", "..%2f..%2fsecret", "%2e%2e%2f%2e%2e%2fsecret", "%00", "a%00b", "",
            "01936F00-0000-7000-8000-000000000000", "{01936f00-0000-7000-8000-000000000000}",
            "01936f00000070008000000000000000", "%c3%28", "*", &long,
        ] {
            for (method, rest) in [("GET", ""), ("GET", "/output"), ("GET", "/events"), ("DELETE", ""), ("POST", "/retry")] {
                // What the host's own parser refuses, it answers itself.
                let status = client.request(method, &format!("/jobs/{id}{rest}")).status;
                assert!([400, 404, 405, 414, 431].contains(&status), "{status} for {method} {id}{rest}");
            }
        }
        assert_eq!(fs::read_to_string(folder.0.join("secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
        "yes".into()
    }

    /// 10,000 requests, always the same ones.
    fn ten_thousand_generated_requests_break_nothing(kind: Kind) -> String {
        let folder = Folder::new();
        fs::create_dir(folder.0.join("data")).unwrap();
        // Continuations that wait for a sign of life are instances: the host queues what is too much.
        let host = component(kind, &folder.0.join("data"))
            .variable("AFTERACK_BODY", "1KiB")
            .variable("AFTERACK_ORIGINS", "*")
            .like_make_up()
            .start();
        let mut random = Random(0x5eed);
        let id = Client(&host).job(r#"{"steps":1,"step_ms":0}"#);
        let mut connection = Connection::open(host.address);
        let mut full = 0;
        for _ in 0..10_000 {
            let (method, request, is_broken) = generate(&mut random, &id);
            connection.send_if_taken(&request);
            // A host ends the connection after what it cannot parse.
            let Some(answer) = connection.try_response_to(&method) else {
                connection = Connection::open(host.address);
                continue;
            };
            let text = String::from_utf8_lossy(&request);
            let is_spins = kind.is_spin() && str::from_utf8(&request).is_err() && answer.body.is_empty();
            // A host without a queue has no instance left for a moment: continuations come faster than they go.
            let is_full = kind.is_wash() && answer.status == 500 && answer.body.is_empty();
            if is_full {
                sleep(Duration::from_millis(200));
                full += 1;
                assert!(full < 50, "the host has no instance left again and again");
            }
            assert!(answer.status < 500 || is_spins || is_full, "{} {} for {text}", answer.status, answer.text());
            // What follows on the connection of a broken request may be anything.
            if is_broken || answer.status == 400 || answer.status == 413 {
                connection = Connection::open(host.address);
            }
        }
        for trap in ["wasm trap", "panicked"] {
            assert!(host.output(trap).is_empty(), "{:?}", host.output(trap));
        }
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
        for entry in fs::read_dir(folder.0.join("data")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || "_-.".contains(c)), "{name}");
        }
        "yes".into()
    }
}

on_every_host! {
    fn bodies_and_headers_that_are_wrong_are_refused(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).variable("AFTERACK_BODY", "1KiB").start();
        let client = Client(&host);
        // As long as it may be, and one byte longer.
        let padded = |length: usize| format!("{}{}", r#"{"steps":1,"step_ms":0}"#, " ".repeat(length - 23));
        assert_eq!(client.post(JSON, &padded(1024)).status, 202);
        assert!(client.post(JSON, &padded(1025)).problem(413).contains("1024"));
        let mut chunked = Connection::open(host.address);
        chunked.send("POST /jobs/demo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        chunked.send(format!("401\r\n{}\r\n0\r\n\r\n", padded(1025)));
        chunked.response("POST").problem(413);
        // Cut off half-way: nothing is recorded.
        let jobs = || Storage::of(kind, &data.0).jobs().len();
        let before = jobs();
        let mut cut = Connection::open(host.address);
        cut.send("POST /jobs/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"steps\":");
        cut.reset();
        for header in [&b"Notify: \xff\xfe"[..], b"Content-Type: \xff", b"Prefer: \xff", b"Last-Event-ID: \xff", b"Idempotency-Key: \xff"] {
            let mut connection = Connection::open(host.address);
            connection.send(b"POST /jobs/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n");
            connection.send([header, b"\r\n\r\nnull"].concat());
            // Spin answers itself what is no text.
            let expected = if kind.is_spin() { 500 } else { 400 };
            assert_eq!(connection.response("POST").status, expected, "{}", String::from_utf8_lossy(header));
        }
        assert_eq!(jobs(), before);
        "yes".into()
    }
}

on_every_host_with_a_folder! {
    /// What is damaged is set aside with a line in the log; everything else goes on.
    fn damaged_and_foreign_files_stop_nothing(kind: Kind) -> String {
        let data = Folder::new();
        let path = |name: &str| data.0.join(name);
        let host = component(kind, &data.0).variable("AFTERACK_DRAINS", 1).variable("AFTERACK_LANES", 1).start();
        let client = Client(&host);
        let running = client.job(r#"{"steps":20,"step_ms":100}"#);
        client.wait_for(&running, "running");
        let without_input = client.job("{}");
        let without_course = client.job(r#"{"steps":1,"step_ms":0}"#);
        let sound = client.job(r#"{"steps":1,"step_ms":0}"#);
        let input = fs::read(path("jobs").join(&without_input)).unwrap();
        fs::write(path("jobs").join(&without_input), &input[..input.len() - 1]).unwrap();
        let queued = fs::read_dir(path("queue")).unwrap().map(|entry| entry.unwrap().path());
        let course = queued.into_iter().find(|path| path.to_string_lossy().ends_with(&without_course)).unwrap();
        fs::write(course, "scribble").unwrap();
        for folder in ["queue", "outbox", "slots", "ended", "jobs", "done", "fresh", "tmp", "marks", "keys", "list", "list/open", "retries"] {
            fs::write(path(folder).join("foreign.txt"), "what is this?").unwrap();
        }
        client.wait_for(&running, "succeeded");
        client.wait_for(&sound, "succeeded");
        client.wait_for(&without_course, "failed");
        assert!(client.status(&without_course)["error"].as_str().unwrap().contains("damaged"));
        client.wait_for(&without_input, "failed");
        assert!(client.status(&without_input)["error"].as_str().unwrap().contains("its body is"));
        host.wait_for_output("foreign.txt");
        assert!(fs::read_dir(path("damaged")).unwrap().count() >= 3);
        "yes".into()
    }

    /// The disk is full for a while. Nobody asks for anything until the job is done.
    fn work_goes_on_when_a_full_disk_has_room_again(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).without_space().start();
        let client = Client(&host);
        let id = client.job(r#"{"steps":20,"step_ms":100}"#);
        let other = client.job(r#"{"steps":1,"step_ms":2000}"#);
        client.wait_until(&id, |job| job["progress"]["done"].as_u64() > Some(2));
        host.limit_space("0");
        host.wait_for_output("the store failed");
        host.limit_space("unlimited");
        for id in [&id, &other] {
            host.wait_for_output(&format!("{id} succeeded"));
            assert_eq!(client.status(id)["attempts"], 1, "{}", client.status(id));
        }
        "yes".into()
    }

    /// A disk that takes no more, as a limit of the host's makes it look.
    fn a_full_disk_is_a_503_before_any_ack(kind: Kind) -> String {
        let (data, id) = with_a_finished_job(kind);
        let host = component(kind, &data.0).variable("AFTERACK_BODY", "16MiB").without_space().start();
        let client = Client(&host);
        let answer = client.post(JSON, &format!("{{}}{}", " ".repeat(8 << 20)));
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
        assert!(answer.problem(503).contains("/data/fresh"));
        assert_eq!(client.status(&id)["state"], "succeeded");
        assert_eq!(fs::read_dir(data.0.join("jobs")).unwrap().count(), 1);
        "yes".into()
    }

    /// The host's user may read the directory, and no more.
    fn a_read_only_directory_is_a_503_before_any_ack(kind: Kind) -> String {
        let (data, id) = with_a_finished_job(kind);
        let fresh = data.0.join("fresh");
        fs::set_permissions(&fresh, PermissionsExt::from_mode(0o555)).unwrap();
        let mut setup = component(kind, &data.0);
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            // Nothing is read-only for root.
            for folder in [&data.0, &data.0.join("slots")] {
                chown(folder, Some(NOBODY), None).unwrap();
            }
            setup = setup.user(NOBODY);
        }
        let host = setup.start();
        let client = Client(&host);
        assert!(client.post(JSON, "{}").problem(503).contains("/data/"));
        assert_eq!(client.status(&id)["state"], "succeeded");
        fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).unwrap();
        "yes".into()
    }
}

/// A store that a host has been through, and the job that is finished in it.
fn with_a_finished_job(kind: Kind) -> (Folder, String) {
    let data = Folder::new();
    let host = component(kind, &data.0).start();
    let id = Client(&host).job(r#"{"steps":1,"step_ms":0}"#);
    Client(&host).wait_for(&id, "succeeded");
    (data, id)
}

/// A request of pieces that make sense, some of which do not fit.
fn generate(random: &mut Random, id: &str) -> (String, Vec<u8>, bool) {
    let mut pick = |from: &[&str]| from[random.below(from.len() as u64) as usize].to_owned();
    let method =
        pick(&["GET", "GET", "POST", "POST", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "BREW"]);
    let mut path = String::new();
    for _ in 0..1 + pick(&["0", "1", "1", "2", "3"]).parse::<usize>().unwrap() {
        path += "/";
        path += &pick(&[
            "jobs",
            "jobs",
            "jobs",
            "demo",
            "demo",
            id,
            id,
            "output",
            "retry",
            "drain",
            "healthz",
            "metrics",
            "..",
            ".",
            "%2e%2e",
            "%00",
            "%",
            "%ff",
            "",
            "~",
            "a?b=c",
            "jobs?state=failed",
            "jobs?before=%00&worker=../x",
            "retry?state=cancelled&worker=%ff",
            "?purge=true",
            "?",
            "ü",
            "'\"<>",
            "jobs/demo",
            ";",
        ]);
    }
    let mut headers = String::new();
    for _ in 0..pick(&["0", "1", "2", "4"]).parse::<usize>().unwrap() {
        let name = pick(&[
            "Notify",
            "Prefer",
            "Idempotency-Key",
            "Content-Type",
            "Authorization",
            "Origin",
            "Last-Event-ID",
            "Access-Control-Request-Method",
            "Accept",
            "X-Other",
            "Content-Encoding",
            "Delay",
            "Job-Group",
        ]);
        let value = pick(&[
            "",
            "wait=0",
            "respond-async",
            "mailto:a@b.org",
            "mailto:",
            "https://",
            "%00",
            "Bearer x",
            "a",
            "1",
            "-1",
            "99999999999999999999",
            "null",
            "ü",
            "\t",
            ",,,;;==\"",
            "application/json",
            "POST",
            "wait=-5",
        ]);
        headers += &format!("{name}: {value}\r\n");
    }
    let body = pick(&[
        "",
        "",
        r#"{"steps":1,"step_ms":0}"#,
        r#"{"steps":1,"step_ms":0,"cpu":true}"#,
        "{",
        "null",
        "[]",
        "\0",
        r#"{"steps":1e99}"#,
        r#"{"steps":-1}"#,
        r#"{"steps":"1"}"#,
        "\u{feff}{}",
        "[[[[[[[[[[[[[[[[",
        "é",
    ]);
    let body = if random.below(50) == 0 { " ".repeat(1025) } else { body };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    let mut bytes = request.into_bytes();
    let is_broken = random.below(20) == 0;
    if is_broken {
        // Anywhere behind what the host itself needs to answer.
        let at = (method.len() + path.len() + " HTTP/1.1\r\nHost: localhost\r\n".len() + 1) as u64;
        if let Some(room) = (bytes.len() as u64).checked_sub(at + length as u64 + 20).filter(|room| *room > 0)
        {
            bytes[(at + random.below(room)) as usize] = random.below(256) as u8;
        }
    }
    (method, bytes, is_broken)
}
