//! Turns for the host: a guest is not preempted, so it has to yield.
//!
//! While a continuation computes, its host thread sends no acks and accepts no requests. It does not
//! even send this continuation's own ack, which is finished but not sent. A turn is a sleep of the
//! shortest time that a host knows, in which the thread does what is waiting. Only a timer that is
//! still running makes a host switch; a poll of something that is ready does not.

use std::time::Duration;

use wasi::clocks::monotonic_clock::subscribe_duration;
use wstd::time::{Instant, Timer};

/// How long [`Slices`] lets a continuation compute between two turns.
///
/// With shorter slices other clients are answered sooner and less is computed; README has measurements.
pub const SLICE: Duration = Duration::from_millis(7);

/// The shortest time that every host's timer waits: tokio's timers count in milliseconds.
const TURN: Duration = Duration::from_millis(1);

/// Gives the host a turn: about 1 ms in which it sends, receives and runs other requests.
///
/// [`Reply::finish`](crate::Reply::finish) ends with one. A continuation that computes for more than
/// a few milliseconds should give one every few milliseconds, which [`Slices`] does.
pub async fn turn() {
    Timer::after(TURN.into()).wait().await;
}

/// The same with fewer calls, for when nothing else in this instance has to run meanwhile.
pub(crate) fn turn_for_the_host() {
    subscribe_duration(TURN.as_nanos() as u64).block();
}

/// Divides computing work into slices, with a turn for the host between two of them.
///
/// ```no_run
/// # async fn work(pages: Vec<String>) {
/// let mut slices = afterack::Slices::new();
/// for page in pages {
///     render(&page);
///     slices.turn().await; // costs a clock reading, and a turn every 7 ms
/// }
/// # }
/// # fn render(_: &str) {}
/// ```
#[derive(Debug)]
pub struct Slices {
    length: Duration,
    begun: Instant,
}

impl Slices {
    /// Slices of [`SLICE`].
    pub fn new() -> Slices {
        Slices::of(SLICE)
    }

    /// Slices of this length, which is about how long others wait for their answers.
    pub fn of(length: Duration) -> Slices {
        Slices { length, begun: Instant::now() }
    }

    /// Gives the host a turn if this slice is over, and begins the next one.
    pub async fn turn(&mut self) {
        if Duration::from(self.begun.elapsed()) >= self.length {
            turn().await;
            self.begun = Instant::now();
        }
    }
}

impl Default for Slices {
    fn default() -> Slices {
        Slices::new()
    }
}
