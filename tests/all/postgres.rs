//! A PostgreSQL server that goes and comes back, drops its connections, or is held up.

use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::cluster::{self, Cluster, PASSWORD, connect};
use crate::host::{Folder, Host, Kind, Setup, on};
use crate::jobs::{Client, JSON, SHORT, id};
use crate::wait::within;
use crate::wire::{Connection, Response};

/// How long an answer may take that the database holds up.
const ANSWER: Duration = Duration::from_secs(10);

/// A host of a database; no statement takes longer than 5 s, as docs/deploy.md has it.
fn host(kind: Kind, cluster: &Cluster, folder: &Folder) -> Host {
    let url = format!("{}?options=-c%20statement_timeout%3D5s", cluster.url());
    Setup::new(kind, "afterack").data(&folder.0).database(url).variable("AFTERACK_LEASE", "2s").start()
}

/// Checks the answer of a host whose database fails.
fn is_refused(answer: &Response, begun: Instant) {
    assert!(answer.header("retry-after").is_some(), "{}", answer.text());
    let detail = answer.problem(503);
    assert!(begun.elapsed() < ANSWER, "{:?}: {detail}", begun.elapsed());
    assert!(!detail.contains(PASSWORD), "{detail}");
}

on! {
    [wash_postgres WashPostgres, spin_postgres SpinPostgres]

    /// Killed amid jobs, for longer than a lease, and than a host lets an invocation live: nothing is acknowledged until
    /// it is back, and then everything goes on though nobody asks.
    fn a_database_that_dies_is_a_503_until_it_is_back(kind: Kind) -> String {
        let (mut cluster, folder) = (Cluster::start(""), Folder::new());
        let host = host(kind, &cluster, &folder);
        let client = Client(&host);
        let ids: Vec<_> = (0..10).map(|_| client.job(r#"{"steps":20,"step_ms":100}"#)).collect();
        client.wait_until(&ids[0], |job| job["progress"]["done"].as_u64() > Some(2));
        cluster.kill();
        let down = Instant::now();
        while down.elapsed() < Duration::from_secs(14) {
            let begun = Instant::now();
            is_refused(&client.post(JSON, SHORT), begun);
            sleep(Duration::from_secs(1));
        }
        cluster.restart();
        for id in &ids {
            host.wait_for_output(&format!("{id} succeeded"));
        }
        client.wait_for(&client.job(SHORT), "succeeded");
        assert!(host.output(PASSWORD).is_empty(), "the password is in the log");
        "yes".into()
    }

    /// As a failover does, again and again, while jobs are posted and run.
    fn connections_that_are_dropped_lose_no_job(kind: Kind) -> String {
        let (cluster, folder) = (Cluster::start(""), Folder::new());
        let host = host(kind, &cluster, &folder);
        let mut ids = vec![Client(&host).job(SHORT)];
        let address = host.address;
        let client = thread::spawn(move || {
            let post = |_| {
                let begun = Instant::now();
                let answer = Connection::open(address).post("/jobs/demo", JSON, br#"{"steps":3,"step_ms":50}"#);
                match answer.status {
                    202 => Some(id(&answer)),
                    _ => {
                        is_refused(&answer, begun);
                        None
                    }
                }
            };
            (0..200).filter_map(post).collect::<Vec<_>>()
        });
        let mut database = connect(&cluster.url());
        while !client.is_finished() {
            sleep(Duration::from_millis(100));
            let drop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            database.batch_execute(drop).unwrap();
        }
        ids.extend(client.join().unwrap());
        assert!(ids.len() > 50, "only {} jobs were accepted", ids.len());
        for id in &ids {
            // That connection may have been dropped, too.
            within(ANSWER, "it can be looked for", || Client(&host).get(&format!("/jobs/{id}")).status != 503);
            Client(&host).wait_for(id, "succeeded");
        }
        "yes".into()
    }

    /// By somebody who locks a table.
    fn a_database_that_is_held_up_is_a_503_in_time(kind: Kind) -> String {
        let (cluster, folder) = (Cluster::start(""), Folder::new());
        let host = host(kind, &cluster, &folder);
        Client(&host).wait_for(&Client(&host).job(SHORT), "succeeded");
        let mut database = connect(&cluster.url());
        let mut lock = database.transaction().unwrap();
        lock.batch_execute("LOCK TABLE afterack_jobs, afterack_runs").unwrap();
        for _ in 0..2 {
            let begun = Instant::now();
            is_refused(&Client(&host).post(JSON, SHORT), begun);
        }
        lock.rollback().unwrap();
        let begun = Instant::now();
        // Until the statements have ended that were on their way.
        let job = loop {
            let answer = Client(&host).post(JSON, SHORT);
            if answer.status == 202 {
                break id(&answer);
            }
            assert!(begun.elapsed() < ANSWER, "{}", answer.text());
        };
        Client(&host).wait_for(&job, "succeeded");
        "yes".into()
    }

    /// Of somebody else, or of a component that is newer: they are left alone.
    fn tables_that_are_none_of_its_own_are_a_503(kind: Kind) -> String {
        let (cluster, folder) = (Cluster::start(""), Folder::new());
        let mut database = connect(&cluster.url());
        database.batch_execute("CREATE TABLE afterack_meta (somebody TEXT)").unwrap();
        let host = host(kind, &cluster, &folder);
        let begun = Instant::now();
        is_refused(&Client(&host).post(JSON, SHORT), begun);
        let tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'afterack%'";
        assert_eq!(database.query_one(tables, &[]).unwrap().get::<_, i64>(0), 1);
        database.batch_execute("DROP TABLE afterack_meta").unwrap();
        Client(&host).wait_for(&Client(&host).job(SHORT), "succeeded");
        database.batch_execute("UPDATE afterack_meta SET version = 7").unwrap();
        let answer = Client(&host).post(JSON, SHORT);
        let detail = answer.problem(503);
        assert!(detail.contains("version 7"), "{detail}");
        let jobs = "SELECT count(*) FROM afterack_jobs";
        assert_eq!(database.query_one(jobs, &[]).unwrap().get::<_, i64>(0), 1);
        "yes".into()
    }

    /// A server whose certificate nobody knows, or of another name, gets no password. Who issues certificates that are
    /// to be trusted can be said to Spin alone.
    fn a_servers_certificate_is_verified(kind: Kind) -> String {
        let [own, other] = [0, 1].map(|_| Certificate::new());
        let cluster = Cluster::start(&own.options());
        let start = |url: &str, known: &Certificate| {
            let folder = Folder::new();
            let setup = Setup::new(kind, "afterack").data(&folder.0).database(format!("{url}?sslmode=require"));
            let file = known.file().display().to_string();
            (setup.process_variable("SSL_CERT_FILE", &file).start(), folder)
        };
        let is_no_server = |host: &Host| {
            let begun = Instant::now();
            let answer = Client(host).post(JSON, SHORT);
            is_refused(&answer, begun);
            assert!(answer.problem(503).contains("TLS handshake"), "{}", answer.text());
            assert!(!answer.text().contains("\\n"), "{}", answer.text());
        };
        is_no_server(&start(&cluster.url(), &other).0);
        if !kind.is_spin() {
            is_no_server(&start(&cluster.url(), &own).0);
            return "yes, by public roots alone".into();
        }
        is_no_server(&start(&cluster.url().replace("127.0.0.1", "localhost"), &own).0);
        let (host, _folder) = start(&cluster.url(), &own);
        Client(&host).wait_for(&Client(&host).job(SHORT), "succeeded");
        let plain = "SELECT count(*) FROM pg_stat_ssl NATURAL JOIN pg_stat_activity \
                     WHERE NOT ssl AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        assert_eq!(connect(&cluster.url()).query_one(plain, &[]).unwrap().get::<_, i64>(0), 0);
        "yes".into()
    }
}

/// A server's certificate, for `127.0.0.1`, which nobody else has signed.
struct Certificate(Folder);

impl Certificate {
    fn new() -> Certificate {
        let certificate = Certificate(Folder::new());
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tests"]);
        command.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key", "-out", "certificate"]);
        let output = command.current_dir(&certificate.0.0).output().expect("openssl: run `make test-tools`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        cluster::give_to_server(&certificate.0.0);
        certificate
    }

    fn file(&self) -> PathBuf {
        self.0.0.join("certificate")
    }

    /// What lets a server show it.
    fn options(&self) -> String {
        let key = self.0.0.join("key");
        format!("-c ssl=on -c ssl_cert_file={} -c ssl_key_file={}", self.file().display(), key.display())
    }
}
