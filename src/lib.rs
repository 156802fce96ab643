//! *Answer first, work after*, for WebAssembly components that serve HTTP (`wasi:http` 0.2).
//!
//! A handler gets the whole request and a [`Reply`]. It answers with an [`Ack`], a response of known
//! size: [`Reply::finish`] ends the response, so that the client has all of it and may leave. What the
//! handler does next is the *continuation*, in the same invocation.
//!
//! ```no_run
#![doc = include_str!("../examples/email.rs")]
//! ```
//!
//! What to know before relying on it:
//!
//! - A continuation ends with its host, or when its host ends it. `docs/hosts.md` in the repository
//!   says what each host does.
//! - Guests are not preempted: work that computes should give [`turn`]s, which [`Slices`] makes easy.
//! - A panic traps the whole instance. If it comes before the answer, the client gets a 500 problem.

mod ack;
#[cfg(feature = "component")]
mod component;
mod handler;
#[cfg(feature = "jobs")]
pub mod jobs;
mod log;
#[cfg(feature = "mail")]
pub mod mail;
mod problem;
mod reply;
mod request;
mod turn;
mod upload;

pub use ack::{Ack, AckError, BoxError};
pub use bytes::Bytes;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
pub use problem::Problem;
#[doc(hidden)]
pub use reply::Open;
pub use reply::{Delivery, Reply};
pub use request::BODY_LIMIT;
pub use turn::{SLICE, Slices, turn};
pub use upload::IDLE;

/// What [`export!`] expands to; not for use by hand.
#[doc(hidden)]
pub mod __export {
    pub use crate::handler::{Parameters, handle};
    pub use wasi;
    pub use wasi::exports::http::incoming_handler::Guest;
    pub use wasi::http::proxy::export as proxy;
    pub use wasi::http::types::{IncomingRequest, ResponseOutparam};
}
