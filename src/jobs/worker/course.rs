//! What the two sides of a running job share: its worker's code, which asks, and the engine, which records.
//!
//! The worker's side is the [`Job`](super::Job) that it was given. A step that has ended, or a sleep that begins,
//! leaves a [`Want`]; when the engine has recorded it, the worker's code goes on. Where the job is to stop, its
//! code waits at the next step for good, and the engine drops it: it begins anew, by the record, another time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Failure;
use crate::jobs::job::{Id, Input, Job, Progress, Recorded, Wait, What};

/// The longest name of a step, in bytes.
const NAME: usize = 255;

/// The longest message of a progress, in bytes.
const MESSAGE: usize = 255;

/// What the engine is to record.
#[derive(Debug)]
pub enum Want {
    /// A step has this result, in JSON.
    Done { step: String, result: Vec<u8> },
    /// Somebody sleeps for so long from now on.
    Sleep { step: String, time: Duration, key: u64 },
    /// A step has failed; it is tried again unless that is final.
    Failed { step: String, tries: u32, is_final: bool, failure: Failure, key: u64 },
}

/// A job's way through its worker's code.
pub struct Course {
    pub id: Id,
    pub input: Input,
    pub round: u32,
    /// How often a step is tried.
    pub attempts: u32,
    /// How long a step may take.
    pub step: Option<Duration>,
    /// How many bytes its record may have.
    pub most: usize,
    /// How often the step that ran last had been tried before.
    pub tries: Cell<u32>,
    /// What the job knows, of a worker that does one step at a time.
    pub checkpoint: Cell<Option<Vec<u8>>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    steps: HashMap<String, Step>,
    /// How many bytes are recorded.
    size: usize,
    wants: Vec<Want>,
    /// How many wants there have been, and how many of them are recorded.
    wanted: u64,
    recorded: u64,
    /// Those that wait until more is recorded.
    recorders: Vec<Waker>,
    running: Vec<Running>,
    parked: Vec<Parked>,
    /// How many wait at a step for good.
    halted: usize,
    is_stopped: bool,
    keys: u64,
    progress: Option<Progress>,
}

/// What is known of a step.
struct Step {
    /// The code has come to it.
    is_used: bool,
    recorded: Option<(What, Vec<u8>)>,
}

/// A step whose work has begun.
struct Running {
    key: u64,
    /// Since when, by the monotonic clock; unknown before the engine has seen it.
    since: Option<Duration>,
    is_overdue: bool,
    waker: Waker,
}

/// Somebody who waits for his time.
struct Parked {
    key: u64,
    /// Until when, once that is recorded; and by the monotonic clock, once the engine has seen it.
    wait: Option<Wait>,
    until: Option<Duration>,
    is_over: bool,
    waker: Waker,
}

impl State {
    /// Who waits under this key: with what he waits for, as far as that is known.
    fn parked(&mut self, key: u64) -> &mut Parked {
        let place = self.parked.iter().position(|parked| parked.key == key).unwrap_or(self.parked.len());
        if place == self.parked.len() {
            let waker = Waker::noop().clone();
            self.parked.push(Parked { key, wait: None, until: None, is_over: false, waker });
        }
        &mut self.parked[place]
    }
}

impl Course {
    pub fn new(job: &mut Job, attempts: u32, step: Option<Duration>, most: usize) -> Course {
        let input = Input { body: std::mem::take(&mut job.input.body), ..job.input.clone() };
        Course {
            id: job.id,
            input,
            round: job.run.round,
            attempts,
            step,
            most,
            tries: Cell::new(job.run.tries),
            checkpoint: Cell::new(job.run.checkpoint().map(Vec::from)),
            state: RefCell::default(),
        }
    }

    /// Takes in what was recorded before.
    pub fn replay(&self, record: Vec<Recorded>) {
        let mut state = self.state.borrow_mut();
        for Recorded { step, what, bytes } in record {
            state.size += step.len() + bytes.len();
            // Who begins a job again gives each step all its attempts.
            let counts = !matches!(what, What::Failed { round, .. } if round != self.round);
            let recorded = counts.then_some((what, bytes));
            state.steps.insert(step, Step { is_used: false, recorded });
        }
    }

    /// The worker's code has come to a step: what it has come to before, if it has.
    ///
    /// # Errors
    /// Its name is too long, or was used before.
    pub fn enter(&self, name: &str) -> Result<Option<(What, Vec<u8>)>, Failure> {
        if name.len() > NAME {
            let begin: String = name.chars().take(40).collect();
            let length = name.len();
            return Err(Failure::fatal(format!(
                "step name too long: `{begin}…`: {length} bytes (limit {NAME})"
            )));
        }
        let mut state = self.state.borrow_mut();
        let step = state.steps.entry(name.into()).or_insert_with(|| Step { is_used: false, recorded: None });
        if std::mem::replace(&mut step.is_used, true) {
            return Err(Failure::fatal(format!("step `{name}`: two steps of this name")));
        }
        Ok(step.recorded.take())
    }

    /// Waits for good if the job is to stop here.
    pub async fn go_on(&self) {
        let mut is_halted = false;
        poll_fn(|_| {
            let mut state = self.state.borrow_mut();
            if state.is_stopped && !is_halted {
                state.halted += 1;
                is_halted = true;
            }
            if is_halted { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Does a step's work, after so many failures; `None` if that takes too long.
    pub async fn run<T>(&self, tries: u32, work: &mut impl AsyncFnMut() -> T) -> Option<T> {
        let key = self.key();
        let _running = Removed { course: self, key };
        self.tries.set(tries);
        let mut work = pin!(work());
        poll_fn(|context| {
            self.tries.set(tries); // It may have been another one's, of a step beside this.
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(Some(result));
            }
            let mut state = self.state.borrow_mut();
            match state.running.iter_mut().find(|running| running.key == key) {
                Some(running) if running.is_overdue => return Poll::Ready(None),
                Some(running) => running.waker.clone_from(context.waker()),
                None => {
                    let waker = context.waker().clone();
                    state.running.push(Running { key, since: None, is_overdue: false, waker });
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until this is recorded.
    pub async fn record(&self, want: Want) {
        let ticket = {
            let mut state = self.state.borrow_mut();
            state.wants.push(want);
            state.wanted += 1;
            state.wanted
        };
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.recorded >= ticket {
                return Poll::Ready(());
            }
            state.recorders.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until a wait is over: one that was recorded before, or one that the engine begins.
    pub async fn park(&self, key: u64, wait: Option<Wait>) {
        let _parked = Removed { course: self, key };
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            let parked = state.parked(key);
            if parked.is_over {
                return Poll::Ready(());
            }
            parked.wait = parked.wait.or(wait);
            parked.waker.clone_from(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// A number for somebody who runs or waits.
    pub fn key(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.keys += 1;
        state.keys
    }

    /// Whether there is room for so many bytes more, and how many are taken.
    pub fn room_for(&self, bytes: usize) -> Result<(), usize> {
        let size = self.state.borrow().size;
        if size + bytes > self.most { Err(size) } else { Ok(()) }
    }

    pub fn set_progress(&self, mut progress: Progress) {
        if progress.message.len() > MESSAGE {
            let end = progress.message.floor_char_boundary(MESSAGE);
            progress.message.truncate(end);
        }
        self.state.borrow_mut().progress = Some(progress);
    }
}

/// What the engine's side does.
impl Course {
    /// Lets the job stop at its next step, or go on.
    pub fn stop(&self, is_stopped: bool) {
        self.state.borrow_mut().is_stopped = is_stopped;
    }

    /// What is to be recorded.
    pub fn wants(&self) -> Vec<Want> {
        std::mem::take(&mut self.state.borrow_mut().wants)
    }

    /// These are recorded, one for each want; who asked for them goes on.
    pub fn note_recorded(&self, results: &[Recorded]) {
        let mut state = self.state.borrow_mut();
        state.recorded += results.len() as u64;
        state.size += results.iter().map(|result| result.step.len() + result.bytes.len()).sum::<usize>();
        state.recorders.drain(..).for_each(Waker::wake);
    }

    /// Somebody's wait has begun.
    pub fn begin_wait(&self, key: u64, wait: Wait) {
        self.state.borrow_mut().parked(key).wait = Some(wait);
    }

    /// The wait that is over first, and when, by the monotonic clock.
    pub fn first_wait(&self) -> Option<(Duration, Wait)> {
        let state = self.state.borrow();
        let waiting = state.parked.iter().filter(|parked| !parked.is_over);
        waiting.filter_map(|parked| parked.until.zip(parked.wait)).min()
    }

    /// Ends the waits whose time has come, which `until` says of those that have just begun.
    pub fn end_waits(&self, now: Duration, until: impl Fn(Wait) -> Duration) {
        for parked in &mut self.state.borrow_mut().parked {
            let Some(wait) = parked.wait else { continue };
            if !parked.is_over && *parked.until.get_or_insert_with(|| until(wait)) <= now {
                parked.is_over = true;
                parked.waker.wake_by_ref();
            }
        }
    }

    /// Ends the steps that have run for as long as they may, and says when the next one will have.
    pub fn end_steps(&self, now: Duration) -> Option<Duration> {
        let (limit, mut next) = (self.step?, None);
        for running in &mut self.state.borrow_mut().running {
            let until = *running.since.get_or_insert(now) + limit;
            if until > now {
                next = next.into_iter().chain([until]).min();
            } else if !running.is_overdue {
                running.is_overdue = true;
                running.waker.wake_by_ref();
            }
        }
        next
    }

    /// Whether no step's work runs, and somebody waits for his time or for good.
    pub fn is_idle(&self) -> bool {
        self.is_in_step() && self.state.borrow().running.is_empty()
    }

    /// Whether a step's work runs, or somebody waits for his time or for good.
    pub fn is_in_step(&self) -> bool {
        let state = self.state.borrow();
        !state.running.is_empty() || state.halted > 0 || !state.parked.is_empty()
    }

    /// Whether somebody waits at a step for good.
    pub fn is_halted(&self) -> bool {
        self.state.borrow().halted > 0
    }

    /// How many bytes are held, about.
    pub fn size(&self) -> usize {
        self.input.body.len() + self.state.borrow().size
    }

    /// How far the job has come by its worker's own measure, if that is news.
    pub fn take_progress(&self) -> Option<Progress> {
        self.state.borrow_mut().progress.take()
    }
}

/// Takes who runs or waits off the lists, wherever his code ends.
struct Removed<'a> {
    course: &'a Course,
    key: u64,
}

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let mut state = self.course.state.borrow_mut();
        state.running.retain(|running| running.key != self.key);
        state.parked.retain(|parked| parked.key != self.key);
    }
}
