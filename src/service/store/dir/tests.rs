//! The store's promises, natively and by threads; what hosts make of them is tested with hosts.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::*;

const LEASE: Duration = Duration::from_secs(30);
const KEEP: Duration = Duration::from_secs(3600);

/// A store that goes when it is dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Temporary {
        let temporary = Temporary(std::env::temp_dir().join(format!("afterack-store-{}", Id::new())));
        fs::create_dir(&temporary.0).unwrap();
        temporary.store().open().unwrap();
        temporary
    }

    fn store(&self) -> Dir {
        Dir::new(self.0.to_str().unwrap())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn put(store: &Dir) -> Due {
    let id = Id::new();
    let input = Input { worker: "demo".into(), body: b"{}".to_vec(), ..Input::default() };
    assert_eq!(store.put(id, &input, "").unwrap(), Put::New);
    Due { time: id.created(), id }
}

fn enter(store: &Dir, now: Time) -> Slot {
    store.enter(Role::Drain(SLOTS), now, LEASE).unwrap().expect("a slot is free")
}

/// How many of 16 threads get something.
fn winners(get: impl Fn(&Dir) -> bool + Sync, temporary: &Temporary) -> usize {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| get(&temporary.store()))).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    })
}

#[test]
fn a_job_is_claimed_once_whoever_wants_it() {
    let temporary = Temporary::new();
    let due = put(&temporary.store());
    let slots = [0; 4].map(|_| enter(&temporary.store(), Time::now()));
    let claim = |store: &Dir| slots.iter().any(|slot| store.claim(slot, due).unwrap().is_some());
    assert_eq!(winners(claim, &temporary), 1);
}

#[test]
fn there_are_as_many_slots_as_there_should_be() {
    let temporary = Temporary::new();
    let enter = |store: &Dir| store.enter(Role::Drain(3), Time::now(), LEASE).unwrap().is_some();
    assert_eq!(winners(enter, &temporary), 3);
    assert_eq!(temporary.store().slots(Time::now()).unwrap().held, 3);
}

#[test]
fn many_that_make_the_same_store_make_one() {
    let temporary = Temporary(std::env::temp_dir().join(format!("afterack-store-{}", Id::new())));
    fs::create_dir(&temporary.0).unwrap();
    assert_eq!(winners(|store| store.open().is_ok(), &temporary), 16);
    assert_eq!(fs::read_dir(temporary.0.join("drains")).unwrap().count(), SLOTS + 1);
    assert_eq!(fs::read_dir(temporary.0.join("tmp")).unwrap().count(), 0);
}

#[test]
fn due_jobs_come_first_come_first_and_others_when_they_are_due() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let mut jobs: Vec<_> = (0..5).map(|_| put(&store)).collect();
    jobs.sort();
    let slot = enter(&store, Time::now());
    let mut job = store.claim(&slot, jobs[0]).unwrap().unwrap();
    job.run.due = Time::now() + KEEP;
    store.save(&slot, &mut job).unwrap();
    store.release(&slot, &job).unwrap();
    let outlook = store.outlook(Time::now(), 3).unwrap();
    assert_eq!(outlook.due, jobs[1..4]);
    assert!(!outlook.is_empty && outlook.next.unwrap() <= job.run.due);
    assert_eq!(store.counts(Time::now()).unwrap().waiting, 5);
    let later = store.outlook(job.run.due, 100).unwrap();
    assert_eq!(later.due.last().unwrap().id, job.id);
    assert_eq!(store.find(job.id).unwrap().unwrap().1, Place::Queue);
}

/// A job that waits for so long.
fn put_off(store: &Dir, slot: &Slot, wait: Duration) -> Due {
    let mut job = store.claim(slot, put(store)).unwrap().unwrap();
    job.run.due = Time::now() + wait;
    store.save(slot, &mut job).unwrap();
    store.release(slot, &job).unwrap();
    Due { time: job.run.due, id: job.id }
}

#[test]
fn a_job_is_due_at_its_time_however_far_off_and_found_until_then() {
    for seconds in [0, 2, 3, 10, 59, 3600, 86_400, 30 * 86_400, 10_000 * 86_400] {
        let temporary = Temporary::new();
        let store = temporary.store();
        let slot = enter(&store, Time::now());
        let due = put_off(&store, &slot, Duration::from_secs(seconds));
        let (mut now, mut looks) = (Time::now(), 0);
        loop {
            let outlook = store.outlook(now, 9).unwrap();
            assert_eq!(store.find(due.id).unwrap().unwrap().1, Place::Queue, "{seconds}");
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
        assert_eq!(fs::read_dir(temporary.0.join("queue")).unwrap().count(), 1, "{seconds}");
        store.claim(&slot, due).unwrap().unwrap();
    }
}

#[test]
fn a_queue_of_jobs_that_are_due_much_later_is_short() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store, Time::now());
    let jobs: Vec<_> =
        (1..=1000).map(|number| put_off(&store, &slot, Duration::from_secs(number * number))).collect();
    let entries = || fs::read_dir(temporary.0.join("queue")).unwrap().count();
    assert!((10..80).contains(&entries()), "{}", entries());
    assert_eq!(store.counts(Time::now()).unwrap().waiting, 1000);
    assert!(store.is_full(1000, Time::now()).unwrap() && !store.is_full(1001, Time::now()).unwrap());
    // Nothing stays of one that is taken out.
    for due in jobs {
        store.take(due.id, Place::Queue).unwrap().unwrap();
    }
    assert_eq!(entries(), 0);
    assert!(store.outlook(Time::now(), 1).unwrap().is_empty);
}

#[test]
fn many_that_open_a_bucket_lose_no_job() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store, Time::now());
    let mut jobs: Vec<_> = (0..500).map(|_| put_off(&store, &slot, KEEP)).collect();
    let then = jobs[0].time + KEEP;
    assert_eq!(winners(|store| store.outlook(then, 1).is_ok(), &temporary), 16);
    jobs.sort();
    assert_eq!(store.outlook(then, 500).unwrap().due, jobs);
}

#[test]
fn what_is_no_bucket_is_set_aside() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let queue = temporary.0.join("queue");
    fs::write(queue.join("0000000000001.bucket"), "x").unwrap();
    fs::write(queue.join("9000000000000.bucket"), "x").unwrap();
    fs::create_dir_all(queue.join("0000000000002.bucket/folder")).unwrap();
    fs::write(queue.join("0000000000002.bucket/file"), "x").unwrap();
    let due = put(&store);
    assert_eq!(store.outlook(Time::now(), 9).unwrap().due, [due]);
    assert_eq!(store.counts(Time::now()).unwrap().waiting, 1);
    assert_eq!(fs::read_dir(temporary.0.join("damaged")).unwrap().count(), 3);
    assert_eq!(fs::read_dir(queue).unwrap().count(), 2);
}

#[test]
fn a_long_queue_is_counted_anew_before_it_can_be_full() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let now = Time::now();
    for _ in 0..200 {
        put(&store);
    }
    let second = Duration::from_secs(1);
    assert!(!store.is_full(6_000, now).unwrap());
    for _ in 0..1000 {
        put(&store);
    }
    // What came since does not count at once, but soon, and sooner for a queue that might be full.
    assert!(!store.is_full(1_200, now).unwrap());
    assert!(store.is_full(1_200, now + second).unwrap());
}

#[test]
fn a_lost_slot_cannot_be_written_through() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let due = put(&store);
    let slot = enter(&store, Time(0));
    let mut job = store.claim(&slot, due).unwrap().unwrap();
    job.run.bytes = b"one".to_vec();
    store.save(&slot, &mut job).unwrap();
    // Its lease ran out long ago, and somebody takes it over.
    let mut found = Vec::new();
    store.adopt(Time::now(), LEASE, KEEP, &mut |job| found.push(job.run.bytes.clone())).unwrap();
    assert_eq!(found, [b"one"]);
    job.run.bytes = b"two".to_vec();
    assert!(matches!(store.save(&slot, &mut job), Err(StoreError::Lost)));
    assert!(matches!(store.release(&slot, &job), Err(StoreError::Lost)));
    let other = put(&store);
    assert!(matches!(store.claim(&slot, other), Err(StoreError::Lost)));
    let mut slot = slot;
    assert!(matches!(store.renew(&mut slot, Time::now(), LEASE), Err(StoreError::Lost)));
    let (job, place) = store.find(due.id).unwrap().unwrap();
    assert_eq!((job.run.bytes.as_slice(), place), (&b"one"[..], Place::Queue));
    assert_eq!(store.slots(Time::now()).unwrap().held, 0);
}

/// The course of a claimed job, opened as somebody opens it who is about to write.
#[test]
fn what_a_lost_slots_holder_had_open_is_none_of_the_stores_files() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let due = put(&store);
    let slot = enter(&store, Time(0));
    let mut job = store.claim(&slot, due).unwrap().unwrap();
    store.save(&slot, &mut job).unwrap();
    let claimed = temporary.0.join("drains").join(&slot.name).join(due.id.to_string());
    let open = fs::OpenOptions::new().write(true).open(claimed).unwrap();
    store.adopt(Time::now(), LEASE, KEEP, &mut |_| {}).unwrap();
    open.write_all_at(&[b'x'; record::PAIR], 0).unwrap();
    assert_eq!(store.find(due.id).unwrap().unwrap().0.run.version, job.run.version + 1);
}

#[test]
fn a_course_of_any_length_is_found_as_it_was_saved_last() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let due = put(&store);
    let slot = enter(&store, Time::now());
    let mut job = store.claim(&slot, due).unwrap().unwrap();
    for length in [0, 1, 100, record::HALF, 100, 99, record::PAIR, 100_000, record::PAIR - 200, 3] {
        job.run.bytes = vec![b'x'; length];
        store.save(&slot, &mut job).unwrap();
        assert_eq!(store.find(due.id).unwrap().unwrap().0.run, job.run, "{length}");
    }
    assert_eq!(fs::read_dir(temporary.0.join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_key_that_many_use_at_once_makes_one_job() {
    for _ in 0..20 {
        let temporary = Temporary::new();
        let put = |store: &Dir| {
            let input = Input { key: Some("key".into()), ..Input::default() };
            store.put(Id::new(), &input, "same").unwrap() == Put::New
        };
        assert_eq!(winners(put, &temporary), 1);
        assert_eq!(temporary.store().counts(Time::now()).unwrap().waiting, 1);
    }
}

#[test]
fn a_key_that_was_taken_by_one_who_died_still_leads_to_a_job_that_runs() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let input = Input { key: Some("key".into()), ..Input::default() };
    let first = Id::new();
    store.put(first, &input, "same").unwrap();
    // As if it had died before the job was in the queue.
    fs::rename(
        temporary.0.join("queue").join(name(first.created(), first)),
        temporary.0.join("fresh").join(first.to_string()),
    )
    .unwrap();
    assert_eq!(store.put(Id::new(), &input, "same").unwrap(), Put::Known(first));
    assert_eq!(store.outlook(Time::now(), 9).unwrap().due[0].id, first);
    assert_eq!(store.put(Id::new(), &input, "other").unwrap(), Put::Conflict);
}

#[test]
fn what_crashes_left_is_tidied_up_after_an_hour() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let due = put(&store);
    let unanswered = Id::new();
    fs::write(temporary.0.join("fresh").join(unanswered.to_string()), "").unwrap();
    fs::write(temporary.0.join("jobs").join(unanswered.to_string()), "half").unwrap();
    fs::write(temporary.0.join("tmp").join(Id::new().to_string()), "half").unwrap();
    store.take(due.id, Place::Queue).unwrap().unwrap();
    let count = |folder: &str| fs::read_dir(temporary.0.join(folder)).unwrap().count();
    store.tidy(Time::now(), KEEP).unwrap();
    assert_eq!(["fresh", "jobs", "tmp", "desk", "queue"].map(count), [1, 2, 1, 1, 0]);
    assert_eq!(store.find(due.id).unwrap().unwrap().1, Place::Queue);
    store.tidy(Time::now() + LEFTOVER + LEFTOVER, KEEP).unwrap();
    assert_eq!(["fresh", "jobs", "tmp", "desk", "queue"].map(count), [0, 1, 0, 0, 1]);
}

#[test]
fn nothing_is_left_of_a_job_that_was_kept_long_enough() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&store, Time::now());
    let due = put(&store);
    let mut job = store.claim(&slot, due).unwrap().unwrap();
    job.run.end = Some(End { state: State::Succeeded, finished: Time::now(), content_type: None });
    store.save(&slot, &mut job).unwrap();
    store.settle(&slot, &job, KEEP).unwrap();
    store.tidy(Time::now() + KEEP / 2, KEEP).unwrap();
    assert_eq!(store.find(due.id).unwrap().unwrap().1, Place::Done);
    store.tidy(Time::now() + 2 * KEEP, KEEP).unwrap();
    assert!(store.find(due.id).unwrap().is_none());
    for folder in ["jobs", "done", "expiry"] {
        assert_eq!(fs::read_dir(temporary.0.join(folder)).unwrap().count(), 0, "{folder}");
    }
}
