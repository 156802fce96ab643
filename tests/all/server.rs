//! A child process that serves: its output is kept, its end and that of its own children is sure.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// How long anything may take to come up.
const START: Duration = Duration::from_secs(600);

pub struct Server {
    child: Child,
    /// It leads a group of its own, which ends with it.
    leads_group: bool,
    output: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Server {
    pub fn start(mut command: Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::default();
        keep(child.stdout.take().unwrap(), &output);
        keep(child.stderr.take().unwrap(), &output);
        Server { child, leads_group: false, output }
    }

    /// Starts a program whose child serves.
    pub fn start_group(mut command: Command) -> Server {
        command.process_group(0);
        let mut server = Server::start(command);
        server.leads_group = true;
        server
    }

    /// The first line of output that has `text` in it.
    pub fn wait_for(&self, text: &str) -> String {
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        let (lines, more) = &*self.output;
        let (lines, _) =
            more.wait_timeout_while(lines.lock().unwrap(), START, |lines| found(lines).is_none()).unwrap();
        found(&lines).unwrap_or_else(|| panic!("no `{text}` in {lines:#?}"))
    }

    /// The lines so far that have `text` in them.
    pub fn output(&self, text: &str) -> Vec<String> {
        self.output.0.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process and its children, one of which may be what serves.
    pub fn pids(&self) -> Vec<String> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        [pid.to_string()].into_iter().chain(children.split_whitespace().map(str::to_owned)).collect()
    }
}

/// Serves each connection to a free port in a thread of its own, for as long as the test runs: where that is.
pub fn serve<T: Send + 'static>(connection: impl Fn(TcpStream) -> T + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = connection.clone();
            thread::spawn(move || connection(stream));
        }
    });
    address
}

fn keep(source: impl Read + Send + 'static, output: &Arc<(Mutex<Vec<String>>, Condvar)>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            output.0.lock().unwrap().push(line);
            output.1.notify_all();
        }
    });
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.leads_group {
            let _ = Command::new("sh").args(["-c", "kill -s KILL -- -$0", &self.pid().to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.output.0.lock().unwrap_or_else(|poison| poison.into_inner());
            eprintln!("--- what {} said ---\n{}", self.pid(), lines.join("\n"));
        }
    }
}
