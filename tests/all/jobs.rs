//! A client of the component, for the tests of jobs.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::{Host, Kind, Setup};
use crate::wire::{Connection, Response};

pub const JSON: &str = "Content-Type: application/json\r\n";

/// A job that is done at once.
pub const SHORT: &str = r#"{"steps":1,"step_ms":0}"#;

/// How long a job may take, on a busy machine behind a thousand others.
const END: Duration = Duration::from_secs(240);

/// The component with its jobs in this folder. Leases are short, so that what is lost comes back soon.
pub fn component(kind: Kind, data: &Path) -> Setup {
    Setup::new(kind, "afterack").data(data).variable("AFTERACK_LEASE", "2s")
}

/// The component with places to stop at.
pub fn with_faults(kind: Kind, data: &Path) -> Setup {
    Setup::new(kind, "faults").data(data).variable("AFTERACK_LEASE", "2s")
}

/// The bytes of a request for a demo job.
pub fn request(headers: &str, input: &str) -> String {
    format!(
        "POST /jobs/demo HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n{input}",
        input.len()
    )
}

/// The id of the job that was acknowledged.
pub fn id(ack: &Response) -> String {
    assert_eq!(ack.status, 202, "{}", ack.text());
    ack.json()["id"].as_str().unwrap().to_owned()
}

/// A client that opens a connection for each request, so that hosts may come and go.
pub struct Client<'a>(pub &'a Host);

impl Client<'_> {
    pub fn request(&self, method: &str, path: &str) -> Response {
        Connection::open(self.0.address).request(method, path)
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path)
    }

    pub fn post(&self, headers: &str, input: &str) -> Response {
        Connection::open(self.0.address).post("/jobs/demo", headers, input.as_bytes())
    }

    /// The id of a new job.
    pub fn job(&self, input: &str) -> String {
        id(&self.post(JSON, input))
    }

    pub fn status(&self, id: &str) -> Value {
        let answer = self.get(&format!("/jobs/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The job as soon as it is in this state.
    pub fn wait_for(&self, id: &str, state: &str) -> Value {
        self.wait_until(id, |job| job["state"] == state)
    }

    pub fn wait_until(&self, id: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.status(id);
            if is_right(&job) {
                return job;
            }
            assert!(begun.elapsed() < END, "still {job}");
            sleep(Duration::from_millis(50));
        }
    }

    /// What `/metrics` says of this.
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics([name])[0]
    }

    /// What one answer says of these.
    pub fn metrics<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        let text = self.get("/metrics").text();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        names.map(|name| value(name).unwrap_or_else(|| panic!("no {name} in {text}")))
    }
}
