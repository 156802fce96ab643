//! How fast a request's body has to come, and what its client is told if it does not.
//!
//! An upload holds an instance, and instances are scarce: one that is slow is bounded in time, and its
//! component may bound how many there are. Times are in milliseconds, by the monotonic clock.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};

use crate::Problem;

/// How long an upload may go without progress unless [`export!`](crate::export) is told otherwise: 30 s.
///
/// The whole upload is bounded by it, too: it may take this time once, and once more for every 64 KiB that
/// have come. What is slower is answered 408
/// ([RFC 9110 §15.5.9](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9)).
pub const IDLE: Duration = Duration::from_secs(30);

/// How many bytes give an upload another idle time: 64 KiB. A client that sends a byte now and then is
/// bounded by this.
const PACE: u64 = 64 * 1024;

/// The idle time after which an upload counts as slow and may be refused: 1 s.
pub(crate) const STALL: u64 = 1000;

/// When a client whose slow upload was refused may try again, in seconds.
const RETRY: HeaderValue = HeaderValue::from_static("5");

/// A request body on its way.
pub(crate) struct Upload {
    /// `Content-Length`, if there is one.
    declared: Option<u64>,
    received: u64,
    begun: u64,
    /// When the last bytes came.
    last: u64,
}

impl Upload {
    pub fn begin(declared: Option<u64>, now: u64) -> Upload {
        Upload { declared, received: 0, begun: now, last: now }
    }

    pub fn progress(&mut self, bytes: usize, now: u64) {
        self.received += bytes as u64;
        self.last = now;
    }

    /// How long the next bytes may still take; 0 if they are overdue.
    pub fn left(&self, idle: u64, now: u64) -> u64 {
        let in_all = idle * (1 + self.received / PACE);
        let due = (self.begun + in_all).min(self.last + idle);
        due.saturating_sub(now)
    }

    /// The problem of an upload that has been too slow.
    pub fn timed_out(&self, idle: u64, now: u64) -> Problem {
        let limit = Seconds(idle);
        let detail = if now >= self.last + idle {
            format!("request body timed out: {self} after {limit} without progress")
        } else {
            let took = Seconds(now - self.begun);
            format!("request body timed out: {self} after {took} (at least {PACE} every {limit})")
        };
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// The problem of a slow upload that the component has no room for.
    pub fn refused(&self) -> Problem {
        let detail = format!("too many slow uploads: {self} so far (to be tried again later)");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, RETRY)
    }
}

/// Like `1 of 23 bytes`.
impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.declared {
            Some(declared) => write!(f, "{} of {declared} bytes", self.received),
            None => write!(f, "{} bytes", self.received),
        }
    }
}

/// Milliseconds, shown like `30 s` or `1.5 s`.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 / 100 {
            0 => write!(f, "{} s", self.0 / 1000),
            tenths => write!(f, "{}.{tenths} s", self.0 / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upload at second 0, and what came of it at which second.
    fn upload(pieces: &[(usize, u64)]) -> Upload {
        let mut upload = Upload::begin(Some(1_000_000), 0);
        for (bytes, second) in pieces {
            upload.progress(*bytes, second * 1000);
        }
        upload
    }

    /// How many seconds it has left, with an idle time of 10.
    fn left(pieces: &[(usize, u64)], second: u64) -> u64 {
        upload(pieces).left(10_000, second * 1000) / 1000
    }

    #[test]
    fn an_upload_without_progress_has_the_idle_time() {
        assert_eq!(left(&[], 0), 10);
        assert_eq!(left(&[], 7), 3);
        assert_eq!(left(&[], 10), 0);
        // However much came before.
        assert_eq!(left(&[(500_000, 2)], 2), 10);
        assert_eq!(left(&[(500_000, 2)], 12), 0);
    }

    #[test]
    fn every_64_kib_give_an_upload_the_idle_time_again() {
        assert_eq!(left(&[(1, 9)], 9), 1);
        assert_eq!(left(&[(65_535, 9)], 9), 1);
        assert_eq!(left(&[(65_536, 9)], 9), 10);
        assert_eq!(left(&[(65_536, 9), (1, 18)], 18), 2);
        assert_eq!(left(&[(65_536, 9), (65_536, 18)], 18), 10);
    }

    #[test]
    fn a_timed_out_upload_is_told_what_came_and_what_is_expected() {
        let stood = upload(&[(1, 2)]).timed_out(1500, 4000);
        let detail = "request body timed out: 1 of 1000000 bytes after 1.5 s without progress";
        assert_eq!((stood.status().as_u16(), stood.detail()), (408, detail));
        let dripped = upload(&[(70_000, 2), (1, 19)]).timed_out(10_000, 20_000);
        let detail = "request body timed out: 70001 of 1000000 bytes after 20 s (at least 65536 every 10 s)";
        assert_eq!(dripped.detail(), detail);
    }
}
