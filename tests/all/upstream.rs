//! An upstream of the `http` worker: a small HTTP server whose behaviour is the first part of the path.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::server;

/// How long it waits where it waits for ever.
const FOREVER: Duration = Duration::from_secs(3600);

pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

/// A request that has come.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<HashMap<String, Vec<Request>>>,
    /// How many bytes of endless bodies were taken.
    sent: AtomicU64,
    /// How many requests sleep.
    asleep: AtomicUsize,
    /// The most that slept at once.
    most_asleep: AtomicUsize,
}

impl Upstream {
    pub fn start() -> Upstream {
        let seen = Arc::<Seen>::default();
        let kept = Arc::clone(&seen);
        let address = server::serve(move |connection| serve(connection, &kept));
        Upstream { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The requests to this path so far.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.seen.requests.lock().unwrap().get(path).cloned().unwrap_or_default()
    }

    /// How many they are.
    pub fn count(&self, path: &str) -> usize {
        self.seen.requests.lock().unwrap().get(path).map_or(0, Vec::len)
    }

    /// How many bytes of endless bodies were taken.
    pub fn sent(&self) -> u64 {
        self.seen.sent.load(Ordering::Relaxed)
    }

    /// The most requests that slept at once.
    pub fn most_asleep(&self) -> usize {
        self.seen.most_asleep.load(Ordering::SeqCst)
    }
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }
}

/// Answers one request after the other.
fn serve(connection: TcpStream, seen: &Seen) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    loop {
        let mut lines = (&mut reader).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        });
        let mut request = Request { path, headers: headers.collect(), body: Vec::new(), at: Instant::now() };
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.by_ref().take(length).read_to_end(&mut request.body).ok()?;
        let count = {
            let mut requests = seen.requests.lock().unwrap();
            let requests = requests.entry(request.path.trim_start_matches('/').to_owned()).or_default();
            requests.push(request.clone());
            requests.len()
        };
        answer(&connection, &request, count, seen)?;
    }
}

/// Answers the request that is the so-manieth to its path; `None` if the connection is to end.
fn answer(mut connection: &TcpStream, request: &Request, count: usize, seen: &Seen) -> Option<()> {
    let mut say = |text: &str| connection.write_all(text.as_bytes()).ok();
    let mut whole = |status: &str, headers: &str, body: &str| {
        say(&format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
    };
    let mut parts = request.path.trim_start_matches('/').split('/');
    let kind = parts.next()?;
    let milliseconds = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let report = format!("a report of {}", String::from_utf8_lossy(&request.body));
    match kind {
        "works" => whole("200 OK", "Content-Type: text/x-report; charset=utf-8\r\n", &report),
        "sleeps" => {
            let asleep = seen.asleep.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most_asleep.fetch_max(asleep, Ordering::SeqCst);
            sleep(Duration::from_millis(milliseconds));
            seen.asleep.fetch_sub(1, Ordering::SeqCst);
            whole("200 OK", "Content-Type: text/plain\r\n", "slept")
        }
        "nothing" => whole("200 OK", "", ""),
        "fails" if count <= 3 => whole("500 Internal Server Error", "", "not yet\nreally"),
        "busy" if count == 1 => whole("429 Too Many Requests", "Retry-After: 2\r\n", ""),
        "hangs" if count == 1 => {
            sleep(FOREVER);
            None
        }
        "fails" | "busy" | "hangs" => whole("200 OK", "Content-Type: text/plain\r\n", "at last"),
        "down" => whole("503 Service Unavailable", "", ""),
        "missing" => whole("404 Not Found", "", "no \u{1b}[31mreport\u{202e} of\r\n\r\nthat name"),
        "moved" => whole("302 Found", "Location: http://elsewhere.example/secret\r\n", ""),
        "encoded" => whole("200 OK", "Content-Encoding: gzip\r\n", "..."),
        "nonsense" => {
            say("ceci n'est pas HTTP\r\n\r\n")?;
            None
        }
        "resets" => {
            socket2::SockRef::from(connection).set_linger(Some(Duration::ZERO)).ok()?;
            None
        }
        "half" => {
            say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nten bytes.")?;
            None
        }
        "chunk" => {
            say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nten bytes.\r\n")?;
            None
        }
        "drips" => {
            say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
            while say(".").is_some() {
                sleep(Duration::from_millis(100));
            }
            None
        }
        "large" => {
            say("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")?;
            let piece = "x".repeat(65_536);
            for _ in 0..16_384 {
                say(&piece)?;
                seen.sent.fetch_add(65_536, Ordering::Relaxed);
            }
            Some(())
        }
        "endless" => {
            say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let piece = format!("10000\r\n{}\r\n", "x".repeat(65_536));
            for _ in 0..16_384 {
                say(&piece)?;
                seen.sent.fetch_add(65_536, Ordering::Relaxed);
            }
            say("0\r\n\r\n")
        }
        "silent" => {
            sleep(FOREVER);
            None
        }
        _ => whole("400 Bad Request", "", "unknown kind"),
    }
}
