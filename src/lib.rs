//! *Answer first, work after*, for WebAssembly components that serve HTTP (`wasi:http` 0.2).
//!
//! A handler gets the whole request and a [`Reply`]. It answers with an [`Ack`], a response of known
//! size, and goes on: [`Reply::finish`] ends the response, so the client has all of it and may leave,
//! while what follows runs as the *continuation*, in the same invocation.
//!
//! ```no_run
#![doc = include_str!("../examples/email.rs")]
//! ```
//!
//! What to know before relying on it:
//!
//! - A continuation lives as long as its host lets it, and dies with it. `docs/hosts.md` in the
//!   repository says what each host does.
//! - Guests are not preempted: work that computes should give [`turn`]s, which [`Slices`] makes easy.
//! - A panic traps the whole instance; before the answer, its client still gets a 500 problem.

mod ack;
mod handler;
#[cfg(feature = "mail")]
pub mod mail;
mod problem;
mod reply;
mod request;
#[cfg(feature = "component")]
mod service;
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

/// What [`export!`] needs from here; not for use by hand.
#[doc(hidden)]
pub mod __export {
    pub use crate::handler::{Parameters, handle};
    pub use wasi;
    pub use wasi::exports::http::incoming_handler::Guest;
    pub use wasi::http::proxy::export as proxy;
    pub use wasi::http::types::{IncomingRequest, ResponseOutparam};
}
