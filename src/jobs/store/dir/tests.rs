//! What is a directory's alone; the rest is in the suite that all stores pass.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::super::SLOTS;
use super::model::{Disk, Model};
use super::*;
use crate::jobs::host::tests::Native;
use crate::jobs::job::{End, State};
use crate::jobs::store::suite::*;

suite!(Temporary);

/// A folder that goes when it is dropped.
struct Temporary(PathBuf);

impl Temporary {
    /// How many entries a folder has.
    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.0.join(folder)).unwrap().count()
    }
}

impl Fixture for Temporary {
    fn unmade() -> Temporary {
        let temporary = Temporary(std::env::temp_dir().join(format!("afterack-store-{}", Id::new(&Native))));
        fs::create_dir(&temporary.0).unwrap();
        temporary
    }

    fn store(&self) -> Box<dyn Store> {
        Box::new(Dir::mounted(self.0.to_str().unwrap(), Rc::new(Native)))
    }

    fn jobs(&self) -> usize {
        self.count("jobs")
    }

    fn leftovers(&self) -> usize {
        let (jobs, inputs) = (walk(&self.0), self.count("jobs"));
        let is_job = |(path, _): &&(String, Vec<u8>)| {
            let of_job = ["/queue/", "/outbox/", "/done/", "/slots/"];
            of_job.iter().any(|folder| path.contains(folder))
        };
        let others: usize = ["tmp", "fresh", "gone", "damaged"].map(|folder| self.count(folder)).iter().sum();
        others
            + jobs.iter().filter(is_job).count().abs_diff(inputs)
            + self.count("keys").saturating_sub(inputs)
    }

    fn groups(&self) -> usize {
        let parked = usize::from(self.0.join(queue::PARKED).exists());
        ["turns", "groups", "joining"].map(|folder| self.count(folder)).iter().sum::<usize>() + parked
    }

    fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = walk(&self.0);
        files.retain(|(path, _)| !path.contains("where/"));
        files
    }

    fn bring_back_key(&self, key: &str, id: Id) {
        fs::create_dir_all(self.0.join("keys").join(key)).unwrap();
        fs::write(self.0.join("keys").join(key).join(id.to_string()), "").unwrap();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Who comes too late has lost nothing by that.
#[test]
fn what_a_crash_has_left_is_finished_by_all_who_see_it() {
    for _ in 0..50 {
        let temporary = Temporary::new();
        let due = put_input(&*temporary.store(), &with_key("key"));
        let fresh = temporary.0.join("fresh").join(due.id.to_string());
        fs::rename(temporary.0.join(queue::in_queue(&due)), &fresh).unwrap();
        let finish = |store: &dyn Store| store.finish(&format!("fresh/{}", due.id)).is_ok();
        assert_eq!(winners(finish, &temporary), 16);
        assert_eq!(temporary.store().look(now(), 9, false).unwrap().due, [due]);
    }
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

#[test]
fn a_queue_of_jobs_that_are_due_much_later_is_short() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&*store);
    let jobs: Vec<_> =
        (0..1000).map(|n| put_off(&*store, &slot, Duration::from_secs(10 + n * 1000))).collect();
    let entries = temporary.count("queue");
    assert!(entries < 80, "{entries}");
    assert_eq!(store.counts().unwrap().waiting, 1000);
    for due in [&jobs[0], &jobs[999]] {
        assert_eq!(store.claim_any(&slot, due.id).unwrap(), Some(Kind::Work));
    }
    assert_eq!(store.counts().unwrap().waiting, 998);
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
    let due = put(&*store);
    assert_eq!(store.look(now(), 9, false).unwrap().due, [due]);
    assert_eq!(temporary.count("damaged"), 4);
    assert_eq!(temporary.count("queue"), 2);
}

#[test]
fn a_long_queue_is_counted_anew_before_it_can_be_full() {
    let temporary = Temporary::new();
    let store = temporary.store();
    for _ in 0..200 {
        put(&*store);
    }
    let now = now();
    assert!(!is_full(&*store, 6_000, now));
    for _ in 0..1000 {
        put(&*store);
    }
    // What came since does not count at once, but soon, and sooner for a queue that might be full.
    assert!(!is_full(&*store, 1_200, now));
    assert!(is_full(&*store, 1_200, now + SECOND));
    // A note from a time to come tells nothing.
    assert!(is_full(&*store, 1_200, Time(now.0 - 3_600_000)));
}

/// The file of a claimed job, opened as somebody opens it who is about to write.
#[test]
fn what_a_lost_slots_holder_had_open_is_none_of_the_stores_files() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&*store);
    let mut job = claim(&*store, &slot, put(&*store));
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
    let [plain, keyed] = [input(), with_key("one")].map(|input| back(put_input(&*store, &input)));
    assert_eq!(store.find(plain).unwrap().unwrap().place, Place::Queue);
    let lost = back(put_input(&*store, &Input { key: Some("lost".into()), ..input() }));
    fs::remove_dir_all(temporary.0.join("keys/lost")).unwrap();
    let other = put_input(&*store, &Input { key: Some("lost".into()), ..input() });
    let cut = back(put(&*store));
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
    assert_eq!(again(&*store, &with_key("one")), Put::Known(keyed));
    assert_eq!(["jobs", "keys", "fresh", "gone"].map(|folder| temporary.count(folder)), [3, 2, 0, 0]);
}

#[test]
fn a_job_whose_key_was_taken_by_one_who_died_begins_with_the_next_request() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let first = put_input(&*store, &with_key("same"));
    let fresh = temporary.0.join("fresh").join(first.id.to_string());
    fs::rename(temporary.0.join(queue::in_queue(&first)), fresh).unwrap();
    assert_eq!(again(&*store, &with_key("same")), Put::Known(first.id));
    assert_eq!(store.look(now(), 9, false).unwrap().due, [first]);
}

#[test]
fn a_store_without_its_folders_gets_them_again() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&*store);
    let id = done(&*store, &slot);
    store.leave(slot).unwrap();
    for folder in fs::read_dir(&temporary.0).unwrap().map(|entry| entry.unwrap().path()) {
        let _ = fs::remove_dir(folder); // The empty ones.
    }
    fs::remove_dir_all(temporary.0.join("slots")).unwrap();
    let due = put_input(&*store, &with_key("key"));
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
fn what_cannot_be_read_of_a_job_is_set_aside_and_the_job_is_still_there() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&*store);
    let failed = || {
        let end = End { state: State::Failed, version: 9, finished: now(), content_type: None };
        Run { version: 8, end: Some(end), ..Run::default() }
    };
    // Its whole file; a folder in its place; only its course, in a file of its own.
    for damage in 0..3 {
        let mut job = claim(&*store, &slot, put(&*store));
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
        release(&*store, &slot, &repaired);
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

/// As a power cut may leave it, or somebody who has died between two operations.
#[test]
fn a_name_in_a_list_that_is_wrong_or_missing_is_put_right() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&*store);
    let (running, queued) = (claim(&*store, &slot, put(&*store)).id, put(&*store).id);
    let (done, gone) = (done(&*store, &slot), Id::new(&Native));
    let at = |class: &str, worker: &str, id| temporary.0.join(list::entry(class, worker, id));
    let add = |class: &str, worker: &str, id| {
        fs::create_dir_all(at(class, worker, id).parent().unwrap()).unwrap();
        fs::write(at(class, worker, id), "").unwrap();
    };
    let move_to = |class: &str, id| {
        add(class, "demo", id);
        fs::remove_file(at("open", "demo", id)).unwrap();
    };
    move_to("failed", queued);
    add("open", "demo", done);
    add("cancelled", "other", done);
    add("succeeded", "demo", gone);
    let all = |state, worker: Option<&str>| {
        let wanted = Wanted { state, worker: worker.map(str::to_owned) };
        let found = store.list(&wanted, Range::Before(None), 100).unwrap();
        found.into_iter().map(|found| found.job.id).collect::<Vec<_>>()
    };
    assert!(all(Some(State::Failed), None).is_empty());
    assert_eq!(all(Some(State::Queued), None), [queued]);
    assert!(all(None, Some("other")).is_empty());
    let mut expected = vec![running, queued, done];
    expected.sort();
    expected.reverse();
    assert_eq!(all(None, None), expected);
    let names = walk(&temporary.0.join("list")).len();
    assert_eq!((names, all(Some(State::Succeeded), Some("demo"))), (3, vec![done]));
    // One that is missing, when the job ends or begins again.
    fs::remove_file(at("open", "demo", running)).unwrap();
    let mut job = store.load(&slot, running, Kind::Work).unwrap();
    end(&mut job, State::Failed);
    store.save(&slot, &mut job).unwrap();
    release(&*store, &slot, &job);
    assert_eq!(all(Some(State::Failed), None), [running]);
    // A folder of somebody else's, and a file.
    fs::create_dir_all(temporary.0.join("list/open/demo/foreign/folder")).unwrap();
    fs::write(temporary.0.join("list/open/demo/0123456"), "").unwrap();
    fs::write(temporary.0.join("list/open/foreign"), "").unwrap();
    assert_eq!(all(None, None), expected);
}

/// Whatever it is that moves, and between which two operations of the listing.
#[test]
fn what_is_moved_while_jobs_are_listed_is_listed() {
    type Move = fn(&dyn Store, &mut Slot, Id);
    let ends: Move = |store, slot, id| {
        let mut job = store.load(slot, id, Kind::Work).unwrap();
        end(&mut job, State::Failed);
        store.save(slot, &mut job).unwrap();
        release(store, slot, &job);
    };
    let begins_again: Move = |store, slot, id| {
        assert_eq!(store.claim_any(slot, id).unwrap(), Some(Kind::Tell));
        let mut job = store.load(slot, id, Kind::Tell).unwrap();
        (job.run.end, job.run.round) = (None, 1);
        store.save(slot, &mut job).unwrap();
        release(store, slot, &job);
    };
    let renews: Move = |store, slot, _| store.renew(slot).unwrap();
    for (name, state, before, move_it) in [
        ("ends", None, None, ends),
        ("begins again", None, Some(ends), begins_again),
        ("has a slot that is renewed", Some(State::Running), None, renews),
    ] {
        for moment in 0.. {
            let disk = Disk::new();
            let dir = |hook: model::Hook| Dir::new(Model::new(&disk, hook), Rc::new(Native));
            let other = dir(Box::new(|_, _| Ok(())));
            other.open().unwrap();
            let mut slot = enter(&other);
            let ids = [0, 1, 60].map(|ago| Id::at(Time(now().0 - ago * 60_000), &Native));
            for id in ids {
                put_as(&other, id, &input());
                claim(&other, &slot, Due::first(id));
                before.iter().for_each(|move_it| move_it(&other, &mut slot, id));
            }
            let (slot, operations) = (RefCell::new(slot), Rc::new(Cell::new(0)));
            let count = operations.clone();
            let store = dir(Box::new(move |_, _| {
                if count.replace(count.get() + 1) == moment {
                    move_it(&other, &mut slot.borrow_mut(), ids[1]);
                }
                Ok(())
            }));
            let wanted = Wanted { state, worker: None };
            let found = store.list(&wanted, Range::Before(None), 100).unwrap();
            let found: Vec<_> = found.into_iter().map(|found| found.job.id).collect();
            assert_eq!(found, ids, "one {name} before operation {moment}");
            if operations.get() <= moment {
                break;
            }
        }
    }
}

#[test]
fn folders_of_lists_go_with_the_last_job() {
    let temporary = Temporary::new();
    let store = temporary.store();
    let slot = enter(&*store);
    let ids: Vec<_> = (1..20).map(|n| Id::at(Time(now().0 - n * 3_600_000), &Native)).collect();
    for id in &ids {
        put_as(&*store, *id, &input());
    }
    let id = done(&*store, &slot);
    let folders =
        |class: &str| fs::read_dir(temporary.0.join("list").join(class).join("demo")).unwrap().count();
    assert_eq!((folders("open"), folders("succeeded")), (20, 1));
    for id in &ids {
        let mut job = claim(&*store, &slot, Due::first(*id));
        end(&mut job, State::Failed);
        store.save(&slot, &mut job).unwrap();
        release(&*store, &slot, &job);
    }
    assert_eq!((folders("open"), folders("failed")), (1, 19));
    while store.remove_expired(now() + 2 * KEEP, KEEP).unwrap().is_some() {}
    assert_eq!(["open", "failed", "succeeded"].map(folders), [0; 3]);
    // Those that were left empty go by and by.
    fs::create_dir_all(temporary.0.join("list/open/demo/0190000/000")).unwrap();
    fs::create_dir_all(temporary.0.join("list/open/demo/0190001")).unwrap();
    for _ in 0..100 {
        store.remove_expired(now(), KEEP).unwrap();
    }
    assert_eq!((folders("open"), store.find(id).unwrap().is_none()), (0, true));
}
