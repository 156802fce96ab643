//! The SMTP dialogue ([RFC 5321 §3.3](https://www.rfc-editor.org/rfc/rfc5321#section-3.3)), over
//! anything that reads and writes, so that it is tested without a network.

use std::io;

use wstd::io::{AsyncRead, AsyncWrite};

/// The most bytes that a server's reply may have, all its lines together.
const REPLY: usize = 64 * 1024;

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
pub async fn send<S>(stream: &mut S, from: &str, to: &str, message: &[u8]) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite,
{
    let mut dialogue = Dialogue { stream, unread: Vec::new() };
    dialogue.expect("the connection", '2').await?;
    // The name of this host is not known to a component; a literal is the RFC's way to say so.
    if dialogue.command("EHLO", "EHLO [127.0.0.1]", '2').await.is_err() {
        dialogue.command("HELO", "HELO [127.0.0.1]", '2').await?;
    }
    dialogue.command("MAIL FROM", &format!("MAIL FROM:<{from}>"), '2').await?;
    dialogue.command("RCPT TO", &format!("RCPT TO:<{to}>"), '2').await?;
    dialogue.command("DATA", "DATA", '3').await?;
    dialogue.stream.write_all(&stuffed(message)).await?;
    dialogue.expect("the message", '2').await?;
    // The mail is with the server; how the connection ends does not matter any more.
    let _ = dialogue.command("QUIT", "QUIT", '2').await;
    Ok(())
}

struct Dialogue<'a, S> {
    stream: &'a mut S,
    /// What was read beyond the last reply.
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite> Dialogue<'_, S> {
    async fn command(&mut self, name: &'static str, line: &str, class: char) -> Result<(), Error> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.expect(name, class).await
    }

    /// Reads a reply; its code must begin with `class`.
    async fn expect(&mut self, command: &'static str, class: char) -> Result<(), Error> {
        let reply = self.reply().await?;
        if reply.starts_with(class) { Ok(()) } else { Err(Error::Refused { command, reply }) }
    }

    /// All lines of a reply, joined by a space: `250-a`, `250 b` give `250 a b`.
    async fn reply(&mut self) -> Result<String, Error> {
        let mut reply = String::new();
        loop {
            let line = self.line().await?;
            let (code, text) = line.split_at_checked(3).unwrap_or((&line, ""));
            if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
                let what = format!("`{}` is no SMTP reply", line.escape_debug());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
            }
            if reply.is_empty() {
                reply.push_str(code);
            }
            if reply.len() + text.len() > REPLY {
                return Err(too_long());
            }
            reply.push(' ');
            reply.push_str(text.get(1..).unwrap_or_default());
            if !text.starts_with('-') {
                return Ok(reply.trim_end().to_owned());
            }
        }
    }

    /// A line without its end.
    async fn line(&mut self) -> Result<String, Error> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.unread.len() > REPLY {
                return Err(too_long());
            }
            let mut chunk = [0; 1024];
            let count = self.stream.read(&mut chunk).await?;
            if count == 0 {
                let what = "the server closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into());
            }
            self.unread.extend_from_slice(&chunk[..count]);
        }
    }
}

fn too_long() -> Error {
    let what = format!("a reply of more than {REPLY} bytes");
    io::Error::new(io::ErrorKind::InvalidData, what).into()
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
    }

    impl AsyncRead for Script {
        async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // A few bytes at a time: lines come in pieces.
            let count = self.says.len().min(buffer.len()).min(7);
            buffer[..count].copy_from_slice(&self.says[..count]);
            self.says.drain(..count);
            Ok(count)
        }
    }

    impl AsyncWrite for Script {
        async fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.heard.extend_from_slice(buffer);
            Ok(buffer.len())
        }

        async fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn talk(says: &str, message: &str) -> (Result<(), String>, String) {
        let mut script = Script { says: says.into(), heard: Vec::new() };
        let result = block_on(send(&mut script, "a@b.org", "c@d.org", message.as_bytes()));
        let result = result.map_err(|error| match error {
            Error::Io(error) => error.to_string(),
            Error::Refused { command, reply } => format!("{command}: {reply}"),
        });
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
        assert_eq!(error("é\r\n"), "`é` is no SMTP reply");
        assert_eq!(error("HTTP/1.1 400\r\n"), "`HTTP/1.1 400` is no SMTP reply");
        assert!(error(&"220-x\r\n".repeat(100_000)).contains("more than"));
        assert!(error(&"2".repeat(100_000)).contains("more than"));
    }
}
