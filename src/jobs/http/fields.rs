//! Header fields as [RFC 9110 §5](https://www.rfc-editor.org/rfc/rfc9110#section-5) wants them read.

use crate::{HeaderMap, Problem, StatusCode};

/// The elements of a field that is a list, over all its lines, without the empty ones. A line that is not
/// ASCII counts for nothing.
pub fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let elements = lines.flat_map(|line| split(line, ',')).map(str::trim);
    elements.filter(|element| !element.is_empty()).map(str::to_owned).collect()
}

/// Splits at a separator, but not within a quoted string (§5.6.4).
pub fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match c {
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        c == separator && !is_quoted
    })
}

/// What stands in a quoted string; anything else as it is.
pub fn unquote(text: &str) -> String {
    let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut is_escaped = false;
    let mut unescaped = String::new();
    for c in quoted.chars() {
        is_escaped = c == '\\' && !is_escaped;
        if !is_escaped {
            unescaped.push(c);
        }
    }
    unescaped
}

/// The value of a field of which there may be one line only.
///
/// # Errors
/// A 400 problem if there are several, or if it is not ASCII.
pub fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let bad = |reason: &str| Problem::new(StatusCode::BAD_REQUEST, format!("invalid {name}: {reason}"));
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(bad("several lines (one is expected)"));
    }
    line.to_str().map(|value| Some(value.trim())).map_err(|_| bad("not ASCII"))
}

/// Decodes percent escapes ([RFC 3986 §2.1](https://www.rfc-editor.org/rfc/rfc3986#section-2.1)); `None` if
/// one is broken, or if that gives no UTF-8.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut decoded = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(decoded).ok()
}

/// Writes everything as a percent escape that is not unreserved.
pub fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_come_in_lines_and_have_quotes() {
        let mut headers = HeaderMap::new();
        for line in ["a, b=\"1, \\\"2\" ,", ", c", ""] {
            headers.append("x", line.parse().unwrap());
        }
        assert_eq!(list(&headers, "x"), ["a", "b=\"1, \\\"2\"", "c"]);
        assert_eq!(unquote(r#""a \"b\" \\""#), r#"a "b" \"#);
        assert_eq!(unquote("a\"b"), "a\"b");
    }

    #[test]
    fn escapes_are_decoded_or_refused() {
        assert_eq!(percent_decoded("a%2Fb%c3%bc").as_deref(), Some("a/bü"));
        for broken in ["%", "%4", "%zz", "%+1", "%c3%28"] {
            assert_eq!(percent_decoded(broken), None, "{broken}");
        }
    }
}
