//! What every store promises: one suite that each of them passes, by threads where many do the same at once.
//! What hosts make of them is tested with hosts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::jobs::host::Host;
use crate::jobs::host::tests::Native;
use crate::jobs::job::{End, Recorded, Tell, TellState, What};
use crate::jobs::options::{Delay, Group};

pub const KEEP: Duration = Duration::from_secs(3600);
pub const SECOND: Duration = Duration::from_secs(1);

/// A place for a store, which goes when it is dropped.
pub trait Fixture: Sync + Sized {
    /// A place without a store.
    fn unmade() -> Self;

    /// Another view of the store.
    fn store(&self) -> Box<dyn Store>;

    /// How many jobs are recorded, with all that belongs to them.
    fn jobs(&self) -> usize;

    /// How many things there are that belong to no job.
    fn leftovers(&self) -> usize;

    /// How many groups somebody knows of that have no jobs any more.
    fn groups(&self) -> usize {
        0
    }

    /// All that is stored, in an order of its own.
    fn dump(&self) -> Vec<(String, Vec<u8>)>;

    /// Brings the key of a job back that is gone, if a power cut can do that.
    fn bring_back_key(&self, key: &str, id: Id);

    /// A store that has been made.
    fn new() -> Self {
        let fixture = Self::unmade();
        fixture.store().open().unwrap();
        fixture
    }
}

/// The tests of the suite, for a store.
macro_rules! suite {
    ($fixture:ty) => {
        $crate::jobs::store::suite::suite!($fixture:
            a_job_is_claimed_once_whoever_wants_it
            the_first_of_those_that_can_be_claimed_are_as_many_as_are_wanted
            a_slot_is_entered_once_and_many_that_make_the_same_store_make_one
            a_slot_is_taken_over_by_one_and_only_as_it_was_seen
            what_is_in_a_slot_when_it_is_left_is_not_forgotten
            due_jobs_come_first_come_first_and_others_when_they_are_due
            a_job_is_due_at_its_time_however_far_off_and_found_until_then
            many_that_open_a_bucket_at_once_lose_nothing
            a_job_with_a_delay_waits_from_its_ack_on
            waits_that_a_clock_began_that_was_ahead_begin_anew
            who_was_accepted_by_a_clock_that_was_ahead_has_a_turn_now
            a_queue_is_full_when_as_many_wait_as_may
            what_is_cancelled_takes_no_room_while_it_is_ended
            with_a_large_limit_an_earlier_count_will_do_for_a_while
            a_job_is_there_from_its_record_on_and_begins_later
            nothing_that_a_lost_slots_holder_does_has_an_effect
            a_course_of_any_length_is_found_as_it_was_saved_last
            what_steps_have_come_to_is_there_in_its_order_whatever_else_is_stored
            what_steps_have_come_to_is_not_kept_after_success
            a_key_that_many_use_at_once_makes_one_job
            a_key_stands_for_one_request
            a_key_never_answers_for_a_job_that_is_not_there
            nothing_is_left_of_a_job_that_was_kept_long_enough
            what_ended_by_a_clock_that_was_behind_is_kept_from_the_last_end_on
            many_that_remove_at_once_count_everything_once
            a_job_that_has_ended_again_is_kept_from_then_on
            marks_are_found_until_they_are_heeded_and_count_for_one_round
            what_was_asked_before_a_claim_is_known_after_it
            an_end_that_is_saved_is_there_and_its_claim_is_over_or_can_be_ended
            what_is_stored_together_is_there_for_each_whose_claim_still_is
            a_job_that_has_ended_waits_until_all_have_been_told
            jobs_are_listed_in_pages_in_either_order
            jobs_are_listed_as_they_stand
            jobs_are_listed_by_what_clients_have_asked_of_them
            all_that_are_to_begin_again_are_counted_and_known_until_that_is_done
            jobs_of_a_group_come_one_after_the_other_and_hold_up_nobody_else
            a_group_has_the_order_of_its_acks_whatever_the_clock_says
            a_job_has_its_turn_until_it_has_ended_whatever_it_waits_for
            a_job_that_goes_before_its_turn_holds_up_nobody
            a_job_that_has_begun_again_is_the_last_of_its_group
            a_turn_is_passed_on_by_whoever_ends_a_job_whose_holder_has_died
            of_many_that_join_a_group_at_once_one_has_the_turn
            nobody_who_joins_while_others_end_is_left_behind
            nothing_is_left_of_a_job_that_is_purged
            whoever_tells_of_a_job_that_is_purged_has_lost_it
            clients_wait_as_many_as_may_and_no_longer_than_they_may
        );
    };
    ($fixture:ty: $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::jobs::store::suite::$test::<$fixture>();
            }
        )*
    };
}
pub(crate) use suite;

pub fn now() -> Time {
    Native.wall()
}

pub fn input() -> Input {
    Input { worker: "demo".into(), body: b"{}".to_vec(), size: 2, ..Input::default() }
}

pub fn with_key(request: &str) -> Input {
    Input { key: Some("key".into()), request: request.into(), ..input() }
}

pub fn put(store: &dyn Store) -> Due {
    put_input(store, &input())
}

pub fn put_input(store: &dyn Store, input: &Input) -> Due {
    let id = Id::new(&Native);
    put_as(store, id, input);
    Due::first(id)
}

pub fn put_as(store: &dyn Store, id: Id, input: &Input) {
    assert_eq!(put_and_begin(store, id, input, usize::MAX, now()), Put::New);
}

/// What comes of recording a job that may be known.
pub fn again(store: &dyn Store, input: &Input) -> Put {
    put_and_begin(store, Id::new(&Native), input, usize::MAX, now())
}

/// Records a job, which goes into the queue at once.
fn put_and_begin(store: &dyn Store, id: Id, input: &Input, most: usize, now: Time) -> Put {
    let put = store.put(id, input, most, now).unwrap();
    store.begin().unwrap();
    put
}

/// Whether a store takes no more than so many waiting jobs.
pub fn is_full(store: &dyn Store, most: usize, now: Time) -> bool {
    let put = put_and_begin(store, Id::new(&Native), &input(), most, now);
    assert!([Put::New, Put::Full].contains(&put));
    put == Put::Full
}

pub fn enter(store: &dyn Store) -> Slot {
    (0..SLOTS)
        .find_map(|number| store.enter(Role::Drain(number), &Holding::Free).unwrap())
        .expect("a slot is free")
}

pub fn claim(store: &dyn Store, slot: &Slot, due: Due) -> Job {
    assert_eq!(store.claim(slot, &[due], 1).unwrap(), [due]);
    store.load(slot, due.id, due.kind).unwrap()
}

pub fn release(store: &dyn Store, slot: &Slot, job: &Job) {
    store.release(slot, job, now(), KEEP).unwrap();
}

pub fn record(store: &dyn Store, slot: &Slot, job: &mut Job, results: &[Recorded]) -> Result<()> {
    save_one(store, slot, job, News::Steps(results.into())).map(|has_ended| assert!(!has_ended))
}

/// Stores how a job has ended: whether that has ended its claim, too.
pub fn save_end(store: &dyn Store, slot: &Slot, job: &mut Job) -> Result<bool> {
    save_one(store, slot, job, News::End)
}

fn save_one(store: &dyn Store, slot: &Slot, job: &mut Job, news: News) -> Result<bool> {
    let mut saves = [Save { job: job.clone(), news }];
    let result = store.save_all(slot, &mut saves).remove(0);
    let [Save { job: saved, .. }] = saves;
    *job = saved;
    result
}

pub fn end(job: &mut Job, state: State) {
    let version = job.run.version + 1;
    job.run.end = Some(End { state, version, finished: now(), content_type: None });
}

/// A job that has ended, and all have been told.
pub fn done(store: &dyn Store, slot: &Slot) -> Id {
    let mut job = claim(store, slot, put(store));
    end(&mut job, State::Succeeded);
    store.save(slot, &mut job).unwrap();
    release(store, slot, &job);
    job.id
}

/// How many of 16 threads get something.
pub fn winners(get: impl Fn(&dyn Store) -> bool + Sync, fixture: &impl Fixture) -> usize {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| get(&*fixture.store()))).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    })
}

/// A job that waits for so long.
pub fn put_off(store: &dyn Store, slot: &Slot, wait: Duration) -> Due {
    let mut job = claim(store, slot, put(store));
    let wait = Wait::new(now(), wait);
    job.run.wait = Some(wait);
    store.save(slot, &mut job).unwrap();
    release(store, slot, &job);
    Due { time: wait.until, id: job.id, kind: Kind::Work, wait: Some(wait) }
}

pub fn a_job_is_claimed_once_whoever_wants_it<F: Fixture>() {
    let fixture = F::new();
    let due = put(&*fixture.store());
    let slots = [0; 4].map(|_| enter(&*fixture.store()));
    let claim =
        |store: &dyn Store| slots.iter().any(|slot| !store.claim(slot, &[due], 1).unwrap().is_empty());
    assert_eq!(winners(claim, &fixture), 1);
}

pub fn the_first_of_those_that_can_be_claimed_are_as_many_as_are_wanted<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let (one, other) = (enter(&*store), enter(&*store));
    let large = Input { body: vec![b'x'; 30_000], size: 30_000, ..input() };
    let mut ids = [0; 5].map(|_| Id::new(&Native));
    ids.sort_unstable();
    let inputs = [input(), input(), large, input(), input()];
    ids.iter().zip(&inputs).for_each(|(id, input)| put_as(&*store, *id, input));
    let due = ids.map(Due::first);
    for taken in [due[0], due[3]] {
        claim(&*store, &other, taken);
    }
    assert_eq!(store.claim(&one, &due, 2).unwrap(), due[1..3]);
    assert_eq!(store.claim(&one, &due, 2).unwrap(), due[4..]);
    assert!(store.claim(&one, &due, 2).unwrap().is_empty());
    for number in [1, 2, 4] {
        let job = store.load(&one, due[number].id, Kind::Work).unwrap();
        assert_eq!((job.id, job.input.size), (due[number].id, inputs[number].size));
    }
    let lost = store.load(&one, due[0].id, Kind::Work);
    assert!(matches!(lost, Err(StoreError::Lost)), "{lost:?}");
}

pub fn a_slot_is_entered_once_and_many_that_make_the_same_store_make_one<F: Fixture>() {
    let fixture = F::unmade();
    assert_eq!(winners(|store| store.open().is_ok(), &fixture), 16);
    let slots = fixture.store().slots().unwrap();
    assert_eq!((slots.len(), fixture.leftovers()), (SLOTS + 2, 0));
    assert!(slots.iter().all(|slot| slot.1 == Holding::Free));
    for role in [Role::Drain(0), Role::Watch, Role::Alone] {
        let enter = |store: &dyn Store| store.enter(role, &Holding::Free).unwrap().is_some();
        assert_eq!(winners(enter, &fixture), 1);
    }
    assert_eq!(fixture.store().slots().unwrap().len(), SLOTS + 2);
}

pub fn a_slot_is_taken_over_by_one_and_only_as_it_was_seen<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let mut slot = enter(&*store);
    let (role, seen) = (slot.role, Holding::Held(slot.sign.clone()));
    store.renew(&mut slot).unwrap();
    assert!(store.enter(role, &seen).unwrap().is_none());
    let seen = Holding::Held(slot.sign.clone());
    assert_eq!(winners(|store| store.enter(role, &seen).unwrap().is_some(), &fixture), 1);
    assert!(matches!(store.renew(&mut slot), Err(StoreError::Lost)));
    assert!(matches!(store.leave(slot), Err(StoreError::Lost)));
}

pub fn what_is_in_a_slot_when_it_is_left_is_not_forgotten<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let (role, job) = (slot.role, claim(&*store, &slot, put(&*store)));
    store.leave(slot).unwrap();
    let slots = store.slots().unwrap();
    let (_, holding) = slots.iter().find(|slot| slot.0 == role).unwrap();
    assert_eq!(*holding, Holding::Left);
    let slot = store.enter(role, holding).unwrap().unwrap();
    assert_eq!(store.claims(&slot).unwrap(), [(job.id, Kind::Work)]);
    release(&*store, &slot, &job);
    store.leave(slot).unwrap();
    assert!(store.slots().unwrap().iter().all(|slot| slot.1 == Holding::Free));
}

pub fn due_jobs_come_first_come_first_and_others_when_they_are_due<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let mut jobs: Vec<_> = (0..5).map(|_| put(&*store)).collect();
    jobs.sort();
    let slot = enter(&*store);
    let mut job = claim(&*store, &slot, jobs[0]);
    let until = now() + KEEP;
    job.run.wait = Some(Wait { until, since: now() });
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    let outlook = store.look(now(), 3, false).unwrap();
    assert_eq!(outlook.due, jobs[1..4]);
    assert!(!outlook.is_empty && outlook.next.unwrap() <= until);
    assert_eq!(store.counts().unwrap().waiting, 5);
    let later = store.look(until, 100, false).unwrap();
    assert_eq!(later.due.last().unwrap().id, job.id);
    assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Queue);
}

pub fn a_job_is_due_at_its_time_however_far_off_and_found_until_then<F: Fixture>() {
    for seconds in [0, 2, 3, 10, 59, 3600, 86_400, 30 * 86_400, 10_000 * 86_400] {
        let fixture = F::new();
        let store = fixture.store();
        let slot = enter(&*store);
        let due = put_off(&*store, &slot, Duration::from_secs(seconds));
        let (mut now, mut looks) = (now(), 0);
        loop {
            let outlook = store.look(now, 9, false).unwrap();
            assert_eq!(store.find(due.id).unwrap().unwrap().place, Place::Queue, "{seconds}");
            if now >= due.time {
                assert_eq!(outlook.due, [due], "{seconds}");
                break;
            }
            assert!(outlook.due.is_empty() && !outlook.is_empty, "{seconds}");
            let next = outlook.next.expect("there is a job");
            assert!(now < next && next <= due.time, "{seconds}");
            (now, looks) = (next, looks + 1);
        }
        assert!(looks < 20, "{seconds}: {looks}");
        assert_eq!(store.claim(&slot, &[due], 1).unwrap(), [due]);
    }
}

pub fn a_job_with_a_delay_waits_from_its_ack_on<F: Fixture>() {
    for seconds in [2, 30, 365 * 86_400] {
        let fixture = F::new();
        let store = fixture.store();
        let delay = Delay::new(SECOND * seconds).unwrap();
        let id = Id::new(&Native);
        let input = Input { delay, ..input() };
        put_as(&*store, id, &input);
        let due = Due::new(id, &input);
        assert_eq!(due.time, id.created() + SECOND * seconds);
        let is_due = |now| store.look(now, 9, false).unwrap().due == [due];
        let found = store.find(id).unwrap().unwrap();
        assert_eq!((found.place, found.state(), found.job.input.delay), (Place::Queue, State::Queued, delay));
        assert!(!is_due(now()) && store.counts().unwrap().waiting == 1);
        // Whoever has brought it does not claim it, and who gives it back changes nothing.
        let slot = enter(&*store);
        assert!(store.claim(&slot, &[Due::first(id)], 1).unwrap().is_empty());
        assert_eq!(store.claim_any(&slot, id).unwrap(), Some(Kind::Work));
        let mut job = store.load(&slot, id, Kind::Work).unwrap();
        assert_eq!(job.run.wait, due.wait);
        release(&*store, &slot, &job);
        let early = Time(due.time.0 - 1);
        for _ in 0..20 {
            assert!(!is_due(early), "{seconds}"); // Bucket after bucket.
        }
        while !is_due(due.time) {}
        assert_eq!(claim(&*store, &slot, due).run.wait, due.wait);
        (job.run.wait, job.run.version) = (None, 0);
        store.save(&slot, &mut job).unwrap();
        assert_eq!(store.load(&slot, id, Kind::Work).unwrap().run.wait, None);
    }
}

pub fn many_that_open_a_bucket_at_once_lose_nothing<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let mut jobs: Vec<_> = (0..200).map(|n| put_off(&*store, &slot, SECOND * 60 + SECOND * n / 20)).collect();
    jobs.sort();
    let then = jobs[199].time;
    let look = |store: &dyn Store| {
        while store.look(then, 1000, false).unwrap().due.len() < 200 {}
        true
    };
    assert_eq!(winners(look, &fixture), 16);
    assert_eq!(store.look(then, 1000, false).unwrap().due, jobs);
}

pub fn waits_that_a_clock_began_that_was_ahead_begin_anew<F: Fixture>() {
    for (ahead, wait) in
        [(3600, 1), (3600, 7200), (30 * 86_400, 20), (7, 3)].map(|(a, w)| (SECOND * a, SECOND * w))
    {
        let fixture = F::new();
        let store = fixture.store();
        let slot = enter(&*store);
        let mut job = claim(&*store, &slot, put(&*store));
        job.run.wait = Some(Wait::new(now() + ahead, wait));
        store.save(&slot, &mut job).unwrap();
        store.release(&slot, &job, now(), KEEP).unwrap();
        let right = put_off(&*store, &slot, KEEP * 24 * 100);
        let begun = now();
        assert!(store.look(begun, 9, false).unwrap().due.is_empty());
        assert!(store.look(begun, 9, true).unwrap().due.is_empty());
        let then = begun + wait;
        while store.look(then, 9, false).unwrap().due.is_empty() {}
        let due = store.look(then, 9, false).unwrap().due[0];
        assert_eq!((due.id, due.wait), (job.id, Some(Wait { until: then, since: begun })), "{ahead:?}");
        assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Queue);
        while store.look(right.time, 9, false).unwrap().due.len() < 2 {}
    }
}

pub fn who_was_accepted_by_a_clock_that_was_ahead_has_a_turn_now<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let due = put(&*store);
    let outlook = store.look(Time(due.time.0 - 86_400_000), 9, false).unwrap();
    assert_eq!(outlook.due, [due]);
}

pub fn a_job_is_there_from_its_record_on_and_begins_later<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    for input in [input(), with_key("one"), of_group("group")] {
        let id = Id::new(&Native);
        let waiting = store.counts().unwrap().waiting;
        assert_eq!(store.put(id, &input, usize::MAX, now()).unwrap(), Put::New);
        for _ in 0..2 {
            let found = store.find(id).unwrap().unwrap();
            assert_eq!((found.place, found.state()), (Place::Queue, State::Queued));
            assert!(listed(&*store, Some(State::Queued), None).contains(&id));
            assert_eq!(store.counts().unwrap().waiting, waiting + 1);
            assert!(is_full(&*store, waiting + 1, now()));
            store.begin().unwrap();
            assert!(due(&*store).contains(&id));
        }
    }
}

pub fn a_queue_is_full_when_as_many_wait_as_may<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    done(&*store, &slot);
    let jobs: Vec<_> = (0..3).map(|_| put(&*store)).collect();
    assert!(is_full(&*store, 3, now()) && is_full(&*store, 2, now()));
    // One that is cancelled already takes no room, and neither does one that runs.
    store.ask(Mark { id: jobs[0].id, round: 0, ask: Ask::Cancel }).unwrap();
    assert!(is_full(&*store, 2, now()) && !is_full(&*store, 3, now()) && is_full(&*store, 3, now()));
    claim(&*store, &slot, jobs[1]);
    assert!(is_full(&*store, 2, now()) && !is_full(&*store, 3, now()));
    assert_eq!(store.counts().unwrap().waiting, 3);
    // What is known already is known, however full it is.
    let known = put_input(&*store, &with_key("one"));
    let again = store.put(Id::new(&Native), &with_key("one"), 1, now()).unwrap();
    assert_eq!(again, Put::Known(known.id));
}

pub fn what_is_cancelled_takes_no_room_while_it_is_ended<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let cancels = [0; 100].map(|_| Mark { id: put(&*store).id, round: 0, ask: Ask::Cancel });
    for cancel in cancels {
        store.ask(cancel).unwrap();
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let client = fixture.store();
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(client.counts().unwrap().waiting, 0);
            }
        });
        for cancel in cancels {
            let kind = store.claim_any(&slot, cancel.id).unwrap().unwrap();
            let mut job = store.load(&slot, cancel.id, kind).unwrap();
            end(&mut job, State::Cancelled);
            store.save(&slot, &mut job).unwrap();
            release(&*store, &slot, &job);
            store.forget_mark(cancel).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

pub fn with_a_large_limit_an_earlier_count_will_do_for_a_while<F: Fixture>() {
    const MOST: usize = 1001;
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    for _ in 0..MOST - 1 {
        put(&*store);
    }
    assert!(!is_full(&*store, MOST, now()));
    // It may take more for as long as nobody counts, which is not for long.
    let begun = Instant::now();
    while !is_full(&*store, MOST, now()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it takes more and more");
    }
    // And nobody is turned away who need not be.
    let due = store.look(now() + SECOND, 4 * MOST, false).unwrap().due;
    let claimed = store.claim(&slot, &due, due.len()).unwrap();
    assert_eq!(claimed.len(), due.len());
    let begun = Instant::now();
    while is_full(&*store, MOST, now()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is still full");
        store.begin().unwrap();
    }
}

pub fn nothing_that_a_lost_slots_holder_does_has_an_effect<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let mut job = claim(&*store, &slot, put(&*store));
    job.run.bytes = b"one".to_vec();
    store.save(&slot, &mut job).unwrap();
    // Somebody takes it over, and the job goes on to wait.
    let new = store.enter(slot.role, &Holding::Held(slot.sign.clone())).unwrap().unwrap();
    assert_eq!(store.claims(&new).unwrap(), [(job.id, Kind::Work)]);
    let mut adopted = store.load(&new, job.id, Kind::Work).unwrap();
    adopted.run.wait = Some(Wait::new(now(), KEEP));
    store.save_anew(&new, &mut adopted).unwrap();
    release(&*store, &new, &adopted);
    let due = put(&*store);
    let before = fixture.dump();
    job.run.bytes = b"two".to_vec();
    assert!(matches!(store.save(&slot, &mut job), Err(StoreError::Lost)));
    assert!(matches!(store.note(&slot, &mut job), Err(StoreError::Lost)));
    assert!(matches!(record(&*store, &slot, &mut job, &[recorded(1)]), Err(StoreError::Lost)));
    assert!(matches!(save_end(&*store, &slot, &mut job), Err(StoreError::Lost)));
    assert_eq!(job.run.recorded, 0);
    job.run.bytes = vec![7; 100_000];
    assert!(matches!(store.save(&slot, &mut job), Err(StoreError::Lost)));
    assert!(matches!(store.save_anew(&slot, &mut job), Err(StoreError::Lost)));
    assert!(matches!(store.release(&slot, &job, now(), KEEP), Err(StoreError::Lost)));
    end(&mut job, State::Failed);
    assert!(matches!(store.release(&slot, &job, now(), KEEP), Err(StoreError::Lost)));
    assert!(matches!(store.claim(&slot, &[due], 1), Err(StoreError::Lost)));
    assert!(matches!(store.claim_any(&slot, job.id), Err(StoreError::Lost)));
    assert!(matches!(store.load(&slot, job.id, Kind::Work), Err(StoreError::Lost)));
    assert_eq!(fixture.dump(), before);
    let found = store.find(job.id).unwrap().unwrap();
    assert_eq!((found.job.run.version, found.place), (adopted.run.version, Place::Queue));
    assert_eq!(store.output(job.id).unwrap().unwrap(), b"one");
}

pub fn a_course_of_any_length_is_found_as_it_was_saved_last<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let mut job = claim(
        &*store,
        &slot,
        put_input(&*store, &Input { body: vec![b'x'; 30_000], size: 30_000, ..input() }),
    );
    assert_eq!((job.input.size, job.input.body.len()), (30_000, 0));
    for length in [0, 1, 100, 1024, 100, 99, 2048, 100_000, 1900, 3] {
        job.run.bytes = vec![b'x'; length];
        store.save(&slot, &mut job).unwrap();
        assert_eq!(store.output(job.id).unwrap().unwrap().len(), length);
        assert_eq!(store.load(&slot, job.id, Kind::Work).unwrap().run, job.run, "{length}");
        assert_eq!(store.find(job.id).unwrap().unwrap().job.run.version, job.run.version);
    }
    assert_eq!(store.body(job.id).unwrap().len(), 30_000);
    assert_eq!(fixture.leftovers(), 0);
}

/// What a step has come to: the first ones have short results, some later ones long.
fn recorded(number: usize) -> Recorded {
    let wait = Wait { until: Time(number as u64), since: Time(7) };
    let what = match number % 3 {
        0 => What::Done,
        1 => What::Sleep(wait),
        _ => What::Failed { round: 1, tries: number as u32, is_final: number.is_multiple_of(2) },
    };
    let length = if number % 10 == 9 { 20_000 } else { number };
    Recorded { step: format!("\"{number}\n\u{fc}"), what, bytes: vec![number as u8; length] }
}

pub fn what_steps_have_come_to_is_there_in_its_order_whatever_else_is_stored<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let mut slot = enter(&*store);
    let mut job = claim(&*store, &slot, put(&*store));
    let mut all = Vec::new();
    for round in 0..30 {
        let new: Vec<_> = (all.len()..all.len() + round % 3).map(recorded).collect();
        record(&*store, &slot, &mut job, &new).unwrap();
        all.extend(new);
        assert_eq!(job.run.recorded as usize, all.len());
        match round % 10 {
            0 | 1 => store.note(&slot, &mut job).unwrap(),
            2 | 3 => store.save(&slot, &mut job).unwrap(),
            4 => job.run.error = Some("x".repeat(3000)), // Too long for half a pair.
            5 => job.run.error = None,
            6 => {
                release(&*store, &slot, &job);
                let kind = store.claim_any(&slot, job.id).unwrap().unwrap();
                job = store.load(&slot, job.id, kind).unwrap();
            }
            7 => {
                let sign = Holding::Held(slot.sign.clone());
                slot = store.enter(slot.role, &sign).unwrap().unwrap();
                job = store.load(&slot, job.id, Kind::Work).unwrap();
                store.save_anew(&slot, &mut job).unwrap();
            }
            _ => {}
        }
        let mut loaded = store.load(&slot, job.id, Kind::Work).unwrap();
        assert_eq!(store.recorded(&slot, &mut loaded).unwrap(), all, "{round}");
        if round % 10 > 5 {
            job = loaded;
        }
    }
    assert!(all.len() > 25);
    end(&mut job, State::Failed);
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    store.claim_any(&slot, job.id).unwrap().unwrap();
    let mut job = store.load(&slot, job.id, Kind::Tell).unwrap();
    assert_eq!(store.recorded(&slot, &mut job).unwrap(), all);
}

pub fn what_steps_have_come_to_is_not_kept_after_success<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let mut job = claim(&*store, &slot, put(&*store));
    for number in 0..100 {
        record(&*store, &slot, &mut job, &[recorded(number)]).unwrap();
    }
    let size = || fixture.dump().iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    assert!(size() > 200_000);
    end(&mut job, State::Succeeded);
    job.run.bytes = b"output".to_vec();
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    assert!(size() < 70_000, "{}", size());
    assert_eq!(store.output(job.id).unwrap().unwrap(), b"output");
}

pub fn a_key_that_many_use_at_once_makes_one_job<F: Fixture>() {
    for _ in 0..20 {
        let fixture = F::new();
        let put = |store: &dyn Store| again(store, &with_key("same")) == Put::New;
        assert_eq!(winners(put, &fixture), 1);
        assert_eq!(fixture.store().counts().unwrap().waiting, 1);
        assert_eq!((fixture.jobs(), fixture.leftovers()), (1, 0));
    }
}

pub fn a_key_stands_for_one_request<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let due = put_input(&*store, &with_key("one"));
    assert_eq!(again(&*store, &with_key("one")), Put::Known(due.id));
    assert_eq!(again(&*store, &with_key("two")), Put::Conflict);
    assert_eq!(fixture.jobs(), 1);
}

pub fn a_key_never_answers_for_a_job_that_is_not_there<F: Fixture>() {
    // Also with a head that is longer than what is read of a file at first.
    for length in [10, 20_000] {
        let fixture = F::new();
        let store = fixture.store();
        let slot = enter(&*store);
        let input = Input { content_type: Some("x".repeat(length)), ..with_key("one") };
        let mut job = claim(&*store, &slot, put_input(&*store, &input));
        assert_eq!(store.find(job.id).unwrap().unwrap().job.input.content_type, input.content_type);
        end(&mut job, State::Succeeded);
        store.save(&slot, &mut job).unwrap();
        release(&*store, &slot, &job);
        while store.remove_expired(now() + 2 * KEEP, KEEP).unwrap().is_some() {}
        assert_eq!((fixture.jobs(), fixture.leftovers()), (0, 0));
        fixture.bring_back_key("key", job.id);
        let second = put_input(&*store, &input);
        assert_eq!(again(&*store, &input), Put::Known(second.id));
        assert!(store.find(second.id).unwrap().is_some());
    }
}

pub fn nothing_is_left_of_a_job_that_was_kept_long_enough<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let waits = put_off(&*store, &slot, SECOND * 11);
    let mut job = claim(&*store, &slot, put_input(&*store, &with_key("one")));
    end(&mut job, State::Failed);
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    store.remove_expired(now() + KEEP / 2, KEEP).unwrap();
    assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Done);
    // Longer, since a setting has changed; then shorter.
    store.remove_expired(now() + KEEP * 3 / 2, KEEP * 2).unwrap();
    assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Done);
    while store.remove_expired(now() + KEEP, KEEP / 4).unwrap().is_some() {}
    assert!(store.find(job.id).unwrap().is_none());
    assert_eq!((fixture.jobs(), fixture.leftovers()), (1, 0));
    assert_eq!(again(&*store, &with_key("another")), Put::New);
    assert_eq!(
        store.counts().unwrap().ended,
        [(State::Succeeded, 0), (State::Failed, 1), (State::Cancelled, 0)]
    );
    assert!(store.find(waits.id).unwrap().is_some());
}

pub fn what_ended_by_a_clock_that_was_behind_is_kept_from_the_last_end_on<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    done(&*store, &slot);
    let mut job = claim(&*store, &slot, put(&*store));
    let finished = Time(now().0 - 8 * 86_400_000);
    job.run.end = Some(End { state: State::Succeeded, version: 1, finished, content_type: None });
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    store.remove_expired(now() + KEEP / 2, KEEP).unwrap();
    assert!(store.find(job.id).unwrap().is_some());
    while store.remove_expired(now() + 2 * KEEP, KEEP).unwrap().is_some() {}
    assert!(store.find(job.id).unwrap().is_none());
}

pub fn many_that_remove_at_once_count_everything_once<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    for round in 1..4 {
        let jobs: Vec<_> = (0..300).map(|_| done(&*store, &slot)).collect();
        assert_eq!(store.counts().unwrap().ended[0], (State::Succeeded, 300 * round));
        let then = now() + 2 * KEEP;
        let remove = |store: &dyn Store| {
            while store.remove_expired(then, KEEP).unwrap().is_some() {}
            true
        };
        assert_eq!(winners(remove, &fixture), 16);
        for id in jobs {
            assert!(store.find(id).unwrap().is_none());
        }
        assert_eq!(store.counts().unwrap().ended[0], (State::Succeeded, 300 * round), "{round}");
    }
}

pub fn a_job_that_has_ended_again_is_kept_from_then_on<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let id = done(&*store, &slot);
    assert_eq!(store.claim_any(&slot, id).unwrap(), Some(Kind::Tell));
    let mut job = store.load(&slot, id, Kind::Tell).unwrap();
    (job.run.end, job.run.round) = (None, 1);
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    store.remove_expired(now() + 2 * KEEP, KEEP).unwrap();
    let due = store.look(now(), 9, false).unwrap().due;
    assert_eq!((due.len(), due[0].id), (1, id));
}

pub fn marks_are_found_until_they_are_heeded_and_count_for_one_round<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let due = put(&*store);
    let cancel = Mark { id: due.id, round: 0, ask: Ask::Cancel };
    store.ask(cancel).unwrap();
    store.ask(cancel).unwrap();
    assert_eq!(store.marks().unwrap(), [cancel]);
    assert_eq!(store.find(due.id).unwrap().unwrap().asked, Some(Ask::Cancel));
    store.ask(Mark { ask: Ask::Retry, ..cancel }).unwrap();
    assert_eq!(store.find(due.id).unwrap().unwrap().asked, None);
    let slot = enter(&*store);
    let mut job = claim(&*store, &slot, due);
    end(&mut job, State::Cancelled);
    store.save(&slot, &mut job).unwrap();
    assert_eq!(store.find(due.id).unwrap().unwrap().asked, Some(Ask::Retry));
    job.run.round = 1;
    store.save(&slot, &mut job).unwrap();
    assert_eq!(store.find(due.id).unwrap().unwrap().asked, None);
    store.forget_mark(cancel).unwrap();
    assert!(!store.is_marked(cancel).unwrap());
}

pub fn what_was_asked_before_a_claim_is_known_after_it<F: Fixture>() {
    let fixture = F::new();
    let (store, client) = (fixture.store(), fixture.store());
    let slot = enter(&*store);
    let cancel = |due: Due| Mark { id: due.id, round: 0, ask: Ask::Cancel };
    let due = [0; 3].map(|_| put(&*store));
    let is_asked = |due: Due| {
        claim(&*store, &slot, due);
        store.was_marked(cancel(due)).unwrap()
    };
    assert!(!is_asked(due[0]));
    for (asked, state) in [(due[1], State::Running), (due[2], State::Cancelled)] {
        client.ask(cancel(asked)).unwrap();
        assert_eq!(client.find(asked.id).unwrap().unwrap().state(), State::Queued);
        if state == State::Cancelled {
            client.ask(Mark { ask: Ask::Cancelled, ..cancel(asked) }).unwrap();
            assert_eq!(client.find(asked.id).unwrap().unwrap().state(), state);
        }
        assert!(is_asked(asked));
        assert_eq!(client.find(asked.id).unwrap().unwrap().state(), state);
    }
}

pub fn an_end_that_is_saved_is_there_and_its_claim_is_over_or_can_be_ended<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    for (targets, place) in [(0, Place::Done), (1, Place::Queue)] {
        let input = Input { notify: vec!["mailto:a@b.org".into(); targets], ..input() };
        let mut job = claim(&*store, &slot, put_input(&*store, &input));
        end(&mut job, State::Succeeded);
        job.run.tells = vec![Tell { due: now(), ..Tell::default() }; targets];
        job.run.bytes = b"output".to_vec();
        if !save_end(&*store, &slot, &mut job).unwrap() {
            release(&*store, &slot, &job);
        }
        let found = store.find(job.id).unwrap().unwrap();
        assert_eq!((found.state(), found.job.run.version), (State::Succeeded, job.run.version));
        assert_eq!(store.output(job.id).unwrap().unwrap(), b"output");
        assert_eq!(found.place == Place::Done, place == Place::Done, "{:?}", found.place);
        assert!(matches!(save_end(&*store, &slot, &mut job), Err(StoreError::Lost)));
    }
    let counts = store.counts().unwrap();
    assert_eq!((counts.running, counts.untold, counts.ended[0].1), (0, 1, 2));
}

pub fn what_is_stored_together_is_there_for_each_whose_claim_still_is<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let (slot, other) = (enter(&*store), enter(&*store));
    let due: Vec<_> = (0..200).map(|_| put(&*store)).collect();
    // Steps, and ends; some are long, some have several steps, and some have lost their claims.
    let is_lost = |number: usize| number % 7 == 3;
    let mut saves: Vec<_> = due
        .iter()
        .enumerate()
        .map(|(number, due)| {
            let mut job = claim(&*store, if is_lost(number) { &other } else { &slot }, *due);
            let length = if number % 10 == 0 { 200_000 } else { number };
            if number % 2 == 0 {
                end(&mut job, State::Succeeded);
                job.run.bytes = vec![b'x'; length];
                return Save { job, news: News::End };
            }
            let steps = if number % 5 == 0 { 0..2 } else { 0..1 };
            Save { job, news: News::Steps(steps.map(recorded).collect()) }
        })
        .collect();
    let results = store.save_all(&slot, &mut saves);
    assert_eq!(results.len(), saves.len());
    for (number, (Save { mut job, news }, result)) in saves.into_iter().zip(results).enumerate() {
        if is_lost(number) {
            assert!(matches!(result, Err(StoreError::Lost)), "{number}: {result:?}");
            assert_eq!((job.run.version, job.run.recorded), (0, 0));
            assert_eq!(store.find(job.id).unwrap().unwrap().job.run.version, 0);
            continue;
        }
        match news {
            News::End => {
                if !result.unwrap() {
                    release(&*store, &slot, &job);
                }
                let found = store.find(job.id).unwrap().unwrap();
                assert_eq!((found.state(), found.place == Place::Done), (State::Succeeded, true));
                assert_eq!(store.output(job.id).unwrap().unwrap(), job.run.bytes, "{number}");
            }
            News::Steps(steps) => {
                assert!(!result.unwrap());
                assert_eq!(store.load(&slot, job.id, Kind::Work).unwrap().run.recorded as usize, steps.len());
                assert_eq!(store.recorded(&slot, &mut job).unwrap(), *steps, "{number}");
            }
        }
    }
    let counts = store.counts().unwrap();
    assert_eq!((counts.running, counts.ended[0].1), (200 - 86, 86));
}

pub fn a_job_that_has_ended_waits_until_all_have_been_told<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let input = Input { notify: vec!["mailto:a@b.org".into()], ..input() };
    let mut job = claim(&*store, &slot, put_input(&*store, &input));
    end(&mut job, State::Succeeded);
    job.run.tells = vec![Tell { due: now(), ..Tell::default() }];
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    let counts = store.counts().unwrap();
    assert_eq!((counts.running, counts.untold, counts.ended[0].1), (0, 1, 1));
    let due = store.look(now() + SECOND, 9, false).unwrap().due[0];
    assert_eq!((due.id, due.kind), (job.id, Kind::Tell));
    let mut job = claim(&*store, &slot, due);
    assert_eq!(store.counts().unwrap().untold, 1);
    job.run.tells[0].state = TellState::Delivered;
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    let counts = store.counts().unwrap();
    assert_eq!((counts.running, counts.untold, counts.ended[0].1), (0, 0, 1));
    assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Done);
}

pub fn clients_wait_as_many_as_may_and_no_longer_than_they_may<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let admit = |now| store.admit(2, now).unwrap();
    let (first, _second) = (admit(now()).unwrap(), admit(now()).unwrap());
    assert!(admit(now()).is_none());
    store.dismiss(first).unwrap();
    assert!(admit(now()).is_some());
    // What a crash has left, and what a clock has left that was ahead.
    assert!(admit(now() + SECOND * 62).is_some());
    assert!(admit(Time(now().0 - 3_600_000)).is_some());
    assert!(store.admit(0, now()).unwrap().is_none());
}

fn input_of(worker: &str) -> Input {
    Input { worker: worker.into(), ..input() }
}

/// A job that has ended like this.
fn ended(store: &dyn Store, slot: &Slot, worker: &str, state: State) -> Id {
    let mut job = claim(store, slot, put_input(store, &input_of(worker)));
    end(&mut job, state);
    store.save(slot, &mut job).unwrap();
    release(store, slot, &job);
    job.id
}

/// The ids of all jobs that are wanted, newest first.
fn listed(store: &dyn Store, state: Option<State>, worker: Option<&str>) -> Vec<Id> {
    let wanted = Wanted { state, worker: worker.map(str::to_owned) };
    ids(store.list(&wanted, Range::Before(None), 1000).unwrap())
}

fn ids(found: Vec<Found>) -> Vec<Id> {
    found.into_iter().map(|found| found.job.id).collect()
}

fn sorted(mut ids: Vec<Id>) -> Vec<Id> {
    ids.sort();
    ids.reverse();
    ids
}

pub fn jobs_are_listed_in_pages_in_either_order<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    assert!(listed(&*store, None, None).is_empty());
    // From times that are far apart and close together, whoever accepted them in which order.
    let mut random = crate::jobs::store::model::random(1);
    let jobs = (0..60).map(|n| {
        let id = Id::at(Time(now().0 - n % 4 * 3_600_000 - random(1 << (n % 24))), &Native);
        let worker = if n % 3 == 0 { "demo" } else { "other" };
        put_as(&*store, id, &input_of(worker));
        if n % 2 == 0 {
            let mut job = claim(&*store, &slot, Due::first(id));
            end(&mut job, if n % 4 == 0 { State::Failed } else { State::Succeeded });
            store.save(&slot, &mut job).unwrap();
            release(&*store, &slot, &job);
        }
        (id, worker, n)
    });
    let jobs: Vec<_> = jobs.collect();
    let is_in = |state: Option<State>, n: u64| match state {
        None => true,
        Some(State::Failed) => n.is_multiple_of(4),
        Some(State::Succeeded) => n % 4 == 2,
        Some(State::Queued) => n % 2 == 1,
        Some(_) => false,
    };
    for state in [None].into_iter().chain(State::ALL.map(Some)) {
        for worker in [None, Some("demo"), Some("other"), Some("nobody")] {
            let is_right =
                |(_, of, n): &&(Id, &str, u64)| is_in(state, *n) && worker.is_none_or(|w| w == *of);
            let expected = sorted(jobs.iter().filter(is_right).map(|job| job.0).collect());
            assert_eq!(listed(&*store, state, worker), expected, "{state:?} {worker:?}");
            let wanted = Wanted { state, worker: worker.map(str::to_owned) };
            let (mut newest, mut oldest) = (Vec::new(), Vec::new());
            for _ in 0..=expected.len() / 7 {
                let range = Range::Before(newest.last().copied());
                newest.extend(ids(store.list(&wanted, range, 7).unwrap()));
                let range = Range::After(oldest.last().copied());
                oldest.extend(ids(store.list(&wanted, range, 7).unwrap()));
            }
            assert_eq!(newest, expected);
            oldest.reverse();
            assert_eq!(oldest, expected);
        }
    }
    // What is no folder's name is a worker's all the same.
    let odd = ["../../x", "", "a b", "\u{e9}", &"w".repeat(500)].map(|worker| {
        let due = put_input(&*store, &input_of(worker));
        assert_eq!(listed(&*store, Some(State::Queued), Some(worker)), [due.id]);
        due.id
    });
    assert_eq!(listed(&*store, None, None).len(), jobs.len() + odd.len());
}

pub fn jobs_are_listed_as_they_stand<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let states = |id: Id| {
        let found = store.find(id).unwrap().unwrap();
        let listed = State::ALL.into_iter().filter(|state| listed(&*store, Some(*state), None).contains(&id));
        assert!(listed.clone().eq([found.state()]), "{:?}", listed.collect::<Vec<_>>());
        found.state()
    };
    let input = Input { notify: vec!["mailto:a@b.org".into()], ..input() };
    let due = put_input(&*store, &input);
    assert_eq!(states(due.id), State::Queued);
    let mut job = claim(&*store, &slot, due);
    assert_eq!(states(due.id), State::Running);
    job.run.wait = Some(Wait::new(now(), KEEP));
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    assert_eq!(states(due.id), State::Queued);
    for (round, state) in [State::Failed, State::Cancelled, State::Failed].into_iter().enumerate() {
        let kind = store.claim_any(&slot, due.id).unwrap().unwrap();
        let mut job = store.load(&slot, due.id, kind).unwrap();
        end(&mut job, state);
        job.run.tells = vec![Tell { due: now(), ..Tell::default() }; round];
        store.save(&slot, &mut job).unwrap();
        release(&*store, &slot, &job);
        assert_eq!(states(due.id), state);
        let kind = store.claim_any(&slot, due.id).unwrap().unwrap();
        assert_eq!((kind, states(due.id)), (Kind::Tell, state));
        let mut job = store.load(&slot, due.id, kind).unwrap();
        (job.run.end, job.run.round) = (None, round as u32 + 1);
        job.run.tells.clear();
        store.save(&slot, &mut job).unwrap();
        release(&*store, &slot, &job);
        assert_eq!(states(due.id), State::Queued);
    }
    let other = done(&*store, &slot);
    assert_eq!(states(other), State::Succeeded);
    while store.remove_expired(now() + 2 * KEEP, KEEP).unwrap().is_some() {}
    assert_eq!(listed(&*store, None, None), [due.id]);
}

pub fn jobs_are_listed_by_what_clients_have_asked_of_them<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let failed: Vec<_> = (0..5).map(|_| ended(&*store, &slot, "demo", State::Failed)).collect();
    let queued: Vec<_> = (0..5).map(|_| put(&*store).id).collect();
    store.ask(Mark { id: failed[2], round: 0, ask: Ask::Retry }).unwrap();
    store.ask(Mark { id: failed[3], round: 1, ask: Ask::Retry }).unwrap(); // Of another round.
    for ask in [Ask::Cancel, Ask::Cancelled] {
        store.ask(Mark { id: queued[1], round: 0, ask }).unwrap();
    }
    store.ask(Mark { id: queued[2], round: 0, ask: Ask::Cancel }).unwrap(); // Nobody was told yet.
    let all = |state| listed(&*store, Some(state), Some("demo"));
    assert_eq!(all(State::Failed), sorted([0, 1, 3, 4].map(|n| failed[n]).to_vec()));
    let begin = [0, 2, 3, 4].map(|n| queued[n]).into_iter().chain([failed[2]]);
    assert_eq!(all(State::Queued), sorted(begin.collect()));
    assert_eq!(all(State::Cancelled), [queued[1]]);
    assert!(listed(&*store, Some(State::Cancelled), Some("other")).is_empty());
    assert_eq!(listed(&*store, None, None).len(), 10);
    let wanted = Wanted { state: Some(State::Queued), worker: None };
    let first = ids(store.list(&wanted, Range::After(None), 2).unwrap());
    let newest = all(State::Queued);
    assert_eq!(first, [newest[4], newest[3]]);
}

pub fn all_that_are_to_begin_again_are_counted_and_known_until_that_is_done<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    for _ in 0..3 {
        ended(&*store, &slot, "demo", State::Failed);
        ended(&*store, &slot, "demo", State::Cancelled);
        ended(&*store, &slot, "demo", State::Succeeded);
        ended(&*store, &slot, "other", State::Failed);
    }
    assert!(store.retries().unwrap().is_empty());
    let of = |state, worker: Option<&str>| Wanted { state: Some(state), worker: worker.map(str::to_owned) };
    assert_eq!(store.retry_all(&of(State::Failed, None)).unwrap(), 6);
    assert_eq!(store.retry_all(&of(State::Cancelled, Some("demo"))).unwrap(), 3);
    assert_eq!(store.retry_all(&of(State::Cancelled, Some("other"))).unwrap(), 0);
    let retries = fixture.store().retries().unwrap();
    assert_eq!(retries.len(), 3);
    let first = retries.iter().find(|retry| retry.wanted == of(State::Failed, None)).unwrap();
    assert_eq!(first.after, None);
    let id = done(&*store, &slot);
    store.note_retried(first, id).unwrap();
    let retries = fixture.store().retries().unwrap();
    assert_eq!(retries.iter().find(|retry| retry.name == first.name).unwrap().after, Some(id));
    for retry in retries {
        store.forget_retry(&retry).unwrap();
    }
    assert!(fixture.store().retries().unwrap().is_empty());
    assert_eq!(fixture.leftovers(), 0);
}

pub fn nothing_is_left_of_a_job_that_is_purged<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let due = put_input(&*store, &with_key("one"));
    let found = |id| store.find(id).unwrap().unwrap();
    assert!(!store.purge(&found(due.id), KEEP).unwrap());
    let mut job = claim(&*store, &slot, due);
    job.run.bytes = vec![b'x'; 5000];
    store.save(&slot, &mut job).unwrap();
    assert!(!store.purge(&found(due.id), KEEP).unwrap());
    end(&mut job, State::Failed);
    store.save(&slot, &mut job).unwrap();
    let before = found(due.id);
    release(&*store, &slot, &job);
    let kind = store.claim_any(&slot, due.id).unwrap().unwrap();
    let mut job = store.load(&slot, due.id, kind).unwrap();
    (job.run.end, job.run.round) = (None, 1);
    store.save(&slot, &mut job).unwrap();
    // It has begun again meanwhile.
    assert!(!store.purge(&before, KEEP).unwrap());
    end(&mut job, State::Failed);
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    let other = done(&*store, &slot);
    let purge =
        |store: &dyn Store| store.find(due.id).unwrap().is_some_and(|f| store.purge(&f, KEEP).unwrap());
    assert_eq!(winners(purge, &fixture), 1);
    assert!(store.find(due.id).unwrap().is_none() && store.output(due.id).unwrap().is_none());
    assert_eq!(listed(&*store, None, None), [other]);
    assert_eq!((fixture.jobs(), fixture.leftovers()), (1, 0));
    assert_eq!(again(&*store, &with_key("another")), Put::New);
    while store.remove_expired(now() + 2 * KEEP, KEEP).unwrap().is_some() {}
    assert_eq!((fixture.jobs(), fixture.leftovers()), (1, 0));
    // They have ended all the same.
    assert_eq!(store.counts().unwrap().ended.map(|ended| ended.1)[0], 1);
    assert!(store.counts().unwrap().ended[1].1 >= 1);
}

pub fn whoever_tells_of_a_job_that_is_purged_has_lost_it<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let input = Input { notify: vec!["mailto:a@b.org".into()], ..input() };
    let mut ended = 0;
    // It waits to be told of; somebody tells of it; it has ended a moment ago, and who ran it is about to say so.
    for (stage, length) in (0..3).flat_map(|stage| [(stage, 0), (stage, 100_000)]) {
        let mut job = claim(&*store, &slot, put_input(&*store, &input));
        end(&mut job, State::Failed);
        job.run.tells = vec![Tell { due: now(), ..Tell::default() }];
        job.run.bytes = vec![b'x'; length];
        store.save(&slot, &mut job).unwrap();
        if stage < 2 {
            release(&*store, &slot, &job);
        }
        if stage == 1 {
            assert_eq!(store.claim_any(&slot, job.id).unwrap(), Some(Kind::Tell));
            job = store.load(&slot, job.id, Kind::Tell).unwrap();
        }
        assert!(store.purge(&store.find(job.id).unwrap().unwrap(), KEEP).unwrap(), "{stage}");
        if stage > 0 {
            assert!(matches!(store.save(&slot, &mut job), Err(StoreError::Lost)), "{stage}");
            assert!(matches!(store.release(&slot, &job, now(), KEEP), Err(StoreError::Lost)), "{stage}");
        }
        assert!(store.find(job.id).unwrap().is_none());
        let counts = store.counts().unwrap();
        assert_eq!((counts.waiting, counts.running, counts.untold), (0, 0, 0), "{stage}");
        ended += 1;
        assert_eq!(counts.ended[1], (State::Failed, ended));
        assert_eq!((fixture.jobs(), fixture.leftovers()), (0, 0), "{stage}");
        assert!(store.look(now() + KEEP, 9, true).unwrap().is_empty);
    }
}

pub fn of_group(name: &str) -> Input {
    Input { group: Some(Group::new(name).unwrap()), ..input() }
}

/// The ids of all jobs that can go on.
fn due(store: &dyn Store) -> Vec<Id> {
    let mut due: Vec<_> =
        store.look(now() + SECOND, 1000, false).unwrap().due.iter().map(|due| due.id).collect();
    due.sort();
    due
}

/// Claims a job that can go on.
fn claim_due(store: &dyn Store, slot: &Slot, id: Id) -> Job {
    let due = store.look(now() + SECOND, 1000, false).unwrap().due;
    claim(
        store,
        slot,
        *due.iter().find(|due| due.id == id).unwrap_or_else(|| panic!("{id} is not in {due:?}")),
    )
}

fn end_as(store: &dyn Store, slot: &Slot, mut job: Job, state: State) {
    end(&mut job, state);
    store.save(slot, &mut job).unwrap();
    release(store, slot, &job);
}

/// Begins a job again that has ended.
fn begin_again(store: &dyn Store, slot: &Slot, id: Id) {
    let kind = store.claim_any(slot, id).unwrap().unwrap();
    let mut job = store.load(slot, id, kind).unwrap();
    (job.run.end, job.run.round) = (None, job.run.round + 1);
    store.save(slot, &mut job).unwrap();
    release(store, slot, &job);
}

pub fn jobs_of_a_group_come_one_after_the_other_and_hold_up_nobody_else<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let first: Vec<_> = (0..4).map(|_| put_input(&*store, &of_group("first")).id).collect();
    let second: Vec<_> = (0..2).map(|_| put_input(&*store, &of_group("second")).id).collect();
    let alone = put(&*store).id;
    let mut expected = vec![first[0], second[0], alone];
    expected.sort();
    assert_eq!(due(&*store), expected);
    let counts = store.counts().unwrap();
    assert_eq!((counts.waiting, counts.running), (7, 0));
    assert!(is_full(&*store, 7, now()));
    for id in &first {
        let found = store.find(*id).unwrap().unwrap();
        assert_eq!((found.place, found.state()), (Place::Queue, State::Queued));
    }
    assert_eq!(listed(&*store, Some(State::Queued), None).len(), 7);
    // Nobody claims one of the others, not even who has brought it.
    assert!(store.claim(&slot, &[Due::first(first[1])], 1).unwrap().is_empty());
    for (n, state) in State::ENDS.into_iter().chain([State::Failed]).enumerate() {
        let job = claim_due(&*store, &slot, first[n]);
        assert!(!due(&*store).iter().any(|id| first.contains(id)), "{n}");
        end_as(&*store, &slot, job, state);
        let next: Vec<_> = due(&*store).into_iter().filter(|id| first.contains(id)).collect();
        assert_eq!(next, first[n + 1..].iter().take(1).copied().collect::<Vec<_>>());
    }
    // Nothing is left of the group, and the next job of that name begins at once.
    let next = put_input(&*store, &of_group("first"));
    end_as(&*store, &slot, claim(&*store, &slot, next), State::Succeeded);
    for id in second.iter().chain([&alone]) {
        end_as(&*store, &slot, claim_due(&*store, &slot, *id), State::Succeeded);
    }
    assert_eq!((fixture.leftovers(), fixture.groups()), (0, 0));
    assert!(store.look(now(), 9, true).unwrap().is_empty);
}

pub fn a_group_has_the_order_of_its_acks_whatever_the_clock_says<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let hour = 3_600_000;
    let ids: Vec<_> = (0..40)
        .map(|n| {
            let id = Id::at(Time(now().0 - n % 7 * hour), &Native);
            put_as(&*store, id, &of_group("group"));
            id
        })
        .collect();
    for id in ids {
        assert_eq!(due(&*store), [id]);
        end_as(&*store, &slot, claim_due(&*store, &slot, id), State::Succeeded);
    }
    assert_eq!(fixture.groups(), 0);
}

pub fn a_job_has_its_turn_until_it_has_ended_whatever_it_waits_for<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let delayed = Input { delay: Delay::new(KEEP).unwrap(), ..of_group("group") };
    let id = Id::new(&Native);
    put_as(&*store, id, &delayed);
    let next = put_input(&*store, &delayed).id;
    let last = put_input(&*store, &of_group("group")).id;
    assert!(due(&*store).is_empty());
    let later = now() + KEEP + SECOND;
    let mut job = loop {
        let due = store.look(later, 9, false).unwrap().due;
        if let [due] = due[..] {
            break claim(&*store, &slot, due);
        }
        assert!(due.is_empty());
    };
    assert_eq!(job.id, id);
    // It sleeps, fails and is tried again, and its slot is lost.
    for wait in [None, Some(Wait::new(now(), KEEP))] {
        job.run.wait = wait;
        store.save(&slot, &mut job).unwrap();
        release(&*store, &slot, &job);
        assert!(!due(&*store).contains(&last) && !due(&*store).contains(&next));
        let kind = store.claim_any(&slot, id).unwrap().unwrap();
        job = store.load(&slot, id, kind).unwrap();
    }
    end_as(&*store, &slot, job, State::Failed);
    // The next one has its own delay.
    assert!(due(&*store).is_empty());
    while store.look(later, 9, false).unwrap().due.first().is_none_or(|due| due.id != next) {}
    let kind = store.claim_any(&slot, next).unwrap().unwrap();
    end_as(&*store, &slot, store.load(&slot, next, kind).unwrap(), State::Succeeded);
    assert_eq!(due(&*store), [last]);
}

pub fn a_job_that_goes_before_its_turn_holds_up_nobody<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let ids: Vec<_> = (0..6).map(|_| put_input(&*store, &of_group("group")).id).collect();
    let job = claim_due(&*store, &slot, ids[0]);
    // Cancelled, and one of them removed; given back as it was.
    for id in [ids[1], ids[3]] {
        let kind = store.claim_any(&slot, id).unwrap().unwrap();
        end_as(&*store, &slot, store.load(&slot, id, kind).unwrap(), State::Cancelled);
        assert!(due(&*store).is_empty());
    }
    assert!(store.purge(&store.find(ids[3]).unwrap().unwrap(), KEEP).unwrap());
    let kind = store.claim_any(&slot, ids[5]).unwrap().unwrap();
    release(&*store, &slot, &store.load(&slot, ids[5], kind).unwrap());
    assert!(due(&*store).is_empty());
    end_as(&*store, &slot, job, State::Succeeded);
    assert_eq!(due(&*store), [ids[2]]);
    // Removed as soon as it has ended, before anybody has said so.
    let mut job = claim_due(&*store, &slot, ids[2]);
    end(&mut job, State::Failed);
    store.save(&slot, &mut job).unwrap();
    assert!(store.purge(&store.find(ids[2]).unwrap().unwrap(), KEEP).unwrap());
    assert_eq!(due(&*store), [ids[4]]);
    end_as(&*store, &slot, claim_due(&*store, &slot, ids[4]), State::Succeeded);
    assert_eq!(due(&*store), [ids[5]]);
    end_as(&*store, &slot, claim_due(&*store, &slot, ids[5]), State::Succeeded);
    assert_eq!((fixture.leftovers(), fixture.groups()), (0, 0));
}

pub fn a_job_that_has_begun_again_is_the_last_of_its_group<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let ids: Vec<_> = (0..4).map(|_| put_input(&*store, &of_group("group")).id).collect();
    end_as(&*store, &slot, claim_due(&*store, &slot, ids[0]), State::Failed);
    let kind = store.claim_any(&slot, ids[3]).unwrap().unwrap();
    end_as(&*store, &slot, store.load(&slot, ids[3], kind).unwrap(), State::Cancelled);
    begin_again(&*store, &slot, ids[3]);
    begin_again(&*store, &slot, ids[0]);
    let found = store.find(ids[0]).unwrap().unwrap();
    assert_eq!((found.state(), store.counts().unwrap().waiting), (State::Queued, 4));
    let last = put_input(&*store, &of_group("group")).id;
    for id in [ids[1], ids[2], ids[3], ids[0], last] {
        assert_eq!(due(&*store), [id]);
        end_as(&*store, &slot, claim_due(&*store, &slot, id), State::Failed);
    }
    // Alone, it begins at once.
    begin_again(&*store, &slot, last);
    assert_eq!(due(&*store), [last]);
    end_as(&*store, &slot, claim_due(&*store, &slot, last), State::Failed);
    assert_eq!((fixture.leftovers(), fixture.groups()), (0, 0));
}

pub fn a_turn_is_passed_on_by_whoever_ends_a_job_whose_holder_has_died<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let slot = enter(&*store);
    let ids: Vec<_> = (0..3).map(|_| put_input(&*store, &of_group("group")).id).collect();
    let mut job = claim_due(&*store, &slot, ids[0]);
    end(&mut job, State::Failed);
    store.save(&slot, &mut job).unwrap();
    let new = store.enter(slot.role, &Holding::Held(slot.sign.clone())).unwrap().unwrap();
    assert!(matches!(store.release(&slot, &job, now(), KEEP), Err(StoreError::Lost)));
    assert!(due(&*store).is_empty());
    let job = store.load(&new, ids[0], Kind::Work).unwrap();
    release(&*store, &new, &job);
    assert_eq!(due(&*store), [ids[1]]);
    // One whose record is lost.
    let job = claim_due(&*store, &new, ids[1]);
    let end = End { state: State::Failed, version: 9, finished: now(), content_type: None };
    let run = Run { version: 8, end: Some(end), ..Run::default() };
    let job = store.repair(&new, job.id, Kind::Work, "damaged", run).unwrap().unwrap();
    release(&*store, &new, &job);
    assert_eq!(due(&*store), [ids[2]]);
}

pub fn of_many_that_join_a_group_at_once_one_has_the_turn<F: Fixture>() {
    for _ in 0..5 {
        let fixture = F::new();
        let put = |store: &dyn Store| again(store, &of_group("group")) == Put::New;
        assert_eq!(winners(put, &fixture), 16);
        let store = fixture.store();
        let slot = enter(&*store);
        let mut ids = Vec::new();
        while let [id] = due(&*store)[..] {
            end_as(&*store, &slot, claim_due(&*store, &slot, id), State::Succeeded);
            assert!(!ids.contains(&id));
            ids.push(id);
        }
        assert_eq!((ids.len(), fixture.leftovers(), fixture.groups()), (16, 0, 0));
    }
}

pub fn nobody_who_joins_while_others_end_is_left_behind<F: Fixture>() {
    const JOBS: usize = 10;
    let fixture = F::new();
    let running = AtomicUsize::new(0);
    let order = Ordering::SeqCst;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = fixture.store();
                for _ in 0..JOBS {
                    put_input(&*store, &of_group("group"));
                }
            });
            scope.spawn(|| {
                let store = fixture.store();
                let slot = (0..100)
                    .find_map(|n| store.enter(Role::Drain(n % SLOTS), &Holding::Free).unwrap())
                    .expect("a slot is free");
                let begun = Instant::now();
                while store.counts().unwrap().ended[0].1 < 4 * JOBS as u64 {
                    assert!(begun.elapsed() < SECOND * 60, "{:?}", store.counts().unwrap());
                    let due = store.look(now() + SECOND, 9, false).unwrap().due;
                    for due in store.claim(&slot, &due, due.len()).unwrap() {
                        assert_eq!(running.fetch_add(1, order), 0, "another one runs");
                        let mut job = store.load(&slot, due.id, due.kind).unwrap();
                        end(&mut job, State::Succeeded);
                        running.fetch_sub(1, order);
                        store.save(&slot, &mut job).unwrap();
                        release(&*store, &slot, &job);
                    }
                }
            });
        }
    });
    assert_eq!((fixture.leftovers(), fixture.groups()), (0, 0));
}
