//! Memory for bodies and outputs: bounded in an instance, however many lanes it has.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// How many bytes the steps of an instance hold at once. One that needs more has it all for itself.
const ROOM: usize = 256 << 20;

#[derive(Default)]
pub struct Room {
    taken: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

/// A part of the room, until it is dropped.
pub struct Taken<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Room {
    /// Waits until there is room for this many bytes.
    pub async fn take(&self, bytes: usize) -> Taken<'_> {
        poll_fn(|context| {
            if self.taken.get() > 0 && self.taken.get() + bytes > ROOM {
                self.waiting.borrow_mut().push(context.waker().clone());
                return Poll::Pending;
            }
            self.taken.set(self.taken.get() + bytes);
            Poll::Ready(Taken { room: self, bytes })
        })
        .await
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.taken.set(self.room.taken.get() - self.bytes);
        for waker in self.room.waiting.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn there_is_room_for_so_much_and_for_anything_alone() {
        block_on(async {
            let room = Room::default();
            let large = room.take(ROOM - 1).await;
            let small = room.take(1).await;
            let mut next = Box::pin(room.take(2));
            assert!(poll_once(next.as_mut()).await.is_none());
            drop(small);
            assert!(poll_once(next.as_mut()).await.is_none());
            drop(large);
            drop(next.await);
            drop(room.take(3 * ROOM).await);
            assert_eq!(room.taken.get(), 0);
        });
    }
}
