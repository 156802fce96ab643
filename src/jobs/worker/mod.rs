//! Workers: the code that does a kind of job, step by step.
//!
//! A worker is a pure step function. What it knows of the steps before is in the checkpoint, never in
//! the instance, so that any invocation can run the next step.

mod demo;
mod http;

use std::rc::Rc;
use std::time::Duration;

use super::config::Config;
use super::job::{Input, Job, Progress};
use super::time::Time;
use crate::{HeaderMap, Problem, StatusCode};
pub use http::Upstream;

/// A kind of job.
#[derive(Debug)]
pub enum Worker {
    /// Sleeps or computes for as long as its input says.
    Demo,
    /// Is done by this upstream, whose answer has at most so many bytes.
    Http(Rc<Upstream>, usize),
}

/// What comes after a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Another step, at once, with this checkpoint.
    Again(Vec<u8>, Progress),
    /// Another step, after this time, with this checkpoint.
    Wait(Duration, Vec<u8>, Progress),
    /// Nothing more.
    Done(Output),
}

/// What a job has made.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    pub content_type: String,
    pub bytes: Vec<u8>,
}

/// Why a step did not end well.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may work another time, not before this time is over.
    Retry(String, Option<Duration>),
    /// It never will.
    Fatal(String),
}

impl Worker {
    /// The worker of this name.
    ///
    /// # Errors
    /// A 404 problem that names it and the ones there are.
    pub fn find(name: &str, config: &Config) -> Result<Worker, Problem> {
        if name == "demo" {
            return Ok(Worker::Demo);
        }
        match config.upstreams.iter().find(|upstream| upstream.name == name) {
            Some(upstream) => Ok(Worker::Http(upstream.clone(), config.body as usize)),
            None => {
                let names: String =
                    config.upstreams.iter().map(|upstream| format!(", {}", upstream.name)).collect();
                let detail = format!("no worker `{name}` (available: demo{names})");
                Err(Problem::new(StatusCode::NOT_FOUND, detail))
            }
        }
    }

    /// Whether it can work on this input, and if not, why.
    pub fn check(&self, input: &Input) -> Result<(), String> {
        match self {
            Worker::Demo => demo::Task::parse(&input.body).map(drop),
            Worker::Http(..) => Ok(()),
        }
    }

    /// The fields of a request that are to be recorded for it.
    pub fn headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        match self {
            Worker::Demo => Vec::new(),
            Worker::Http(..) => http::forwarded(headers),
        }
    }

    /// Does one step, which begins now.
    pub async fn step(&self, job: &Job, now: Time) -> Result<Next, Failure> {
        match self {
            Worker::Demo => demo::step(job).await,
            Worker::Http(upstream, most) => {
                http::call(upstream, job.id, &job.input, *most, now).await.map(Next::Done)
            }
        }
    }
}
