//! Workers that are plugged in, as `tests/plug-in` is: twice in one service, as `root`, which is what a composition
//! calls the service itself, and as `second-one`.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crashes::Random;
use crate::host::{Folder, Host, Kind, Setup, free_address, on_every_host, root};
use crate::jobs::{Client, JSON, id};
use crate::recorder::Recorder;
use crate::wire::{Connection, Response};
use crate::workers::{output, with_effects};

fn service(kind: Kind, data: &Folder, recorder: &Recorder) -> Setup {
    with_effects(kind, "plugged", data, recorder)
}

fn post(host: &Host, worker: &str, headers: &str, input: impl ToString) -> Response {
    let path = format!("/jobs/{worker}");
    Connection::open(host.address).post(&path, headers, input.to_string().as_bytes())
}

/// The id of a new job that does this.
fn job(host: &Host, input: &Value) -> String {
    id(&post(host, "root", JSON, input))
}

fn error(host: &Host, what: &str) -> String {
    let id = job(host, &json!({ "what": what }));
    Client(host).wait_for(&id, "failed")["error"].as_str().unwrap().to_owned()
}

fn steps(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("step {number}")).collect()
}

on_every_host! {
    fn a_plugged_in_worker_does_its_steps_one_after_the_other(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = service(kind, &data, &recorder).start();
        let input = json!({ "what": "steps", "key": "own", "steps": 4, "wait_ms": 300, "failures": 2 });
        let id = job(&host, &input);
        let status = Client(&host).wait_for(&id, "succeeded");
        assert_eq!(output(&host, &id), format!("4 steps of {id}"));
        assert_eq!(recorder.so_far("own"), [steps(1), steps(1), steps(4)].concat());
        assert_eq!(status["progress"], json!({ "done": 4, "total": 4, "message": "" }));
        assert_eq!((&status["attempts"], &status["error"]), (&json!(1), &Value::Null));
        // Nothing and an empty checkpoint are two things.
        let remember = job(&host, &json!({ "what": "remember" }));
        Client(&host).wait_for(&remember, "succeeded");
        assert_eq!(output(&host, &remember), "0 bytes");
        let second = self::id(&post(&host, "second-one", JSON, json!({ "what": "remember" })));
        Client(&host).wait_for(&second, "succeeded");
        assert_eq!(Client(&host).status(&second)["worker"], "second-one");
        assert!(post(&host, "third", JSON, "{}").problem(404).contains("demo, root, second-one"));
        // A cancellation is seen at the next step.
        let long = job(&host, &json!({ "what": "steps", "steps": 1_000_000 }));
        Client(&host).wait_until(&long, |job| !job["progress"].is_null());
        assert_eq!(Client(&host).request("DELETE", &format!("/jobs/{long}")).status, 202);
        Client(&host).wait_for(&long, "cancelled");
        "yes".into()
    }

    /// At 20 moments, by `kill -9`; on wash, which takes seconds to start, at 8.
    fn the_steps_of_plugged_in_workers_are_done_once_whatever_host_is_killed(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let mut random = Random(0x91c6);
        let address = free_address();
        let start =
            || service(kind, &data, &recorder).address(address).variable("AFTERACK_LEASE", "1s").start();
        let mut host = start();
        let mut jobs = Vec::new();
        let kills = kind.rounds(20, 8);
        for kill in 0..kills {
            let key = format!("job{kill}");
            let input = json!({ "what": "steps", "key": key, "steps": 6, "wait_ms": 300 });
            jobs.push((key, job(&host, &input)));
            sleep(Duration::from_millis(random.below(600)));
            drop(host);
            host = start();
        }
        let mut again = 0;
        for (key, id) in &jobs {
            Client(&host).wait_for(id, "succeeded");
            let mut effects = recorder.so_far(key);
            again += effects.len() - 6;
            effects.dedup();
            assert_eq!(effects, steps(6), "{key}");
        }
        // A kill cuts off at most one step of each job that runs, and only a few run at once here.
        assert!(again <= 3 * kills, "{again} steps were run again by {kills} kills");
        "yes".into()
    }

    fn a_plugged_in_worker_refuses_what_it_does_not_take_before_the_ack(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = service(kind, &data, &recorder).start();
        let text = post(&host, "root", "Content-Type: text/plain\r\n", "x");
        assert_eq!(text.problem(415), "Content-Type: text/plain (expected application/json)");
        assert!(post(&host, "root", "", "{}").problem(415).contains("nothing"));
        assert!(post(&host, "root", JSON, "{").problem(400).starts_with("invalid input: EOF"));
        let nothing = post(&host, "root", JSON, json!({ "what": "nothing" }));
        assert_eq!(nothing.problem(422), "there is nothing to do");
        let chatter = post(&host, "root", JSON, json!({ "what": "chatter" })).problem(422);
        assert_eq!(chatter, "ä".repeat(500) + "…");
        // One that traps fails alone.
        assert_eq!(post(&host, "root", JSON, json!({ "what": "trap early" })).status, 500);
        assert_eq!(post(&host, "root", JSON, json!({ "what": "remember" })).status, 202);
        "yes".into()
    }

    fn what_a_plugged_in_worker_gives_is_bounded_and_checked(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = service(kind, &data, &recorder).variable("AFTERACK_RECORD", "250KiB").start();
        assert_eq!(error(&host, "large"), "checkpoint too large: 300000 bytes (limit AFTERACK_RECORD, 256000)");
        let whole = job(&host, &json!({ "what": "whole checkpoint" }));
        Client(&host).wait_for(&whole, "succeeded");
        assert_eq!(output(&host, &whole), "256000");
        assert_eq!(error(&host, "huge"), "output too large: 104857600 bytes (limit 67108864)");
        assert_eq!(error(&host, "strange type"), "output of an invalid content type: `text/\\nplain: \\u{1}`");
        assert_eq!(error(&host, "chatter later"), "ä".repeat(500) + "…");
        assert_eq!(error(&host, "empty"), "the worker does not say why");
        "yes".into()
    }

    /// It fails after its attempts; its neighbour in the same instance, which is lost with it, does not.
    fn a_plugged_in_worker_that_traps_takes_no_neighbour_with_it(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = service(kind, &data, &recorder)
            .variable("AFTERACK_DRAINS", 1)
            .variable("AFTERACK_ATTEMPTS", 2)
            .start();
        let neighbour =
            job(&host, &json!({ "what": "steps", "key": "neighbour", "steps": 4, "wait_ms": 4000 }));
        recorder.wait("neighbour", 2);
        let traps = job(&host, &json!({ "what": "trap", "key": "traps" }));
        let status = Client(&host).wait_for(&traps, "failed");
        assert!(status["error"].as_str().unwrap().contains("its instance was lost"), "{status}");
        let status = Client(&host).wait_for(&neighbour, "succeeded");
        assert_eq!(status["attempts"], 1);
        assert_eq!(recorder.so_far("neighbour"), steps(4));
        "yes".into()
    }

    /// It holds a thread of its host until the host ends it: wasmtime with `-W timeout`, wash by itself. Spin does not.
    fn a_plugged_in_worker_that_never_ends_fails_where_the_host_ends_it(kind: Kind) -> String {
        if kind == Kind::Spin {
            return "no".into();
        }
        let (data, recorder, address) = (Folder::new(), Recorder::start(), free_address());
        let setup = service(kind, &data, &recorder).address(address).variable("AFTERACK_ATTEMPTS", 2);
        let host = match kind {
            // The others of its drain leave it before they are ended, too.
            Kind::Wasmtime => setup
                .arguments("-W timeout=10s")
                .variable("AFTERACK_BUDGET", "5s")
                .variable("AFTERACK_SELF", format!("http://{address}")),
            _ => setup,
        }
        .start();
        let loops = job(&host, &json!({ "what": "loop", "key": "loops" }));
        let neighbour = job(&host, &json!({ "what": "steps", "key": "neighbour", "steps": 2, "wait_ms": 3000 }));
        let status = Client(&host).wait_for(&neighbour, "succeeded");
        assert_eq!(status["attempts"], 1);
        let status = Client(&host).wait_for(&loops, "failed");
        assert!(status["error"].as_str().unwrap().contains("its instance was lost"), "{status}");
        "yes".into()
    }

    fn a_plugged_in_workers_wait_of_a_year_or_for_ever_holds_nobody_up(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = service(kind, &data, &recorder).start();
        let client = Client(&host);
        let ids = ["year", "for ever"].map(|what| job(&host, &json!({ "what": what })));
        for id in &ids {
            client.wait_until(id, |job| job["state"] == "queued" && job["begun"].is_string());
        }
        let other = job(&host, &json!({ "what": "steps", "key": "other", "steps": 2 }));
        client.wait_for(&other, "succeeded");
        for id in &ids {
            assert_eq!(client.request("DELETE", &format!("/jobs/{id}")).status, 202);
            client.wait_for(id, "cancelled");
        }
        "yes".into()
    }
}

/// What `make plug` says to these workers.
fn plug(workers: &[&str]) -> String {
    let output = Command::new(root().join(".setup/plug")).args(workers).current_dir(root()).output().unwrap();
    assert!(!output.status.success(), "{workers:?} were plugged in");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_cannot_be_plugged_in_is_named() {
    let plug_in = "target/wasm32-wasip2/release/examples/plug-in.wasm";
    for (workers, words) in [
        (&[][..], "no worker: make plug WORKER="),
        (&["no-such.wasm"], "no-such.wasm: there is no such file"),
        (
            &["Cargo.toml"],
            "Cargo.toml: it is no component (expected one of the world plug-in of wit/worker.wit)",
        ),
        (
            &["target/wasm32-wasip2/release/examples/hello.wasm"],
            "it does not export afterack:worker/worker@0.1.0, the interface of the world plug-in; it exports: \
             wasi:http/incoming-handler@0.2",
        ),
        (&[&format!("Report={plug_in}")], "invalid name `Report`: expected at most 64 characters"),
        (&[&format!("demo={plug_in}")], "invalid name `demo`: it is taken"),
        (&[&format!("a={plug_in}"), &format!("a={plug_in}")], "invalid name `a`: it is there twice"),
    ] {
        let said = plug(workers);
        assert!(said.contains(words), "{workers:?}: {said}");
    }
}
