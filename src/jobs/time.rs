//! Points in time, by the wall clock: jobs outlive the invocations that have to agree on them.

use std::cell::Cell;
use std::fmt;
use std::ops::Add;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::host::Host;

/// Milliseconds since 1970. Shown as RFC 3339, in UTC, with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// How long it is from `earlier` until this; nothing if it is the other way round.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The latest time that its format has four digits for.
        const LAST: u64 = 253_402_300_799_999;
        let time = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST));
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

/// A step of the wall clock against the monotonic one that is no leap, as when NTP corrects it.
pub const TOLERANCE: Duration = Duration::from_secs(1);

/// The wall clock as an invocation believes it: a leap counts only after it has lasted for a while.
///
/// An invocation cannot know whether the time that it finds at its beginning is right; what must not
/// happen too early, such as removing jobs, waits until the clock [is steady](Clock::is_steady).
pub struct Clock {
    host: Rc<dyn Host>,
    /// How long a leap must last.
    patience: Duration,
    /// Wall clock minus monotonic clock, in milliseconds, as it is believed.
    offset: Cell<i64>,
    /// Since when that is believed, by the monotonic clock.
    since: Cell<Duration>,
    /// Another offset that was seen, and since when.
    leapt: Cell<Option<(i64, Duration)>>,
}

impl Clock {
    pub fn new(host: Rc<dyn Host>, patience: Duration) -> Clock {
        let elapsed = host.elapsed();
        let offset = Cell::new(offset(host.wall(), elapsed));
        Clock { host, patience, offset, since: Cell::new(elapsed), leapt: Cell::default() }
    }

    /// What time it is.
    pub fn now(&self) -> Time {
        let elapsed = self.host.elapsed();
        let seen = offset(self.host.wall(), elapsed);
        if is_near(seen, self.offset.get()) {
            self.offset.set(seen);
            if self.leapt.take().is_some() {
                self.since.set(elapsed); // Which of the two was right?
            }
        } else {
            match self.leapt.get().filter(|(leapt, _)| is_near(seen, *leapt)) {
                Some((_, since)) if elapsed.saturating_sub(since) >= self.patience => {
                    self.offset.set(seen);
                    self.since.set(since);
                    self.leapt.set(None);
                }
                Some((_, since)) => self.leapt.set(Some((seen, since))),
                None => self.leapt.set(Some((seen, elapsed))),
            }
        }
        Time((elapsed.as_millis() as i64).saturating_add(self.offset.get()).max(0) as u64)
    }

    /// Whether the clock has not leapt for as long as a leap must last.
    pub fn is_steady(&self) -> bool {
        self.now();
        let since = self.since.get();
        self.leapt.get().is_none() && self.host.elapsed().saturating_sub(since) >= self.patience
    }
}

fn offset(wall: Time, elapsed: Duration) -> i64 {
    i64::try_from(wall.0).unwrap_or(i64::MAX).saturating_sub(elapsed.as_millis() as i64)
}

fn is_near(a: i64, b: i64) -> bool {
    a.abs_diff(b) <= TOLERANCE.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::host::Sleep;

    /// A host whose clocks stand where they were put.
    #[derive(Default)]
    struct Still {
        wall: Cell<u64>,
        elapsed: Cell<u64>,
    }

    impl Host for Still {
        fn wall(&self) -> Time {
            Time(self.wall.get())
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.elapsed.get())
        }

        fn sleep(&self, _: Duration) -> Sleep {
            unreachable!("a clock never waits")
        }

        fn turn(&self) {}

        fn pause(&self, _: Duration) {
            unreachable!("nobody waits")
        }

        fn random(&self) -> u64 {
            0
        }
    }

    #[test]
    fn times_are_shown_with_milliseconds_in_utc() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Time(1_795_518_759_042).to_string(), "2026-11-24T11:12:39.042Z");
        assert_eq!(Time(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_time_that_is_past_is_not_waited_for() {
        assert_eq!(Time(5).since(Time(7)), Duration::ZERO);
        assert_eq!(Time(7).since(Time(5)), Duration::from_millis(2));
    }

    #[test]
    fn a_leap_counts_after_it_has_lasted() {
        const HOUR: u64 = 3_600_000;
        let host = Rc::new(Still::default());
        host.wall.set(10 * HOUR);
        let clock = Clock::new(host.clone(), Duration::from_secs(30));
        let now = |elapsed: u64, wall: u64| {
            host.elapsed.set(elapsed);
            host.wall.set(wall);
            clock.now().0
        };
        // It follows corrections, however many.
        for second in 1..100 {
            assert_eq!(now(second * 1000, 10 * HOUR + second * 1900), 10 * HOUR + second * 1900);
        }
        assert!(clock.is_steady());
        // An hour ahead for a moment.
        assert_eq!(now(100_000, 11 * HOUR + 190_000), 10 * HOUR + 189_100);
        assert!(!clock.is_steady());
        assert_eq!(now(120_000, 11 * HOUR + 210_000), 10 * HOUR + 209_100);
        assert_eq!(now(121_000, 10 * HOUR + 210_100), 10 * HOUR + 210_100);
        assert!(!clock.is_steady());
        // An hour back, for good.
        assert_eq!(now(130_000, 9 * HOUR + 219_100), 10 * HOUR + 219_100);
        assert_eq!(now(160_000, 9 * HOUR + 249_100), 9 * HOUR + 249_100);
        assert!(clock.is_steady());
    }
}
