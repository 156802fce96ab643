//! Time limits, with one timer for all of an instance.
//!
//! A thousand calls that wait would have a thousand timers otherwise: each of them costs the host memory, and
//! whenever something happens to one call, the host looks at all of them.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use wstd::runtime::{Task, spawn};
use wstd::time::Instant;

/// How late a limit may be noticed.
const TICK: Duration = Duration::from_millis(100);

thread_local! {
    static LIMITS: RefCell<Limits> = RefCell::default();
}

/// Those that somebody waits for.
#[derive(Default)]
struct Limits {
    waiting: Vec<(u64, Instant, Waker)>,
    /// How many there have been.
    count: u64,
    /// Goes on for as long as somebody waits; dropped, it ends.
    ticker: Option<Task<()>>,
}

/// Ends when its time is over.
pub struct Limit {
    number: u64,
    until: Instant,
}

impl Limit {
    /// This long, from now on.
    pub fn new(time: Duration) -> Limit {
        let number = LIMITS.with_borrow_mut(|limits| {
            limits.count += 1;
            limits.count
        });
        Limit { number, until: Instant::now() + time.into() }
    }
}

impl Future for Limit {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        LIMITS.with_borrow_mut(|limits| {
            let waker = context.waker().clone();
            match limits.waiting.iter_mut().find(|(number, ..)| *number == self.number) {
                Some(waiting) => waiting.2 = waker,
                None => limits.waiting.push((self.number, self.until, waker)),
            }
            limits.ticker.get_or_insert_with(|| spawn(tick()));
        });
        Poll::Pending
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let ended = LIMITS.with_borrow_mut(|limits| {
            limits.waiting.retain(|(number, ..)| *number != self.number);
            if limits.waiting.is_empty() { limits.ticker.take() } else { None }
        });
        drop(ended);
    }
}

/// Wakes whose time is over.
async fn tick() {
    loop {
        wstd::task::sleep(TICK.into()).await;
        let now = Instant::now();
        let due = LIMITS.with_borrow_mut(|limits| {
            let (due, waiting) = mem::take(&mut limits.waiting)
                .into_iter()
                .partition::<Vec<_>, _>(|(_, until, _)| *until <= now);
            limits.waiting = waiting;
            due
        });
        due.into_iter().for_each(|(.., waker)| waker.wake());
    }
}
