//! Mail by SMTP over wasi:sockets: what PHP calls `mail()`.
//!
//! One mail, one connection, no queue: what is to be tried again is tried again by who sends it
//! ([`MailError::is_temporary`] says whether that may help). The dialogue is RFC 5321's; the message
//! is built by `mail-builder`.

mod address;
mod dialogue;
mod socket;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;

use mail_builder::MessageBuilder;

pub use address::Address;

/// The server that mail is handed to, written `smtp://host:port` (25 if no port is given).
///
/// ```
/// let server: afterack::mail::Smtp = "smtp://127.0.0.1:2525".parse()?;
/// assert!("http://127.0.0.1".parse::<afterack::mail::Smtp>().is_err());
/// # Ok::<(), afterack::mail::MailError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    host: String,
    port: u16,
}

/// A mail in plain text.
#[derive(Debug)]
pub struct Mail {
    from: Address,
    to: Address,
    subject: String,
    text: String,
    message_id: String,
}

/// Why a mail cannot be made or was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// Not the address of an SMTP server.
    #[error("invalid SMTP server: `{0}` (expected smtp://host:port)")]
    Server(String),
    /// Not an address that mail can go to.
    #[error("invalid mail address: `{address}` ({reason})")]
    Address {
        /// What was given, with control characters escaped.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The subject is longer than a line or is more than one.
    #[error("invalid subject: {0:?} (expected one line of at most 200 characters)")]
    Subject(String),
    /// Not the left and right part of a Message-ID
    /// ([RFC 5322 §3.6.4](https://www.rfc-editor.org/rfc/rfc5322#section-3.6.4)).
    #[error("invalid Message-ID: {0:?} (expected name@domain, without white space or brackets)")]
    MessageId(String),
    /// The server cannot be reached, or the connection broke.
    #[error("SMTP server {server}: {error}")]
    Connection {
        /// The server, as `host:port`.
        server: String,
        /// What happened.
        error: std::io::Error,
    },
    /// The server refused a command.
    #[error("SMTP server {server} answered {command} with: {reply}")]
    Refused {
        /// The server, as `host:port`.
        server: String,
        /// The command that it refused.
        command: &'static str,
        /// The code and text of its reply.
        reply: String,
    },
}

impl MailError {
    /// Whether the same mail may well go through later: the connection failed, or the server's reply
    /// was of the kind 4yz ([RFC 5321 §4.2.1](https://www.rfc-editor.org/rfc/rfc5321#section-4.2.1)).
    pub fn is_temporary(&self) -> bool {
        match self {
            MailError::Connection { .. } => true,
            MailError::Refused { reply, .. } => reply.starts_with('4'),
            _ => false,
        }
    }
}

impl Mail {
    /// A mail from one address to another; the text may have lines of any length, in any language.
    ///
    /// # Errors
    /// [`MailError::Address`] and [`MailError::Subject`]: neither can bring a header of its own.
    pub fn new(from: &str, to: &str, subject: &str, text: impl Into<String>) -> Result<Mail, MailError> {
        if subject.chars().any(char::is_control) || subject.chars().count() > 200 {
            return Err(MailError::Subject(subject.chars().take(200).collect()));
        }
        let (from, to): (Address, Address) = (from.parse()?, to.parse()?);
        let message_id = format!("{}@{}", unique(), from.domain());
        Ok(Mail { from, to, subject: subject.into(), text: text.into(), message_id })
    }

    /// Sets the Message-ID, without its angle brackets. A mail has one of its own from the beginning; it is
    /// set for one that is made anew to be sent again, so that its reader gets it once.
    ///
    /// # Errors
    /// [`MailError::MessageId`] if it is not of the form `name@domain`, or has more than 200 bytes.
    pub fn message_id(mut self, id: &str) -> Result<Mail, MailError> {
        let is_plain = |c: char| c.is_ascii_graphic() && !"<>()\"\\,;:".contains(c);
        let parts = id.split('@').collect::<Vec<_>>();
        if id.len() > 200 || parts.len() != 2 || parts.contains(&"") || !id.chars().all(is_plain) {
            return Err(MailError::MessageId(id.chars().take(200).collect()));
        }
        id.clone_into(&mut self.message_id);
        Ok(self)
    }

    /// The message as it goes over the wire, but for dot-stuffing.
    fn message(&self) -> std::io::Result<Vec<u8>> {
        let (from, to) = (self.from.as_str(), self.to.as_str());
        MessageBuilder::new()
            .from(from)
            .to(to)
            .subject(self.subject.as_str())
            .message_id(self.message_id.as_str())
            .text_body(self.text.as_str())
            .write_to_vec()
    }
}

impl Smtp {
    /// Hands a mail to the server. Once the server has said that it has the mail, this succeeds, however
    /// the connection ends.
    ///
    /// Each of the server's replies has the limit of
    /// [RFC 5321 §4.5.3.2](https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.2): 2 to 10 minutes.
    ///
    /// # Errors
    /// [`MailError::Connection`] if the server cannot be reached or the connection breaks, and
    /// [`MailError::Refused`] with the command and the server's reply if it does not take the mail.
    pub async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        self.dialogue(mail).await
    }

    /// In a box, so that every crate that sends mail has the same code.
    fn dialogue<'a>(&'a self, mail: &'a Mail) -> Pin<Box<dyn Future<Output = Result<(), MailError>> + 'a>> {
        Box::pin(self.deliver(mail))
    }

    async fn deliver(&self, mail: &Mail) -> Result<(), MailError> {
        let connection = |error| MailError::Connection { server: self.to_string(), error };
        let message = mail.message().map_err(connection)?;
        let mut socket = socket::connect(&self.host, self.port).await.map_err(connection)?;
        match dialogue::send(&mut socket, mail.from.as_str(), mail.to.as_str(), &message).await {
            Ok(()) => Ok(()),
            Err(dialogue::Error::Io(error)) => Err(connection(error)),
            Err(dialogue::Error::Refused { command, reply }) => {
                Err(MailError::Refused { server: self.to_string(), command, reply })
            }
        }
    }
}

/// What no other mail has in its Message-ID.
fn unique() -> String {
    #[cfg(target_arch = "wasm32")]
    let random = wasi::random::random::get_random_u64();
    // Only tests make mails natively.
    #[cfg(not(target_arch = "wasm32"))]
    let random = 0;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{random:x}.{:x}", now.as_nanos())
}

impl FromStr for Smtp {
    type Err = MailError;

    fn from_str(text: &str) -> Result<Smtp, MailError> {
        let wrong = || MailError::Server(text.escape_debug().to_string());
        let server: http::Uri = text.parse().map_err(|_| wrong())?;
        let plain = server.path_and_query().is_none_or(|path| path == "/" || path.as_str().is_empty());
        let authority = server.authority().filter(|authority| !authority.as_str().contains('@'));
        match (server.scheme_str(), authority, server.host()) {
            (Some("smtp"), Some(authority), Some(host)) if plain && !host.is_empty() => {
                let given = authority.as_str().strip_prefix(host).unwrap_or_default();
                let port = match given.strip_prefix(':') {
                    Some(port) => port.parse().map_err(|_| wrong())?,
                    None => 25,
                };
                Ok(Smtp { host: host.into(), port })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_parsed_and_wrong_ones_named() {
        for (text, server) in [
            ("smtp://127.0.0.1:2525", "127.0.0.1:2525"),
            ("smtp://mail.example.org", "mail.example.org:25"),
            ("smtp://[::1]:26/", "[::1]:26"),
        ] {
            assert_eq!(text.parse::<Smtp>().unwrap().to_string(), server);
        }
        for text in [
            "",
            "mail",
            "mail:25",
            "http://mail:25",
            "smtp://",
            "smtp://a:b@mail",
            "smtp://mail/x",
            "smtp://mail:0x19",
            "smtp://mail:99999",
            "smtp://ma il",
        ] {
            let error = text.parse::<Smtp>().expect_err(text).to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn a_mail_keeps_its_message_id() {
        let mail = Mail::new("a@b.org", "c@d.org", "Hi", "").unwrap();
        let id = |mail: &Mail| {
            let message = String::from_utf8(mail.message().unwrap()).unwrap();
            message.lines().find(|line| line.starts_with("Message-ID: ")).unwrap().to_owned()
        };
        assert_eq!(id(&mail), id(&mail));
        let mail = mail.message_id("7.0@b.org").unwrap();
        assert_eq!(id(&mail), "Message-ID: <7.0@b.org>");
        for wrong in ["", "a", "@b", "a@", "a@b@c", "a b@c", "<a@b>", "a@b\r\nBcc: x@y"] {
            let error = Mail::new("a@b.org", "c@d.org", "Hi", "").unwrap().message_id(wrong).unwrap_err();
            assert!(error.to_string().contains(&format!("{wrong:?}")), "{error}");
        }
    }

    #[test]
    fn a_subject_brings_no_header() {
        let error = Mail::new("a@b.org", "c@d.org", "Hi\r\nBcc: x@y.org", "").unwrap_err();
        assert!(matches!(error, MailError::Subject(_)), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
}
