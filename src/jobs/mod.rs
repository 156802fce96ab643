//! Durable jobs: recorded before they are acknowledged, and worked on until they have ended.
//!
//! A crate names its workers in one line, [`jobs!`](crate::jobs!), and *is* the service, with the whole HTTP
//! contract that README lists.
//!
//! ```no_run
//! use afterack::jobs::{Failure, Job, Output};
//!
//! afterack::jobs!(greet); // POST /jobs/greet
//!
//! async fn greet(job: Job) -> Result<Output, Failure> {
//!     let name = job.text()?;
//!     let greeting = job.step("greeting", async || Ok::<_, Failure>(format!("Hello, {name}!"))).await?;
//!     Ok(Output::text(greeting))
//! }
//! # fn main() {}
//! ```

mod config;
mod engine;
mod fault;
mod host;
mod http;
mod input;
mod job;
mod limit;
mod notify;
mod options;
mod outgoing;
mod service;
mod store;
mod submit;
mod time;
mod url;
mod worker;

#[doc(hidden)]
pub use http::{cors::mark_early as early, patience};
pub use input::{Input, InputError};
pub use job::Id;
pub use service::Service;
#[doc(hidden)]
pub use service::{idle, limit, serve};
pub use submit::{Submission, Submitted, submit};
#[cfg(feature = "component")]
pub(crate) use worker::demo;
#[cfg(feature = "plugin")]
pub(crate) use worker::plug_ins;
pub use worker::{Failure, Job, Output, Worker};
