//! The webhook that tells of a job's end, by
//! [Standard Webhooks 1.0.0](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md):
//! its receiver can tell who it is from, and that it has come before.

use std::fmt;
use std::time::Duration;

use base64ct::{Base64, Base64Unpadded, Encoding};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::Untold;
use crate::HeaderMap;
use crate::jobs::config::Config;
use crate::jobs::http::links::Links;
use crate::jobs::http::status;
use crate::jobs::job::{Job, State};
use crate::jobs::outgoing::{Call, USER_AGENT, field};
use crate::jobs::time::Time;
use crate::jobs::url::Url;

/// How long a receiver may take; the specification recommends 15 to 30 s.
const TIME: Duration = Duration::from_secs(15);

/// The status of a receiver that does not want to hear of it any more.
const GONE: u16 = 410;

/// A secret that webhooks are signed with. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// One secret, or two while one takes the other's place, divided by white space or a comma.
///
/// # Errors
/// Says which one is wrong, and not what it is.
pub fn secrets(text: &str) -> Result<Vec<Secret>, String> {
    let parts: Vec<_> =
        text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty()).collect();
    if !(1..=2).contains(&parts.len()) {
        return Err(format!(
            "{} secrets (expected one, or two while one takes the other's place)",
            parts.len()
        ));
    }
    let secret = |(index, text): (usize, &&str)| {
        let bytes = text
            .strip_prefix("whsec_")
            .and_then(|text| Base64Unpadded::decode_vec(text.trim_end_matches('=')).ok());
        let secret = bytes.filter(|bytes| (24..=64).contains(&bytes.len())).map(Secret);
        secret.ok_or_else(|| {
            let (number, count) = (index + 1, parts.len());
            format!("invalid secret {number} of {count} (expected `whsec_` and 24 to 64 bytes in base64)")
        })
    };
    parts.iter().enumerate().map(secret).collect()
}

/// The signatures of a message, one by each secret.
fn sign(secrets: &[Secret], id: &str, timestamp: u64, body: &str) -> String {
    let one = |Secret(key): &Secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", Base64::encode_string(&mac.finalize().into_bytes()))
    };
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Sends the job as `GET /jobs/{id}` shows it, but for its targets: they need not know of each other.
pub async fn send(job: &Job, index: usize, url: &Url, config: &Config, now: Time) -> Result<(), Untold> {
    let failed = |error| Untold { error, is_temporary: true, delay: None };
    // The same for all tries: whoever gets it twice, since an answer was lost, can tell.
    let id = format!("{}-{}-{index}", job.id, job.run.round);
    let state = job.run.end.as_ref().map_or(State::Queued, |end| end.state);
    let body = status::without_targets(job, state, &Links::of(&HeaderMap::new(), config)).to_string();
    let timestamp = now.0 / 1000;
    let signatures = sign(&config.webhook_secrets, &id, timestamp, &body);
    let headers = vec![
        field("content-type", "application/json"),
        field("user-agent", USER_AGENT),
        field("webhook-id", id),
        field("webhook-timestamp", timestamp.to_string()),
        field("webhook-signature", signatures),
    ];
    let call = Call { url: &url.uri, headers, body: body.as_bytes(), time: TIME, most: 0 };
    let answer = call.send().await.map_err(failed)?;
    if answer.is_success() {
        return Ok(());
    }
    let error = format!("it answered {}", answer.words());
    Err(Untold { error, is_temporary: answer.status != GONE, delay: answer.retry_after(now) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own secret and message, signed by the reference implementation (`standardwebhooks` of
    /// PyPI).
    #[test]
    fn a_signature_is_that_of_the_reference_implementation() {
        let secrets = secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            sign(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{secrets:?}"), "[Secret]");
    }

    #[test]
    fn two_secrets_are_for_rotation_and_none_is_shown() {
        let (first, second) =
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        for text in
            [format!("{first} {second}"), format!("{first},{second}"), format!(" {first} , {second}\n")]
        {
            let both = secrets(&text).unwrap();
            let [one, other] = [&both[..1], &both[1..]].map(|secrets| sign(secrets, "id", 7, "{}"));
            assert_eq!(sign(&both, "id", 7, "{}"), format!("{one} {other}"));
            assert_ne!(one, other);
        }
        for wrong in [
            "",
            " , ",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
            "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            &format!("{first} {second} {first}"),
            &format!("{first} whsec_MfKQ"),
        ] {
            let error = secrets(wrong).unwrap_err();
            assert!(!error.contains("MfKQ") && !error.contains("c2hv"), "{error}");
        }
    }
}
