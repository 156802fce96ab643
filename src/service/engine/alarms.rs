//! What the lanes of a drain wait for, with one timer of the host's for all of them.
//!
//! A host looks at every timer that a guest waits for whenever one of them is over, so that a timer for
//! each of some hundred lanes would cost more than their work.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::service::time::Time;

#[derive(Default)]
pub struct Alarms {
    /// Those who wait; the first one that is due is the last.
    set: RefCell<Vec<(Time, Waker)>>,
}

impl Alarms {
    /// Waits until this time, if somebody calls [`ring`](Alarms::ring) then.
    pub async fn wait(&self, time: Time) {
        poll_fn(|context| {
            if Time::now() >= time {
                return Poll::Ready(());
            }
            let mut set = self.set.borrow_mut();
            let place = set.partition_point(|(other, _)| *other > time);
            set.insert(place, (time, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// When the first of those who wait is due.
    pub fn next(&self) -> Option<Time> {
        self.set.borrow().last().map(|(time, _)| *time)
    }

    /// Wakes those who have waited until now.
    pub fn ring(&self, now: Time) {
        let mut set = self.set.borrow_mut();
        while let Some((_, waker)) = set.pop_if(|(time, _)| *time <= now) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_lite::future::{block_on, poll_once, zip};

    use super::*;

    #[test]
    fn who_waits_is_woken_in_time_and_not_before() {
        let (alarms, now) = (Alarms::default(), Time::now());
        let later = now + Duration::from_secs(3600);
        block_on(async {
            let mut long = Box::pin(alarms.wait(later));
            assert!(poll_once(long.as_mut()).await.is_none());
            assert_eq!(alarms.next(), Some(later));
            let soon = now + Duration::from_millis(20);
            let ring = async {
                while Time::now() < soon {
                    alarms.ring(Time::now());
                    futures_lite::future::yield_now().await;
                }
                alarms.ring(Time::now());
            };
            zip(alarms.wait(soon), ring).await;
            assert!(Time::now() >= soon);
            assert_eq!(alarms.next(), Some(later));
            assert!(poll_once(long).await.is_none());
        });
    }
}
