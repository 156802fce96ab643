//! What README shows is what there is, and what it tells to do works.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::host::{Folder, Kind, Setup, root};
use crate::jobs::{Client, id};
use crate::wire::Connection;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn readme_shows_the_example_as_it_is() {
    let example = read("examples/email.rs");
    assert!(read("README.md").contains(&example), "README.md does not show examples/email.rs as it is");
    assert!(example.lines().count() <= 40, "the story has more than 40 lines");
}

/// From `cargo new` to a job that is done, in an empty folder, with what README shows. The compiler is the one that
/// is there.
#[test]
fn a_component_of_ones_own_is_made_as_readme_says() {
    let readme = read("README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with("Your own work")).unwrap();
    let block = |kind: &str| {
        let from = section.split_once(&format!("```{kind}\n")).unwrap().1;
        from.split_once("```\n").unwrap().0.to_owned()
    };
    let folder = Folder::new();
    symlink(root(), folder.0.join("afterack")).unwrap();
    let run = |command: &mut Command| {
        let output = command.current_dir(&folder.0).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(Command::new("sh").args(["-ec", &block("sh")]));
    let crate_folder = folder.0.join("mywork");
    fs::write(crate_folder.join("Cargo.toml"), block("toml")).unwrap();
    fs::write(crate_folder.join("src/lib.rs"), block("rust")).unwrap();
    // The versions that are tested here.
    fs::copy(root().join("Cargo.lock"), crate_folder.join("Cargo.lock")).unwrap();
    let manifest = crate_folder.join("Cargo.toml");
    run(Command::new("cargo").args(["update", "--quiet", "--workspace", "--manifest-path"]).arg(&manifest));
    let target = root().join("target/readme");
    run(Command::new(root().join(".setup/cargo-wasm"))
        .args(["build", "--quiet", "--target-dir"])
        .arg(&target)
        .arg("--manifest-path")
        .arg(&manifest));
    let data = Folder::new();
    let built = target.join("wasm32-wasip2/release/mywork.wasm");
    let host = Setup::of_file(Kind::Wasmtime, built).data(&data.0).start();
    let ack = Connection::open(host.address).post("/jobs/greet", "", br#"{"name":"Ann"}"#);
    let job = id(&ack);
    Client(&host).wait_for(&job, "succeeded");
    assert_eq!(Client(&host).get(&format!("/jobs/{job}/output")).text(), "Hello, Ann!");
    assert_eq!(host.output("Hello, Ann!").len(), 1);
}
