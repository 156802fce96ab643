//! Workers in other languages: the examples, and what docs/workers.md tells to do, command by command, from an empty
//! folder to a job that is done.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::host::{Folder, Host, Kind, Setup, free_address, on_every_host, root};
use crate::jobs::{Client, id};
use crate::server::Server;
use crate::wait::within;
use crate::wire::Connection;

#[test]
fn a_worker_in_rust_is_made_as_the_document_says() {
    follow("Rust");
}

#[test]
fn a_worker_in_javascript_is_made_as_the_document_says() {
    follow("JavaScript");
}

#[test]
fn a_worker_in_python_is_made_as_the_document_says() {
    follow("Python");
}

on_every_host! {
    /// Rust, JavaScript and Python, side by side in one service whose host is killed amid a job.
    fn the_example_workers_do_their_work_and_go_on_where_they_were(kind: Kind) -> String {
        let (folder, data, address) = (Folder::new(), Folder::new(), free_address());
        let plugged = examples(kind, &folder);
        let start = || {
            let setup = Setup::of_file(kind, plugged.clone()).data(&data.0).address(address);
            let setup = setup.variable("AFTERACK_LEASE", "4s");
            if kind == Kind::Wasmtime { setup.arguments("--allow-precompiled") } else { setup }.start()
        };
        let host = start();
        let sample = |path: &str| fs::read(root().join("examples/workers").join(path)).unwrap();
        let output = |host: &Host, id: &str| -> Value {
            Client(host).wait_for(id, "succeeded");
            Client(host).get(&format!("/jobs/{id}/output")).json()
        };
        let post = |host: &Host, worker: &str, kind: &str, body: &[u8]| {
            let headers = format!("Content-Type: {kind}\r\n");
            Connection::open(host.address).post(&format!("/jobs/{worker}"), &headers, body)
        };

        let sales = id(&post(&host, "sales", "text/csv", &sample("rust/sample.csv")));
        assert_eq!(
            output(&host, &sales)["categories"]["books"],
            json!({ "quantity": 5, "revenue_cents": 12895 })
        );
        let log = sample("python/sample.log");
        let many = id(&post(&host, "visits", "text/plain", &log.repeat(300)));
        let report = output(&host, &many);
        assert_eq!((&report["visits"], &report["bad_lines"]), (&json!(1800), &json!(300)));
        assert_eq!(report["days"], json!({ "2026-11-27": 1200, "2026-11-26": 600 }));

        // Who never answers takes the worker's patience: a few seconds in each of three steps.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let links: Vec<String> = (0..12)
            .map(|number| match number % 4 {
                0 => format!("http://{}/{number}", silent.local_addr().unwrap()),
                1 => format!("http://{address}/nothing-here"),
                _ => format!("http://{address}/healthz"),
            })
            .collect();
        let job = id(&post(&host, "links", "text/plain; charset=utf-8", links.join("\n").as_bytes()));
        let status = Client(&host).wait_until(&job, |job| job["progress"]["done"] == 4);
        assert_eq!(status["progress"]["message"], "links are asked, 2 failed");
        host.kill();
        let host = start();
        let results = output(&host, &job);
        for (number, (link, result)) in links.iter().zip(results.as_array().unwrap()).enumerate() {
            assert_eq!(result["url"], *link);
            match number % 4 {
                0 => assert_eq!(result["error"], "no answer in 3000 ms"),
                1 => assert_eq!(result["status"], 404),
                _ => assert_eq!(result["status"], 200),
            }
        }

        let csv = |body: &str| post(&host, "sales", "text/csv", body.as_bytes());
        assert!(csv("date,amount\n1,2\n").problem(422).starts_with("no column `category`: "));
        let wrong = id(&csv("category,quantity,price_cents\nbooks,1,100\nbooks,many,100\n"));
        let error = Client(&host).wait_for(&wrong, "failed")["error"].clone();
        assert!(error.as_str().unwrap().contains("line: 3"), "{error}");
        let text = |worker: &str, body: &[u8]| post(&host, worker, "text/plain", body);
        assert!(
            text("links", b"ftp://example.com/").problem(422).starts_with("invalid link: ftp://example.com/")
        );
        assert!(text("visits", b"hello").problem(422).starts_with("nothing to count: 1 lines, first `hello`"));
        for worker in ["links", "visits"] {
            let kind = post(&host, worker, "image/png", b"x").problem(415);
            assert_eq!(kind, "unsupported Content-Type: image/png (expected text/plain)");
            assert!(text(worker, b"\xff").problem(400).starts_with("invalid input: "));
        }
        "yes".into()
    }
}

/// The service with all example workers, for hosts of this kind.
fn examples(kind: Kind, folder: &Folder) -> PathBuf {
    /// Who comes second finds them built.
    static BUILDING: Mutex<()> = Mutex::new(());
    let building = BUILDING.lock().unwrap_or_else(|poison| poison.into_inner());
    let workers = thread::scope(|scope| {
        let builds = ["rust", "javascript", "python"].map(|language| scope.spawn(move || example(language)));
        builds.map(|build| build.join().expect("a worker that is built").display().to_string())
    });
    drop(building);
    let (root, host) = (root().display(), if kind.is_spin() { "spin" } else { "" });
    shell(&folder.0, &format!("FOR={host} OUT=all.wasm {root}/.setup/plug {}", workers.join(" ")));
    if kind != Kind::Wasmtime {
        return folder.0.join("all.wasm");
    }
    // Compiled beforehand, so that hosts start at once.
    shell(&folder.0, &format!("{root}/.tools/bin/wasmtime compile all.wasm -o all.cwasm"));
    folder.0.join("all.cwasm")
}

/// Makes the worker as the document's section of this language says, and runs it as the section that follows does.
fn follow(language: &str) {
    let document = fs::read_to_string(root().join("docs/workers.md")).unwrap();
    let folder = Folder::new();
    symlink(root(), folder.0.join("afterack")).unwrap();
    let made = script(section(&document, language));
    shell(&folder.0, &if compiler() == "debian" { by_debian(&made) } else { made });
    let words = folder.0.join("words");
    assert!(words.join("words.wasm").exists(), "there is no words.wasm in {:?}", fs::read_dir(&words));

    let plugged = script(section(&document, "Plug it in"));
    let (up, curls) = plugged.split_once('\n').unwrap();
    assert!(up.contains(" up WORKER=") && curls.lines().all(|line| line.contains("curl ")), "{plugged}");
    let address = free_address();
    let mut command = Command::new("sh");
    command.args(["-ec", up]).current_dir(&words).env_remove("MAKEFLAGS");
    command.env("OUT", folder.0.join("plugged.wasm")).env("VAR", folder.0.join("var"));
    command.env("PORT", address.port().to_string()).env("MAIL_PORT", free_address().port().to_string());
    let host = Server::start_group(command);
    // What it builds and compiles for the first time may take long on a slow machine.
    within(Duration::from_secs(600), "the host serves", || !host.output("Serving HTTP on").is_empty());

    let said = shell(&folder.0, &curls.replace("127.0.0.1:8080", &address.to_string()));
    assert!(said.starts_with("HTTP/1.1 202 "), "{said}");
    let path = said.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().trim();
    assert!(said.lines().last().unwrap().contains(r#""worker":"words""#), "{said}");
    within(Duration::from_secs(60), "the job is done", || {
        get(address, path).contains(r#""state":"succeeded""#)
    });
    assert_eq!(get(address, &format!("{path}/output")), "3 words\n");
    let refused = |body: &[u8]| Connection::open(address).post("/jobs/words", "", body);
    assert_eq!(refused(b" \n").problem(422), "empty input (expected text)");
    refused(b"\xff").problem(400);
}

/// An example worker, built as its README says, in a copy of its folder; anew if it is another than the last time.
fn example(language: &str) -> PathBuf {
    let (folder, own) = (root().join("target/workers"), format!("examples/workers/{language}"));
    let copy = folder.join(&own);
    let list =
        Command::new("git").args(["ls-files", &own, "wit/worker.wit"]).current_dir(root()).output().unwrap();
    let files = String::from_utf8(list.stdout).unwrap();
    let mut is_same = copy.join("built").exists();
    for file in files.lines() {
        let (from, to) = (fs::read(root().join(file)).unwrap(), folder.join(file));
        if fs::read(&to).ok().as_ref() != Some(&from) {
            is_same = false;
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, from).unwrap();
        }
    }
    let readme = fs::read_to_string(copy.join("README.md")).unwrap();
    let mut blocks = readme.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let (build, up, curls) = (blocks.next().unwrap(), blocks.next().unwrap(), blocks.next().unwrap());
    let built = up.trim().strip_prefix("make up WORKER=").unwrap();
    assert!(curls.lines().all(|line| line.starts_with("curl ")), "{curls}");
    if !is_same {
        let _ = fs::remove_file(copy.join("built"));
        shell(&copy, &if compiler() == "debian" { by_debian(build) } else { build.to_owned() });
        fs::write(copy.join("built"), "").unwrap();
    }
    folder.join(built)
}

fn section<'a>(document: &'a str, title: &str) -> &'a str {
    let begins = |section: &&str| section.starts_with(&format!("{title}\n"));
    document.split("\n## ").find(begins).unwrap_or_else(|| panic!("docs/workers.md has no section {title}"))
}

/// What a section tells to do, as a script: its commands, and its files, whose names stand before them.
fn script(section: &str) -> String {
    let mut script = String::new();
    let mut parts = section.split("```");
    while let (Some(before), Some(block)) = (parts.next(), parts.next()) {
        let (kind, text) = block.split_once('\n').unwrap();
        if kind == "sh" {
            script += text;
        } else {
            let name = before.trim_end().rsplit('\n').next().unwrap();
            let name = name
                .strip_prefix('`')
                .and_then(|name| name.strip_suffix("`:"))
                .unwrap_or_else(|| panic!("{name}"));
            script += &format!("cat >{name} <<'END OF FILE'\n{text}END OF FILE\n");
        }
    }
    script
}

/// Which compiler there is for WebAssembly.
fn compiler() -> String {
    let output = Command::new(root().join(".setup/cargo-wasm")).arg("which").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The same by the other compiler, where rustup cannot add the target: with the versions that are locked here.
fn by_debian(script: &str) -> String {
    let root = root().display();
    let build = format!(
        "cargo update --quiet --workspace\n\
         {root}/.setup/cargo-wasm build --quiet --manifest-path $PWD/Cargo.toml --target-dir $PWD/target\n"
    );
    let script = script.replace("cargo build --quiet --release --target wasm32-wasip2\n", &build);
    let script = script.replace("cargo build --release --locked --target wasm32-wasip2\n", &build);
    script.replace("rustup target add wasm32-wasip2\n", "")
}

/// Runs this in the folder: what it prints.
fn shell(folder: &Path, script: &str) -> String {
    let said = Folder::new();
    let (out, errors) = (said.0.join("out"), said.0.join("errors"));
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(folder).env_remove("MAKEFLAGS").env_remove("RUSTUP_TOOLCHAIN");
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&errors).unwrap());
    let status = command.status().unwrap();
    let [out, errors] = [out, errors].map(|path| fs::read_to_string(path).unwrap());
    assert!(status.success(), "{script}\n{out}\n{errors}");
    out
}

fn get(address: SocketAddr, path: &str) -> String {
    Connection::open(address).get(path).text()
}
