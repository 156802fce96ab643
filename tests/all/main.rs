//! What afterack promises, on real hosts: a file per topic, the same bodies on every host.
//!
//! `make build` makes the components that run here, `make test` runs it all. Every behaviour leaves
//! its result in `target/hosts`, from which `make hosts` writes docs/hosts.md.

#[path = "../cluster.rs"]
mod cluster;
mod host;
mod recorder;
mod server;
mod upstream;
mod wire;

mod acks;
mod broken_acks;
mod bursts;
mod computing;
mod contract;
mod crashes;
mod databases;
mod delays;
mod examples;
mod failures;
mod faults;
mod gone;
mod groups;
mod hostile;
mod jobs;
mod languages;
mod lists;
mod mail;
mod plugged;
mod postgres;
mod proxy;
mod readme;
mod requests;
mod reuse;
mod service;
mod spin_manifest;
mod standing;
mod storage;
mod time;
mod upstreams;
mod wait;
mod webhooks;
mod workers;
mod world;
