//! Histories: hosts that share a store and stop, die, come back late or have wrong clocks, while clients
//! post, cancel, retry, list and remove, targets hear of ends, or do not, and what the store rests on may fail.
//! Whatever happens, the store's and the engine's promises hold.
//!
//! `SEED=7` runs one history again, `HISTORIES=100000` says how many there are on disks. In a database there are an
//! eighth of that: they take longer.

mod ground;
mod world;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future;

use super::{Cancelled, Engine, Purged, Retried};
use crate::jobs::config::Config;
use crate::jobs::host::Host;
use crate::jobs::job::{self, Id, Input, State, TellState};
use crate::jobs::notify::{self, Untold};
use crate::jobs::options::{Delay, Group};
use crate::jobs::store::model::{Disk, random};
use crate::jobs::store::{Put, Range, SharedSqlite, Store, StoreError, Wanted};
use crate::jobs::time::Time;
use crate::jobs::worker::{Checkpoint, Failure, Job, Next, Output, Worker, Workers, demo};
use ground::Ground;
use world::{AWAY, BROKEN, Results, Telling, World};

/// Longer than a store looks for a job that is in none of its places.
const LEASE: Duration = Duration::from_secs(3);

/// Longer than any history lasts, and shorter than a clock may leap for a moment.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// What clients know.
#[derive(Default)]
struct Known {
    /// The jobs that were acknowledged, and whether they fail.
    jobs: HashMap<Id, bool>,
    /// Those of which somebody was told that they are cancelled, or are to be.
    cancelled: HashSet<Id>,
    /// Those of which somebody was told that they are cancelled.
    over: HashSet<Id>,
    /// How somebody has seen jobs to have ended since the last power cut.
    seen: HashMap<Id, State>,
    /// How often somebody has begun each of them again.
    retried: HashMap<Id, u32>,
    /// How often somebody has begun all of them again that had failed, or were cancelled.
    retried_all: u32,
    /// The rounds after which they begin again, as somebody was told.
    again: HashMap<Id, u32>,
    /// Those that somebody has removed.
    purged: HashSet<Id>,
    /// Those of which he was told that they are.
    gone: HashSet<Id>,
}

impl Known {
    fn begins_again(&mut self, id: Id, round: u32) {
        let last = self.again.entry(id).or_default();
        *last = round.max(*last);
    }
}

fn config() -> Config {
    Config {
        drains: 2,
        lease: LEASE,
        attempts: 2,
        backoff: Duration::from_millis(50)..=Duration::from_millis(400),
        keep: KEEP,
        ..Config::default()
    }
}

struct History {
    world: Arc<World>,
    ground: Ground,
    known: Arc<Mutex<Known>>,
    /// How far each job had come when that was stored last, and what has ended.
    stored: HashMap<Id, u64>,
    settled: HashMap<Id, usize>,
    /// How often each job's instance was lost.
    lost: HashMap<Id, usize>,
    /// The most targets that a job has.
    targets: u64,
    /// How often the power was cut.
    cuts: usize,
}

impl History {
    fn new(seed: u64, ground: Ground, is_shown: bool) -> History {
        History {
            world: World::new(seed, is_shown),
            ground,
            known: Arc::default(),
            stored: HashMap::new(),
            settled: HashMap::new(),
            lost: HashMap::new(),
            targets: 2,
            cuts: 0,
        }
    }

    /// A request that posts a job, and its continuation.
    fn post(&self, host: usize, input: &str, key: Option<String>, group: Option<&str>, delay: u64) {
        let (known, world) = (self.known.clone(), self.world.clone());
        let group = group.map(|name| Group::new(name).expect("a short name"));
        let delay = Delay::new(Duration::from_secs(delay)).expect("a short delay");
        let fails = input.contains("failures\":9");
        let body = input.as_bytes().to_vec();
        let targets = self.world.random(self.targets + 1) as usize;
        self.world.invoke(host, &self.ground, move |store, sim| {
            let id = Id::new(&*sim);
            let size = body.len();
            if let Some(group) = &group {
                world.post(id, group.name());
            }
            let worker = String::from_utf8(body.clone()).ok().filter(|name| !name.starts_with('{'));
            let worker = worker.unwrap_or_else(|| "demo".into());
            let notify = vec!["mailto:somebody@example.org".to_owned(); targets];
            let input = Input { worker, key, body, size, group, delay, notify, ..Input::default() };
            let own = match store.put(id, &input, usize::MAX, sim.wall()) {
                Ok(Put::New) => Some(id),
                Ok(Put::Known(same)) => {
                    let is_there = !matches!(store.find(same), Ok(None));
                    let is_purged = known.lock().unwrap().purged.contains(&same);
                    assert!(is_there || is_purged, "a key answers for job {same}, which is not there");
                    None
                }
                Ok(Put::Conflict | Put::Full) => panic!("the same request is no conflict, and there is room"),
                Err(_) => None, // A 503.
            };
            if let Some(id) = own {
                world.ack(id);
                known.lock().unwrap().jobs.insert(id, fails);
            }
            carry_on(store, sim, own);
        });
    }

    /// A request of another kind, and its continuation.
    fn ask(&self, host: usize, what: u64, id: Option<Id>) {
        let known = self.known.clone();
        self.world.invoke(host, &self.ground, move |store, sim| {
            let engine = engine(store.clone(), sim.clone());
            let unknown = |id| {
                let is_purged = known.lock().unwrap().purged.contains(&id);
                assert!(is_purged, "job {id} is out of reach");
            };
            let look = |id| {
                let (is_gone, before) = {
                    let known = known.lock().unwrap();
                    let over = known.over.contains(&id).then_some(State::Cancelled);
                    (known.gone.contains(&id), over.or(known.seen.get(&id).copied()))
                };
                let Ok(found) = store.find(id) else { return };
                let Some(found) = found else { return unknown(id) };
                assert!(!is_gone, "job {id} was removed, and is there");
                let (mut known, state) = (known.lock().unwrap(), found.state());
                if known.retried.contains_key(&id) || known.retried_all > 0 {
                    return;
                }
                assert!(
                    before.is_none_or(|before| before == state),
                    "job {id} was {before:?}, and is {state:?}"
                );
                if state.is_end() {
                    known.seen.insert(id, state);
                }
            };
            // An error is a 503. Who dies before he hears of what he asks may have been heard.
            match (what, id) {
                (0, Some(id)) => {
                    known.lock().unwrap().cancelled.insert(id);
                    match engine.cancel(id) {
                        Ok(Cancelled::Yes(state)) => {
                            let is_right = [State::Queued, State::Running, State::Cancelled].contains(&state);
                            assert!(is_right, "{state:?}");
                            if state == State::Cancelled {
                                known.lock().unwrap().over.insert(id);
                                (0..4).for_each(|_| look(id)); // While others go on.
                            }
                        }
                        Ok(Cancelled::TooLate(state)) => assert!(state.is_end(), "{state:?}"),
                        Ok(Cancelled::Unknown) => unknown(id),
                        Err(_) => {}
                    }
                }
                (1, Some(id)) => {
                    *known.lock().unwrap().retried.entry(id).or_default() += 1;
                    let round = store.find(id).ok().flatten().map_or(0, |found| found.job.run.round);
                    match engine.retry(id) {
                        Ok(Retried::Yes) => known.lock().unwrap().begins_again(id, round),
                        Ok(Retried::Unknown) => unknown(id),
                        Ok(Retried::No(_)) | Err(_) => {}
                    }
                }
                (2, Some(id)) => look(id),
                (4, Some(id)) => {
                    known.lock().unwrap().purged.insert(id);
                    match engine.purge(id) {
                        Ok(Purged::Yes) => {
                            known.lock().unwrap().gone.insert(id);
                            look(id);
                        }
                        Ok(Purged::No(_)) => drop(known.lock().unwrap().purged.remove(&id)),
                        Ok(Purged::Unknown) | Err(_) => {}
                    }
                }
                (5, _) => {
                    known.lock().unwrap().retried_all += 1;
                    let state = [State::Failed, State::Cancelled][sim.random() as usize % 2];
                    let wanted = Wanted { state: Some(state), worker: Some("demo".into()) };
                    let jobs = store.list(&wanted, Range::After(None), usize::MAX).unwrap_or_default();
                    if engine.retry_all(&wanted).is_ok() {
                        let mut known = known.lock().unwrap();
                        // One that only is to be cancelled has not ended yet.
                        for found in jobs.iter().filter(|found| found.job.run.end.is_some()) {
                            known.begins_again(found.job.id, found.job.run.round);
                        }
                    }
                }
                (6, _) => {
                    let state = State::ALL.get(sim.random() as usize % 6).copied();
                    drop(list(&*store, state));
                }
                _ => drop(store.open()),
            }
            carry_on(store, sim, None);
        });
    }

    fn run(&mut self, milliseconds: u64) {
        self.world.run_until(self.world.now() + milliseconds);
        self.check();
    }

    /// What must hold at any time.
    fn check(&mut self) {
        for trace in self.world.traces() {
            let stored = self.stored.entry(trace.id).or_default();
            match trace.event {
                // It comes with its claim from a database, and may have been somebody else's since.
                "loaded" if trace.is_stale && self.ground.is_database() => {}
                "loaded" => assert!(trace.version >= *stored, "loaded after {stored} was stored: {trace:?}"),
                "lost" => assert!(trace.is_stale, "who lives has lost his slot: {trace:?}"),
                "adopted" => {
                    assert!(self.world.seems_dead(trace.version), "adopted from the living: {trace:?}")
                }
                "relieved" => {
                    assert!(self.world.seems_silent(trace.version), "relieved though it lives: {trace:?}")
                }
                _ if trace.is_stale => {}
                "step" => assert!(trace.version >= *stored, "a step ran again after {stored}: {trace:?}"),
                // Whose result is stored together with others' hears of it later.
                "stored" if self.ground.is_database() => {}
                "stored" => assert!(trace.version > *stored, "stored twice after {stored}: {trace:?}"),
                _ => {}
            }
            match trace.event {
                "stored" => *stored = trace.version.max(*stored),
                "settled" => *self.settled.entry(trace.id).or_default() += 1,
                "adopted" | "relieved" => *self.lost.entry(trace.id).or_default() += 1,
                _ => {}
            }
        }
        // A job is in one place.
        let mut places: HashMap<Id, Vec<String>> = HashMap::new();
        for seen in self.ground.jobs() {
            places.entry(seen.id).or_default().push(seen.place);
        }
        let known = self.known.lock().unwrap();
        for id in known.jobs.keys() {
            let places = places.get(id).map_or(&[][..], Vec::as_slice);
            let is_right = places.len() == 1 || places.is_empty() && known.purged.contains(id);
            assert!(is_right, "job {id} is in {places:?}");
        }
    }

    /// A new host, whose clock is right, and a request that brings everything back.
    fn calm_down(&mut self) {
        self.world.unset_snag();
        let host = self.world.start();
        self.ask(host, 3, None);
        let begun = self.world.now();
        while self.world.run_until(self.world.now() + 500) {
            self.check();
            let took = Duration::from_millis(self.world.now() - begun);
            let left = || self.ground.content().join("\n");
            assert!(took < 100 * LEASE, "still not at rest after {took:?}: {}", left());
        }
        self.check();
        for line in self.ground.content() {
            self.world.note(|| format!("there is {line}"));
        }
        let (known, lost, world) = (self.known.clone(), self.lost.clone(), self.world.clone());
        let cuts = self.cuts;
        self.world.invoke(host, &self.ground, move |store, _| {
            let known = known.lock().unwrap();
            // After a power cut, who reads all of them has put right what was wrong.
            let listed = list(&*store, None).unwrap();
            for (id, fails) in &known.jobs {
                let Some(found) = store.find(*id).unwrap() else {
                    assert!(known.purged.contains(id), "job {id} is lost");
                    assert!(!listed.contains(id), "job {id} is listed and is not there");
                    continue;
                };
                assert!(!known.gone.contains(id), "job {id} was removed");
                assert!(listed.contains(id), "job {id} is not listed");
                assert!(
                    list(&*store, Some(found.state())).unwrap().contains(id),
                    "job {id} is listed as another"
                );
                let retries = known.retried.get(id).map_or(0, |count| *count) + known.retried_all;
                let round = found.job.run.round;
                assert!(round <= retries, "job {id} has begun again {round} times, and not {retries}");
                if let Some(last) = known.again.get(id) {
                    assert!(round > *last, "job {id} was to begin again after round {last}");
                }
                let state = found.state();
                let (cancelled, retried) = (known.cancelled.contains(id), retries > 0);
                let is_right = match state {
                    State::Succeeded => !fails && (!cancelled || retried || found.job.run.version > 0),
                    // Lost once, and again while it ran alone: that is a failed attempt. So is what cannot be read,
                    // as long as the disk may be broken just there.
                    State::Failed => {
                        let cannot_be_read =
                            found.job.run.error.as_ref().is_some_and(|e| e.ends_with(&BROKEN[0].to_string()));
                        *fails || lost.get(id).is_some_and(|lost| *lost > 1) || cannot_be_read
                    }
                    State::Cancelled => cancelled,
                    State::Queued | State::Running => false,
                };
                assert!(is_right, "job {id} is {state:?}; it fails: {fails}, cancelled: {cancelled}");
                let told = world.told().lock().unwrap();
                for (index, tell) in found.job.run.tells.iter().enumerate() {
                    let telling = told.get(&(*id, round, index));
                    let is_right = telling.is_some_and(|telling| match tell.state {
                        TellState::Waiting => false,
                        TellState::Delivered => telling.count > 0,
                        TellState::Failed => telling.is_refused,
                    });
                    assert!(is_right, "job {id}: {tell:?}, and of target {index}: {telling:?}");
                    // Who dies after telling and before storing that tells again.
                    let most = 1 + lost.get(id).copied().unwrap_or_default() + cuts;
                    assert!(telling.is_none_or(|telling| telling.count <= most), "job {id}: {telling:?}");
                }
            }
            let counts = store.counts().unwrap();
            assert_eq!((counts.waiting, counts.running, counts.untold, counts.drains), (0, 0, 0, 0));
            assert!(store.marks().unwrap().is_empty(), "marks are left");
            assert!(store.retries().unwrap().is_empty(), "jobs are still to begin again");
            assert!(store.unfinished().unwrap().is_empty(), "something is unfinished");
        });
        self.world.run_until(self.world.now() + 500);
    }
}

/// The jobs in this state, all of which are.
fn list(store: &dyn Store, state: Option<State>) -> Result<Vec<Id>, StoreError> {
    let found = store.list(&Wanted { state, worker: None }, Range::Before(None), 1000)?;
    assert!(
        found.iter().all(|found| state.is_none_or(|state| found.state() == state)),
        "{state:?}: {found:?}"
    );
    let ids: Vec<_> = found.into_iter().map(|found| found.job.id).collect();
    assert!(ids.is_sorted_by(|one, other| one > other), "{ids:?}");
    Ok(ids)
}

fn carry_on(store: Rc<dyn Store>, sim: Rc<world::SimHost>, own: Option<Id>) {
    let engine = Rc::new(engine(store, sim.clone()));
    engine.own.set(own);
    sim.block_on(engine.carry_on());
}

fn engine(store: Rc<dyn Store>, sim: Rc<world::SimHost>) -> Engine {
    let mut workers = Workers::default();
    workers.add(demo());
    let results = sim.results();
    workers.add(Worker::new("steps", {
        let results = results.clone();
        async move |job| steps(job, &results).await
    }));
    workers.add(Worker::stepwise("stepwise", move |job| stepwise(job, &results)));
    let config = Config { lanes: sim.lanes(), ..config() };
    HOST.set(Some(sim.clone()));
    Engine::new(store, Rc::new(config), Rc::new(workers), sim)
}

thread_local! {
    /// The host of this invocation.
    static HOST: RefCell<Option<Rc<world::SimHost>>> = const { RefCell::new(None) };
}

/// Tells a target, which takes a while, and then may not have heard, or may not want to.
pub async fn tell_target(
    job: &job::Job,
    index: usize,
    uri: &str,
    config: &Config,
    now: Time,
) -> Result<(), Untold> {
    let Some(host) = HOST.with_borrow(Option::clone) else {
        return notify::tell(job, index, uri, config, now).await;
    };
    let end = job.run.end.clone().expect("nobody is told before the end");
    host.sleep(Duration::from_millis(host.random() % 400)).await;
    let failed = |is_temporary| Err(Untold { error: "not heard".into(), is_temporary, delay: None });
    let mut told = host.told().lock().unwrap();
    let telling = Telling { end: end.clone(), count: 0, is_refused: false };
    let telling = told.entry((job.id, job.run.round, index)).or_insert(telling);
    assert_eq!(telling.end, end, "job {} has ended in another way", job.id);
    match host.random() % 8 {
        0 => failed(true),
        1 => {
            telling.is_refused = true;
            failed(false)
        }
        _ => {
            telling.count += 1;
            Ok(())
        }
    }
}

/// How many histories there are on disks, if nothing else is said.
const DISK: u64 = 2_000;

/// How often a step has worked.
static WORKS: AtomicU64 = AtomicU64::new(0);

/// A job with steps one after the other, and side by side. What a step has given once, it gives again, whatever
/// happens in between.
async fn steps(job: Job, results: &Results) -> Result<Output, Failure> {
    let try_step = async |step, fails| try_step(&job, results, step, fails).await;
    for step in 0..3 {
        try_step(step, false).await?;
    }
    job.sleep("pause", Duration::from_millis(40)).await?;
    future::try_zip(try_step(3, true), try_step(4, false)).await?;
    job.sleep("long pause", Duration::from_secs(11)).await?;
    try_step(5, false).await?;
    Ok(Output::empty())
}

/// A job that does one step at a time. What a step has left is given to the next one, whatever happens in between.
fn stepwise(job: &Job, results: &Results) -> Result<Next, Failure> {
    let mut bytes = job.checkpoint().unwrap_or_default();
    let before = bytes.chunks(8).map(|number| u64::from_be_bytes(number.try_into().expect("there are 8")));
    for (step, result) in (0..).zip(before) {
        same(job, results, step, result);
    }
    let wait = match bytes.len() / 8 {
        1 => Duration::from_millis(40),
        2 if job.attempt() == 1 => return Err(Failure::retry("the first attempt fails")),
        3 => Duration::from_secs(11),
        5 => return Ok(Next::Done(Output::empty())),
        _ => Duration::ZERO,
    };
    bytes.extend(WORKS.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Ok(Next::Again(Checkpoint { bytes, wait }))
}

async fn try_step(job: &Job, results: &Results, step: u32, fails: bool) -> Result<(), Failure> {
    let work = async || {
        future::yield_now().await;
        match fails && job.attempt() == 1 {
            true => Err(Failure::retry("the first attempt fails")),
            false => Ok(WORKS.fetch_add(1, Ordering::Relaxed)),
        }
    };
    let result = job.step(step.to_string(), work).await?;
    same(job, results, step, result);
    Ok(())
}

/// Checks that this is what a step has given first.
fn same(job: &Job, results: &Results, step: u32, result: u64) {
    let first = *results.lock().unwrap().entry((job.id().to_string(), step)).or_insert(result);
    assert_eq!(result, first, "job {}: step {step} has another result now", job.id());
}

/// Jobs that take no time, some, long, and those that fail once and always; and of other workers than `demo`.
const INPUTS: [&str; 8] = [
    r#"{"steps":1,"step_ms":0}"#,
    r#"{"steps":3,"step_ms":20}"#,
    r#"{"steps":2,"step_ms":300}"#,
    r#"{"steps":1,"step_ms":11000}"#,
    r#"{"failures":1,"steps":1,"step_ms":0}"#,
    r#"{"failures":9,"steps":1,"step_ms":0}"#,
    "steps",
    "stepwise",
];

/// A history: what happens in it depends on the seed alone.
fn history(seed: u64, ground: Ground, cuts: bool, is_shown: bool) {
    let mut history = History::new(seed, ground, is_shown);
    let _log = LogOnPanic(history.world.clone());
    let mut choose = random(seed ^ 0x5eed);
    let world = history.world.clone();
    let mut hosts = vec![world.start()];
    if choose(2) == 0 {
        hosts.push(world.start());
    }
    if choose(3) > 0 {
        let stop = (choose(2) == 0).then(|| Duration::from_millis(choose(6000)));
        world.set_snag(choose(3000), stop);
    }
    if choose(4) == 0 {
        world.set_failing(1 + choose(30), if history.ground.is_database() { AWAY } else { BROKEN });
    }
    if choose(8) == 0 {
        world.forbid_links();
    }
    for event in 0..3 + choose(10) {
        let host = hosts[choose(hosts.len() as u64) as usize];
        let ids: Vec<_> = {
            let mut ids: Vec<_> = history.known.lock().unwrap().jobs.keys().copied().collect();
            ids.sort();
            ids
        };
        let id = (!ids.is_empty()).then(|| ids[choose(ids.len().max(1) as u64) as usize]);
        match choose(16) {
            0..=5 => {
                if choose(6) == 0 {
                    world.set_snag(choose(10), None); // While it is recorded.
                }
                let key = (choose(3) == 0).then(|| format!("key{}", choose(2)));
                let input = if key.is_some() { INPUTS[0] } else { INPUTS[choose(8) as usize] };
                let group = match &key {
                    Some(key) => (key == "key1").then_some("one"),
                    None => [None, None, Some("one"), Some("other")][choose(4) as usize],
                };
                let delay = if choose(8) == 0 { 1 + choose(5) } else { 0 };
                history.post(host, input, key, group, delay);
            }
            6 | 7 => history.ask(host, choose(7), id),
            8 => history.ask(host, 0, id),
            9 => history.ask(host, 1, id),
            10 => world.kill(host),
            11 => world.stop(host, Duration::from_millis(choose(6000))),
            12 => {
                let hour = 3_600_000;
                world.set_clock(host, [-hour, 0, 0, hour][choose(4) as usize]);
                if choose(2) == 0 {
                    // For a moment.
                    world.set_clock(host, [-hour, 8 * 24 * hour][choose(2) as usize]);
                    history.run(choose(1500));
                    world.set_clock(host, 0);
                    // Long enough to be seen: two leaps in a row are one.
                    history.run(200);
                }
            }
            13 if cuts && let Ground::Disk(disk) = &history.ground => {
                let disk = disk.clone();
                for host in &hosts {
                    world.kill(*host);
                }
                history.run(0);
                world.note(|| "the power is cut".into());
                disk.cut(&mut choose);
                history.cuts += 1;
                history.known.lock().unwrap().seen.clear();
            }
            14 if choose(5) == 0 => {
                // A host dies amid a burst, and two others come together to what it has left.
                let (dying, burst) = (world.start(), (choose(2) == 0).then_some("one"));
                (0..8).for_each(|_| history.post(dying, INPUTS[0], None, burst, 0));
                history.run(choose(6));
                world.kill(dying);
                for host in [world.start(), world.start()] {
                    (0..2).for_each(|_| history.post(host, r#"{"steps":9,"step_ms":300}"#, None, None, 0));
                    hosts.push(host);
                }
                history.run(2500);
            }
            _ => {}
        }
        if world.is_dead(host) || choose(12) == 0 {
            hosts.retain(|other| *other != host);
            world.kill(host);
            hosts.push(world.start());
        }
        let time = [0, 2, 30, 200, 2500][choose(5) as usize];
        history.run(choose(time + 1) + event % 2);
    }
    for host in hosts {
        if choose(2) == 0 {
            world.kill(host);
        } else {
            world.set_clock(host, 0);
        }
    }
    history.run(0);
    history.calm_down();
}

/// Shows what happened when a history fails.
struct LogOnPanic(Arc<World>);

impl Drop for LogOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.log());
        }
    }
}

/// Runs many histories on all cores, and says which one it was if one fails.
fn histories(default: u64, ground: fn() -> Ground, cuts: bool) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    if let Some(seed) = variable("SEED") {
        history(seed, ground(), cuts, true);
        return;
    }
    let count = variable("HISTORIES").map_or(default, |count| count * default / DISK);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for seed in (first..count).step_by(threads as usize) {
                    if catch_unwind(|| history(seed, ground(), cuts, false)).is_err() {
                        panic!("a history fails: run this test again with SEED={seed}");
                    }
                }
            });
        }
    });
}

#[test]
fn whatever_happens_to_hosts_no_job_is_lost_or_done_twice() {
    histories(DISK, disk, false);
}

#[test]
fn whatever_a_power_cut_leaves_no_job_is_lost_or_done_twice() {
    histories(DISK, disk, true);
}

#[test]
fn whatever_happens_to_hosts_of_a_database_no_job_is_lost_or_done_twice() {
    histories(DISK / 8, || Ground::Database(SharedSqlite::new()), false);
}

fn disk() -> Ground {
    Ground::Disk(Disk::new())
}

/// A host dies amid many jobs, and those that come after it need a lease for 220 operations on files. Whoever claims and
/// adopts that many goes on to give signs of life.
#[test]
fn who_lives_keeps_his_slot_however_slow_the_disk_is() {
    for seed in 0..16 {
        let mut history = History::new(seed, disk(), false);
        history.targets = 0;
        let world = history.world.clone();
        let _log = LogOnPanic(world.clone());
        world.set_speed(64, Duration::ZERO);
        let dying = world.start();
        (0..200).for_each(|_| history.post(dying, INPUTS[0], None, None, 0));
        history.run(20 + 40 * (seed % 4));
        world.kill(dying);
        world.set_speed(64, LEASE / 220);
        let hosts = [world.start(), world.start()];
        for request in 0..20 {
            history.ask(hosts[request % 2], 3, None);
            history.run(3000);
        }
        world.set_speed(64, Duration::ZERO);
        history.calm_down();
    }
}
