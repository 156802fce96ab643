//! The SMTP dialogue ([RFC 5321 §3.3](https://www.rfc-editor.org/rfc/rfc5321#section-3.3)), over
//! anything that reads and writes within limits, so that it is tested without a network.

use std::io;
use std::time::Duration;

/// The most bytes that a server's reply may have, all its lines together.
const REPLY: usize = 64 * 1024;

/// How long a server may take for each reply, and to take a piece of the message
/// ([RFC 5321 §4.5.3.2](https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.2)).
const GREETING: Duration = minutes(5);
const COMMAND: Duration = minutes(5);
const DATA: Duration = minutes(2);
const BLOCK: Duration = minutes(3);
const END: Duration = minutes(10);

/// How long its reply to `QUIT` is waited for, which changes nothing.
const QUIT: Duration = Duration::from_secs(1);

/// The most bytes that are written within one limit.
const PIECE: usize = 64 * 1024;

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// A connection whose operations have limits.
pub trait Stream {
    /// A monotonic clock.
    fn now(&self) -> Duration;

    /// Reads some bytes, none at the end. `ErrorKind::TimedOut` if that takes longer than `limit`.
    async fn read(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<usize>;

    /// Writes all bytes. `ErrorKind::TimedOut` if that takes longer than `limit`.
    async fn write(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()>;
}

pub enum Error {
    Io(io::Error),
    Refused { command: &'static str, reply: String },
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// Sends one message from one address to another.
pub async fn send(stream: &mut impl Stream, from: &str, to: &str, message: &[u8]) -> Result<(), Error> {
    let mut dialogue = Dialogue { stream, unread: Vec::new() };
    dialogue.expect("the connection", '2', GREETING).await?;
    // The name of this host is not known to a component; a literal is the RFC's way to say so.
    match dialogue.command("EHLO", "EHLO [127.0.0.1]", '2', COMMAND).await {
        Err(Error::Refused { reply, .. }) if reply.starts_with('5') => {
            dialogue.command("HELO", "HELO [127.0.0.1]", '2', COMMAND).await?;
        }
        result => result?,
    }
    dialogue.command("MAIL FROM", &format!("MAIL FROM:<{from}>"), '2', COMMAND).await?;
    dialogue.command("RCPT TO", &format!("RCPT TO:<{to}>"), '2', COMMAND).await?;
    dialogue.command("DATA", "DATA", '3', DATA).await?;
    for piece in stuffed(message).chunks(PIECE) {
        dialogue.write("the message", piece, BLOCK).await?;
    }
    dialogue.expect("the message", '2', END).await?;
    // The server has the mail. How the connection ends changes nothing.
    let _ = dialogue.command("QUIT", "QUIT", '2', QUIT).await;
    Ok(())
}

struct Dialogue<'a, S> {
    stream: &'a mut S,
    /// What was read beyond the last reply.
    unread: Vec<u8>,
}

impl<S: Stream> Dialogue<'_, S> {
    async fn command(
        &mut self,
        name: &'static str,
        line: &str,
        class: char,
        limit: Duration,
    ) -> Result<(), Error> {
        self.write(name, format!("{line}\r\n").as_bytes(), BLOCK).await?;
        self.expect(name, class, limit).await
    }

    async fn write(&mut self, command: &str, bytes: &[u8], limit: Duration) -> Result<(), Error> {
        let written = self.stream.write(bytes, limit).await;
        Ok(written.map_err(|error| named(error, "the server does not read", command, limit))?)
    }

    /// Reads a reply; its code must begin with `class`.
    async fn expect(&mut self, command: &'static str, class: char, limit: Duration) -> Result<(), Error> {
        let reply = self.reply(command, limit).await?;
        if reply.starts_with(class) { Ok(()) } else { Err(Error::Refused { command, reply }) }
    }

    /// All lines of a reply, joined by a space: `250-a`, `250 b` give `250 a b`. The limit is for all of it,
    /// so that a server that sends a byte now and then does not hold it up.
    async fn reply(&mut self, command: &str, limit: Duration) -> Result<String, Error> {
        let mut reply = String::new();
        let until = self.stream.now() + limit;
        loop {
            let line = self.line(until).await;
            let line = line.map_err(|error| named(error, "no reply", command, limit))?;
            let (code, text) = line.split_at_checked(3).unwrap_or((&line, ""));
            if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
                let what = format!("invalid SMTP reply: `{}` (expected three digits)", line.escape_debug());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
            }
            if reply.is_empty() {
                reply.push_str(code);
            }
            if reply.len() + text.len() > REPLY {
                return Err(too_long().into());
            }
            reply.push(' ');
            reply.push_str(text.get(1..).unwrap_or_default());
            if !text.starts_with('-') {
                return Ok(reply.trim_end().to_owned());
            }
        }
    }

    /// A line without its end, if it is there before this time.
    async fn line(&mut self, until: Duration) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.unread.len() > REPLY {
                return Err(too_long());
            }
            let mut chunk = [0; 1024];
            let left = until.saturating_sub(self.stream.now());
            let count = self.stream.read(&mut chunk, left).await?;
            if count == 0 {
                let what = "the server closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            self.unread.extend_from_slice(&chunk[..count]);
        }
    }
}

/// An error that says what took too long.
fn named(error: io::Error, what: &str, command: &str, limit: Duration) -> io::Error {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            let what = format!("{what}: {command} took more than {} s", limit.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, what)
        }
        _ => error,
    }
}

fn too_long() -> io::Error {
    let what = format!("SMTP reply too long (limit {REPLY} bytes)");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The message as DATA takes it: every line ends with CRLF, a dot that begins a line is doubled
/// ([RFC 5321 §4.5.2](https://www.rfc-editor.org/rfc/rfc5321#section-4.5.2)), and a lone dot ends it.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(message.len() + 64);
    let message = message.strip_suffix(b"\n").unwrap_or(message);
    for line in message.split(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            stuffed.push(b'.');
        }
        // A lone CR is no end of a line, and nothing else either.
        stuffed.extend(line.iter().filter(|byte| **byte != b'\r'));
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    /// A server that says what it was told to, and keeps what it hears.
    struct Script {
        says: Vec<u8>,
        heard: Vec<u8>,
        /// How long each read might have taken.
        limits: Vec<Duration>,
        /// It is silent then, and does not hang up.
        is_silent: bool,
        /// How long each read takes.
        pace: Duration,
        now: Duration,
    }

    impl Script {
        fn new(says: &str) -> Script {
            Script {
                says: says.into(),
                heard: Vec::new(),
                limits: Vec::new(),
                is_silent: false,
                pace: Duration::ZERO,
                now: Duration::ZERO,
            }
        }
    }

    impl Stream for Script {
        fn now(&self) -> Duration {
            self.now
        }

        async fn read(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<usize> {
            if self.limits.last() != Some(&limit) {
                self.limits.push(limit);
            }
            self.now += self.pace;
            if self.says.is_empty() && self.is_silent || self.pace > limit {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // A few bytes at a time: lines come in pieces.
            let count = self.says.len().min(buffer.len()).min(7);
            buffer[..count].copy_from_slice(&self.says[..count]);
            self.says.drain(..count);
            Ok(count)
        }

        async fn write(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()> {
            assert_eq!(limit, BLOCK);
            self.heard.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn words(error: Error) -> String {
        match error {
            Error::Io(error) => error.to_string(),
            Error::Refused { command, reply } => format!("{command}: {reply}"),
        }
    }

    /// Talks to a server that falls silent: the result, and the limits of the reads.
    fn silence(says: &str) -> (Result<(), String>, Vec<u64>) {
        let mut script = Script { is_silent: true, ..Script::new(says) };
        let result = block_on(send(&mut script, "a@b.org", "c@d.org", b"x")).map_err(words);
        (result, script.limits.iter().map(Duration::as_secs).collect())
    }

    #[test]
    fn each_reply_has_the_limit_of_the_rfc() {
        let (greeting, ok, go) = ("220 hi\r\n", "250 ok\r\n", "354 go\r\n");
        for (says, named, limit) in [
            (String::new(), "no reply: the connection took more than 300 s", 300),
            (greeting.to_owned(), "no reply: EHLO took more than 300 s", 300),
            (format!("{greeting}{ok}"), "no reply: MAIL FROM took more than 300 s", 300),
            (format!("{greeting}{ok}{ok}"), "no reply: RCPT TO took more than 300 s", 300),
            (format!("{greeting}{ok}{ok}{ok}"), "no reply: DATA took more than 120 s", 120),
            (format!("{greeting}{ok}{ok}{ok}{go}"), "no reply: the message took more than 600 s", 600),
        ] {
            let (result, limits) = silence(&says);
            assert_eq!((result, limits.last()), (Err(named.to_owned()), Some(&limit)));
        }
    }

    #[test]
    fn a_server_that_drips_has_no_longer() {
        let says = format!("220 hi\r\n250 {}\r\n", "o".repeat(100));
        let mut script = Script { pace: minutes(1), ..Script::new(&says) };
        let result = block_on(send(&mut script, "a@b.org", "c@d.org", b"x")).map_err(words);
        assert_eq!(result, Err("no reply: EHLO took more than 300 s".to_owned()));
        assert!(script.now <= 2 * minutes(1) + minutes(6), "{:?}", script.now);
    }

    #[test]
    fn after_the_last_reply_nothing_matters_any_more() {
        let (result, limits) = silence("220 hi\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 kept\r\n");
        assert_eq!((result, limits), (Ok(()), vec![300, 120, 600, 1]));
    }

    fn talk(says: &str, message: &str) -> (Result<(), String>, String) {
        let mut script = Script::new(says);
        let result = block_on(send(&mut script, "a@b.org", "c@d.org", message.as_bytes())).map_err(words);
        (result, String::from_utf8(script.heard).unwrap())
    }

    #[test]
    fn a_mail_goes_through() {
        let says = "220-hello\r\n220 there\r\n250-mail\r\n250 SIZE 1000\r\n250 ok\r\n250 ok\r\n354 go\r\n250 kept\r\n221 bye\r\n";
        let (result, heard) = talk(says, "Subject: x\r\n\r\nhi\r\n");
        assert_eq!(result, Ok(()));
        assert_eq!(
            heard,
            "EHLO [127.0.0.1]\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<c@d.org>\r\nDATA\r\n\
             Subject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n"
        );
    }

    #[test]
    fn an_old_server_is_greeted_the_old_way_and_need_not_say_goodbye() {
        let says = "220 hi\r\n502 what?\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 kept\r\n";
        let (result, heard) = talk(says, "x\r\n");
        assert_eq!(result, Ok(()));
        assert!(heard.starts_with("EHLO [127.0.0.1]\r\nHELO [127.0.0.1]\r\nMAIL"));
    }

    #[test]
    fn dots_are_stuffed_and_line_ends_made_right() {
        assert_eq!(stuffed(b".\r\n..a\nb\r\r\n"), b"..\r\n...a\r\nb\r\n.\r\n");
        assert_eq!(stuffed(b"no end"), b"no end\r\n.\r\n");
        assert_eq!(stuffed(b""), b"\r\n.\r\n");
    }

    #[test]
    fn refusals_name_the_command_and_the_reply() {
        let error = |says| talk(says, "x").0.unwrap_err();
        assert_eq!(error("554 go away\r\n"), "the connection: 554 go away");
        assert_eq!(
            error("220 hi\r\n250 ok\r\n250 ok\r\n550-no such\r\n550 mailbox\r\n"),
            "RCPT TO: 550 no such mailbox"
        );
        assert_eq!(
            error("220 hi\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n452 full\r\n"),
            "the message: 452 full"
        );
    }

    #[test]
    fn what_is_no_reply_is_an_error_and_never_a_panic() {
        let error = |says: &str| talk(says, "x").0.unwrap_err();
        assert_eq!(error("220 hi\r\n250"), "the server closed the connection");
        assert_eq!(error("é\r\n"), "invalid SMTP reply: `é` (expected three digits)");
        assert_eq!(error("HTTP/1.1 400\r\n"), "invalid SMTP reply: `HTTP/1.1 400` (expected three digits)");
        assert!(error(&"220-x\r\n".repeat(100_000)).contains("too long"));
        assert!(error(&"2".repeat(100_000)).contains("too long"));
    }
}
