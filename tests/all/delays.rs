//! `Delay`: a job that begins later.

use std::thread::sleep;
use std::time::Duration;

use crate::host::{Folder, Kind, on_every_host, with_every_store};
use crate::jobs::{Client, JSON, SHORT, component, id};
use crate::storage::Storage;
use crate::wire::Connection;

/// A point in time that a job shows.
fn time(job: &serde_json::Value, name: &str) -> std::time::SystemTime {
    humantime::parse_rfc3339(job[name].as_str().unwrap_or_else(|| panic!("{job}"))).unwrap()
}

with_every_store! {
    fn a_job_with_a_delay_begins_later(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let delayed = client.post(&format!("{JSON}Delay: 3\r\n"), SHORT);
        assert_eq!(delayed.json()["state"], "queued");
        let (delayed, at_once) = (id(&delayed), id(&client.post("Delay: 0\r\n", SHORT)));
        client.wait_for(&at_once, "succeeded");
        assert_eq!(client.status(&delayed)["state"], "queued");
        // Nobody has to ask.
        host.wait_for_output(&format!("job {delayed} succeeded"));
        let job = client.status(&delayed);
        let waited = time(&job, "begun").duration_since(time(&job, "created")).unwrap();
        assert!((Duration::from_secs(3)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
        assert_eq!(job["attempts"], 1);
        "yes".into()
    }

    /// Its host dies again and again: it begins when it was to begin first.
    fn a_delay_ends_at_its_first_time_whatever_is_killed(kind: Kind) -> String {
        const DELAY: Duration = Duration::from_secs(9);
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let job = id(&Client(&host).post("Delay: 9\r\n", SHORT));
        host.kill();
        for _ in 0..2 {
            let host = component(kind, &data.0).start();
            Client(&host).status(&job);
            sleep(Duration::from_millis(500));
            host.kill();
        }
        let host = component(kind, &data.0).start();
        let job = Client(&host).wait_for(&job, "succeeded");
        let waited = time(&job, "begun").duration_since(time(&job, "created")).unwrap();
        // A slow host may have come up later than that.
        assert!((DELAY..DELAY * 4).contains(&waited), "{waited:?}");
        "yes".into()
    }

    fn a_job_is_cancelled_before_its_delay_is_over(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let job = id(&client.post("Delay: 31536000\r\n", SHORT));
        assert_eq!(client.get("/jobs?state=queued").json()["jobs"][0]["id"], job.as_str());
        assert_eq!(client.request("DELETE", &format!("/jobs/{job}")).status, 202);
        client.wait_until(&job, |job| job["state"] == "cancelled" && job["finished"].is_string());
        assert_eq!(Storage::of(kind, &data.0).waiting(), 0);
        assert_eq!(client.status(&job)["begun"], serde_json::Value::Null);
        // One that is begun again has waited already.
        assert_eq!(client.request("POST", &format!("/jobs/{job}/retry")).status, 202);
        client.wait_for(&job, "succeeded");
        "yes".into()
    }
}

on_every_host! {
    fn a_delay_is_a_number_of_seconds_and_a_part_of_the_request(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        for value in ["31536001", "-1", "+1", "1.5", "", "1s", "tomorrow", "99999999999999999999", "0x1"] {
            let problem = client.post(&format!("Delay: {value}\r\n"), SHORT).problem(400);
            let named = format!("invalid Delay: `{value}` (expected seconds, 0 to 31536000)");
            assert_eq!(problem, named);
        }
        client.post("Delay: 1\r\nDelay: 1\r\n", SHORT).problem(400);
        let mut connection = Connection::open(host.address);
        connection.send(b"POST /jobs/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nDelay: \xff\r\n\r\n");
        assert_eq!(connection.response("POST").status, if kind.is_spin() { 500 } else { 400 });
        let post = |delay: &str| client.post(&format!("{JSON}Idempotency-Key: k\r\nDelay: {delay}\r\n"), SHORT);
        let job = id(&post("100"));
        assert_eq!(id(&post("0100")), job);
        post("101").problem(422);
        client.post(&format!("{JSON}Idempotency-Key: k\r\n"), SHORT).problem(422);
        "yes".into()
    }
}
