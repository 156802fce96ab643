//! Tickets for event streams: a browser's `EventSource` cannot send a token, and a token in a URL would end
//! up in logs. A ticket opens the events of one job for ten minutes, and nothing else. (A stream ends after
//! less than a minute, and the browser comes back with the same URL.)

use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::jobs::job::Id;
use crate::jobs::time::{TOLERANCE, Time};

/// How long a ticket is valid.
const VALID: Duration = Duration::from_secs(600);

/// What tells these signatures from others under the same key.
const LABEL: &str = "afterack events 1";

/// A ticket, and when it expires.
pub fn issue(token: &str, id: Id, now: Time) -> (String, Time) {
    let expires = now + VALID;
    (format!("{}.{}", expires.0, hex(&mac(token, id, expires).finalize().into_bytes())), expires)
}

/// Whether a ticket opens the events of this job now.
pub fn is_valid(ticket: &str, token: &str, id: Id, now: Time) -> bool {
    let Some((expires, signature)) = ticket.split_once('.') else { return false };
    let (Ok(expires), Some(signature)) = (expires.parse().map(Time), unhex(signature)) else { return false };
    let is_current = now <= expires && expires <= now + VALID + TOLERANCE;
    // In a time that does not tell where the signatures differ.
    is_current && mac(token, id, expires).verify_slice(&signature).is_ok()
}

fn mac(token: &str, id: Id, expires: Time) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(token.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{LABEL} {id} {}", expires.0).as_bytes());
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    is_hex.then(|| (0..text.len()).step_by(2).map(digits).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::host::tests::Native;

    #[test]
    fn a_ticket_opens_the_events_of_one_job_for_ten_minutes() {
        let (id, other, now) = (Id::new(&Native), Id::new(&Native), Time(1_000_000_000_000));
        let (ticket, expires) = issue("token", id, now);
        assert!(is_valid(&ticket, "token", id, now) && is_valid(&ticket, "token", id, expires));
        assert!(!is_valid(&ticket, "token", id, expires + Duration::from_millis(1)));
        assert!(!is_valid(&ticket, "token", other, now));
        assert!(!is_valid(&ticket, "other", id, now));
        let later = ticket.replacen(&expires.0.to_string(), &(expires.0 + 1).to_string(), 1);
        for forged in [later.as_str(), "", ".", "1.ff", &ticket[..ticket.len() - 1], "1000000000001.zz"] {
            assert!(!is_valid(forged, "token", id, now), "{forged}");
        }
    }
}
