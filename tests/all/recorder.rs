//! Where continuations leave their effects: a small HTTP server in the test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::server::serve;

/// How long an effect may take to come.
const EFFECT: Duration = Duration::from_secs(30);

type Effects = Arc<(Mutex<HashMap<String, Vec<String>>>, Condvar)>;

pub struct Recorder {
    address: SocketAddr,
    effects: Effects,
}

impl Recorder {
    pub fn start() -> Recorder {
        let effects = Effects::default();
        let kept = Arc::clone(&effects);
        let address = serve(move |connection| record(connection, &kept));
        Recorder { address, effects }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The effects under `key`, in their order, as soon as there are `count` of them.
    pub fn wait(&self, key: &str, count: usize) -> Vec<String> {
        let (effects, more) = &*self.effects;
        let missing = |effects: &mut HashMap<String, Vec<String>>| {
            effects.get(key).is_none_or(|effects| effects.len() < count)
        };
        let (effects, _) = more.wait_timeout_while(effects.lock().unwrap(), EFFECT, missing).unwrap();
        let effects = effects.get(key).cloned().unwrap_or_default();
        assert!(effects.len() >= count, "{count} effects expected, but these came: {effects:?}");
        effects
    }

    /// The effects that have come so far.
    pub fn so_far(&self, key: &str) -> Vec<String> {
        self.effects.0.lock().unwrap().get(key).cloned().unwrap_or_default()
    }
}

/// Reads a request, `POST /key` with the effect as its body, and answers it.
fn record(connection: TcpStream, effects: &Effects) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut lines = (&mut reader).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let key = lines.next()?.split_whitespace().nth(1)?.trim_start_matches('/').to_owned();
    let headers: Vec<String> = lines.map(|line| line.to_lowercase()).collect();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut effect = String::new();
    match length {
        Some(length) => drop(reader.by_ref().take(length).read_to_string(&mut effect)),
        None => effect = chunked(&mut reader)?,
    }
    effects.0.lock().unwrap().entry(key).or_default().push(effect);
    effects.1.notify_all();
    reader.into_inner().write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").ok()
}

/// A body in chunks (RFC 9112 §7.1).
fn chunked(reader: &mut impl BufRead) -> Option<String> {
    let mut body = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = u64::from_str_radix(line.trim(), 16).ok()?;
        reader.by_ref().take(size).read_to_string(&mut body).ok()?;
        reader.read_line(&mut line).ok()?;
        if size == 0 {
            return Some(body);
        }
    }
}
