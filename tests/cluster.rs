//! A PostgreSQL server of the tests' own: a new cluster in a temporary folder, on a free port of the loopback
//! interface. It ends with its guard, or with the process that has started it, whatever becomes of that.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::{Client, NoTls};

/// What the cluster's superuser shows.
pub const PASSWORD: &str = "s3cret-of-the-tests";

/// Makes the cluster and runs it; whoever reads its end of the input, the server's is near.
const SCRIPT: &str = r#"
set -e
"$1/initdb" --pgdata="$2/data" --username=tests --pwfile="$2/password" --auth=scram-sha-256 \
    --encoding=UTF8 --no-locale --no-sync >"$2/log" 2>&1
run() {
    "$1/postgres" -D "$2/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c shared_buffers=32MB $4 >>"$2/log" 2>&1 </dev/null &
}
run "$@"
echo started
while read -r word; do
    case "$word" in
    kill) kill -s KILL $!; wait $! || true; echo killed ;;
    start) run "$@"; echo started ;;
    esac
done
kill -s QUIT $! || true
wait $! || true
rm -rf "$2"
"#;

/// A running server. Dropping it ends it.
pub struct Cluster {
    watch: Child,
    said: BufReader<ChildStdout>,
    folder: PathBuf,
    port: u16,
}

/// The URL of the database of this folder's name, in a server that all share and which makes it if it is not
/// there.
pub fn database_of(folder: &Path) -> String {
    static SERVER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let url = SERVER.get_or_init(|| Cluster::start("-c max_connections=400").into()).lock().unwrap().url();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let made = connect(&url).batch_execute(&format!("CREATE DATABASE \"{name}\""));
    if let Err(error) = made {
        assert_eq!(error.code(), Some(&SqlState::DUPLICATE_DATABASE), "{error}");
    }
    url.replace("/postgres", &format!("/{name}"))
}

/// A connection to a server that may be coming up.
pub fn connect(url: &str) -> Client {
    let begun = Instant::now();
    loop {
        match Client::connect(url, NoTls) {
            Ok(client) => return client,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
        }
        sleep(Duration::from_millis(50));
    }
}

/// Lets the server have what is in a folder: whether it does not run as the tests' user, who is root.
pub fn give_to_server(folder: &Path) -> bool {
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0);
    if is_root {
        let status = Command::new("chown").args(["-R", "postgres"]).arg(folder).status();
        assert!(status.is_ok_and(|status| status.success()), "chown to postgres: is postgresql installed?");
    }
    is_root
}

impl Cluster {
    /// A server with these options, such as `-c fsync=off`.
    pub fn start(options: &str) -> Cluster {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("afterack-pg-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("password"), PASSWORD).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = if give_to_server(&folder) {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", SCRIPT, "sh"]).arg(programs()).arg(&folder).arg(port.to_string()).arg(options);
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut watch = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = BufReader::new(watch.stdout.take().unwrap());
        let mut cluster = Cluster { watch, said, folder, port };
        cluster.expect("started");
        cluster
    }

    /// Ends the server at once, as a crash does.
    pub fn kill(&mut self) {
        self.order("kill", "killed");
    }

    /// Starts the server again that was killed.
    pub fn restart(&mut self) {
        self.order("start", "started");
    }

    /// Where its database is.
    pub fn url(&self) -> String {
        format!("postgres://tests:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    fn order(&mut self, order: &str, answer: &str) {
        writeln!(self.watch.stdin.as_mut().unwrap(), "{order}").unwrap();
        self.expect(answer);
    }

    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert_eq!(line.trim(), word, "PostgreSQL: {}", log());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

/// Where Debian has the server's programs: those of the newest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|entry| entry.file_name().into_string().ok()?.parse::<u32>().ok()).max();
    let newest = newest.expect("no PostgreSQL server: run `make test-tools`");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}
