//! The tables, made and brought up to date by the component itself.
//!
//! ```text
//! afterack_meta      one row: the `version` of this schema; how many jobs were `waiting` when they were `counted`;
//!                    what a `probe` writes; until when somebody keeps SQLite `open`
//! afterack_jobs      what was accepted; a row never changes
//! afterack_runs      how far each job has come, where it waits (`due`), or whose claim it is (`owner`); how it
//!                    has `ended`, or nothing; its `number` in its group, and whether it waits for its turn
//!                    (`waits` is 2) or for its time (1)
//! afterack_steps     what the steps of jobs have come to
//! afterack_slots     who holds each slot (`token`), and how often he has given a sign of life (`beat`)
//! afterack_marks     what clients ask of a job
//! afterack_retries   what clients ask of all jobs of a kind, and how far that was seen to
//! afterack_waiters   clients that wait for an answer
//! afterack_totals    how many jobs have ended in each way, in parts that are added to independently
//! afterack_damaged   what made no sense, set aside
//! ```
//!
//! In PostgreSQL, what is asked most often is a function, which it plans once for a connection.
//!
//! A database that looked at the tables when no job was waiting takes an index of all that wait for as good as any. So
//! what has an index of its own is asked for in words that fit no other (`length(ended) = 0`, `COALESCE(owner, '') =
//! ''`), and the least or the largest of many as the first one in that order.
//!
//! The first of a group's jobs by number is the one that may run. Whoever adds a job to a group, ends one or gives
//! one back does that alone: PostgreSQL locks the group's name meanwhile, and in SQLite only one can write.
//!
//! Those that end are counted by a trigger, and what belongs to one that goes is removed by one: each is one
//! statement, whole or not at all, in both dialects. So is the recording of a job, which is two rows: in SQLite the
//! second one is a trigger's, in PostgreSQL, where triggers take longer, both are a function's.

use std::borrow::Cow;

use super::super::Role;
use super::database::{Dialect, light};
use crate::jobs::job::State;

/// The version of the schema that is described here.
pub const VERSION: i64 = 1;

/// Into how many parts the jobs that end are counted, by the last digit of their holder's token: each holder locks one
/// row at a time until the disk has what he stores, and so nobody waits for another who waits for him.
const PARTS: i64 = 16;

const TABLES: &[&str] = &[
    "CREATE TABLE afterack_meta (
        version BIGINT PRIMARY KEY,
        waiting BIGINT NOT NULL,
        counted BIGINT NOT NULL,
        probe BIGINT NOT NULL,
        open BIGINT NOT NULL)",
    "CREATE TABLE afterack_jobs (
        id TEXT PRIMARY KEY,
        created BIGINT NOT NULL,
        delay BIGINT NOT NULL,
        grp TEXT,
        worker TEXT NOT NULL,
        head TEXT NOT NULL,
        key TEXT,
        size BIGINT NOT NULL,
        body BYTEA NOT NULL)",
    "CREATE TABLE afterack_runs (
        id TEXT PRIMARY KEY,
        owner TEXT,
        kind BIGINT NOT NULL,
        waits BIGINT NOT NULL,
        due BIGINT,
        since BIGINT,
        grp TEXT,
        number BIGINT NOT NULL,
        worker TEXT NOT NULL,
        ended TEXT NOT NULL,
        finished BIGINT,
        run TEXT NOT NULL,
        bytes BYTEA,
        step BIGINT,
        step_head TEXT,
        step_bytes BYTEA)",
    "CREATE TABLE afterack_steps (
        id TEXT NOT NULL, number BIGINT NOT NULL, head TEXT NOT NULL, bytes BYTEA, PRIMARY KEY (id, number))",
    "CREATE UNIQUE INDEX afterack_keys ON afterack_jobs (key) WHERE key IS NOT NULL",
    "CREATE INDEX afterack_queue ON afterack_runs (kind, waits, due, id)
        WHERE owner IS NULL AND due IS NOT NULL",
    "CREATE INDEX afterack_claims ON afterack_runs (owner, kind, id) WHERE owner IS NOT NULL",
    "CREATE INDEX afterack_waits ON afterack_runs (since) WHERE since IS NOT NULL",
    "CREATE INDEX afterack_groups ON afterack_runs (grp, number, id) WHERE grp IS NOT NULL AND length(ended) = 0",
    "CREATE INDEX afterack_list ON afterack_runs (ended, id)",
    "CREATE INDEX afterack_list_of_workers ON afterack_runs (ended, worker, id)",
    "CREATE INDEX afterack_ended ON afterack_runs (finished)
        WHERE owner IS NULL AND due IS NULL",
    "CREATE TABLE afterack_slots (
        role TEXT PRIMARY KEY, token TEXT, beat BIGINT NOT NULL)",
    "CREATE TABLE afterack_marks (
        id TEXT NOT NULL, round BIGINT NOT NULL, ask TEXT NOT NULL, PRIMARY KEY (id, round, ask))",
    "CREATE TABLE afterack_retries (
        name TEXT PRIMARY KEY, state TEXT NOT NULL, worker TEXT, reached TEXT NOT NULL)",
    "CREATE TABLE afterack_waiters (name TEXT PRIMARY KEY, until BIGINT NOT NULL)",
    "CREATE TABLE afterack_totals (
        name TEXT NOT NULL, part BIGINT NOT NULL, count BIGINT NOT NULL, PRIMARY KEY (name, part))",
    "CREATE TABLE afterack_damaged (
        id TEXT NOT NULL, reason TEXT NOT NULL, head TEXT, run TEXT, bytes BYTEA)",
];

/// What happens beside a statement.
struct Trigger {
    name: &'static str,
    when: &'static str,
    /// The row whose group nobody else may change meanwhile.
    locks: Option<&'static str>,
    what: &'static str,
}

/// The first job of the group that this row is in: the one that may run.
macro_rules! first {
    ($row:literal) => {
        concat!(
            "(SELECT o.id FROM afterack_runs o WHERE o.grp = ",
            $row,
            ".grp AND length(o.ended) = 0 ORDER BY o.number, o.id LIMIT 1)"
        )
    };
}

/// The number of the last job of this group; 0 if there is none.
macro_rules! last {
    ($group:literal) => {
        concat!(
            "COALESCE((SELECT o.number FROM afterack_runs o WHERE o.grp = ",
            $group,
            " AND length(o.ended) = 0 ORDER BY o.number DESC LIMIT 1), 0)"
        )
    };
}

/// Keeps others from changing this group, in PostgreSQL.
macro_rules! lock {
    ($group:literal) => {
        concat!("PERFORM pg_advisory_xact_lock(hashtext('afterack'), hashtext(", $group, "))")
    };
}

/// Lets a job begin of which this is known; as the last of its group, if it has one: the next after number `last`.
macro_rules! begin {
    ($id:literal, $created:literal, $delay:literal, $group:literal, $worker:literal) => {
        concat!(
            "INSERT INTO afterack_runs (id, kind, waits, due, since, grp, number, worker, ended, run) SELECT ",
            $id,
            ", 0, CASE WHEN last > 0 THEN 2 WHEN ",
            $delay,
            " > 0 THEN 1 ELSE 0 END, ",
            $created,
            " + ",
            $delay,
            ", CASE WHEN ",
            $delay,
            " > 0 THEN ",
            $created,
            " END, ",
            $group,
            ", last + 1, ",
            $worker,
            ", '', ''"
        )
    };
}

/// Lets the first job of a group wait for its turn no longer.
macro_rules! wake {
    ($row:literal) => {
        concat!(
            "UPDATE afterack_runs SET waits = CASE WHEN since IS NULL THEN 0 ELSE 1 END WHERE waits = 2 AND id = ",
            first!($row),
            ";"
        )
    };
}

/// How a job that is recorded begins, in SQLite.
const BEGIN: Trigger = Trigger {
    name: "afterack_begin",
    when: "AFTER INSERT ON afterack_jobs FOR EACH ROW",
    locks: None,
    what: concat!(
        begin!("NEW.id", "NEW.created", "NEW.delay", "NEW.grp", "NEW.worker"),
        " FROM (SELECT ",
        last!("NEW.grp"),
        " AS last) AS numbers;"
    ),
};

const TRIGGERS: [Trigger; 5] = [
    // What its steps have come to is of use to one that begins again.
    Trigger {
        name: "afterack_end",
        when: "AFTER UPDATE OF ended ON afterack_runs FOR EACH ROW WHEN (NEW.ended <> '' AND OLD.ended = '')",
        locks: None,
        what: "UPDATE afterack_totals SET count = count + 1 WHERE name = NEW.ended \
               AND part = strpos('0123456789abcdef', substr(OLD.owner, 16, 1)) - 1; \
               DELETE FROM afterack_steps WHERE id = NEW.id AND NEW.ended = 'succeeded';",
    },
    // One that has begun again is the last of its group; who is not the first waits; who is waits no longer.
    Trigger {
        name: "afterack_turn",
        when: "AFTER UPDATE OF owner ON afterack_runs FOR EACH ROW WHEN (NEW.grp IS NOT NULL AND NEW.owner IS NULL)",
        locks: Some("NEW"),
        what: concat!(
            "UPDATE afterack_runs SET number = 1 + ",
            last!("NEW.grp"),
            " WHERE id = NEW.id AND OLD.ended <> '' AND NEW.ended = ''; \
             UPDATE afterack_runs SET waits = 2 WHERE id = NEW.id AND ended = '' AND id <> ",
            first!("NEW"),
            "; ",
            wake!("NEW")
        ),
    },
    Trigger {
        name: "afterack_gone",
        when: "AFTER DELETE ON afterack_runs FOR EACH ROW",
        locks: None,
        what: "DELETE FROM afterack_jobs WHERE id = OLD.id; DELETE FROM afterack_steps WHERE id = OLD.id;",
    },
    // One that was removed before its end was told. Nobody waits for the groups of the others.
    Trigger {
        name: "afterack_gone_from_group",
        when: "AFTER DELETE ON afterack_runs FOR EACH ROW WHEN (OLD.grp IS NOT NULL AND OLD.owner IS NOT NULL)",
        locks: Some("OLD"),
        what: wake!("OLD"),
    },
    Trigger {
        name: "afterack_step",
        when: "AFTER UPDATE OF step ON afterack_runs FOR EACH ROW WHEN (NEW.step IS NOT NULL)",
        locks: None,
        what: "INSERT INTO afterack_steps (id, number, head, bytes) \
               VALUES (NEW.id, NEW.step, NEW.step_head, NEW.step_bytes) ON CONFLICT (id, number) \
               DO UPDATE SET head = excluded.head, bytes = excluded.bytes;",
    },
];

/// The due jobs of which this is true, and more.
macro_rules! due {
    ($condition:literal) => {
        concat!(
            "SELECT id, kind, due, since FROM (SELECT id, kind, due, since FROM afterack_runs \
             WHERE owner IS NULL AND due IS NOT NULL AND ",
            $condition,
            " ORDER BY due, id LIMIT CAST($2 AS BIGINT)) AS part UNION ALL "
        )
    };
}

/// When the first of the jobs that wait for their time, and of which this is true, is due after now.
macro_rules! next {
    ($condition:literal) => {
        concat!(
            "SELECT '', CAST(-1 AS BIGINT), (SELECT due FROM afterack_runs WHERE owner IS NULL AND due IS NOT NULL \
             AND waits = 1 AND due > $1 AND ",
            $condition,
            " ORDER BY due LIMIT 1), CAST(NULL AS BIGINT)"
        )
    };
}

/// What is asked most often.
pub struct Question {
    name: &'static str,
    /// Whether it changes nothing.
    is_stable: bool,
    parameters: &'static str,
    pub statement: &'static str,
    pub answer: Answer,
}

/// What a function of PostgreSQL returns.
pub enum Answer {
    /// Rows of these columns, which the statement gives.
    Rows(&'static str),
    /// A number, or NULL where the statement gives no row, by these steps. They take less than a statement with all of
    /// it, and a call for a number less than one for rows.
    Number(&'static str),
}

pub const QUESTIONS: [&Question; 4] = [&PUT, &SURVEY, &LOOK, &RELEASE];

/// How many jobs wait.
macro_rules! waiting {
    ($limit:literal) => {
        concat!(
            "(SELECT count(*) FROM (SELECT 1 FROM afterack_runs WHERE owner IS NULL AND due IS NOT NULL \
             AND kind IN (0, 1)",
            $limit,
            ") AS waiting)"
        )
    };
}

/// Whether a count of the last ten seconds will do to know that there is room: with a limit over a thousand, if the
/// queue could not be full since with 5,000 jobs a second.
macro_rules! surely_has_room {
    () => {
        "$10 > 1000 AND $2 - counted BETWEEN 0 AND 10000 AND waiting + 5 * ($2 - counted) < $10"
    };
}

/// Records a job, unless so many wait already, if this is the schema that this component knows. When those that wait
/// were counted comes along.
pub const PUT: Question = Question {
    name: "afterack_put",
    is_stable: false,
    parameters: "TEXT, BIGINT, BIGINT, TEXT, TEXT, TEXT, TEXT, BIGINT, BYTEA, BIGINT, BIGINT",
    statement: concat!(
        "INSERT INTO afterack_jobs (id, created, delay, grp, worker, head, key, size, body) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 FROM afterack_meta WHERE version = $11 AND (",
        surely_has_room!(),
        " OR ",
        waiting!(" LIMIT CAST($10 AS BIGINT)"),
        " < $10) ON CONFLICT DO NOTHING RETURNING (SELECT counted FROM afterack_meta)"
    ),
    answer: Answer::Number(concat!(
        "#variable_conflict use_variable\n\
         DECLARE counted BIGINT; waiting BIGINT; last BIGINT := 0; BEGIN \
         SELECT m.counted, m.waiting INTO counted, waiting FROM afterack_meta m WHERE m.version = $11; \
         IF NOT FOUND THEN RETURN NULL; END IF; \
         IF NOT (",
        surely_has_room!(),
        ") THEN IF ",
        waiting!(" LIMIT $10"),
        " >= $10 THEN RETURN NULL; END IF; END IF; IF $4 IS NOT NULL THEN ",
        lock!("$4"),
        "; last := ",
        last!("$4"),
        "; END IF; \
         INSERT INTO afterack_jobs (id, created, delay, grp, worker, head, key, size, body) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING; \
         IF NOT FOUND THEN RETURN NULL; END IF; ",
        begin!("$1", "$2", "$3", "$4", "$5"),
        "; RETURN counted; END"
    )),
};

/// Counts the jobs that wait, at time `$1`, unless somebody has since `$2`.
pub const COUNT: &str = concat!(
    "UPDATE afterack_meta SET counted = $1, waiting = ",
    waiting!(""),
    " WHERE counted = $2",
    light!(),
    " RETURNING version"
);

/// When the last one of those has ended that are kept.
macro_rules! last_end {
    () => {
        "COALESCE((SELECT o.finished FROM afterack_runs o WHERE o.owner IS NULL AND o.due IS NULL \
         AND o.finished >= 0 ORDER BY o.finished DESC LIMIT 1), 0)"
    };
}
pub(super) use last_end;

/// Ends a claim. A clock that was behind lets nothing go before what has ended earlier.
pub const RELEASE: Question = Question {
    name: "afterack_release",
    is_stable: false,
    parameters: "BIGINT, BIGINT, BIGINT, BIGINT, TEXT, BIGINT, TEXT, TEXT",
    statement: concat!(
        "UPDATE afterack_runs SET owner = NULL, kind = $1, waits = $2, due = $3, since = $4, \
         ended = $5, finished = CASE WHEN CAST($5 AS TEXT) = '' THEN NULL ELSE GREATEST($6, ",
        last_end!(),
        ") END WHERE id = $7 AND owner = $8",
        light!(),
        " RETURNING id"
    ),
    answer: Answer::Rows("id TEXT"),
};

/// The schema's version and until when somebody keeps SQLite open; the slots, the marks, what is to begin again, who
/// has claims and no slot, and when the first of those jobs has ended that are kept. One owner after the other is
/// looked up, however many claims each has.
pub const SURVEY: Question = Question {
    name: "afterack_survey",
    is_stable: true,
    parameters: "",
    statement: "SELECT 'open', '', NULL, open, version FROM afterack_meta \
                UNION ALL SELECT 'slot', role, token, beat, 0 FROM afterack_slots \
                UNION ALL SELECT 'mark', id, ask, round, 0 FROM afterack_marks \
                UNION ALL SELECT 'retry', name, state || ' ' || reached || ' ' || COALESCE('=' || worker, ''), 0, 0 \
                FROM afterack_retries \
                UNION ALL SELECT 'unfinished', owner, NULL, 0, 0 FROM (\
                WITH RECURSIVE owners AS (SELECT CAST('' AS TEXT) AS owner \
                UNION ALL SELECT (SELECT r.owner FROM afterack_runs r \
                WHERE r.owner IS NOT NULL AND r.owner > o.owner ORDER BY r.owner LIMIT 1) \
                FROM owners o WHERE o.owner IS NOT NULL) SELECT owner FROM owners) AS owners \
                WHERE owner <> '' AND NOT EXISTS (SELECT 1 FROM afterack_slots WHERE token = owner) \
                UNION ALL SELECT 'ended', '', NULL, (SELECT finished FROM afterack_runs \
                WHERE owner IS NULL AND due IS NULL AND finished >= 0 ORDER BY finished LIMIT 1), 0",
    answer: Answer::Rows("what TEXT, name TEXT, word TEXT, number BIGINT, version BIGINT"),
};

/// What the queue holds at time `$1`, with at most `$2` due jobs of each kind; and when the first of the others
/// are due.
pub const LOOK: Question = Question {
    name: "afterack_look",
    is_stable: true,
    parameters: "BIGINT, BIGINT",
    statement: concat!(
        due!("kind = 0 AND waits = 0"),
        due!("kind = 0 AND waits = 1 AND due <= $1"),
        due!("kind = 1 AND waits = 0"),
        due!("kind = 2 AND waits = 1 AND due <= $1"),
        next!("kind = 0"),
        " UNION ALL ",
        next!("kind = 2"),
    ),
    answer: Answer::Rows("id TEXT, kind BIGINT, due BIGINT, since BIGINT"),
};

impl Question {
    /// The statement that asks it.
    pub fn call(&self, dialect: Dialect) -> Cow<'static, str> {
        match dialect {
            Dialect::Sqlite => self.statement.into(),
            Dialect::Postgres => {
                let count = self.parameters.split(", ").filter(|name| !name.is_empty()).count();
                let numbers: Vec<_> = (1..=count).map(|number| format!("${number}")).collect();
                let from = if matches!(self.answer, Answer::Rows(_)) { "* FROM " } else { "" };
                format!("SELECT {from}{}({})", self.name, numbers.join(", ")).into()
            }
        }
    }

    /// What makes it a function.
    fn function(&self) -> String {
        let Question { name, is_stable, parameters, statement, answer } = self;
        let volatility = if *is_stable { "STABLE" } else { "VOLATILE" };
        let (returns, body) = match answer {
            Answer::Rows(columns) => (
                format!("TABLE ({columns}) SET plan_cache_mode = force_generic_plan"),
                format!("#variable_conflict use_column\nBEGIN RETURN QUERY {statement}; END"),
            ),
            Answer::Number(steps) => ("BIGINT".into(), steps.to_string()),
        };
        format!(
            "CREATE OR REPLACE FUNCTION {name}({parameters}) RETURNS {returns} LANGUAGE plpgsql {volatility} \
             AS $body$ {body} $body$"
        )
    }
}

/// The statements that make the schema, to be run as one. They fail where one of its tables is there already,
/// which is somebody else's.
pub fn statements(dialect: Dialect) -> Vec<String> {
    let tables = TABLES.iter().map(|table| dialect.adapt(table).into_owned());
    let made: Vec<_> = match dialect {
        Dialect::Sqlite => [&BEGIN].into_iter().chain(&TRIGGERS).map(Trigger::of_sqlite).collect(),
        Dialect::Postgres => {
            let functions = QUESTIONS.iter().map(|question| question.function());
            TRIGGERS.iter().flat_map(Trigger::of_postgres).chain(functions).collect()
        }
    };
    tables.chain(made).chain(rows()).collect()
}

impl Trigger {
    fn of_sqlite(&self) -> String {
        let Trigger { name, when, what, .. } = self;
        Dialect::Sqlite.adapt(&format!("CREATE TRIGGER {name} {when} BEGIN {what} END")).into_owned()
    }

    /// Its function, and itself.
    fn of_postgres(&self) -> [String; 2] {
        let Trigger { name, when, locks, what } = self;
        let lock = locks.map_or(String::new(), |row| format!(concat!(lock!("{}.grp"), "; "), row));
        [
            format!(
                "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql \
                 AS $body$ BEGIN {lock}{what} RETURN NULL; END $body$"
            ),
            format!("CREATE TRIGGER {name} {when} EXECUTE FUNCTION {name}()"),
        ]
    }
}

/// What lets every job that is recorded begin, in PostgreSQL as well: for many at once.
#[cfg(test)]
pub fn begin_by_trigger() -> [String; 2] {
    BEGIN.of_postgres()
}

/// The rows that are always there.
pub fn rows() -> Vec<String> {
    let slots: Vec<_> = Role::all().map(|role| format!("('{role}', 0)")).collect();
    let parts = State::ENDS
        .iter()
        .flat_map(|state| (0..PARTS).map(move |part| format!("('{}', {part}, 0)", state.name())));
    let totals: Vec<_> = parts.chain(["('untold', 0, 0)".to_owned()]).collect();
    let insert = |table: &str, columns: &str, values: &[String]| {
        format!("INSERT INTO {table} ({columns}) VALUES {} ON CONFLICT DO NOTHING", values.join(", "))
    };
    vec![
        insert("afterack_slots", "role, beat", &slots),
        insert("afterack_totals", "name, part, count", &totals),
        insert(
            "afterack_meta",
            "version, waiting, counted, probe, open",
            &[format!("({VERSION}, 0, 0, 0, 0)")],
        ),
    ]
}
