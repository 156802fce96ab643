//! Many futures at once in one invocation, each polled only when it was woken, in turns with the host.
//!
//! An executor that polls whatever is ready as long as something is would give the host no turn while many
//! lanes compute, however short the slices of each are: this one rests after a slice of them all.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::jobs::host::Host;

/// How long lanes may compute between two turns for the host, all together.
const SLICE: Duration = Duration::from_millis(7);

/// A pause of this length was a turn for the host.
const REAL: Duration = Duration::from_micros(500);

type Lane<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Futures that run at once.
pub struct Lanes<'a, T> {
    host: &'a dyn Host,
    lanes: RefCell<Vec<Option<Lane<'a, T>>>>,
    count: Cell<usize>,
    woken: Arc<Woken>,
    /// When the host had its last turn.
    turn: Cell<Duration>,
    /// When there was nothing left to poll.
    left: Cell<Duration>,
}

/// The lanes that are to be polled, and who polls them.
#[derive(Default)]
struct Woken(Mutex<Calls>);

/// New lanes and others have turns, each kind in the order of their calls. What a new lane begins to wait for goes on
/// while others come to their ends: if it stood behind them, lanes that began together would end together, again and
/// again, and nothing would be under way meanwhile.
#[derive(Default)]
struct Calls {
    new: VecDeque<usize>,
    woken: VecDeque<usize>,
    /// The next one is a new one, if there is any.
    is_new_next: bool,
    poller: Option<Waker>,
}

struct LaneWaker {
    woken: Arc<Woken>,
    lane: usize,
}

impl Woken {
    fn wake(&self, lane: usize) {
        // A panic in between leaves the list as it was.
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !calls.woken.contains(&lane) && !calls.new.contains(&lane) {
            calls.woken.push_back(lane);
        }
        if let Some(waker) = calls.poller.take() {
            waker.wake();
        }
    }

    fn begin(&self, lane: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).new.push_back(lane);
        self.wake(lane);
    }

    fn next(&self) -> Option<usize> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Calls { new, woken, is_new_next, .. } = &mut *calls;
        *is_new_next = !*is_new_next;
        if *is_new_next {
            woken.pop_front().or_else(|| new.pop_front())
        } else {
            new.pop_front().or_else(|| woken.pop_front())
        }
    }

    fn wait(&self, waker: &Waker) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poller = Some(waker.clone());
    }
}

impl Wake for LaneWaker {
    fn wake(self: Arc<Self>) {
        self.woken.wake(self.lane);
    }
}

impl<'a, T> Lanes<'a, T> {
    pub fn new(host: &'a dyn Host) -> Lanes<'a, T> {
        Lanes {
            host,
            lanes: RefCell::default(),
            count: Cell::new(0),
            woken: Arc::default(),
            turn: Cell::new(host.elapsed()),
            left: Cell::new(host.elapsed()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// Adds a lane.
    pub fn push(&self, lane: impl Future<Output = T> + 'a) {
        let mut lanes = self.lanes.borrow_mut();
        let free = lanes.iter().position(Option::is_none).unwrap_or(lanes.len());
        if free == lanes.len() {
            lanes.push(None);
        }
        lanes[free] = Some(Box::pin(lane));
        self.count.set(self.count.get() + 1);
        self.woken.begin(free);
    }

    /// Polls for the result of the next lane that ends; `None` if there is no lane. What the caller has to
    /// do in time, it does in `between`, which is called between any two lanes.
    pub fn poll_next(&self, context: &mut Context<'_>, between: &mut dyn FnMut()) -> Poll<Option<T>> {
        if self.is_empty() {
            return Poll::Ready(None);
        }
        let now = self.host.elapsed();
        if now.saturating_sub(self.left.get()) >= REAL {
            self.turn.set(now);
        }
        self.woken.wait(context.waker());
        while let Some(number) = self.woken.next() {
            // It is taken out while it runs, so that it may add lanes.
            let Some(mut lane) = self.lanes.borrow_mut().get_mut(number).and_then(Option::take) else {
                continue;
            };
            let waker = Arc::new(LaneWaker { woken: self.woken.clone(), lane: number }).into();
            let result = lane.as_mut().poll(&mut Context::from_waker(&waker));
            between();
            if let Poll::Ready(result) = result {
                self.count.set(self.count.get() - 1);
                return Poll::Ready(Some(result));
            }
            self.lanes.borrow_mut()[number] = Some(lane);
            if self.host.elapsed().saturating_sub(self.turn.get()) >= SLICE {
                // By a call that nothing else can end. A poll of many timers that are over gives no turn, and
                // tokio's hosts let a task that has had none see only so many of them (128).
                self.host.turn();
                self.turn.set(self.host.elapsed());
                context.waker().wake_by_ref();
                break;
            }
        }
        self.woken.wait(context.waker());
        self.left.set(self.host.elapsed());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;

    use futures_lite::future::{block_on, yield_now};

    use super::*;
    use crate::jobs::host::tests::Native;

    #[test]
    fn lanes_run_at_once_and_may_add_others() {
        let lanes = Rc::new(Lanes::new(&Native));
        let order = Rc::new(RefCell::new(Vec::new()));
        for (name, yields) in [("slow", 3), ("quick", 0), ("middle", 1)] {
            let order = order.clone();
            lanes.push(async move {
                for _ in 0..yields {
                    yield_now().await;
                }
                order.borrow_mut().push(name);
                yields
            });
        }
        let mut results = Vec::new();
        while let Some(result) = block_on(poll_fn(|context| lanes.poll_next(context, &mut || {}))) {
            if result == 0 {
                lanes.push(async { 7 });
            }
            results.push(result);
        }
        assert_eq!(*order.borrow(), ["quick", "middle", "slow"]);
        results.sort();
        assert_eq!(results, [0, 1, 3, 7]);
    }
}
