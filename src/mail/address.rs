//! Mail addresses, as strict as SMTP needs them to be.

use std::str::FromStr;

use super::MailError;

/// An address that can stand in an SMTP command and in a header as it is.
///
/// A dot-string before the `@` and a domain name after it
/// ([RFC 5321 §4.1.2](https://www.rfc-editor.org/rfc/rfc5321#section-4.1.2)), both ASCII; at most 64
/// bytes before it and 254 in all. Quoted names and address literals are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands after the `@`.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |parts| parts.1)
    }
}

impl FromStr for Address {
    type Err = MailError;

    fn from_str(text: &str) -> Result<Address, MailError> {
        match check(text) {
            Ok(()) => Ok(Address(text.into())),
            Err(reason) => {
                let address = text.chars().take(300).collect::<String>().escape_debug().to_string();
                Err(MailError::Address { address, reason })
            }
        }
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.len() > 254 {
        return Err("more than 254 bytes");
    }
    let Some((name, domain)) = text.split_once('@') else {
        return Err("missing @");
    };
    if name.len() > 64 {
        return Err("more than 64 bytes before the @");
    }
    let is_atom = |atom: &str| {
        let special = "!#$%&'*+-/=?^_`{|}~";
        !atom.is_empty() && atom.chars().all(|c| c.is_ascii_alphanumeric() || special.contains(c))
    };
    if !name.split('.').all(is_atom) {
        return Err("invalid name before the @");
    }
    let is_label = |label: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !domain.split('.').all(is_label) {
        return Err("invalid domain after the @");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_and_wrong_ones_named() {
        for text in ["you@example.com", "first.last+tag@sub.example.org", "o'neil@localhost"] {
            assert_eq!(text.parse::<Address>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "you",
            "@example.com",
            "you@",
            "a b@example.com",
            "you@exa mple.com",
            "<you@example.com>",
            "you@example.com\r\nBcc: all@example.com",
            "you@-example.com",
            "a..b@example.com",
            "a@b@c",
            "you@example.com\0",
            "höre@example.com",
            "you@[127.0.0.1]",
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(&text.escape_debug().to_string()), "{error}");
        }
        assert!(format!("{}@example.com", "x".repeat(65)).parse::<Address>().is_err());
        assert!(format!("x@{}.com", "x".repeat(250)).parse::<Address>().is_err());
    }
}
