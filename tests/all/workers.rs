//! Workers of a user's own: durable steps, sleeps and routes, as `tests/worker` has them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crashes::Random;
use crate::host::{Folder, Host, Kind, Setup, free_address, on_every_host, with_every_store};
use crate::jobs::{Client, JSON, id};
use crate::recorder::Recorder;
use crate::wire::{Connection, Response};

fn workers(kind: Kind, data: &Folder, recorder: &Recorder) -> Setup {
    with_effects(kind, "examples/worker", data, recorder)
}

/// This component, with its jobs in this folder and its workers' effects in this recorder.
pub fn with_effects(kind: Kind, component: &str, data: &Folder, recorder: &Recorder) -> Setup {
    let setup = Setup::new(kind, component).data(&data.0).variable("AFTERACK_LEASE", "2s");
    setup.variable("AFTERACK_BACKOFF", "100ms..1s").variable("EFFECTS", recorder.url())
}

fn post(host: &Host, path: &str, headers: &str, input: impl ToString) -> Response {
    Connection::open(host.address).post(path, headers, input.to_string().as_bytes())
}

/// The id of a new job of this worker.
fn job(host: &Host, worker: &str, input: &Value) -> String {
    id(&post(host, &format!("/jobs/{worker}"), JSON, input))
}

/// The error of a job that fails.
fn error(host: &Host, id: &str) -> String {
    Client(host).wait_for(id, "failed")["error"].as_str().unwrap().to_owned()
}

pub fn output(host: &Host, id: &str) -> String {
    Client(host).get(&format!("/jobs/{id}/output")).text()
}

with_every_store! {
    fn a_worker_of_ones_own_runs_its_steps_once_each(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).start();
        let id = job(&host, "steps", &json!({ "key": "own", "sleep_ms": 50, "failures": 2 }));
        let status = Client(&host).wait_for(&id, "succeeded");
        assert_eq!(output(&host, &id), "[0,1,2,3]");
        assert_eq!(recorder.so_far("own"), ["step 0", "step 0", "step 0", "step 1", "step 2", "step 3"]);
        assert_eq!(status["progress"], json!({ "done": 4, "total": 4, "message": "" }));
        assert_eq!((&status["attempts"], &status["error"]), (&json!(1), &Value::Null));
        let answer = post(&host, "/jobs/nobody", JSON, "{}");
        assert!(answer.problem(404).contains("steps, pair"), "{}", answer.text());
        // What cannot be read fails without a second attempt.
        let unread = job(&host, "steps", &json!({ "kee": 1 }));
        assert!(error(&host, &unread).contains("invalid input: missing field `key`"));
        let form = id_of_form(&host, "name=Ann+B&x=%26");
        assert_eq!(output(&host, &form), r#"[["name","Ann B"],["x","&"]]"#);
        "yes".into()
    }

    /// At 50 moments of a job's life, by `kill -9`: of one job's each, or of several jobs' at once. What was recorded is
    /// not done again; the one step that was cut off may be.
    fn the_steps_of_killed_hosts_jobs_are_done_once(kind: Kind) -> String {
        let (kills, together) = if kind.is_wash() { (10, 5) } else { (50, 1) };
        let (data, recorder) = (Folder::new(), Recorder::start());
        let mut random = Random(0x57e9);
        let address = free_address();
        let start = || {
            workers(kind, &data, &recorder).address(address).variable("AFTERACK_LEASE", "1s").start()
        };
        let mut host = start();
        let mut jobs: Vec<(String, String)> = Vec::new();
        for _ in 0..kills {
            for _ in 0..together {
                let key = format!("job{}", jobs.len());
                let input = json!({ "key": key, "steps": 3, "sleep_ms": 300 });
                let id = job(&host, "steps", &input);
                jobs.push((key, id));
                sleep(Duration::from_millis(random.below(600) / together));
            }
            drop(host);
            host = start();
        }
        let mut again = 0;
        for (key, id) in &jobs {
            Client(&host).wait_for(id, "succeeded");
            assert_eq!(output(&host, id), "[0,1,2,3,4,5]");
            let effects = recorder.so_far(key);
            let steps: Vec<_> = (0..6).map(|number| format!("step {number}")).collect();
            let mut once = effects.clone();
            once.dedup();
            assert_eq!(once, steps, "{key}: {effects:?}");
            again += effects.len() - 6;
        }
        // A kill cuts off at most one step of each job that runs, and only a few run at once here.
        assert!(again <= 3 * jobs.len(), "{again} steps were run again by {kills} kills");
        "yes".into()
    }

    fn a_sleep_ends_at_its_first_time_whatever_restarts_come(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).start();
        let begun = Instant::now();
        let id = job(&host, "steps", &json!({ "key": "sleep", "steps": 1, "sleep_ms": 14_000 }));
        recorder.wait("sleep", 1);
        Client(&host).wait_for(&id, "queued");
        drop(host);
        for _ in 0..3 {
            let host = workers(kind, &data, &recorder).start();
            assert_eq!(Client(&host).get("/healthz").status, 200);
            sleep(Duration::from_millis(1500));
        }
        let host = workers(kind, &data, &recorder).start();
        let up = begun.elapsed();
        Client(&host).wait_for(&id, "succeeded");
        let (took, slept) = (begun.elapsed(), Duration::from_secs(14));
        assert!(took > slept, "{took:?}");
        // Not so much later that it could have begun anew.
        assert!(took < up.max(slept) + slept / 2, "{took:?}; the last host came after {up:?}");
        assert_eq!(recorder.so_far("sleep"), ["step 0", "step 1"]);
        "yes".into()
    }

    fn faults_of_a_workers_code_are_named(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).variable("AFTERACK_RECORD", "250KiB").start();
        let empty = json!({});
        let twice = job(&host, "twice", &empty);
        assert_eq!(error(&host, &twice), "step `same`: two steps of this name");
        let large = job(&host, "large", &empty);
        assert_eq!(
            error(&host, &large),
            "step `part 2`: result too large: 100008 bytes, and 200016 are recorded (limit AFTERACK_RECORD, 256000)"
        );
        let huge = job(&host, "huge", &empty);
        assert_eq!(error(&host, &huge), "output too large: 104857600 bytes (limit 67108864)");
        let hangs = job(&host, "hangs", &empty);
        assert_eq!(error(&host, &hangs), "step `hang` took too long (limit 500ms)");
        assert_eq!(Client(&host).status(&hangs)["attempts"], 2);
        let outside = job(&host, "hangs-outside", &empty);
        assert_eq!(error(&host, &outside), "what is not in a step took too long (limit 500ms)");
        let changes = job(&host, "changes", &json!({ "key": "changes", "sleep_ms": 12_000 }));
        Client(&host).wait_until(&changes, |job| job["state"] == "queued" && job["begun"].is_string());
        drop(host);
        let host = workers(kind, &data, &recorder).variable("CHANGED", 1).start();
        let error = error(&host, &changes);
        let expected = "step `price`: the job's code has changed since it began: recorded result: invalid type";
        assert!(error.starts_with(expected), "{error}");
        "yes".into()
    }

    /// It fails after its attempts; its neighbour in the same instance, which is lost with it, does not.
    fn a_worker_that_traps_takes_no_neighbour_with_it(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).variable("AFTERACK_DRAINS", 1).variable("AFTERACK_ATTEMPTS", 2).start();
        let neighbour = job(&host, "steps", &json!({ "key": "neighbour", "steps": 2, "sleep_ms": 4000 }));
        recorder.wait("neighbour", 2);
        let traps = job(&host, "traps", &json!({ "key": "traps" }));
        assert!(error(&host, &traps).contains("its instance was lost"), "{}", error(&host, &traps));
        let status = Client(&host).wait_for(&neighbour, "succeeded");
        assert_eq!(status["attempts"], 1);
        assert_eq!(recorder.so_far("neighbour").len(), 4);
        assert_eq!(recorder.so_far("traps").iter().filter(|effect| *effect == "before").count(), 1);
        "yes".into()
    }

    fn progress_shows_while_a_step_runs(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).start();
        let id = job(&host, "tells", &json!({ "key": "tells", "sleep_ms": 4000 }));
        let status = Client(&host).wait_until(&id, |job| !job["progress"].is_null());
        assert_eq!(status["progress"], json!({ "done": 1, "total": 2, "message": "half of it" }));
        assert_eq!(status["state"], "running");
        assert!(status["begun"].is_string());
        Client(&host).wait_for(&id, "succeeded");
        "yes".into()
    }

    /// One of steps that do nothing, in the one instance that runs jobs: whatever it is that they are stored by.
    fn a_job_of_many_steps_holds_nobody_up(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).variable("AFTERACK_DRAINS", 1).start();
        let many = job(&host, "counts", &json!({ "key": "many", "steps": 50_000 }));
        Client(&host).wait_for(&many, "running");
        let id = job(&host, "steps", &json!({ "key": "other", "sleep_ms": 100 }));
        Client(&host).wait_for(&id, "succeeded");
        assert_eq!(Client(&host).status(&many)["state"], "running");
        assert_eq!(Client(&host).request("DELETE", &format!("/jobs/{many}")).status, 202);
        Client(&host).wait_for(&many, "cancelled");
        "yes".into()
    }

    fn a_sleep_of_a_year_holds_nobody_up(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).start();
        let year = job(&host, "year", &json!({}));
        Client(&host).wait_for(&year, "queued");
        let id = job(&host, "steps", &json!({ "key": "other" }));
        Client(&host).wait_for(&id, "succeeded");
        assert_eq!(Client(&host).request("DELETE", &format!("/jobs/{year}")).status, 202);
        Client(&host).wait_for(&year, "cancelled");
        "yes".into()
    }
}

on_every_host! {
    fn an_input_that_a_worker_does_not_take_is_refused_before_the_ack(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).start();
        let picky = |headers, input: &str| post(&host, "/jobs/picky", headers, input);
        assert_eq!(picky("Content-Type: text/plain\r\n", "x").problem(415), "expected application/json");
        assert_eq!(picky(JSON, "").problem(422), "there is nothing to do");
        assert!(picky(JSON, "{").problem(400).starts_with("invalid input: EOF"));
        // Its own limit, which is a smaller one here, and a larger one for others.
        assert!(picky(JSON, &"x".repeat(2001)).problem(413).contains("2000"));
        assert_eq!(picky(JSON, r#"{"key":"picky","steps":0}"#).status, 202);
        "yes".into()
    }

    fn routes_beside_the_service_answer_as_they_like_and_submit_jobs(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).variable("AFTERACK_TOKEN", "secret").start();
        assert_eq!(Client(&host).get("/any/path").text(), "the routes' own: /any/path");
        assert_eq!(Client(&host).get("/").text(), "the routes' own: /");
        assert_eq!(Client(&host).get("/jobs/x").status, 401);
        let answer = post(&host, "/slack", JSON, json!({ "key": "slack" }));
        assert!(answer.text().contains("On it: "), "{}", answer.text());
        recorder.wait("slack", 4);
        let hook = |delivery: &str, key: &str| {
            let headers = format!("{JSON}X-Delivery: {delivery}\r\n");
            post(&host, "/hook", &headers, json!({ "key": key }))
        };
        let (first, again) = (hook("one", "hook").json(), hook("one", "hook").json());
        assert_eq!((&first["new"], &again["new"]), (&json!(true), &json!(false)));
        assert_eq!(first["id"], again["id"]);
        assert!(hook("one", "other").problem(422).contains("Idempotency-Key already used"));
        assert!(hook("", "hook").problem(400).contains("empty"));
        recorder.wait("hook", 4);
        assert!(post(&host, "/unknown-worker", "", "").problem(404).contains("no worker `nobody`"));
        assert!(post(&host, "/mail", "", "{}").problem(403).contains("AFTERACK_NOTIFY_ALLOW"));
        assert_eq!(recorder.so_far("hook").len(), 4);
        "yes".into()
    }

    fn steps_run_side_by_side_and_one_is_tried_again_alone(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).start();
        let id = job(&host, "pair", &json!({ "key": "pair", "sleep_ms": 600 }));
        Client(&host).wait_for(&id, "succeeded");
        assert_eq!(output(&host, &id), "3");
        let effects = recorder.so_far("pair");
        assert_eq!(effects.iter().filter(|effect| *effect == "two begins").count(), 1, "{effects:?}");
        assert_eq!((effects.len(), effects[3].as_str()), (4, "two ends"), "{effects:?}");
        "yes".into()
    }

    fn what_a_failed_step_has_left_can_be_made_up_for(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = workers(kind, &data, &recorder).variable("AFTERACK_ATTEMPTS", 3).start();
        let client = Client(&host);
        let id = job(&host, "refunds", &json!({ "key": "refunds" }));
        assert_eq!(error(&host, &id), "refunded: out of stock");
        assert_eq!(recorder.so_far("refunds"), ["charge", "ship", "ship", "ship", "refund"]);
        // Begun again, it has all its attempts, and what was recorded stays.
        assert_eq!(client.request("POST", &format!("/jobs/{id}/retry")).status, 202);
        recorder.wait("refunds", 8);
        assert_eq!(error(&host, &id), "refunded: out of stock");
        assert_eq!(recorder.so_far("refunds")[5..], ["ship", "ship", "ship"]);
        "yes".into()
    }
}

/// The job that a form brings: the browser is sent to its status.
fn id_of_form(host: &Host, form: &str) -> String {
    let answer = post(host, "/form", "Content-Type: application/x-www-form-urlencoded\r\n", form);
    assert_eq!(answer.status, 303, "{}", answer.text());
    let id = answer.header("location").unwrap().strip_prefix("/jobs/").unwrap().to_owned();
    Client(host).wait_for(&id, "succeeded");
    id
}
