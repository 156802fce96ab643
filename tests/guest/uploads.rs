//! What happens to requests that do not reach the handler.

use std::env;

use afterack::{Ack, HeaderMap};

/// Kept as long as a slow upload lasts; says so when that is over.
pub struct Room;

impl Drop for Room {
    fn drop(&mut self) {
        println!("a slow upload is over");
    }
}

/// There is room for slow uploads, unless `ROOM` is `none`.
pub fn patience() -> Option<Room> {
    println!("a slow upload asks for room");
    (env::var("ROOM").as_deref() != Ok("none")).then_some(Room)
}

/// Names the origin of the request in the answer, if it has one.
pub fn early(ack: Ack, request: &HeaderMap) -> Ack {
    match request.get("origin") {
        Some(origin) => ack.header("x-origin", origin).expect("a header's value is one"),
        None => ack,
    }
}
