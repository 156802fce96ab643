//! A child process that serves: its output is kept, its end and that of its own children is sure.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take to come up.
const START: Duration = Duration::from_secs(600);

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(100);

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
        let (begun, (lines, more)) = (Instant::now(), &*self.output);
        loop {
            // Who keeps what it says holds that, too.
            let has_ended = Arc::strong_count(&self.output) == 1;
            let lines = lines.lock().unwrap();
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(!has_ended && begun.elapsed() < START, "no `{text}` in {lines:#?}");
            drop(more.wait_timeout(lines, LOOK).unwrap());
        }
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
