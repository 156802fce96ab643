//! What the service needs of its host beyond a store: time and chance. Tests bring their own.
//!
//! Time comes in two kinds. The wall clock gives points in time that are stored and shown; it may be
//! wrong and it may leap. The monotonic clock gives durations that are waited for; it begins anew in every
//! invocation.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wstd::time::Instant;

use super::time::Time;

/// A wait.
pub type Sleep = Pin<Box<dyn Future<Output = ()>>>;

/// Time and chance.
pub trait Host {
    /// The wall clock.
    fn wall(&self) -> Time;

    /// The monotonic clock: how long this invocation has lived.
    fn elapsed(&self) -> Duration;

    /// Waits for this long by the monotonic clock.
    fn sleep(&self, time: Duration) -> Sleep;

    /// Gives the host a turn, in which nothing of this instance runs.
    fn turn(&self);

    /// Waits for this long with all that runs in this instance.
    fn pause(&self, time: Duration);

    /// A number that nobody can foresee.
    fn random(&self) -> u64;
}

/// The host that runs this component.
#[derive(Debug)]
pub struct Real {
    begun: Instant,
}

impl Real {
    pub fn new() -> Real {
        Real { begun: Instant::now() }
    }
}

impl Host for Real {
    fn wall(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(since.as_millis() as u64)
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed().into()
    }

    fn sleep(&self, time: Duration) -> Sleep {
        Box::pin(async move {
            wstd::task::sleep(time.into()).await;
        })
    }

    fn turn(&self) {
        crate::turn::turn_for_the_host();
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn random(&self) -> u64 {
        wasi::random::random::get_random_u64()
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;

    use super::*;

    /// The machine that runs the test. It does not wait.
    pub struct Native;

    impl Host for Native {
        fn wall(&self) -> Time {
            Time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
        }

        fn elapsed(&self) -> Duration {
            static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
            BEGUN.get_or_init(std::time::Instant::now).elapsed()
        }

        fn sleep(&self, _: Duration) -> Sleep {
            unreachable!("stores do not wait")
        }

        fn turn(&self) {}

        fn pause(&self, time: Duration) {
            std::thread::sleep(time);
        }

        fn random(&self) -> u64 {
            RandomState::new().hash_one(0)
        }
    }
}
