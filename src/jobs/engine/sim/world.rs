//! A world in which hosts run, stop, die and come back late, and time passes as the test wants it.
//!
//! Each invocation is a thread, but only one runs at a time, until it comes to a place where the world may go
//! on with another: before every operation on the disk, and when it waits. So a history depends on its seed
//! alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::LEASE;
use super::ground::{Ground, Seen};
use crate::jobs::engine::watch::SILENCE;
use crate::jobs::fault::TRACER;
use crate::jobs::host::{Host, Sleep};
use crate::jobs::job::{End, Id};
use crate::jobs::store::Store;
use crate::jobs::store::model::random;
use crate::jobs::time::Time;

/// When a world begins: 2026, in milliseconds.
const BEGIN: u64 = 1_790_000_000_000;

/// How an operation on a disk fails: nothing is done.
pub const BROKEN: &[ErrorKind] = &[ErrorKind::Other];

/// How a statement fails: it is not run, or its answer is lost.
pub const AWAY: &[ErrorKind] = &[ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];

/// What happened to a job.
#[derive(Clone, Debug)]
pub struct Trace {
    pub event: &'static str,
    pub id: Id,
    pub version: u64,
    /// Whether this was done by a host that others may hold for dead.
    pub is_stale: bool,
}

/// What steps have given first.
pub type Results = Mutex<HashMap<(String, u32), u64>>;

/// What a target has heard of one end of a job: by the job, its round and the target's index.
pub type Told = Mutex<HashMap<(Id, u32, usize), Telling>>;

#[derive(Debug)]
pub struct Telling {
    pub end: End,
    /// How often it has heard of it.
    pub count: usize,
    /// It does not want to.
    pub is_refused: bool,
}

/// The world that threads share.
pub struct World {
    results: Arc<Results>,
    told: Told,
    state: Mutex<State>,
    /// Nobody runs any more, for now.
    rest: Condvar,
}

struct State {
    /// In microseconds.
    now: u64,
    /// Sleeps end at multiples of this: in some worlds, all who wait wake up together.
    tick: u64,
    random: Box<dyn FnMut(u64) -> u64 + Send>,
    /// How many lanes each drain has.
    lanes: usize,
    /// How long each operation on the disk takes at least, in microseconds.
    slow: u64,
    /// How many of a thousand operations fail, and how.
    failing: (u64, &'static [ErrorKind]),
    /// One of them has.
    has_failed: bool,
    /// A file can have one name only.
    is_linkless: bool,
    /// How long this run goes on, in microseconds.
    until: u64,
    /// Whose turn it is.
    running: Option<usize>,
    invocations: Vec<Invocation>,
    hosts: Vec<Process>,
    traces: Vec<Trace>,
    /// The jobs that belong to groups.
    members: HashMap<Id, Member>,
    /// How often a post began or was acknowledged.
    posts: u64,
    /// Which host each random number was given to: signs of life are such numbers.
    given: HashMap<u64, usize>,
    /// After so many operations on the disk, a host dies or stops for this long, in microseconds.
    snag: Option<(u64, Option<u64>)>,
    /// What happened, if it is to be shown.
    log: Option<Vec<String>>,
    panics: Vec<String>,
}

/// A job of a group.
struct Member {
    group: String,
    /// When its post began, and when that was acknowledged: as the how manieth event of all those.
    posted: u64,
    acked: Option<u64>,
    /// A step of it has begun.
    has_begun: bool,
}

struct Invocation {
    host: usize,
    /// When it goes on, in microseconds.
    at: u64,
    has_ended: bool,
    turn: Arc<Condvar>,
}

/// A host's process.
#[derive(Clone, Default)]
struct Process {
    /// Its wall clock minus the true time, in milliseconds.
    offset: i64,
    is_dead: bool,
    /// It stopped then, and goes on then, in microseconds.
    stopped_since: u64,
    stopped_until: u64,
    /// It has been stopped for so long that others may have taken over what it does.
    is_stale: bool,
}

/// What ends a thread whose host is dead.
struct Killed;

thread_local! {
    /// The sleeps of this invocation.
    static SLEEPS: RefCell<Vec<(u64, Waker)>> = const { RefCell::new(Vec::new()) };
}

impl World {
    /// A world whose history is kept if that is to be shown.
    pub fn new(seed: u64, is_shown: bool) -> Arc<World> {
        let mut random = random(seed);
        let state = State {
            now: 0,
            tick: [1, 50_000][random(2) as usize],
            random: Box::new(random),
            lanes: 2,
            slow: 0,
            failing: (0, &[]),
            has_failed: false,
            is_linkless: false,
            until: 0,
            running: None,
            invocations: Vec::new(),
            hosts: Vec::new(),
            traces: Vec::new(),
            members: HashMap::new(),
            posts: 0,
            given: HashMap::new(),
            snag: None,
            log: is_shown.then(Vec::new),
            panics: Vec::new(),
        };
        let (results, told) = Default::default();
        Arc::new(World { results, told, state: Mutex::new(state), rest: Condvar::new() })
    }

    /// What targets have heard.
    pub fn told(&self) -> &Told {
        &self.told
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// A number below this one.
    pub fn random(&self, below: u64) -> u64 {
        (self.state().random)(below)
    }

    /// The true time, in milliseconds.
    pub fn now(&self) -> u64 {
        self.state().now / 1000
    }

    /// Whether the host that a random number was given to could be held for dead. After an operation has failed, it may
    /// have failed to do what it wanted as the holder.
    pub fn seems_dead(&self, number: u64) -> bool {
        let state = self.state();
        let seems_dead = |host: &usize| state.hosts[*host].is_dead || state.hosts[*host].is_stale;
        state.has_failed || state.given.get(&number).is_none_or(seems_dead)
    }

    /// Whether the host that a random number was given to has given no sign of life for a while.
    pub fn seems_silent(&self, number: u64) -> bool {
        let silent = |state: &State, host: &usize| {
            let host = &state.hosts[*host];
            host.stopped_until > state.now && state.now - host.stopped_since >= SILENCE.as_micros() as u64
        };
        let state = self.state();
        let is_silent = state.given.get(&number).is_some_and(|host| silent(&state, host));
        drop(state);
        is_silent || self.seems_dead(number)
    }

    /// Lets a host die, or stop for this long, between two operations on the disk.
    pub fn set_snag(&self, operations: u64, stop: Option<Duration>) {
        self.state().snag = Some((operations, stop.map(|stop| stop.as_micros() as u64)));
    }

    /// From now on each drain has so many lanes, and each operation on the disk takes so long.
    pub fn set_speed(&self, lanes: usize, slow: Duration) {
        let mut state = self.state();
        (state.lanes, state.slow) = (lanes, slow.as_micros() as u64);
    }

    /// From now on, so many of a thousand operations fail in these ways.
    pub fn set_failing(&self, failing: u64, ways: &'static [ErrorKind]) {
        self.state().failing = (failing, ways);
    }

    /// On this disk, a file can have one name only.
    pub fn forbid_links(&self) {
        self.state().is_linkless = true;
    }

    /// Nothing of the kind happens any more.
    pub fn unset_snag(&self) {
        let mut state = self.state();
        (state.snag, state.failing.0) = (None, 0);
    }

    pub fn traces(&self) -> Vec<Trace> {
        std::mem::take(&mut self.state().traces)
    }

    /// What happened.
    pub fn log(&self) -> String {
        self.state().log.iter().flatten().cloned().collect::<Vec<_>>().join("\n")
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        self.state().note(what);
    }

    /// Starts a host.
    pub fn start(&self) -> usize {
        let state = &mut *self.state();
        state.hosts.push(Process::default());
        state.hosts.len() - 1
    }

    pub fn kill(&self, host: usize) {
        self.state().kill(host);
    }

    pub fn is_dead(&self, host: usize) -> bool {
        self.state().hosts[host].is_dead
    }

    /// Stops a host for this long. It comes back late: stale, if that is as long as a lease.
    pub fn stop(&self, host: usize, time: Duration) {
        self.state().stop(host, time.as_micros() as u64);
    }

    /// Sets a host's wall clock.
    pub fn set_clock(&self, host: usize, offset: i64) {
        self.note(|| format!("host {host} has its clock {offset} ms off"));
        self.state().hosts[host].offset = offset;
    }

    /// Runs something on a host, as an invocation of its own.
    pub fn invoke(
        self: &Arc<Self>,
        host: usize,
        ground: &Ground,
        body: impl FnOnce(Rc<dyn Store>, Rc<SimHost>) + Send + 'static,
    ) -> JoinHandle<()> {
        let number = {
            let state = &mut *self.state();
            let turn = Arc::default();
            state.invocations.push(Invocation { host, at: state.now, has_ended: false, turn });
            state.invocations.len() - 1
        };
        let (world, ground) = (self.clone(), ground.clone());
        thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| {
                world.wait_for_turn(number);
                let tracing = world.clone();
                let seen = ground.clone();
                TRACER.set(Some(Box::new(move |event, id, version| {
                    tracing.trace(number, event, id, version);
                    if event == "step" {
                        tracing.check_turn(number, id, &seen);
                    }
                })));
                let sim = SimHost { world: world.clone(), number, begun: world.state().now };
                let hooked = world.clone();
                let hook = move |operation: &'static str, path: &str| hooked.before(number, operation, path);
                let sim = Rc::new(sim);
                body(ground.store(Box::new(hook), sim.clone()), sim);
            }));
            let mut state = world.state();
            if let Err(panic) = result
                && !panic.is::<Killed>()
            {
                let text = panic.downcast_ref::<String>().cloned();
                state.panics.push(text.unwrap_or_else(|| "a panic".into()));
            }
            state.invocations[number].has_ended = true;
            world.hand_on(state);
        })
    }

    /// Runs until everybody has ended or waits until after this time, in milliseconds: whether somebody is
    /// left.
    pub fn run_until(&self, until: u64) -> bool {
        let mut state = self.state();
        state.until = until * 1000;
        state.hand_on();
        while state.running.is_some() {
            state = self.rest.wait(state).unwrap_or_else(|poison| poison.into_inner());
        }
        if let Some(panic) = state.panics.first() {
            let panic = panic.clone();
            drop(state);
            panic!("{panic}");
        }
        state.now = state.now.max(until * 1000);
        state.invocations.iter().any(|invocation| !invocation.has_ended)
    }

    /// Gives the turn back until it comes again.
    fn pass_turn(&self, number: usize, at: u64) {
        let mut state = self.state();
        state.invocations[number].at = at;
        self.hand_on(state);
        self.wait_for_turn(number);
    }

    /// Gives the turn to whoever goes on next, or ends this run.
    fn hand_on(&self, mut state: MutexGuard<'_, State>) {
        state.hand_on();
        if state.running.is_none() {
            self.rest.notify_one();
        }
    }

    fn wait_for_turn(&self, number: usize) {
        let mut state = self.state();
        let turn = state.invocations[number].turn.clone();
        while state.running != Some(number) {
            state = turn.wait(state).unwrap_or_else(|poison| poison.into_inner());
        }
        if state.hosts[state.invocations[number].host].is_dead {
            drop(state);
            resume_unwind(Box::new(Killed));
        }
    }

    /// Before an operation on the disk: time passes, and others may come first.
    fn before(&self, number: usize, operation: &'static str, path: &str) -> io::Result<()> {
        let (at, result) = {
            let state = &mut *self.state();
            let cost = if operation == "sync" { 400 } else { 20 };
            let pause = (state.random)(cost) + 1 + state.slow;
            let host = state.invocations[number].host;
            let (failing, ways) = state.failing;
            let fails = failing > 0 && (state.random)(1000) < failing;
            let failure = fails.then(|| ways[(state.random)(ways.len() as u64) as usize]);
            let is_linkless = state.is_linkless && operation == "link";
            state.has_failed |= fails;
            let failure = failure.or(is_linkless.then_some(ErrorKind::Unsupported));
            let result = || failure.map_or(Ok(()), |failure| Err(failure.into()));
            let of = |failure| format!(": {failure}");
            state.note(|| {
                format!("{host}.{number} {operation} {path}{}", failure.map(of).unwrap_or_default())
            });
            match &mut state.snag {
                Some((0, stop)) => {
                    match stop.take() {
                        Some(time) => state.stop(host, time),
                        None => state.kill(host),
                    }
                    state.snag = None;
                }
                Some((left, _)) => *left -= 1,
                None => {}
            }
            // Mostly, it just goes on.
            if (state.random)(8) > 0
                && state.hosts[host].stopped_until <= state.now
                && !state.hosts[host].is_dead
            {
                state.now += pause;
                return result();
            }
            (state.now + pause, result())
        };
        self.pass_turn(number, at);
        result
    }

    /// A job of this group is about to be posted.
    pub fn post(&self, id: Id, group: &str) {
        let state = &mut *self.state();
        state.posts += 1;
        let member = Member { group: group.into(), posted: state.posts, acked: None, has_begun: false };
        state.members.insert(id, member);
    }

    /// It was acknowledged.
    pub fn ack(&self, id: Id) {
        let state = &mut *self.state();
        state.posts += 1;
        if let Some(member) = state.members.get_mut(&id) {
            member.acked = Some(state.posts);
        }
    }

    /// A step of this job begins: no other one of its group has begun and not ended, and none waits that was
    /// acknowledged before this one was posted.
    fn check_turn(&self, number: usize, id: Id, ground: &Ground) {
        let state = &mut *self.state();
        let is_stale = state.hosts[state.invocations[number].host].is_stale;
        let Some(own) = state.members.get_mut(&id).filter(|_| !is_stale) else { return };
        own.has_begun = true;
        let own = &state.members[&id];
        for Seen { id: other, place, waits, is_active, run } in ground.jobs() {
            let Some(member) = state.members.get(&other).filter(|other| other.group == own.group) else {
                continue;
            };
            if other == id || run.end.is_some() {
                continue;
            }
            let was_first = member.acked.is_some_and(|acked| acked < own.posted) && run.round == 0;
            assert!(!(is_active && member.has_begun), "{id} and {other} ({place}) run at once");
            assert!(!(waits && was_first && !member.has_begun), "{id} runs before {other} ({place})");
        }
    }

    fn trace(&self, number: usize, event: &'static str, id: Id, version: u64) {
        let state = &mut *self.state();
        let is_stale = state.hosts[state.invocations[number].host].is_stale;
        state.traces.push(Trace { event, id, version, is_stale });
        state.note(|| format!("{number} {event} {id} {version}"));
    }
}

impl State {
    fn kill(&mut self, host: usize) {
        self.note(|| format!("host {host} is killed"));
        self.hosts[host].is_dead = true;
    }

    fn stop(&mut self, host: usize, time: u64) {
        self.note(|| format!("host {host} stops for {time} us"));
        let (now, process) = (self.now, &mut self.hosts[host]);
        if process.stopped_until < now {
            process.stopped_since = now;
        }
        process.stopped_until = process.stopped_until.max(now + time);
        // It gives a sign of life eight times in a lease.
        let silent = process.stopped_until - process.stopped_since;
        process.is_stale |= Duration::from_micros(silent) >= LEASE * 3 / 4;
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>10.3} ms: {}", self.now as f64 / 1000.0, what()));
        }
    }

    /// Gives the turn to whoever goes on next; to nobody if that is later, or somebody has failed.
    fn hand_on(&mut self) {
        self.running = None;
        if self.panics.is_empty()
            && let Some((number, at)) = self.next(self.until)
        {
            self.now = self.now.max(at);
            self.running = Some(number);
            self.invocations[number].turn.notify_one();
        }
    }

    /// Who goes on next, and when, if that is not after this time.
    fn next(&mut self, until: u64) -> Option<(usize, u64)> {
        let when = |invocation: &Invocation| {
            let host = &self.hosts[invocation.host];
            if host.is_dead { self.now } else { invocation.at.max(host.stopped_until) }
        };
        let waiting = self.invocations.iter().enumerate().filter(|(_, invocation)| !invocation.has_ended);
        let times: Vec<_> = waiting.map(|(number, invocation)| (number, when(invocation))).collect();
        let first = times.iter().map(|(_, at)| *at).min().filter(|at| *at <= until)?;
        // Any of those who could go on about now.
        let near: Vec<_> = times.into_iter().filter(|(_, at)| *at <= first.max(self.now) + 50).collect();
        let chosen = near[(self.random)(near.len() as u64) as usize];
        Some(chosen)
    }
}

/// The host of an invocation.
pub struct SimHost {
    world: Arc<World>,
    number: usize,
    begun: u64,
}

impl SimHost {
    pub fn lanes(&self) -> usize {
        self.world.state().lanes
    }

    pub fn results(&self) -> Arc<Results> {
        self.world.results.clone()
    }

    pub fn told(&self) -> &Told {
        self.world.told()
    }

    /// Runs a future to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            let now = self.world.state().now;
            SLEEPS.with_borrow_mut(|sleeps| {
                sleeps.retain(|(at, waker)| {
                    if *at <= now {
                        waker.wake_by_ref();
                    }
                    *at > now
                });
            });
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return result;
            }
            let next = SLEEPS.with_borrow(|sleeps| sleeps.iter().map(|(at, _)| *at).min());
            let next = next.expect("who waits waits for a time");
            let tick = self.world.state().tick;
            self.world.pass_turn(self.number, next.div_ceil(tick).saturating_mul(tick));
        }
    }
}

impl Host for SimHost {
    fn wall(&self) -> Time {
        let state = self.world.state();
        let offset = state.hosts[state.invocations[self.number].host].offset;
        Time((BEGIN + state.now / 1000).saturating_add_signed(offset))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.world.state().now - self.begun)
    }

    fn sleep(&self, time: Duration) -> Sleep {
        let world = self.world.clone();
        let at =
            world.state().now + u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
        Box::pin(std::future::poll_fn(move |context| {
            if world.state().now >= at {
                return Poll::Ready(());
            }
            SLEEPS.with_borrow_mut(|sleeps| sleeps.push((at, context.waker().clone())));
            Poll::Pending
        }))
    }

    fn turn(&self) {}

    fn pause(&self, time: Duration) {
        let now = self.world.state().now;
        self.world.pass_turn(self.number, now + time.as_micros() as u64);
    }

    fn random(&self) -> u64 {
        let number = self.world.random(u64::MAX);
        let state = &mut *self.world.state();
        let host = state.invocations[self.number].host;
        state.given.insert(number, host);
        number
    }
}
