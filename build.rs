//! With feature `plugin`: declares one import for each worker that `AFTERACK_PLUG_INS` names, divided by spaces.
//! `make plug` sets it, and plugs the workers in.

use std::path::Path;
use std::{env, fs};

/// What a module of bindings is not called like this without an underscore: the keywords of Rust.
const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern false \
                        final fn for gen if impl in let loop macro match mod move mut override priv pub ref return \
                        self static struct super trait true try type typeof union unsafe unsized use virtual where \
                        while yield";

/// Names that are taken: by the service, by its routes, by the bindings.
const TAKEN: [&str; 4] = ["demo", "retry", "afterack", "exports"];

fn main() {
    println!("cargo::rerun-if-env-changed=AFTERACK_PLUG_INS");
    println!("cargo::rerun-if-changed=wit/worker.wit");
    if env::var_os("CARGO_FEATURE_PLUGIN").is_none() {
        return;
    }
    let names = env::var("AFTERACK_PLUG_INS").unwrap_or_else(|_| "worker".into());
    let names: Vec<&str> = names.split_whitespace().collect();
    for (place, name) in names.iter().enumerate() {
        if let Some(reason) = mistake(name).or(names[..place].contains(name).then_some("it is there twice")) {
            println!("cargo::error=AFTERACK_PLUG_INS: invalid name `{name}`: {reason}");
            return;
        }
    }
    let imports: String = names.iter().map(|name| import(name)).collect();
    let plug_ins: String = names.iter().map(|name| plug_in(name)).collect();
    let bindings = format!(
        "wit_bindgen::generate!({{\n    path: \"wit/worker.wit\",\n    \
         inline: \"package afterack:service; world service {{{imports} }}\",\n    generate_all,\n}});\n\n\
         /// The workers that are plugged in.\n\
         pub const PLUG_INS: &[super::PlugIn] = &[{plug_ins}];\n"
    );
    let folder = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&folder).join("plug_ins.rs"), bindings).expect("cargo has made the folder");
}

/// What is wrong with a worker's name, which has to be one of WIT's, too.
fn mistake(name: &str) -> Option<&'static str> {
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if name.len() > 64 || !name.split('-').all(is_word) {
        return Some(
            "expected at most 64 characters, words of a-z and 0-9 that begin with a letter, divided by -",
        );
    }
    TAKEN.contains(&name).then_some("it is taken")
}

fn import(name: &str) -> String {
    format!(
        " import %{name}: interface {{ use afterack:worker/types@0.1.0.{{input, job, next, failure, refusal}}; \
         check: func(input: input) -> result<_, refusal>; step: func(job: job) -> result<next, failure>; }}"
    )
}

fn plug_in(name: &str) -> String {
    let is_keyword = KEYWORDS.split(' ').any(|keyword| keyword == name);
    let module = name.replace('-', "_") + if is_keyword { "_" } else { "" };
    format!("super::PlugIn {{ name: \"{name}\", check: {module}::check, step: {module}::step }}, ")
}
