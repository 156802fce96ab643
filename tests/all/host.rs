//! Real hosts, as child processes.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::{fs::chown, process::CommandExt};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cluster;
use crate::recorder::Recorder;
use crate::server::Server;

/// A host, with its own kind of store or with PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Wasmtime,
    Wash,
    WashPostgres,
    Spin,
    SpinPostgres,
}

impl Kind {
    pub fn is_wash(self) -> bool {
        matches!(self, Kind::Wash | Kind::WashPostgres)
    }

    pub fn is_spin(self) -> bool {
        matches!(self, Kind::Spin | Kind::SpinPostgres)
    }

    /// So many rounds, or fewer on wash, which compiles for seconds at every start.
    pub fn rounds(self, usual: usize, on_wash: usize) -> usize {
        if self.is_wash() { on_wash } else { usual }
    }

    pub fn has_postgres(self) -> bool {
        matches!(self, Kind::WashPostgres | Kind::SpinPostgres)
    }
}

/// A host that is being set up.
pub struct Setup {
    kind: Kind,
    component: PathBuf,
    variables: Vec<(String, String)>,
    process_variables: Vec<(String, String)>,
    arguments: Vec<String>,
    data: Option<PathBuf>,
    database: Option<String>,
    address: Option<SocketAddr>,
    user: Option<u32>,
    without_space: bool,
}

/// A running host. Dropping it ends it, and prints what it said if the test is failing.
pub struct Host {
    pub address: SocketAddr,
    server: Server,
    _folder: Option<Folder>,
}

/// Lets `wasmtime serve` send one request after the other to an instance.
pub const REUSE: &str = "--max-instance-reuse-count 128";

impl Setup {
    /// A host for this component, such as `afterack` or `examples/guest`.
    pub fn new(kind: Kind, component: &str) -> Setup {
        let component = match (kind, component) {
            (Kind::Spin | Kind::SpinPostgres, "afterack") => "spin",
            (Kind::Spin | Kind::SpinPostgres, "faults") => "spin-faults",
            (Kind::WashPostgres, "afterack") => "wasmcloud",
            (Kind::WashPostgres, "faults") => "wasmcloud-faults",
            (Kind::WashPostgres, "examples/worker") => "examples/wasmcloud-worker",
            (Kind::Spin | Kind::SpinPostgres, "examples/worker") => "examples/spin-worker",
            (Kind::Spin | Kind::SpinPostgres, "plugged") => "spin-plugged",
            (Kind::Spin | Kind::SpinPostgres, "examples/email") => "examples/spin-email",
            (Kind::Spin | Kind::SpinPostgres, "examples/slack") => "examples/spin-slack",
            (Kind::Spin | Kind::SpinPostgres, "examples/webhook") => "examples/spin-webhook",
            (Kind::Spin | Kind::SpinPostgres, "examples/report") => "examples/spin-report",
            _ => component,
        };
        Setup::of_file(kind, root().join(format!("target/wasm32-wasip2/release/{component}.wasm")))
    }

    /// A host for the component in this file.
    pub fn of_file(kind: Kind, component: PathBuf) -> Setup {
        assert!(component.exists(), "{} is missing: run `make build`", component.display());
        Setup {
            kind,
            component,
            variables: Vec::new(),
            process_variables: Vec::new(),
            arguments: Vec::new(),
            data: None,
            database: None,
            address: None,
            user: None,
            without_space: false,
        }
    }

    /// An address that is known before the host has started.
    pub fn address(mut self, address: SocketAddr) -> Setup {
        self.address = Some(address);
        self
    }

    /// The user that the host runs as.
    pub fn user(mut self, user: u32) -> Setup {
        self.user = Some(user);
        self
    }

    /// The folder that the component sees as `/data`; Spin keeps its database there, and what is in PostgreSQL
    /// is in a database of that name.
    pub fn data(mut self, folder: &Path) -> Setup {
        self.data = Some(folder.into());
        if self.kind.has_postgres() {
            self.database = Some(cluster::database_of(folder));
        }
        self
    }

    /// The PostgreSQL database that the jobs are in.
    pub fn database(mut self, url: String) -> Setup {
        self.database = Some(url);
        self
    }

    /// A variable of the component's.
    pub fn variable(mut self, name: &str, value: impl ToString) -> Setup {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.into(), value.to_string()));
        self
    }

    /// A variable of the host's own process.
    pub fn process_variable(mut self, name: &str, value: &str) -> Setup {
        self.process_variables.push((name.into(), value.into()));
        self
    }

    /// Arguments of the host, divided by spaces.
    pub fn arguments(mut self, arguments: &str) -> Setup {
        self.arguments.extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// Lets the host write no file longer than 4 MiB, which is more than it needs for itself.
    /// [`Host::limit_space`] changes that.
    pub fn without_space(mut self) -> Setup {
        self.without_space = true;
        self
    }

    pub fn start(self) -> Host {
        match self.kind {
            Kind::Wasmtime => self.wasmtime(),
            Kind::Wash | Kind::WashPostgres => self.wash(),
            Kind::Spin | Kind::SpinPostgres => self.spin(),
        }
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = if self.without_space {
            // Without the signal, writing is an error.
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; ulimit -S -f 8192; exec \"$0\" \"$@\""]).arg(program);
            shell
        } else {
            Command::new(program)
        };
        if let Some(user) = self.user {
            command.uid(user);
        }
        // With it, a host looks for the origin of every error, and the end of a stream is one.
        command.env_remove("RUST_BACKTRACE");
        command.envs(self.process_variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn wasmtime(self) -> Host {
        let mut command = self.command(tool("wasmtime"));
        // A user other than the tests' needs a place of his own for the host's cache.
        let home = self.user.map(|user| {
            let home = Folder::new();
            chown(&home.0, Some(user), None).unwrap();
            command.env("HOME", &home.0);
            home
        });
        let address = self.address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        command.args(["serve", "--addr", &address.to_string()]);
        command.args(["-S", "cli", "-S", "inherit-network", "-S", "allow-ip-name-lookup"]);
        for (name, value) in &self.variables {
            command.args(["--env", &format!("{name}={value}")]);
        }
        if let Some(data) = &self.data {
            command.arg("--dir").arg(format!("{}::/data", data.display()));
        }
        // The whole suite runs once more with it.
        let is_chosen = self.arguments.iter().any(|argument| argument == "--max-instance-reuse-count");
        if std::env::var_os("REUSE").is_some() && !is_chosen {
            command.args(REUSE.split(' '));
        }
        command.args(&self.arguments).arg(&self.component);
        let server = Server::start(command);
        let line = server.wait_for("Serving HTTP on http://");
        let address = line.rsplit("http://").next().unwrap_or_default().trim_end_matches('/');
        let address = address.parse().unwrap_or_else(|_| panic!("no address in `{line}`"));
        Host { address, server, _folder: home }
    }

    fn wash(mut self) -> Host {
        let folder = Folder::new();
        let address = self.address.unwrap_or_else(free_address);
        if self.kind.has_postgres() {
            self.database.get_or_insert_with(|| cluster::database_of(&folder.0));
            if !self.variables.iter().any(|(name, _)| name == "AFTERACK_SELF") {
                // As README tells those who use it there.
                self = self.variable("AFTERACK_SELF", format!("http://{address}"));
            }
        }
        let mut config = serde_json::json!({
            "build": { "command": "true", "component_path": self.component },
            "dev": {
                "address": address,
                "volumes": self.data.iter().map(|data| {
                    serde_json::json!({ "host_path": data, "guest_path": "/data" })
                }).collect::<Vec<_>>(),
            },
            "workload": {
                "environment": { "config": serde_json::Map::from_iter(
                    self.variables.iter().map(|(name, value)| (name.clone(), value.clone().into())),
                ) },
                "allowedHosts": ["*"],
                "allowedIpNameLookups": ["*"],
            },
        });
        if let Some(url) = &self.database {
            config["dev"]["postgres_url"] = url.as_str().into();
            config["dev"]["host_interfaces"] = serde_json::json!([{
                "namespace": "wasmcloud",
                "package": "postgres",
                "interfaces": ["types", "query"],
                "version": "0.1.1-draft",
                "config": { "database": url.rsplit('/').next().and_then(|rest| rest.split('?').next()) },
            }]);
        }
        fs::create_dir(folder.0.join(".wash")).unwrap();
        // JSON is YAML.
        fs::write(folder.0.join(".wash/config.yaml"), config.to_string()).unwrap();
        if self.user.is_some() {
            chown(&folder.0, self.user, None).unwrap();
        }
        let mut command = self.command(tool("wash"));
        command.env("HOME", &folder.0).env("XDG_CONFIG_HOME", folder.0.join("config"));
        command.args(["--non-interactive", "-C"]).arg(&folder.0).arg("dev");
        let server = Server::start(command);
        server.wait_for("listening for HTTP requests");
        Host { address, server, _folder: Some(folder) }
    }

    fn spin(mut self) -> Host {
        if let Some(url) = self.database.take() {
            self = self.variable("AFTERACK_STORE", url);
        }
        let folder = Folder::new();
        let variables: String =
            self.variables.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
        let manifest = format!(
            "spin_manifest_version = 2\n[application]\nname = \"test\"\nversion = \"0.1.0\"\n\
             [[trigger.http]]\nroute = \"/...\"\ncomponent = \"test\"\n\
             [component.test]\nsource = {:?}\nallowed_outbound_hosts = [\"*://*:*\"]\n\
             sqlite_databases = [\"default\"]\n\
             [component.test.environment]\n{variables}",
            self.component
        );
        let path = folder.0.join("spin.toml");
        fs::write(&path, manifest).unwrap();
        self.spin_up(&path, folder)
    }

    fn spin_up(self, manifest: &Path, folder: Folder) -> Host {
        let address = self.address.unwrap_or_else(free_address);
        let state = self.data.clone().unwrap_or_else(|| folder.0.join("state"));
        let mut command = self.command("spin".into());
        command.args(["up", "--listen", &address.to_string(), "--from"]).arg(manifest);
        command.arg("--state-dir").arg(state).args(&self.arguments);
        let server = Server::start_group(command);
        server.wait_for("Serving http://");
        Host { address, server, _folder: Some(folder) }
    }
}

/// Spin as users start it: from the project's own spin.toml, with this variable of the application's.
pub fn spin_up(kind: Kind, data: &Path, variable: &str) -> Host {
    spin_up_from(kind, &root().join("spin.toml"), data, variable)
}

/// The same from another manifest.
pub fn spin_up_from(kind: Kind, manifest: &Path, data: &Path, variable: &str) -> Host {
    let setup = Setup::new(kind, "afterack").data(data).arguments(&format!("--variable {variable}"));
    setup.spin_up(manifest, Folder::new())
}

impl Host {
    /// Ends the host at once, as `kill -9` does.
    pub fn kill(self) {
        drop(self);
    }

    /// The lines so far with `text` in them.
    pub fn output(&self, text: &str) -> Vec<String> {
        self.server.output(text)
    }

    /// Limits the bytes that the host may write into a file.
    pub fn limit_space(&self, bytes: &str) {
        let limit = format!("--fsize={bytes}:");
        for pid in self.server.pids() {
            let status = Command::new("prlimit").args([&limit, "--pid", &pid]).status();
            assert!(status.is_ok_and(|status| status.success()), "prlimit {limit}");
        }
    }

    /// Waits for a line with `text` in what the host says, where the components' output goes, too.
    pub fn wait_for_output(&self, text: &str) {
        self.server.wait_for(text);
    }

    /// The memory of this kind (`VmRSS:`, `RssAnon:`) that the host's process has, in KiB.
    pub fn memory_kib(&self, kind: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(kind)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// A host for the guest of the behaviours, with a recorder for its effects.
pub fn guest(kind: Kind) -> (Host, Recorder) {
    let (setup, recorder) = guest_setup(kind);
    (setup.start(), recorder)
}

/// The same before it is started.
pub fn guest_setup(kind: Kind) -> (Setup, Recorder) {
    let recorder = Recorder::start();
    (Setup::new(kind, "examples/guest").variable("EFFECTS", recorder.url()), recorder)
}

/// Runs a behaviour on a host and leaves its result for `make hosts`.
///
/// What the body returns is the host's word for how it behaved, `yes` most of the time.
pub fn behaviour(name: &str, kind: Kind, body: fn(Kind) -> String) {
    let result = if kind.is_spin() && !is_on_path("spin") {
        // Past the capture of a passing test: a skipped test must not look like a passed one.
        let _ = writeln!(std::io::stderr(), "skipped: {name} on {kind:?}: `spin` is not on PATH");
        Ok("skipped".to_owned())
    } else {
        catch_unwind(AssertUnwindSafe(|| body(kind)))
    };
    note(name, kind, result.as_deref().unwrap_or("**no**"));
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

/// The same behaviour on every host: a test for each.
macro_rules! on_every_host {
    ($($behaviours:tt)*) => { $crate::host::on! { [wasmtime Wasmtime, wash Wash, spin Spin] $($behaviours)* } };
}
pub(crate) use on_every_host;

/// The same behaviour of jobs on every host and with every store: a test for each.
macro_rules! with_every_store {
    ($($behaviours:tt)*) => {
        $crate::host::on! {
            [wasmtime Wasmtime, wash Wash, wash_postgres WashPostgres, spin Spin, spin_postgres SpinPostgres]
            $($behaviours)*
        }
    };
}
pub(crate) use with_every_store;

/// The same behaviour on every host that has a directory for jobs: all but Spin.
macro_rules! on_every_host_with_a_folder {
    ($($behaviours:tt)*) => { $crate::host::on! { [wasmtime Wasmtime, wash Wash] $($behaviours)* } };
}
pub(crate) use on_every_host_with_a_folder;

macro_rules! on {
    ($kinds:tt $($(#[$doc:meta])* fn $name:ident($kind:ident: Kind) -> String $body:block)*) => {$(
        $(#[$doc])*
        mod $name {
            use super::*;

            fn body($kind: Kind) -> String $body

            $crate::host::tests! { $name $kinds }
        }
    )*};
}
pub(crate) use on;

macro_rules! tests {
    ($name:ident [$($test:ident $kind:ident),*]) => {$(
        #[test]
        fn $test() {
            $crate::host::behaviour(stringify!($name), Kind::$kind, body);
        }
    )*};
}
pub(crate) use tests;

fn note(name: &str, kind: Kind, word: &str) {
    let folder = root().join("target/hosts");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.{kind:?}")), word).unwrap();
}

impl Setup {
    /// With the options that `make up` has, on `wasmtime serve`.
    pub fn like_make_up(self) -> Setup {
        if self.kind == Kind::Wasmtime { self.arguments(&options_of_make_up()) } else { self }
    }
}

/// The options of `wasmtime serve` that `make up` uses.
pub fn options_of_make_up() -> String {
    fs::read_to_string(root().join(".setup/wasmtime-options")).unwrap()
}

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A tool that `make` has set up.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join(".tools/bin").join(name);
    assert!(path.exists(), "{} is missing: run `make test`", path.display());
    path
}

pub fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A port that was free a moment ago, for programs that cannot say which one they took.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

/// A folder that goes when it is dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("afterack-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
