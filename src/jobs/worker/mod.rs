//! Workers: the code that does a kind of job, step by step.
//!
//! A worker is a pure step function. What it knows of the steps before is in the checkpoint, never in
//! the instance, so that any invocation can run the next step.

mod demo;

use std::time::Duration;

use super::job::{Input, Job, Progress};
use crate::{Problem, StatusCode};

/// A kind of job.
#[derive(Debug)]
pub enum Worker {
    /// Sleeps or computes for as long as its input says.
    Demo,
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
    pub fn find(name: &str) -> Result<Worker, Problem> {
        match name {
            "demo" => Ok(Worker::Demo),
            _ => {
                let detail = format!("no worker `{name}` (available: demo)");
                Err(Problem::new(StatusCode::NOT_FOUND, detail))
            }
        }
    }

    /// Whether it can work on this input, and if not, why.
    pub fn check(&self, input: &Input) -> Result<(), String> {
        match self {
            Worker::Demo => demo::Task::parse(&input.body).map(drop),
        }
    }

    /// Does one step.
    pub async fn step(&self, job: &Job) -> Result<Next, Failure> {
        match self {
            Worker::Demo => demo::step(job).await,
        }
    }
}
