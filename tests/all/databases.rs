//! A SQLite database that fails: everybody hears why, and what was acknowledged goes on when it is right again.

use std::fs;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::host::{Folder, Host, Kind, on};
use crate::jobs::{Client, JSON, SHORT, component, id};
use crate::storage::{open, sqlite_in};
use crate::wait::within;
use crate::wire::Response;

const LONG: &str = r#"{"steps":20,"step_ms":100}"#;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

on! {
    [spin Spin]

    /// Before it has been made, and amid a job.
    fn a_database_that_is_locked_for_long_is_a_503(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let other = open(&sqlite_in(&data.0));
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        nothing_is_acknowledged(&host, "it is busy");
        other.execute_batch("COMMIT").unwrap();
        let long = begun(&client);
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        nothing_is_acknowledged(&host, "it is busy");
        assert_eq!(client.status(&long)["state"], "running");
        other.execute_batch("COMMIT").unwrap();
        host.wait_for_output(&format!("{long} succeeded"));
        "yes".into()
    }

    fn a_database_that_is_locked_for_a_second_is_waited_for(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let client = Client(&host);
        let other = open(&sqlite_in(&data.0));
        for lock in ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"] {
            other.execute_batch(lock).unwrap();
            let ack = thread::scope(|scope| {
                let ack = scope.spawn(|| client.post(JSON, SHORT));
                sleep(Duration::from_secs(1));
                assert!(!ack.is_finished(), "{lock} locks nothing");
                other.execute_batch("COMMIT").unwrap();
                ack.join().unwrap()
            });
            client.wait_for(&id(&ack), "succeeded");
        }
        "yes".into()
    }

    /// For longer than a lease; the host can write no log, either. Nobody asks for anything until the job is done.
    fn a_database_that_is_full_is_a_503_until_it_has_room(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).without_space().start();
        let client = Client(&host);
        let long = begun(&client);
        host.limit_space("0");
        nothing_is_acknowledged(&host, "disk");
        assert_eq!(client.status(&long)["state"], "running");
        sleep(Duration::from_secs(3));
        host.limit_space("unlimited");
        host.wait_for_output(&format!("{long} succeeded"));
        goes_on(&host);
        "yes".into()
    }

    /// By a version of its format that only a newer SQLite can write: permissions do not bind root.
    fn a_database_that_is_read_only_is_a_503(kind: Kind) -> String {
        const WRITE_VERSION: usize = 18;
        let (data, finished) = with_a_finished_job(kind);
        let path = sqlite_in(&data.0);
        let mut bytes = fs::read(&path).unwrap();
        let version = std::mem::replace(&mut bytes[WRITE_VERSION], 3);
        fs::write(&path, &bytes).unwrap();
        let host = component(kind, &data.0).start();
        nothing_is_acknowledged(&host, "readonly");
        assert_eq!(Client(&host).status(&finished)["state"], "succeeded");
        assert!(fs::read(&path).unwrap() == bytes, "the file has changed");
        bytes[WRITE_VERSION] = version;
        fs::write(&path, &bytes).unwrap();
        goes_on(&host);
        "yes".into()
    }

    /// Where a table should be made, and in the place of the one that says which schema it is.
    fn tables_of_somebody_elses_are_left_alone(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        let database = open(&sqlite_in(&data.0));
        let tables = [
            ("afterack_jobs", "number INTEGER", "VALUES (7)"),
            ("afterack_runs", "id TEXT", "VALUES ('mine')"),
            ("afterack_meta", "number INTEGER", "VALUES (7)"),
            ("afterack_meta", "version TEXT", "VALUES ('mine')"),
            ("afterack_meta", "version INTEGER, other TEXT", "VALUES (NULL, 'mine')"),
            ("afterack_meta", "version INTEGER", "SELECT 1 WHERE FALSE"),
        ];
        for (number, (table, columns, rows)) in tables.into_iter().enumerate() {
            let make = format!("CREATE TABLE {table} ({columns}); INSERT INTO {table} {rows}");
            database.execute_batch(&make).unwrap();
            let before = dump(&database);
            nothing_is_acknowledged(&host, table);
            // Each continuation says so, too, and is over then: it would make the tables if these were gone.
            within(ANSWER, &format!("the continuations end that have met {table}"), || {
                host.output("the store failed").len() >= 2 * (number + 1)
            });
            assert_eq!(dump(&database), before);
            database.execute_batch(&format!("DROP TABLE {table}")).unwrap();
        }
        goes_on(&host);
        "yes".into()
    }

    /// To make it anew would cost the next ack two more syncs.
    fn sqlites_log_stays_for_a_while_after_the_last_job(kind: Kind) -> String {
        let data = Folder::new();
        let host = component(kind, &data.0).start();
        goes_on(&host);
        sleep(Duration::from_secs(2));
        assert!(sqlite_in(&data.0).with_extension("db-wal").exists());
        "yes".into()
    }

    /// It is left alone by a component that does not know it.
    fn a_database_of_a_newer_component_is_left_alone(kind: Kind) -> String {
        let (data, finished) = with_a_finished_job(kind);
        let database = open(&sqlite_in(&data.0));
        let set = |version: u32| {
            let statement = "UPDATE afterack_meta SET version = ?1";
            assert_eq!(database.execute(statement, [version]).unwrap(), 1);
        };
        set(2);
        let before = dump(&database);
        let host = component(kind, &data.0).start();
        nothing_is_acknowledged(&host, "version 2, and this component knows 1");
        Client(&host).get(&format!("/jobs/{finished}")).problem(503);
        assert_eq!(dump(&database), before);
        set(1);
        assert_eq!(Client(&host).status(&finished)["state"], "succeeded");
        goes_on(&host);
        "yes".into()
    }

    fn a_file_that_is_no_database_is_a_503(kind: Kind) -> String {
        const TEXT: &str = "This is a file of somebody else's.\n";
        let data = Folder::new();
        let path = sqlite_in(&data.0);
        fs::write(&path, TEXT.repeat(1000)).unwrap();
        let host = component(kind, &data.0).start();
        nothing_is_acknowledged(&host, "file is not a database");
        assert_eq!(fs::read_to_string(&path).unwrap(), TEXT.repeat(1000));
        fs::remove_file(&path).unwrap();
        goes_on(&host);
        "yes".into()
    }
}

/// Whoever posts, and whoever asks whether he could, hears in time what is wrong, and that it may pass.
fn nothing_is_acknowledged(host: &Host, wrong: &str) {
    let asks: [fn(&Client) -> Response; 2] =
        [|client| client.post(JSON, SHORT), |client| client.get("/healthz")];
    for ask in asks {
        let begun = Instant::now();
        let answer = ask(&Client(host));
        let detail = answer.problem(503);
        assert!(begun.elapsed() < ANSWER, "{detail}: after {:?}", begun.elapsed());
        assert!(detail.contains(wrong), "{detail}");
        assert!(answer.header("retry-after").is_some());
    }
    for trap in ["wasm trap", "panicked"] {
        assert!(host.output(trap).is_empty(), "{:?}", host.output(trap));
    }
}

fn goes_on(host: &Host) {
    let client = Client(host);
    client.wait_for(&client.job(SHORT), "succeeded");
    assert_eq!(client.get("/healthz").status, 200);
}

/// A job that is running.
fn begun(client: &Client) -> String {
    let long = client.job(LONG);
    client.wait_until(&long, |job| job["progress"]["done"].as_u64() > Some(2));
    long
}

/// A database that a host has been through, in one file, and the job that is finished in it.
fn with_a_finished_job(kind: Kind) -> (Folder, String) {
    let data = Folder::new();
    let host = component(kind, &data.0).start();
    let finished = Client(&host).job(SHORT);
    Client(&host).wait_for(&finished, "succeeded");
    host.kill();
    open(&sqlite_in(&data.0)).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    (data, finished)
}

/// All that is in a database.
fn dump(database: &Connection) -> Vec<Vec<Value>> {
    let rows = |statement: &str| -> Vec<Vec<Value>> {
        let mut statement = database.prepare(statement).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect());
        rows.unwrap().map(Result::unwrap).collect()
    };
    let tables = rows("SELECT name FROM sqlite_schema WHERE type = 'table'");
    let all = tables.iter().flatten().flat_map(|table| match table {
        Value::Text(table) => rows(&format!("SELECT * FROM {table}")),
        other => panic!("a table named {other:?}"),
    });
    rows("SELECT * FROM sqlite_schema").into_iter().chain(all).collect()
}
