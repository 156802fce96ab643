//! Waiting for what comes in its time.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often it is looked: what looks may cost the host something.
const LOOK: Duration = Duration::from_millis(100);

/// Looks again and again until it is so, and fails if it is not within the limit.
pub fn within(limit: Duration, what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < limit, "not in {limit:?}: {what}");
        sleep(LOOK);
    }
}
