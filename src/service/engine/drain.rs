//! A drain: runs jobs in this invocation, many at once, until none is due or the budget is spent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use async_lock::RwLock;
use wstd::future::FutureExt;
use wstd::runtime::{Task, spawn};

use super::alarms::Alarms;
use super::{Engine, lane};
use crate::service::job::{Id, Job};
use crate::service::store::{Due, Result, Slot, StoreError};
use crate::service::time::Time;

/// How often a drain with room looks whether something has come.
const LOOK: Duration = Duration::from_millis(50);

/// How often it looks whether others have died, and what may be removed.
const CHORES: Duration = Duration::from_secs(1);

/// How many due jobs are known beforehand, so that a long queue is not listed for every job.
const KNOWN: usize = 1024;

pub struct Drain {
    pub engine: Rc<Engine>,
    /// A step that must run alone in this instance holds this exclusively; all others share it.
    pub gate: RwLock<()>,
    slot: RefCell<Slot>,
    /// The due jobs that are known, first come first.
    known: RefCell<VecDeque<Due>>,
    /// The jobs that were to be cancelled at the last look.
    cancelled: RefCell<Vec<Id>>,
    renew_at: Cell<Time>,
    chores_at: Cell<Time>,
    lanes: Cell<usize>,
    /// Why this drain cannot go on.
    broken: RefCell<Option<StoreError>>,
    alarms: Alarms,
    /// Until when this drain rests, and whom to wake before.
    resting: Cell<Time>,
    waker: RefCell<Option<Waker>>,
}

impl Drain {
    /// Runs `own`, if nobody has claimed it yet, and whatever is due. Returns without the slot.
    pub async fn run(engine: &Rc<Engine>, slot: Slot, own: Option<Id>) -> Result<()> {
        let drain = Rc::new(Drain {
            engine: engine.clone(),
            gate: RwLock::new(()),
            slot: slot.into(),
            known: RefCell::default(),
            cancelled: engine.store.cancellations()?.into(),
            renew_at: Cell::new(Time::now() + LOOK), // It has just begun.
            chores_at: Cell::default(),
            lanes: Cell::default(),
            broken: RefCell::default(),
            alarms: Alarms::default(),
            resting: Cell::default(),
            waker: RefCell::default(),
        });
        let mut lanes = Vec::new();
        if let Some(id) = own {
            drain.known.borrow_mut().push_back(Due { time: id.created(), id });
        }
        loop {
            drain.keep_up()?;
            drain.fill(&mut lanes)?;
            if let Some(error) = drain.broken.take() {
                // Without its slot, none of the lanes could store what it does: they are dropped here.
                // If the store has failed, their claims are taken over when the lease has run out.
                return Err(error);
            }
            if drain.lanes.get() == 0 {
                break;
            }
            drain.rest().await;
            lanes.retain(|lane: &Task<()>| !lane.is_finished());
        }
        drop(lanes);
        let Some(drain) = Rc::into_inner(drain) else {
            unreachable!("only lanes share it, and they have ended")
        };
        engine.store.leave(drain.slot.into_inner())
    }

    /// Renews the lease at every look and learns who is cancelled; once a second takes over what others
    /// have lost and tidies up.
    fn keep_up(&self) -> Result<()> {
        let (now, lease) = (Time::now(), self.engine.config.lease);
        if now >= self.renew_at.get() {
            self.engine.store.renew(&mut self.slot.borrow_mut(), now, lease)?;
            self.cancelled.replace(self.engine.store.cancellations()?);
            self.renew_at.set(now + LOOK);
        }
        if now >= self.chores_at.get() {
            self.chores_at.set(now + CHORES);
            self.engine.adopt()?;
            self.engine.store.tidy(now, self.engine.config.keep)?;
        }
        Ok(())
    }

    /// Opens lanes for due jobs while there is room.
    fn fill(self: &Rc<Self>, lanes: &mut Vec<Task<()>>) -> Result<()> {
        while self.lanes.get() < self.engine.config.lanes {
            let job = match self.next()? {
                Some(job) => job,
                None if self.look()? => continue,
                None => break,
            };
            self.lanes.set(self.lanes.get() + 1);
            lanes.push(spawn(self.clone().lane(job)));
        }
        Ok(())
    }

    /// Runs this job and the ones after it, until none is known to be due.
    async fn lane(self: Rc<Self>, mut job: Job) {
        let result = loop {
            match lane::run(&self, job).await.and_then(|()| self.next()) {
                Ok(Some(next)) => job = next,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Err(error) = result {
            self.broken.borrow_mut().get_or_insert(error);
        }
        self.lanes.set(self.lanes.get() - 1);
        self.wake();
    }

    /// Waits until a lane ends, or it is time to look again; wakes those lanes that wait.
    async fn rest(&self) {
        let (lanes, look) = (self.lanes.get(), Time::now() + LOOK);
        loop {
            let now = Time::now();
            self.alarms.ring(now);
            if self.lanes.get() < lanes || now >= look {
                return;
            }
            let until = self.alarms.next().unwrap_or(look).min(look);
            self.resting.set(until);
            let is_awake = poll_fn(|context| {
                if self.lanes.get() < lanes || self.alarms.next().is_some_and(|next| next < until) {
                    return Poll::Ready(());
                }
                self.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            });
            let _ = is_awake.timeout(wstd::time::Duration::from(until.since(now))).await;
        }
    }

    /// Lets a lane wait until this time.
    pub async fn wait(&self, time: Time) {
        if time < self.resting.get() {
            self.wake();
        }
        self.alarms.wait(time).await;
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Claims the next of the known jobs.
    fn next(&self) -> Result<Option<Job>> {
        while !self.engine.is_spent() {
            let Some(due) = self.known.borrow_mut().pop_front() else { break };
            if let Some(job) = self.engine.store.claim(&self.slot.borrow(), due)? {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// Looks which jobs are due: whether some are known now.
    fn look(&self) -> Result<bool> {
        let engine = &self.engine;
        if engine.is_spent() || !engine.look(KNOWN)? {
            return Ok(false);
        }
        self.known.borrow_mut().extend(engine.looked.borrow_mut().0.due.drain(..));
        Ok(true)
    }

    /// Whether somebody wants this job cancelled, who had said so by the last look.
    pub fn is_cancelled(&self, id: Id) -> Result<bool> {
        let was_cancelled = self.cancelled.borrow().contains(&id);
        Ok(was_cancelled && self.engine.store.is_cancelled(id)?)
    }

    /// What a lane does to the store, it does as the holder of this drain's slot.
    pub fn with_slot<T>(&self, act: impl FnOnce(&Slot) -> T) -> T {
        act(&self.slot.borrow())
    }
}
