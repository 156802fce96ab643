//! Durable jobs: recorded before they are acknowledged, and worked on until they have ended.

pub(crate) mod config;
mod engine;
mod fault;
mod host;
pub(crate) mod http;
mod job;
mod notify;
mod options;
mod store;
mod time;
mod worker;
