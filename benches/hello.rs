//! Hello world by the raw `wasi` bindings: what an ack is measured against. Same status, headers and
//! body as `examples/minimal.rs`.

#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only a component is exported"))]

use wasi::exports::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

const BODY: &[u8] = b"Hello, world!\n";

struct Hello;

impl Guest for Hello {
    fn handle(_request: IncomingRequest, outparam: ResponseOutparam) {
        let fields = Fields::from_list(&[
            ("content-length".to_owned(), BODY.len().to_string().into_bytes()),
            ("cache-control".to_owned(), b"no-transform".to_vec()),
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
        ])
        .expect("three valid headers");
        let response = OutgoingResponse::new(fields);
        response.set_status_code(202).expect("a valid status");
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(outparam, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        // A client that has left shows here, and does not matter to a benchmark.
        let _ = stream.blocking_write_and_flush(BODY);
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

#[cfg(target_arch = "wasm32")]
wasi::http::proxy::export!(Hello with_types_in wasi);
