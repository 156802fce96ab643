//! The store's promises, natively and by threads; what hosts make of them is tested with hosts.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::super::SLOTS;
use super::*;
use crate::jobs::host::tests::Native;
use crate::jobs::job::{End, State, Tell, TellState, Wait};

const KEEP: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// A store that goes when it is dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Temporary {
        let temporary = Temporary(std::env::temp_dir().join(format!("afterack-store-{}", Id::new(&Native))));
        fs::create_dir(&temporary.0).unwrap();
        temporary.store().open().unwrap();
        temporary
    }

    fn store(&self) -> Dir<Mounted> {
        Dir::mounted(self.0.to_str().unwrap(), Rc::new(Native))
    }

    /// How many entries a folder has.
    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.0.join(folder)).unwrap().count()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now() -> Time {
    Native.wall()
}

fn input() -> Input {
    Input { worker: "demo".into(), body: b"{}".to_vec(), size: 2, ..Input::default() }
}

fn with_key(request: &str) -> Input {
    Input { key: Some("key".into()), request: request.into(), ..input() }
}

fn put(store: &dyn Store) -> Due {
    put_input(store, &input())
}

fn put_input(store: &dyn Store, input: &Input) -> Due {
    let id = Id::new(&Native);
    assert_eq!(store.put(id, input).unwrap(), Put::New);
    Due::first(id)
}

fn enter(store: &dyn Store) -> Slot {
    (0..SLOTS)
        .find_map(|number| store.enter(Role::Drain(number), &Holding::Free).unwrap())
        .expect("a slot is free")
}

fn claim(store: &dyn Store, slot: &Slot, due: Due) -> Job {
    assert_eq!(store.claim(slot, &[due]).unwrap(), [due]);
    store.load(slot, due.id, due.kind).unwrap()
}

fn release(store: &dyn Store, slot: &Slot, job: &Job) {
    store.release(slot, job, now(), KEEP).unwrap();
}

fn end(job: &mut Job, state: State) {
    let version = job.run.version + 1;
    job.run.end = Some(End { state, version, finished: now(), content_type: None });
}

/// A job that has ended, and all have been told.
fn done(store: &dyn Store, slot: &Slot) -> Id {
    let mut job = claim(store, slot, put(store));
    end(&mut job, State::Succeeded);
    store.save(slot, &mut job).unwrap();
    release(store, slot, &job);
    job.id
}

/// How many of 16 threads get something.
fn winners(get: impl Fn(&dyn Store) -> bool + Sync, temporary: &Temporary) -> usize {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| get(&temporary.store()))).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    })
}

/// Who comes too late has lost nothing by that.
#[test]
fn what_a_crash_has_left_is_finished_by_all_who_see_it() {
    for _ in 0..50 {
        let temporary = Temporary::new();
        let due = put_input(&temporary.store(), &with_key("key"));
        let fresh = temporary.0.join("fresh").join(due.id.to_string());
        fs::rename(temporary.0.join(queue::in_queue(&due)), &fresh).unwrap();
        let finish = |store: &dyn Store| store.finish(&format!("fresh/{}", due.id)).is_ok();
        assert_eq!(winners(finish, &temporary), 16);
        assert_eq!(temporary.store().look(now(), 9, false).unwrap().due, [due]);
    }
}

#[test]
fn a_job_is_claimed_once_whoever_wants_it() {
    let temporary = Temporary::new();
    let due = put(&temporary.store());
    let slots = [0; 4].map(|_| enter(&temporary.store()));
    let claim = |store: &dyn Store| slots.iter().any(|slot| !store.claim(slot, &[due]).unwrap().is_empty());
    assert_eq!(winners(claim, &temporary), 1);
}

#[test]
fn a_slot_is_entered_once_and_many_that_make_the_same_store_make_one() {
    let temporary = Temporary(std::env::temp_dir().join(format!("afterack-store-{}", Id::new(&Native))));
    fs::create_dir(&temporary.0).unwrap();
    assert_eq!(winners(|store| store.open().is_ok(), &temporary), 16);
    assert_eq!((temporary.count("slots"), temporary.count("tmp")), (SLOTS + 2, 0));
    for role in [Role::Drain(0), Role::Watch, Role::Alone] {
        let enter = |store: &dyn Store| store.enter(role, &Holding::Free).unwrap().is_some();
        assert_eq!(winners(enter, &temporary), 1);
    }
    assert_eq!(temporary.count("slots"), SLOTS + 2);
}

#[test]
fn a_slot_is_taken_over_by_one_and_only_as_it_was_seen() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let mut slot = enter(&store);
    let (role, seen) = (slot.role, Holding::Held(slot.sign.clone()));
    store.renew(&mut slot).unwrap();
    assert!(store.enter(role, &seen).unwrap().is_none());
    let seen = Holding::Held(slot.sign.clone());
    assert_eq!(winners(|store| store.enter(role, &seen).unwrap().is_some(), &temporary), 1);
    assert!(matches!(store.renew(&mut slot), Err(StoreError::Lost)));
    assert!(matches!(store.leave(slot), Err(StoreError::Lost)));
}

#[test]
fn what_is_in_a_slot_when_it_is_left_is_not_forgotten() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let (role, job) = (slot.role, claim(&store, &slot, put(&store)));
    store.leave(slot).unwrap();
    let slots = store.slots().unwrap();
    let (_, holding) = slots.iter().find(|slot| slot.0 == role).unwrap();
    assert_eq!(*holding, Holding::Left);
    let slot = store.enter(role, holding).unwrap().unwrap();
    assert_eq!(store.claims(&slot).unwrap(), [(job.id, Kind::Work)]);
    release(&store, &slot, &job);
    store.leave(slot).unwrap();
    assert!(store.slots().unwrap().iter().all(|slot| slot.1 == Holding::Free));
}

#[test]
fn due_jobs_come_first_come_first_and_others_when_they_are_due() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let mut jobs: Vec<_> = (0..5).map(|_| put(&store)).collect();
    jobs.sort();
    let slot = enter(&store);
    let mut job = claim(&store, &slot, jobs[0]);
    let until = now() + KEEP;
    job.run.wait = Some(Wait { until, since: now() });
    store.save(&slot, &mut job).unwrap();
    release(&store, &slot, &job);
    let outlook = store.look(now(), 3, false).unwrap();
    assert_eq!(outlook.due, jobs[1..4]);
    assert!(!outlook.is_empty && outlook.next.unwrap() <= until);
    assert_eq!(store.counts().unwrap().waiting, 5);
    let later = store.look(until, 100, false).unwrap();
    assert_eq!(later.due.last().unwrap().id, job.id);
    assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Queue);
}

/// A job that waits for so long.
fn put_off(store: &dyn Store, slot: &Slot, wait: Duration) -> Due {
    let mut job = claim(store, slot, put(store));
    let wait = Wait::new(now(), wait);
    job.run.wait = Some(wait);
    store.save(slot, &mut job).unwrap();
    release(store, slot, &job);
    Due { time: wait.until, id: job.id, kind: Kind::Work, wait: Some(wait) }
}

#[test]
fn a_job_is_due_at_its_time_however_far_off_and_found_until_then() {
    for seconds in [0, 2, 3, 10, 59, 3600, 86_400, 30 * 86_400, 10_000 * 86_400] {
        let temporary = Temporary::new();
        let store = temporary.store();
        let slot = enter(&store);
        let due = put_off(&store, &slot, Duration::from_secs(seconds));
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
        assert_eq!(temporary.count("queue"), 1, "{seconds}");
        assert_eq!(store.claim(&slot, &[due]).unwrap(), [due]);
    }
}

#[test]
fn a_queue_of_jobs_that_are_due_much_later_is_short() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let jobs: Vec<_> =
        (0..1000).map(|n| put_off(&store, &slot, Duration::from_secs(10 + n * 1000))).collect();
    let entries = temporary.count("queue");
    assert!(entries < 80, "{entries}");
    assert_eq!(store.counts().unwrap().waiting, 1000);
    for due in [&jobs[0], &jobs[999]] {
        assert_eq!(store.claim_any(&slot, due.id).unwrap(), Some(Kind::Work));
    }
    assert_eq!(store.counts().unwrap().waiting, 998);
}

#[test]
fn many_that_open_a_bucket_at_once_lose_nothing() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let mut jobs: Vec<_> = (0..200).map(|n| put_off(&store, &slot, SECOND * 60 + SECOND * n / 20)).collect();
    jobs.sort();
    let then = jobs[199].time;
    let look = |store: &dyn Store| {
        while store.look(then, 1000, false).unwrap().due.len() < 200 {}
        true
    };
    assert_eq!(winners(look, &temporary), 16);
    assert_eq!(store.look(then, 1000, false).unwrap().due, jobs);
}

#[test]
fn waits_that_a_clock_began_that_was_ahead_begin_anew() {
    for (ahead, wait) in
        [(3600, 1), (3600, 7200), (30 * 86_400, 20), (7, 3)].map(|(a, w)| (SECOND * a, SECOND * w))
    {
        let temporary = Temporary::new();
        let store = temporary.store();
        let slot = enter(&store);
        let mut job = claim(&store, &slot, put(&store));
        job.run.wait = Some(Wait::new(now() + ahead, wait));
        store.save(&slot, &mut job).unwrap();
        store.release(&slot, &job, now(), KEEP).unwrap();
        let right = put_off(&store, &slot, KEEP * 24 * 100);
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

#[test]
fn who_was_accepted_by_a_clock_that_was_ahead_has_a_turn_now() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let due = put(&store);
    let outlook = store.look(Time(due.time.0 - 86_400_000), 9, false).unwrap();
    assert_eq!(outlook.due, [due]);
}

#[test]
fn foreign_things_in_the_queue_are_set_aside() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let queue = temporary.0.join("queue");
    fs::write(queue.join("0000000000001.bucket"), "x").unwrap();
    fs::write(queue.join("9000000000000.bucket"), "x").unwrap();
    fs::write(queue.join("foreign.txt"), "x").unwrap();
    fs::create_dir_all(queue.join("0000000000002.bucket/folder")).unwrap();
    fs::write(queue.join("0000000000002.bucket/file"), "x").unwrap();
    let due = put(&store);
    assert_eq!(store.look(now(), 9, false).unwrap().due, [due]);
    assert_eq!(temporary.count("damaged"), 4);
    assert_eq!(temporary.count("queue"), 2);
}

#[test]
fn a_long_queue_is_counted_anew_before_it_can_be_full() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let now = now();
    for _ in 0..200 {
        put(&store);
    }
    assert!(!store.is_full(6_000, now).unwrap());
    for _ in 0..1000 {
        put(&store);
    }
    // What came since does not count at once, but soon, and sooner for a queue that might be full.
    assert!(!store.is_full(1_200, now).unwrap());
    assert!(store.is_full(1_200, now + SECOND).unwrap());
    // A note from a time to come tells nothing.
    assert!(store.is_full(1_200, Time(now.0 - 3_600_000)).unwrap());
}

#[test]
fn nothing_that_a_lost_slots_holder_does_has_an_effect() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let mut job = claim(&store, &slot, put(&store));
    job.run.bytes = b"one".to_vec();
    store.save(&slot, &mut job).unwrap();
    // Somebody takes it over, and the job goes on to wait.
    let new = store.enter(slot.role, &Holding::Held(slot.sign.clone())).unwrap().unwrap();
    assert_eq!(store.claims(&new).unwrap(), [(job.id, Kind::Work)]);
    let mut adopted = store.load(&new, job.id, Kind::Work).unwrap();
    adopted.run.wait = Some(Wait::new(now(), KEEP));
    store.save_anew(&new, &mut adopted).unwrap();
    release(&store, &new, &adopted);
    let files = || {
        let mut files: Vec<_> = walk(&temporary.0);
        files.retain(|(path, _)| !path.contains("where/"));
        files
    };
    let before = files();
    job.run.bytes = b"two".to_vec();
    assert!(matches!(store.save(&slot, &mut job), Err(StoreError::Lost)));
    job.run.bytes = vec![7; 100_000];
    assert!(matches!(store.save(&slot, &mut job), Err(StoreError::Lost)));
    assert!(matches!(store.save_anew(&slot, &mut job), Err(StoreError::Lost)));
    assert!(matches!(store.release(&slot, &job, now(), KEEP), Err(StoreError::Lost)));
    end(&mut job, State::Failed);
    assert!(matches!(store.release(&slot, &job, now(), KEEP), Err(StoreError::Lost)));
    let due = put(&store);
    assert!(matches!(store.claim(&slot, &[due]), Err(StoreError::Lost)));
    assert!(matches!(store.claim_any(&slot, job.id), Err(StoreError::Lost)));
    assert!(matches!(store.load(&slot, job.id, Kind::Work), Err(StoreError::Lost)));
    store.claim_any(&new, due.id).unwrap().unwrap();
    fs::remove_file(temporary.0.join("slots").join(format!("{}.{}/{}", new.role, new.sign.0, due.id)))
        .unwrap();
    fs::remove_file(temporary.0.join("jobs").join(due.id.to_string())).unwrap();
    assert_eq!(files(), before);
    let found = store.find(job.id).unwrap().unwrap();
    assert_eq!((found.job.run.version, found.place), (adopted.run.version, Place::Queue));
    assert_eq!(store.output(job.id).unwrap().unwrap(), b"one");
}

/// All files under a folder, with what is in them.
fn walk(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => files.extend(walk(&entry)),
            false => files.push((entry.to_str().unwrap().to_owned(), fs::read(&entry).unwrap())),
        }
    }
    files.sort();
    files
}

/// The file of a claimed job, opened as somebody opens it who is about to write.
#[test]
fn what_a_lost_slots_holder_had_open_is_none_of_the_stores_files() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let mut job = claim(&store, &slot, put(&store));
    store.save(&slot, &mut job).unwrap();
    let claimed = temporary.0.join(claimed(&slot, job.id, Kind::Work));
    let open = fs::OpenOptions::new().write(true).open(claimed).unwrap();
    let new = store.enter(slot.role, &Holding::Held(slot.sign)).unwrap().unwrap();
    store.save_anew(&new, &mut job).unwrap();
    open.write_all_at(&[b'x'; record::PAIR], 0).unwrap();
    assert_eq!(store.find(job.id).unwrap().unwrap().job.run.version, job.run.version);
    assert_eq!(store.body(job.id).unwrap(), b"{}");
}

#[test]
fn a_course_of_any_length_is_found_as_it_was_saved_last() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let mut job =
        claim(&store, &slot, put_input(&store, &Input { body: vec![b'x'; 30_000], size: 30_000, ..input() }));
    assert_eq!((job.input.size, job.input.body.len()), (30_000, 0));
    for length in [0, 1, 100, 1024, 100, 99, 2048, 100_000, 1900, 3] {
        job.run.bytes = vec![b'x'; length];
        store.save(&slot, &mut job).unwrap();
        assert_eq!(store.output(job.id).unwrap().unwrap().len(), length);
        assert_eq!(store.load(&slot, job.id, Kind::Work).unwrap().run, job.run, "{length}");
        assert_eq!(store.find(job.id).unwrap().unwrap().job.run.version, job.run.version);
    }
    assert_eq!(store.body(job.id).unwrap().len(), 30_000);
    assert_eq!(temporary.count("tmp"), 0);
}

#[test]
fn a_key_that_many_use_at_once_makes_one_job() {
    for _ in 0..20 {
        let temporary = Temporary::new();
        let put = |store: &dyn Store| store.put(Id::new(&Native), &with_key("same")).unwrap() == Put::New;
        assert_eq!(winners(put, &temporary), 1);
        assert_eq!(temporary.store().counts().unwrap().waiting, 1);
        assert_eq!(["fresh", "tmp", "gone"].map(|folder| temporary.count(folder)), [0; 3]);
        assert_eq!(["jobs", "keys"].map(|folder| temporary.count(folder)), [1; 2]);
    }
}

#[test]
fn a_key_stands_for_one_request() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let due = put_input(&store, &with_key("one"));
    assert!(store.knows("key").unwrap() && !store.knows("other").unwrap());
    assert_eq!(store.put(Id::new(&Native), &with_key("one")).unwrap(), Put::Known(due.id));
    assert_eq!(store.put(Id::new(&Native), &with_key("two")).unwrap(), Put::Conflict);
    assert_eq!(temporary.count("jobs"), 1);
}

#[test]
fn a_key_never_answers_for_a_job_that_is_not_there() {
    // Also with a head that is longer than what is read of a file at first.
    for length in [10, 20_000] {
        let temporary = Temporary::new();
        let store = temporary.store();
        let slot = enter(&store);
        let input = Input { content_type: Some("x".repeat(length)), ..with_key("one") };
        let mut job = claim(&store, &slot, put_input(&store, &input));
        assert_eq!(store.find(job.id).unwrap().unwrap().job.input.content_type, input.content_type);
        end(&mut job, State::Succeeded);
        store.save(&slot, &mut job).unwrap();
        release(&store, &slot, &job);
        while store.remove_expired(now() + 2 * KEEP, KEEP).unwrap().is_some() {}
        assert_eq!(["jobs", "keys", "done", "gone"].map(|folder| temporary.count(folder)), [0; 4]);
        // Even if a power cut brings it back.
        fs::create_dir(temporary.0.join("keys/key")).unwrap();
        fs::write(temporary.0.join("keys/key").join(job.id.to_string()), "").unwrap();
        let again = put_input(&store, &input);
        assert_eq!(store.put(Id::new(&Native), &input).unwrap(), Put::Known(again.id));
        assert!(store.find(again.id).unwrap().is_some());
    }
}

#[test]
fn what_is_recorded_begins_and_what_is_not_goes() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let back = |due: Due| {
        fs::rename(
            temporary.0.join(queue::in_queue(&due)),
            temporary.0.join("fresh").join(due.id.to_string()),
        )
        .unwrap();
        due.id
    };
    // Whole, with a key and without, as if who recorded them had died; the key is another's by now; cut off.
    let [plain, keyed] = [input(), with_key("one")].map(|input| back(put_input(&store, &input)));
    assert_eq!(store.find(plain).unwrap().unwrap().place, Place::Queue);
    let lost = back(put_input(&store, &Input { key: Some("lost".into()), ..input() }));
    fs::remove_dir_all(temporary.0.join("keys/lost")).unwrap();
    let other = put_input(&store, &Input { key: Some("lost".into()), ..input() });
    let cut = back(put(&store));
    let file = fs::read(temporary.0.join("jobs").join(cut.to_string())).unwrap();
    fs::write(temporary.0.join("fresh").join(cut.to_string()), &file[..file.len() - 1]).unwrap();
    fs::write(temporary.0.join("tmp/file"), "half").unwrap();
    let unfinished = store.unfinished().unwrap();
    assert_eq!(unfinished.len(), 5);
    let finish = |store: &dyn Store| {
        for name in &unfinished {
            store.finish(name).unwrap();
        }
        true
    };
    assert_eq!(winners(finish, &temporary), 16);
    assert!(store.unfinished().unwrap().is_empty());
    let mut due: Vec<_> = store.look(now(), 9, false).unwrap().due.iter().map(|due| due.id).collect();
    due.sort();
    let mut expected = [plain, keyed, other.id];
    expected.sort();
    assert_eq!(due, expected);
    for id in [lost, cut] {
        assert!(store.find(id).unwrap().is_none());
    }
    assert_eq!(store.put(Id::new(&Native), &with_key("one")).unwrap(), Put::Known(keyed));
    assert_eq!(["jobs", "keys", "fresh", "gone"].map(|folder| temporary.count(folder)), [3, 2, 0, 0]);
}

#[test]
fn a_job_whose_key_was_taken_by_one_who_died_begins_with_the_next_request() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let first = put_input(&store, &with_key("same"));
    let fresh = temporary.0.join("fresh").join(first.id.to_string());
    fs::rename(temporary.0.join(queue::in_queue(&first)), fresh).unwrap();
    assert_eq!(store.put(Id::new(&Native), &with_key("same")).unwrap(), Put::Known(first.id));
    assert_eq!(store.look(now(), 9, false).unwrap().due, [first]);
}

#[test]
fn a_store_without_its_folders_gets_them_again() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let id = done(&store, &slot);
    store.leave(slot).unwrap();
    for folder in fs::read_dir(&temporary.0).unwrap().map(|entry| entry.unwrap().path()) {
        let _ = fs::remove_dir(folder); // The empty ones.
    }
    fs::remove_dir_all(temporary.0.join("slots")).unwrap();
    let due = put_input(&store, &with_key("key"));
    assert_eq!(store.slots().unwrap().len(), SLOTS + 2);
    assert_eq!(store.find(id).unwrap().unwrap().place, Place::Done);
    fs::remove_dir(temporary.0.join("slots/3.free")).unwrap();
    fs::remove_dir(temporary.0.join("tmp")).unwrap();
    store.open().unwrap();
    store.mend_slots().unwrap();
    assert_eq!(store.slots().unwrap().len(), SLOTS + 2);
    assert_eq!(store.look(now(), 9, false).unwrap().due, [due]);
    fs::remove_dir_all(temporary.0.join("slots")).unwrap();
    store.mend_slots().unwrap();
    assert_eq!(store.slots().unwrap().len(), SLOTS + 2);
}

#[test]
fn nothing_is_left_of_a_job_that_was_kept_long_enough() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let waits = put_off(&store, &slot, SECOND * 11);
    let mut job = claim(&store, &slot, put_input(&store, &with_key("one")));
    end(&mut job, State::Failed);
    store.save(&slot, &mut job).unwrap();
    release(&store, &slot, &job);
    store.remove_expired(now() + KEEP / 2, KEEP).unwrap();
    assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Done);
    // Longer, since a setting has changed; then shorter.
    store.remove_expired(now() + KEEP * 3 / 2, KEEP * 2).unwrap();
    assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Done);
    while store.remove_expired(now() + KEEP, KEEP / 4).unwrap().is_some() {}
    assert!(store.find(job.id).unwrap().is_none());
    assert_eq!(["jobs", "keys", "where"].map(|folder| temporary.count(folder)), [1, 0, 1]);
    assert_eq!(["done", "ended", "gone"].map(|folder| temporary.count(folder)), [0; 3]);
    assert_eq!(
        store.counts().unwrap().ended,
        [(State::Succeeded, 0), (State::Failed, 1), (State::Cancelled, 0)]
    );
    assert!(store.find(waits.id).unwrap().is_some());
}

#[test]
fn what_ended_by_a_clock_that_was_behind_is_kept_from_the_last_end_on() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    done(&store, &slot);
    let mut job = claim(&store, &slot, put(&store));
    let finished = Time(now().0 - 8 * 86_400_000);
    job.run.end = Some(End { state: State::Succeeded, version: 1, finished, content_type: None });
    store.save(&slot, &mut job).unwrap();
    release(&store, &slot, &job);
    store.remove_expired(now() + KEEP / 2, KEEP).unwrap();
    assert!(store.find(job.id).unwrap().is_some());
    while store.remove_expired(now() + 2 * KEEP, KEEP).unwrap().is_some() {}
    assert!(store.find(job.id).unwrap().is_none());
}

#[test]
fn many_that_remove_at_once_count_everything_once() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    for round in 1..4 {
        let jobs: Vec<_> = (0..300).map(|_| done(&store, &slot)).collect();
        assert_eq!(store.counts().unwrap().ended[0], (State::Succeeded, 300 * round));
        let then = now() + 2 * KEEP;
        let remove = |store: &dyn Store| {
            while store.remove_expired(then, KEEP).unwrap().is_some() {}
            true
        };
        assert_eq!(winners(remove, &temporary), 16);
        for id in jobs {
            assert!(store.find(id).unwrap().is_none());
        }
        assert_eq!(store.counts().unwrap().ended[0], (State::Succeeded, 300 * round), "{round}");
    }
}

#[test]
fn a_job_that_has_ended_again_is_kept_from_then_on() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let id = done(&store, &slot);
    assert_eq!(store.claim_any(&slot, id).unwrap(), Some(Kind::Tell));
    let mut job = store.load(&slot, id, Kind::Tell).unwrap();
    (job.run.end, job.run.round) = (None, 1);
    store.save(&slot, &mut job).unwrap();
    release(&store, &slot, &job);
    store.remove_expired(now() + 2 * KEEP, KEEP).unwrap();
    let due = store.look(now(), 9, false).unwrap().due;
    assert_eq!((due.len(), due[0].id), (1, id));
}

#[test]
fn marks_are_found_until_they_are_heeded_and_count_for_one_round() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let due = put(&store);
    let cancel = Mark { id: due.id, round: 0, ask: Ask::Cancel };
    store.ask(cancel).unwrap();
    store.ask(cancel).unwrap();
    assert_eq!(store.marks().unwrap(), [cancel]);
    assert_eq!(store.find(due.id).unwrap().unwrap().asked, Some(Ask::Cancel));
    store.ask(Mark { ask: Ask::Retry, ..cancel }).unwrap();
    assert_eq!(store.find(due.id).unwrap().unwrap().asked, None);
    let slot = enter(&store);
    let mut job = claim(&store, &slot, due);
    end(&mut job, State::Cancelled);
    store.save(&slot, &mut job).unwrap();
    assert_eq!(store.find(due.id).unwrap().unwrap().asked, Some(Ask::Retry));
    job.run.round = 1;
    store.save(&slot, &mut job).unwrap();
    assert_eq!(store.find(due.id).unwrap().unwrap().asked, None);
    store.forget_mark(cancel).unwrap();
    assert!(!store.is_marked(cancel).unwrap());
}

#[test]
fn a_job_that_has_ended_waits_until_all_have_been_told() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let input = Input { notify: vec!["mailto:a@b.org".into()], ..input() };
    let mut job = claim(&store, &slot, put_input(&store, &input));
    end(&mut job, State::Succeeded);
    job.run.tells = vec![Tell { due: now(), ..Tell::default() }];
    store.save(&slot, &mut job).unwrap();
    release(&store, &slot, &job);
    let counts = store.counts().unwrap();
    assert_eq!((counts.running, counts.untold, counts.ended[0].1), (0, 1, 1));
    let due = store.look(now() + SECOND, 9, false).unwrap().due[0];
    assert_eq!((due.id, due.kind), (job.id, Kind::Tell));
    let mut job = claim(&store, &slot, due);
    assert_eq!(store.counts().unwrap().untold, 1);
    job.run.tells[0].state = TellState::Delivered;
    store.save(&slot, &mut job).unwrap();
    release(&store, &slot, &job);
    let counts = store.counts().unwrap();
    assert_eq!((counts.running, counts.untold, counts.ended[0].1), (0, 0, 1));
    assert_eq!(store.find(job.id).unwrap().unwrap().place, Place::Done);
}

#[test]
fn what_cannot_be_read_of_a_job_is_set_aside_and_the_job_is_still_there() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store);
    let failed = || {
        let end = End { state: State::Failed, version: 9, finished: now(), content_type: None };
        Run { version: 8, end: Some(end), ..Run::default() }
    };
    // Its whole file; a folder in its place; only its course, in a file of its own.
    for damage in 0..3 {
        let mut job = claim(&store, &slot, put(&store));
        let file = temporary.0.join(claimed(&slot, job.id, Kind::Work));
        match damage {
            0 => fs::write(&file, "scribble").unwrap(),
            1 => fs::remove_file(&file).and_then(|()| fs::create_dir(&file)).unwrap(),
            _ => {
                store.save_anew(&slot, &mut job).unwrap();
                fs::write(&file, "scribble").unwrap();
            }
        }
        let error = store.load(&slot, job.id, Kind::Work).unwrap_err();
        assert_eq!(matches!(error, StoreError::Damaged { .. }), damage != 1, "{error}");
        let repaired = store.repair(&slot, job.id, Kind::Work, "damaged", failed()).unwrap().unwrap();
        release(&store, &slot, &repaired);
        let found = store.find(job.id).unwrap().unwrap();
        assert_eq!(found.place, Place::Done);
        assert_eq!(found.job.input.worker, if damage == 0 { "" } else { "demo" });
    }
    // Nothing that was ever accepted.
    let id = Id::new(&Native);
    fs::create_dir(temporary.0.join(claimed(&slot, id, Kind::Work))).unwrap();
    assert!(store.repair(&slot, id, Kind::Work, "a folder", failed()).unwrap().is_none());
    assert!(store.claims(&slot).unwrap().is_empty());
}

#[test]
fn clients_wait_as_many_as_may_and_no_longer_than_they_may() {
    let temporary = Temporary::new();
    let store = temporary.store();
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
