//! The project's own spin.toml, with which users start the component on Spin.

use std::fs;

use crate::host::{Folder, Kind, on, root, spin_up, spin_up_from};
use crate::jobs::{Client, JSON, id};
use crate::upstream::Upstream;
use crate::wire::Connection;

on! {
    [spin Spin]

    /// A health probe is all that comes after the crash.
    fn with_the_projects_spin_toml_jobs_survive_a_crash(kind: Kind) -> String {
        let data = Folder::new();
        let host = spin_up(kind, &data.0, "lease=2s");
        let id = Client(&host).job(r#"{"steps":6,"step_ms":500}"#);
        Client(&host).wait_until(&id, |job| job["progress"]["done"] == 2);
        host.kill();
        let host = spin_up(kind, &data.0, "lease=2s");
        assert_eq!(Client(&host).get("/healthz").status, 200);
        host.wait_for_output(&format!("{id} succeeded"));
        let job = Client(&host).status(&id);
        assert_eq!((&job["progress"]["done"], &job["progress"]["total"]), (&6.into(), &6.into()), "{job}");
        assert_eq!(Client(&host).metric(r#"afterack_jobs_ended_total{state="succeeded"}"#), 1);
        "yes".into()
    }

    /// As docs/workers.md says it: the workers are dependencies, and Spin composes.
    fn with_the_projects_spin_toml_workers_are_plugged_in(kind: Kind) -> String {
        let (data, folder) = (Folder::new(), Folder::new());
        let release = root().join("target/wasm32-wasip2/release");
        let (service, worker) = (release.join("service-spin.wasm"), release.join("examples/plug-in.wasm"));
        let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
        let (document, manifest) = (read("docs/workers.md"), read("spin.toml"));
        let told = document.split("```toml\n[component.afterack]\n").nth(1).unwrap().split("```").next().unwrap();
        let (beside, dependencies) = told.split_once("\n\n").unwrap();
        let (source, beside) = beside.split_once('\n').unwrap();
        assert_eq!(source, r#"source = "target/plug/service-spin.wasm""#);
        let words = r#"words = { path = "words.wasm""#;
        assert!(dependencies.contains(words), "{dependencies}");
        let first = dependencies.replace(words, &format!("root = {{ path = {worker:?}"));
        let second = first.lines().last().unwrap().replace("root = ", "second-one = ");
        let component = "[component.afterack]\nsource = \"target/wasm32-wasip2/release/spin.wasm\"\n";
        assert!(manifest.contains(component));
        let manifest =
            manifest.replace(component, &format!("[component.afterack]\nsource = {service:?}\n{beside}\n"));
        let path = folder.0.join("spin.toml");
        fs::write(&path, format!("{manifest}\n{first}{second}\n")).unwrap();
        let host = spin_up_from(kind, &path, &data.0, "lease=2s");
        for worker in ["root", "second-one"] {
            let input = br#"{"what":"steps","steps":3}"#;
            let id = id(&Connection::open(host.address).post(&format!("/jobs/{worker}"), JSON, input));
            Client(&host).wait_for(&id, "succeeded");
            assert_eq!(Client(&host).get(&format!("/jobs/{id}/output")).text(), format!("3 steps of {id}"));
        }
        "yes".into()
    }

    /// An upstream that it names is reached, and nobody else is.
    fn with_the_projects_spin_toml_a_variable_says_who_is_in_reach(kind: Kind) -> String {
        let (data, upstream, other) = (Folder::new(), Upstream::start(), Upstream::start());
        let variables = format!(
            "upstreams={} --variable attempts=1 --env AFTERACK_UPSTREAM_NEAR={} --env AFTERACK_UPSTREAM_FAR={}",
            upstream.address,
            upstream.url("works"),
            other.url("works"),
        );
        let host = spin_up(kind, &data.0, &variables);
        let post = |name: &str| id(&Connection::open(host.address).post(&format!("/jobs/{name}"), "", b"x"));
        Client(&host).wait_for(&post("near"), "succeeded");
        let error = Client(&host).wait_for(&post("far"), "failed")["error"].clone();
        assert!(error.as_str().unwrap().contains("allowed_outbound_hosts"), "{error}");
        assert_eq!((upstream.count("works"), other.count("works")), (1, 0));
        "yes".into()
    }

    fn with_the_projects_spin_toml_a_wrong_variable_is_named(kind: Kind) -> String {
        let data = Folder::new();
        let host = spin_up(kind, &data.0, "drains=9");
        let detail = Client(&host).get("/healthz").problem(500);
        assert_eq!(detail, "AFTERACK_DRAINS: 9 is out of range (1 to 8)");
        "yes".into()
    }
}
