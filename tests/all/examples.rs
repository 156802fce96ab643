//! The examples do what they say, by the very commands in them.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::host::{Folder, Host, Kind, Setup, on_every_host, root};
use crate::jobs::{Client, JSON, id};
use crate::recorder::Recorder;
use crate::wire::Connection;

/// The example, with its jobs in this folder.
fn example(kind: Kind, name: &str, data: &Folder) -> Setup {
    Setup::new(kind, &format!("examples/{name}")).data(&data.0).variable("AFTERACK_LEASE", "2s")
}

/// What the commands in an example's first comment print, with `curl` going to this host.
fn try_commands(host: &Host, name: &str, replaced: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(root().join(format!("examples/{name}.rs"))).unwrap();
    let comment: Vec<_> =
        text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim_start).collect();
    let begin = comment.iter().position(|line| *line == "```sh").expect("commands to try it");
    let commands = comment[begin + 1..].iter().take_while(|line| **line != "```");
    let mut commands = commands.fold(String::from("set -e\n"), |all, line| all + line + "\n");
    commands = commands.replace("127.0.0.1:8080", &host.address.to_string());
    for (from, to) in replaced {
        assert!(commands.contains(from), "{commands}");
        commands = commands.replace(from, to);
    }
    let output = Command::new("sh").arg("-c").arg(&commands).output().unwrap();
    assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The only job that a log of this host speaks of has succeeded: its output.
fn output(host: &Host, id: &str) -> String {
    Client(host).wait_for(id, "succeeded");
    Client(host).get(&format!("/jobs/{id}/output")).text()
}

on_every_host! {
    fn a_slack_command_is_answered_at_once_and_its_result_sent_later(kind: Kind) -> String {
        let (data, recorder) = (Folder::new(), Recorder::start());
        let host = example(kind, "slack", &data).variable("SLACK_SIGNING_SECRET", "secret").start();
        let url = recorder.url();
        let answer = try_commands(&host, "slack", &[("http://127.0.0.1:9000", &url)]);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#"{"text":"On it: "#), "{answer}");
        assert!(recorder.so_far("slack").is_empty());
        let result = json!({ "response_type": "in_channel", "text": "All is well in eu-west." });
        assert_eq!(recorder.wait("slack", 1), [result.to_string()]);
        // Nobody else may give commands.
        let forged = try_commands(&host, "slack", &[("-hmac secret", "-hmac guess")]);
        assert!(forged.starts_with("HTTP/1.1 401 "), "{forged}");
        let late = try_commands(&host, "slack", &[("$(date +%s)", "1500000000")]);
        assert!(late.starts_with("HTTP/1.1 401 "), "{late}");
        "yes".into()
    }

    fn a_webhooks_delivery_is_one_job_however_often_it_comes(kind: Kind) -> String {
        let data = Folder::new();
        let host = example(kind, "webhook", &data).variable("GITHUB_SECRET", "secret").start();
        let deliver = |replaced: &[_]| try_commands(&host, "webhook", replaced);
        let location = |answer: &str| {
            assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
            let line = answer.lines().find_map(|line| line.strip_prefix("location: /jobs/"));
            line.unwrap_or_else(|| panic!("{answer}")).trim().to_owned()
        };
        let first = location(&deliver(&[]));
        assert_eq!(location(&deliver(&[])), first);
        let forged = deliver(&[("-hmac secret", "-hmac guess")]);
        assert!(forged.starts_with("HTTP/1.1 401 "), "{forged}");
        assert_eq!(output(&host, &first), "octo/repo is built at refs/heads/main");
        "yes".into()
    }

    /// And goes on where it was when its host is killed.
    fn a_report_is_computed_in_parts(kind: Kind) -> String {
        let data = Folder::new();
        let host = example(kind, "report", &data).start();
        let answer = try_commands(&host, "report", &[("2000000", "100000")]);
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
        let post = |host: &Host, input: &str| {
            id(&Connection::open(host.address).post("/jobs/report", JSON, input.as_bytes()))
        };
        let short = post(&host, r#"{"below":1000,"parts":7}"#);
        assert_eq!(output(&host, &short), r#"{"below":1000,"primes":168}"#);
        let wrong = post(&host, r#"{"below":1000,"parts":0}"#);
        assert!(Client(&host).wait_for(&wrong, "failed")["error"].to_string().contains("at least one part"));
        let long = post(&host, r#"{"below":400000,"parts":400}"#);
        Client(&host).wait_until(&long, |job| job["progress"]["done"].as_u64() > Some(3));
        drop(host);
        let host = example(kind, "report", &data).start();
        let done = Client(&host).wait_until(&long, |job| job["state"] == "running")["progress"]["done"].as_u64();
        assert!(done > Some(2), "{done:?}");
        assert_eq!(output(&host, &long), r#"{"below":400000,"primes":33860}"#);
        "yes".into()
    }
}
