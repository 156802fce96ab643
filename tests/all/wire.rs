//! An HTTP/1.1 client that shows the bytes on the wire.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

pub struct Connection {
    stream: TcpStream,
    /// What was read beyond the response before.
    buffer: Vec<u8>,
    blocking: bool,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether all of the body came that `Content-Length` had declared.
    pub complete: bool,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        Connection::new(TcpStream::connect(address).unwrap())
    }

    fn new(stream: TcpStream) -> Connection {
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        stream.set_write_timeout(Some(ANSWER)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, buffer: Vec::new(), blocking: true }
    }

    /// Opens a connection, unless nobody listens any more.
    pub fn open_if_up(address: SocketAddr) -> Option<Connection> {
        TcpStream::connect(address).ok().map(Connection::new)
    }

    /// Opens a connection to what is just starting.
    pub fn open_soon(address: SocketAddr) -> Connection {
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() && begun.elapsed() < ANSWER {
            std::thread::sleep(Duration::from_millis(10));
        }
        Connection::open(address)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends as much as the other side takes.
    pub fn send_if_taken(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// A request without a body.
    pub fn request(&mut self, method: &str, path: &str) -> Response {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.response(method)
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path)
    }

    /// A POST with headers, each ended by CRLF, and a body.
    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Response {
        let length = body.len();
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n"
        ));
        self.send_if_taken(body);
        self.response("POST")
    }

    /// Reads a response to `method`, to its end or the connection's.
    pub fn response(&mut self, method: &str) -> Response {
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break self.buffer.drain(..end + 4).collect::<Vec<_>>();
            }
            assert!(
                self.read() > 0,
                "the connection ended after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Response { status, headers, body: Vec::new(), complete: true };
        let bodiless = method == "HEAD" || matches!(status, 204 | 304);
        let length = response.header("content-length").map(|length| length.parse::<usize>().unwrap());
        if response.header("transfer-encoding") == Some("chunked") && !bodiless {
            (response.body, response.complete) = self.chunks();
        } else if !bodiless {
            while length.is_none_or(|length| self.buffer.len() < length) && self.read() > 0 {}
            let end = length.unwrap_or(usize::MAX).min(self.buffer.len());
            response.complete = length.is_none_or(|length| length == end);
            response.body = self.buffer.drain(..end).collect();
        }
        response
    }

    /// A body in chunks ([RFC 9112 §7.1](https://www.rfc-editor.org/rfc/rfc9112#section-7.1)), and whether
    /// its last chunk came.
    fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(end) = find(&self.buffer, b"\r\n") else {
                if self.read() == 0 {
                    return (body, false);
                }
                continue;
            };
            let size = usize::from_str_radix(str::from_utf8(&self.buffer[..end]).unwrap(), 16).unwrap();
            while self.buffer.len() < end + 2 + size + 2 {
                if self.read() == 0 {
                    return (body, false);
                }
            }
            body.extend_from_slice(&self.buffer[end + 2..end + 2 + size]);
            self.buffer.drain(..end + 2 + size + 2);
            if size == 0 {
                return (body, true);
            }
        }
    }

    /// The response to a GET, unless the connection ended before its headers had come.
    pub fn try_response(&mut self) -> Option<Response> {
        self.try_response_to("GET")
    }

    /// The same for any method.
    pub fn try_response_to(&mut self, method: &str) -> Option<Response> {
        while find(&self.buffer, b"\r\n\r\n").is_none() {
            if self.read() == 0 {
                return None;
            }
        }
        Some(self.response(method))
    }

    /// Waits until something of a response has come.
    pub fn wait_for_bytes(&mut self) {
        assert!(self.read() > 0, "the connection ended without an answer");
    }

    /// Waits until the other side has ended the connection.
    pub fn wait_for_end(&mut self) {
        while self.read() > 0 {}
    }

    /// Waits until this text has come, which stays to be read.
    pub fn wait_for(&mut self, text: &str) {
        while find(&self.buffer, text.as_bytes()).is_none() {
            let received = String::from_utf8_lossy(&self.buffer).into_owned();
            assert!(self.read() > 0, "the connection ended without `{text}`, after {received:?}");
        }
    }

    /// Whether this text has been read already, and not taken.
    pub fn has_received(&self, text: &str) -> bool {
        find(&self.buffer.to_ascii_lowercase(), text.as_bytes()).is_some()
    }

    /// Ends the connection by a reset, not in good order.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether a whole response lies ready, without waiting for anything.
    pub fn has_arrived(&mut self) -> bool {
        self.set_blocking(false);
        while self.read() > 0 {}
        self.set_blocking(true);
        let Some(head) = find(&self.buffer, b"\r\n\r\n") else { return false };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        self.buffer.len() >= head + 4 + length.unwrap_or(0)
    }

    fn set_blocking(&mut self, blocking: bool) {
        self.stream.set_nonblocking(!blocking).unwrap();
        self.blocking = blocking;
    }

    /// Reads what comes next; 0 at the end, or, when not blocking, if there is nothing.
    fn read(&mut self) -> usize {
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                count
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock && !self.blocking => 0,
            Err(error) => panic!("no answer within {ANSWER:?}: {error}"),
        }
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Checks that this is a problem with this status, and gives its detail.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}
