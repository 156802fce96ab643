//! What the lanes of a drain wait for, with one timer of the host's for all of them.
//!
//! A host looks at every timer that a guest waits for whenever one of them is over, so that a timer for
//! each of some hundred lanes would cost more than their work.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

#[derive(Default)]
pub struct Alarms {
    /// Those who wait; the first one that is due is the last.
    set: RefCell<Vec<Alarm>>,
}

struct Alarm {
    /// By the monotonic clock.
    at: Duration,
    waker: Waker,
    reason: Rc<Cell<Option<Reason>>>,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is time.
    Time,
    /// Something has changed that may concern who waits.
    News,
}

impl Alarms {
    /// Waits until this time, if somebody calls [`ring`](Alarms::ring) then, or for another reason.
    pub async fn wait(&self, at: Duration) -> Reason {
        let reason = Rc::new(Cell::new(None));
        let _forgotten = Forgotten { alarms: self, reason: &reason };
        poll_fn(|context| {
            if let Some(reason) = reason.get() {
                return Poll::Ready(reason);
            }
            let mut set = self.set.borrow_mut();
            set.retain(|alarm| !Rc::ptr_eq(&alarm.reason, &reason));
            let place = set.partition_point(|other| other.at > at);
            set.insert(place, Alarm { at, waker: context.waker().clone(), reason: reason.clone() });
            Poll::Pending
        })
        .await
    }

    /// When the first of those who wait is due.
    pub fn next(&self) -> Option<Duration> {
        self.set.borrow().last().map(|alarm| alarm.at)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.set.borrow().is_empty()
    }

    /// Wakes those who have waited until now.
    pub fn ring(&self, now: Duration) {
        let mut set = self.set.borrow_mut();
        while let Some(alarm) = set.pop_if(|alarm| alarm.at <= now) {
            alarm.ring(Reason::Time);
        }
    }

    /// Wakes all, so that they look around.
    pub fn tell_all(&self) {
        for alarm in self.set.take() {
            alarm.ring(Reason::News);
        }
    }
}

/// Takes an alarm off the list when nobody waits for it any more.
struct Forgotten<'a> {
    alarms: &'a Alarms,
    reason: &'a Rc<Cell<Option<Reason>>>,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        if self.reason.get().is_none() {
            self.alarms.set.borrow_mut().retain(|alarm| !Rc::ptr_eq(&alarm.reason, self.reason));
        }
    }
}

impl Alarm {
    fn ring(self, reason: Reason) {
        self.reason.set(Some(reason));
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_waits_is_woken_in_time_and_not_before() {
        block_on(async {
            let alarms = Alarms::default();
            let mut waits = [3, 1, 2].map(|seconds| Box::pin(alarms.wait(seconds * SECOND)));
            for wait in &mut waits {
                assert_eq!(poll_once(wait).await, None);
            }
            assert_eq!(alarms.next(), Some(SECOND));
            alarms.ring(SECOND);
            assert_eq!(poll_once(&mut waits[1]).await, Some(Reason::Time));
            assert_eq!(poll_once(&mut waits[2]).await, None);
            assert_eq!(alarms.next(), Some(2 * SECOND));
        });
    }

    #[test]
    fn all_who_wait_hear_of_news() {
        block_on(async {
            let alarms = Alarms::default();
            let mut waits = [1, 3].map(|seconds| Box::pin(alarms.wait(seconds * SECOND)));
            for wait in &mut waits {
                assert_eq!(poll_once(wait).await, None);
            }
            assert!(!alarms.is_empty());
            alarms.tell_all();
            for wait in &mut waits {
                assert_eq!(poll_once(wait).await, Some(Reason::News));
            }
            assert!(alarms.is_empty());
        });
    }
}
