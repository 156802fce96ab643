//! No statement reads more rows when more jobs have ended.

use std::cell::RefCell;

use super::super::*;
use crate::jobs::job::What;
use crate::jobs::store::Ask;
use crate::jobs::store::suite::*;

/// How many jobs have ended.
pub const ENDED: usize = 100_000;

/// A database that says how it would run each statement, and runs it.
pub struct Explained<D> {
    pub database: D,
    /// The statements, each with its plan.
    pub plans: Rc<RefCell<Vec<(String, String)>>>,
}

impl<D: Database> Database for Explained<D> {
    fn dialect(&self) -> Dialect {
        self.database.dialect()
    }

    fn query(&self, statement: &str, parameters: &[Value]) -> std::result::Result<Vec<Row>, Failure> {
        if ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|word| statement.starts_with(word)) {
            let (explain, column) = match self.dialect() {
                Dialect::Postgres => ("EXPLAIN", 0),
                Dialect::Sqlite => ("EXPLAIN QUERY PLAN", 3),
            };
            let question =
                schema::QUESTIONS.iter().find(|question| question.call(self.dialect()) == statement);
            let asked = question.map_or(statement, |question| question.statement);
            let asked = self.dialect().adapt(asked);
            // What is done in steps has no plan of its own.
            let has_plan = self.dialect() == Dialect::Sqlite
                || question.is_none_or(|question| matches!(question.answer, schema::Answer::Rows(_)));
            if has_plan {
                let plan = self.database.query(&format!("{explain} {asked}"), parameters)?;
                let plan = plan.iter().map(|row| row.text(column).unwrap().to_owned());
                let plan = plan.collect::<Vec<_>>().join("\n");
                self.plans.borrow_mut().push((statement.to_owned(), plan));
            }
        }
        self.database.query(statement, parameters)
    }
}

/// The statements that fill a store that has been made with jobs that have ended. `hexadecimal` makes 12 digits
/// of a number.
pub fn fill(numbers: &str, hexadecimal: &str) -> [String; 3] {
    let head = serde_json::to_string(&crate::jobs::store::suite::input()).unwrap();
    [
        format!(
            "INSERT INTO afterack_jobs (id, created, delay, worker, head, size, body) \
             SELECT '01900000-0000-7000-8000-' || {hexadecimal}, n, 0, 'demo', '{head}', 0, '' FROM ({numbers}) AS numbers"
        ),
        "UPDATE afterack_runs SET due = NULL, kind = 2, ended = 'succeeded', \
         finished = (SELECT created FROM afterack_jobs j WHERE j.id = afterack_runs.id)"
            .into(),
        "INSERT INTO afterack_steps (id, number, head) SELECT id, 0, '' FROM afterack_runs".into(),
    ]
}

/// The statements that put as many jobs into its queue: some that are due, some later, some to be told of, some in
/// groups of their own, and some in one group.
pub fn queue(numbers: &str, hexadecimal: &str) -> [String; 2] {
    let crowd = of_group("crowd").group.map(|group| group.digest()).unwrap_or_default();
    let head = serde_json::to_string(&crate::jobs::store::suite::input()).unwrap();
    [
        format!(
            "INSERT INTO afterack_jobs (id, created, delay, grp, worker, head, size, body) \
             SELECT '01910000-0000-7000-8000-' || {hexadecimal}, n, CASE n % 5 WHEN 0 THEN 10000000000000 ELSE 0 END, \
             CASE n % 5 WHEN 1 THEN 'group ' || n WHEN 2 THEN '{crowd}' END, \
             'demo', '{head}', 0, '' FROM ({numbers}) AS numbers"
        ),
        "UPDATE afterack_runs SET kind = 2, ended = 'failed', finished = due \
         WHERE ended = '' AND due < 1000000 AND due % 5 = 3"
            .into(),
    ]
}

/// Does everything that a store can do.
pub fn exercise(store: &dyn Store) {
    store.open().unwrap();
    let mut slot = enter(store);
    let mut due: Vec<_> = (0..3).map(|_| put(store)).collect();
    due.sort_unstable_by_key(|due| due.id);
    put_input(store, &with_key("one"));
    assert!(matches!(again(store, &with_key("two")), Put::Conflict));
    assert!(is_full(store, 4, now()));
    let mark = Mark { id: due[0].id, round: 0, ask: Ask::Cancel };
    store.ask(mark).unwrap();
    assert!(
        store.is_marked(mark).unwrap()
            && store.was_marked(mark).unwrap()
            && store.marks().unwrap().len() == 1
    );
    store.forget_mark(mark).unwrap();
    assert!(!store.look(now(), 100, true).unwrap().due.is_empty());
    store.renew(&mut slot).unwrap();
    assert_eq!(store.claim(&slot, &due, 2).unwrap(), due[..2]);
    assert_eq!(store.claims(&slot).unwrap().len(), 2);
    assert_eq!(store.claim_any(&slot, due[2].id).unwrap(), Some(Kind::Work));
    let mut job = store.load(&slot, due[0].id, Kind::Work).unwrap();
    store.note(&slot, &mut job).unwrap();
    let recorded = Recorded { step: "one".into(), what: What::Done, bytes: b"1".into() };
    record(store, &slot, &mut job, &[recorded]).unwrap();
    assert_eq!(store.recorded(&slot, &mut job).unwrap().len(), 1);
    end(&mut job, State::Succeeded);
    assert!(save_end(store, &slot, &mut job).unwrap());
    let mut other = store.load(&slot, due[2].id, Kind::Work).unwrap();
    store.save(&slot, &mut other).unwrap();
    release(store, &slot, &other);
    let in_group = put_input(store, &of_group("crowd"));
    assert_eq!(store.claim_any(&slot, in_group.id).unwrap(), Some(Kind::Work));
    let mut in_group = store.load(&slot, in_group.id, Kind::Work).unwrap();
    end(&mut in_group, State::Failed);
    assert!(save_end(store, &slot, &mut in_group).unwrap());
    assert!(store.find(job.id).unwrap().is_some() && store.output(job.id).unwrap().is_some());
    assert_eq!(store.body(job.id).unwrap(), b"{}");
    assert!(store.unfinished().unwrap().is_empty());
    store.finish("nobody").unwrap();
    store.note_untold().unwrap();
    store.linger(now()).unwrap();
    assert_eq!(store.counts().unwrap().running, 1);
    let waiter = store.admit(9, now()).unwrap().unwrap();
    store.dismiss(waiter).unwrap();
    assert!(store.pulse().unwrap() > 0 && store.expires(KEEP).unwrap().is_some());
    list_all(store);
    let wanted = Wanted { state: Some(State::Failed), worker: Some("other".into()) };
    assert_eq!(store.retry_all(&wanted).unwrap(), 0);
    store.note_retried(&store.retries().unwrap()[0], job.id).unwrap();
    store.forget_retry(&store.retries().unwrap()[0]).unwrap();
    assert!(store.purge(&store.find(job.id).unwrap().unwrap(), KEEP).unwrap());
    let seen = Holding::Held(slot.sign.clone());
    let slot = store.enter(slot.role, &seen).unwrap().unwrap();
    store.leave(slot).unwrap();
    assert!(store.remove_expired(Time(1000) + KEEP, KEEP).unwrap().is_some());
}

/// Lists few and many jobs, in both orders, from both ends and from the middle.
fn list_all(store: &dyn Store) {
    let middle = Id::parse(&format!("01900000-0000-7000-8000-{:012x}", ENDED / 2)).unwrap();
    for state in [None].into_iter().chain(State::ALL.map(Some)) {
        for worker in [None, Some("demo".to_owned()), Some("other".to_owned())] {
            let wanted = Wanted { state, worker };
            for bound in [None, Some(middle)] {
                for range in [Range::Before(bound), Range::After(bound)] {
                    store.list(&wanted, range, 51).unwrap();
                }
            }
        }
    }
}

/// Whether a plan of a list reads jobs only to leave them out.
pub fn leaves_jobs_out(statement: &str, plan: &str) -> bool {
    // Those that run may be read as a whole.
    let is_list = statement.contains("AS wanted") && !statement.contains("owner > ");
    let filters = plan.lines().filter(|line| line.contains("Filter:") && !line.contains("owner IS NULL"));
    is_list && filters.into_iter().any(|line| line.contains("ended") || line.contains("worker"))
}
