//! `GET /jobs`, and what is done with many jobs or for good: retry of all, purge.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::crashes::wait_until_idle;
use crate::host::{Folder, Host, Kind, on_every_host, with_every_store};
use crate::jobs::{Client, JSON, SHORT, component, id};
use crate::storage::Storage;
use crate::wait::within;
use crate::wire::{Connection, Response};

/// What `/metrics` calls the number of jobs that have failed.
const FAILED: &str = r#"afterack_jobs_ended_total{state="failed"}"#;

const FAILING: &str = r#"{"steps":1,"step_ms":0,"failures":99}"#;
const LATER: &str = r#"{"steps":1,"step_ms":0,"failures":1,"retry_after_ms":3600000}"#;

/// The component, with a job's first failure its last.
fn with_failures(kind: Kind, data: &Folder) -> Host {
    component(kind, &data.0).variable("AFTERACK_ATTEMPTS", 1).start()
}

fn ids(page: &Response) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.text());
    let jobs = page.json()["jobs"].as_array().unwrap().clone();
    jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

/// The URL of the next page.
fn next(page: &Response) -> Option<String> {
    let link = page.header("link")?;
    let url = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    Some(url.unwrap_or_else(|| panic!("{link}")).to_owned())
}

/// All jobs of a list, page by page, and how many pages there are.
fn all(client: &Client, path: &str) -> (Vec<String>, usize) {
    let (mut found, mut pages, mut path) = (Vec::new(), 0, Some(path.to_owned()));
    while let Some(url) = path {
        let page = client.get(&url);
        found.extend(ids(&page));
        (path, pages) = (next(&page), pages + 1);
    }
    (found, pages)
}

/// Waits until a list has these jobs: a job is listed as what it has become a moment after that shows.
fn wait_for(client: &Client, path: &str, expected: &[String]) {
    let mut expected = expected.to_vec();
    expected.sort();
    expected.reverse();
    let begun = Instant::now();
    while all(client, path).0 != expected {
        assert!(begun.elapsed() < Duration::from_secs(30), "{path}: {:?}", all(client, path).0);
        sleep(Duration::from_millis(20));
    }
}

with_every_store! {
    fn jobs_are_listed_newest_first_in_pages(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let empty = client.get("/jobs");
        assert_eq!((empty.text().as_str(), next(&empty)), (r#"{"jobs":[]}"#, None));
        let mut connection = Connection::open(host.address);
        let mut posted: Vec<_> = (0..120).map(|_| id(&connection.post("/jobs/demo", JSON, SHORT.as_bytes()))).collect();
        wait_until_idle(&host);
        let first = client.get("/jobs");
        assert_eq!(first.header("cache-control"), Some("no-store, no-transform"));
        assert_eq!((ids(&first).len(), first.header("content-type")), (50, Some("application/json")));
        let of_first = &first.json()["jobs"][0];
        assert_eq!(*of_first, client.status(of_first["id"].as_str().unwrap()));
        posted.sort();
        posted.reverse();
        assert_eq!(all(&client, "/jobs"), (posted.clone(), 3));
        assert_eq!(all(&client, "/jobs?worker=demo&state=succeeded"), (posted, 3));
        assert_eq!(all(&client, "/jobs?worker=nobody"), (Vec::new(), 1));
        // As many as a page has: there is no other.
        let queue = || {
            let job = client.job(LATER);
            client.wait_until(&job, |job| job["state"] == "queued" && job["attempts"] == 1);
            job
        };
        let queued: Vec<_> = (0..50).map(|_| queue()).collect();
        wait_for(&client, "/jobs?state=queued", &queued);
        assert_eq!(all(&client, "/jobs?state=queued").1, 1);
        let more = queue();
        wait_for(&client, "/jobs?state=queued", &[queued, vec![more]].concat());
        assert_eq!(all(&client, "/jobs?state=queued").1, 2);
        "yes".into()
    }

    fn jobs_are_listed_by_state_from_their_ack_on(kind: Kind) -> String {
        let data = Folder::new();
        let host = with_failures(kind, &data);
        let client = Client(&host);
        let (done, failed, other) = (client.job(SHORT), client.job(FAILING), client.job(LATER));
        let running = client.job(r#"{"steps":600,"step_ms":100}"#);
        let cancelled = client.job(r#"{"steps":600,"step_ms":100}"#);
        for job in [&done, &failed, &other, &running, &cancelled] {
            assert!(ids(&client.get("/jobs")).contains(job));
        }
        assert_eq!(client.request("DELETE", &format!("/jobs/{cancelled}")).status, 202);
        wait_for(&client, "/jobs?state=failed", &[failed.clone(), other.clone()]);
        wait_for(&client, "/jobs?state=succeeded", &[done]);
        wait_for(&client, "/jobs?state=running", &[running]);
        wait_for(&client, "/jobs?state=cancelled", &[cancelled]);
        wait_for(&client, "/jobs?state=queued", &[]);
        assert_eq!(client.request("POST", &format!("/jobs/{failed}/retry")).status, 202);
        wait_for(&client, "/jobs?state=failed&worker=demo", &[failed, other]);
        "yes".into()
    }

    fn all_failed_jobs_begin_again_at_once(kind: Kind) -> String {
        let data = Folder::new();
        let jobs: Vec<_> = {
            let host = with_failures(kind, &data);
            let client = Client(&host);
            let jobs: Vec<_> = (0..30).map(|_| client.job(r#"{"steps":1,"step_ms":0,"failures":1}"#)).collect();
            wait_for(&client, "/jobs?state=failed", &jobs);
            wait_until_idle(&host);
            jobs
        };
        let host = component(kind, &data.0).variable("AFTERACK_ATTEMPTS", 1).start();
        let client = Client(&host);
        let retry = |query: &str| {
            let answer = client.request("POST", &format!("/jobs/retry?{query}"));
            assert_eq!(answer.status, 202, "{}", answer.text());
            answer.json()["retried"].as_u64().unwrap()
        };
        assert_eq!(retry("state=cancelled"), 0);
        assert_eq!(retry("state=failed&worker=nobody"), 0);
        assert_eq!(retry("state=failed&worker=demo"), 30);
        // Each fails once more, and no third time.
        within(Duration::from_secs(60), "all have failed again", || client.metric(FAILED) >= 60);
        wait_until_idle(&host);
        wait_for(&client, "/jobs?state=failed", &jobs);
        assert_eq!(client.metric(FAILED), 60);
        within(Duration::from_secs(30), "all are begun again", || Storage::of(kind, &data.0).retries() == 0);
        "yes".into()
    }

    /// Killed again and again while it begins them again: none of them does twice.
    fn a_retry_of_all_goes_on_when_hosts_are_killed(kind: Kind) -> String {
        const JOBS: u64 = 200;
        let data = Folder::new();
        let start = || component(kind, &data.0).variable("AFTERACK_ATTEMPTS", 1).variable("AFTERACK_LEASE", "1s").start();
        let host = start();
        let mut connection = Connection::open(host.address);
        for _ in 0..JOBS {
            id(&connection.post("/jobs/demo", JSON, FAILING.as_bytes()));
        }
        wait_until_idle(&host);
        assert_eq!(Client(&host).metric(FAILED), JOBS);
        let answer = Client(&host).request("POST", "/jobs/retry?state=failed");
        assert_eq!(answer.json()["retried"], JOBS);
        host.kill();
        for lifetime in &[1300, 2100, 1500, 1700][..kind.rounds(4, 2)] {
            let host = start();
            Client(&host).get("/healthz");
            sleep(Duration::from_millis(*lifetime));
            host.kill();
        }
        let host = start();
        Client(&host).get("/healthz");
        within(Duration::from_secs(90), "all are begun again", || Storage::of(kind, &data.0).retries() == 0);
        wait_until_idle(&host);
        // Who died between an end and its count may have counted it twice.
        let total = Client(&host).metric(FAILED);
        assert!((2 * JOBS..=2 * JOBS + 8).contains(&total), "{total}");
        assert_eq!(all(&Client(&host), "/jobs?state=failed").0.len() as u64, JOBS);
        "yes".into()
    }

    fn a_job_that_is_purged_is_gone_with_all_there_is_of_it(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let key = format!("{JSON}Idempotency-Key: k\r\n");
        let running = client.job(r#"{"steps":600,"step_ms":100}"#);
        let job = id(&client.post(&key, SHORT));
        client.wait_for(&job, "succeeded");
        let purge = |id: &str| client.request("DELETE", &format!("/jobs/{id}?purge=true"));
        assert!(purge(&running).problem(409).contains("expected succeeded, failed or cancelled"));
        let answer = purge(&job);
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        purge(&job).problem(404);
        for (method, rest) in [("GET", ""), ("GET", "/output"), ("GET", "/events"), ("DELETE", ""), ("POST", "/retry")] {
            client.request(method, &format!("/jobs/{job}{rest}")).problem(404);
        }
        assert_eq!(ids(&client.get("/jobs")), std::slice::from_ref(&running));
        let storage = Storage::of(kind, &data.0);
        assert_eq!((storage.jobs(), storage.keys()), (vec![running.clone()], 0));
        assert_eq!(storage.names_with(&job), Vec::<String>::new());
        // Its key stands for nothing any more, and it has ended all the same.
        assert_ne!(id(&client.post(&key, SHORT)), job);
        assert!(client.metric(r#"afterack_jobs_ended_total{state="succeeded"}"#) >= 1);
        // One that is cancelled already, though nobody has seen to it yet.
        assert_eq!(client.request("DELETE", &format!("/jobs/{running}?purge=false")).status, 202);
        client.wait_for(&running, "cancelled");
        within(Duration::from_secs(10), "it may be purged", || purge(&running).status == 204);
        client.get(&format!("/jobs/{running}")).problem(404);
        "yes".into()
    }
}

on_every_host! {
    /// As other routes: tokens, methods, prefixes, origins; and what makes no sense is named.
    fn a_list_is_asked_for_as_its_url_says_or_refused(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0)
            .variable("AFTERACK_TOKEN", "s3cret")
            .variable("AFTERACK_ORIGINS", "https://app.example.com")
            .start();
        let ask = |method: &str, path: &str, headers: &str| {
            let mut connection = Connection::open(host.address);
            let token = "Authorization: Bearer s3cret\r\nContent-Length: 0\r\n";
            connection.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{token}{headers}\r\n"));
            connection.response(method)
        };
        for (method, path) in [("GET", "/jobs"), ("POST", "/jobs/retry?state=failed"), ("HEAD", "/jobs")] {
            assert_eq!(Client(&host).request(method, path).status, 401, "{method} {path}");
        }
        for (path, named) in [
            ("/jobs?state=done", "`done` (expected queued, running, succeeded, failed, cancelled)"),
            ("/jobs?state=", "``"),
            ("/jobs?stat=failed", "unknown parameter: `stat` (expected state, worker, before)"),
            ("/jobs?before=1", "invalid before: `1`"),
            ("/jobs?before=..%2F..%2Fsecret", "`../../secret`"),
            ("/jobs?state=failed&state=failed", "given twice: `state`"),
            ("/jobs?worker=%ff", "percent-encoded"),
        ] {
            let problem = ask("GET", path, "").problem(400);
            assert!(problem.contains(named), "{path}: {problem}");
        }
        for (path, named) in [
            ("/jobs/retry", "missing parameter: state (expected failed or cancelled)"),
            ("/jobs/retry?worker=demo", "missing parameter: state"),
            ("/jobs/retry?state=succeeded", "`succeeded` (expected failed, cancelled)"),
            ("/jobs/retry?state=failed&before=x", "unknown parameter: `before`"),
        ] {
            let problem = ask("POST", path, "").problem(400);
            assert!(problem.contains(named), "{path}: {problem}");
        }
        for query in ["purge=yes", "purge=", "prune=true", "purge=true&purge=true"] {
            ask("DELETE", &format!("/jobs/01936f00-0000-7000-8000-000000000000?{query}"), "").problem(400);
        }
        ask("DELETE", "/jobs/01936f00-0000-7000-8000-000000000000?purge=true", "").problem(404);
        let refused = ask("POST", "/jobs", "");
        assert_eq!(refused.header("allow"), Some("GET, HEAD"));
        refused.problem(405);
        assert_eq!(ask("HEAD", "/jobs?state=running", "").status, 200);
        for _ in 0..51 {
            let job = Connection::open(host.address).post("/jobs/demo", "Authorization: Bearer s3cret\r\n", SHORT.as_bytes());
            assert_eq!(job.status, 202);
        }
        let page = ask("GET", "/jobs?worker=demo", "X-Forwarded-Prefix: /api\r\nOrigin: https://app.example.com\r\n");
        assert!(page.header("link").unwrap().starts_with("</api/jobs?worker=demo&before="), "{:?}", page.header("link"));
        assert!(page.header("access-control-expose-headers").unwrap().contains("link"));
        let status = page.json()["jobs"][0]["output"].as_str().map(|output| output.starts_with("/api/jobs/"));
        assert_ne!(status, Some(false));
        "yes".into()
    }
}
