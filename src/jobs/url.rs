//! The URLs of webhooks and upstreams. Those of webhooks come from clients and lead anywhere, so that they are read
//! strictly: what two programs could read differently is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use crate::jobs::http::fields::percent_decoded;

/// The longest URL, in bytes.
const LONGEST: usize = 2048;

/// Names below which there is nothing public: RFC 6761, RFC 6762, RFC 8375, and ICANN's reserved one.
const LOCAL: [&str; 4] = ["localhost", "local", "home.arpa", "internal"];

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub uri: Uri,
    pub is_https: bool,
    pub host: Host,
    pub port: u16,
}

/// A host by its name, in lower case and without a dot at its end, or by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

impl Url {
    /// # Errors
    /// In words: what is wrong with it.
    pub fn parse(text: &str) -> Result<Url, &'static str> {
        if text.len() > LONGEST {
            return Err("too long (limit 2048 bytes)");
        }
        if text.contains(['#', '\\']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("character not allowed (a fragment is none)");
        }
        let uri: Uri = text.parse().map_err(|_| "invalid URL (expected https://host/path)")?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("invalid URL (expected https://host/path)"),
        };
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let (host, port) = host_and_port(authority)?;
        let port = match port {
            Some(port) => port.parse().map_err(|_| "invalid port")?,
            None if is_https => 443,
            None => 80,
        };
        let path = percent_decoded(uri.path()).ok_or("invalid percent escape")?;
        if path.split(['/', '\\']).any(|segment| segment == "." || segment == "..") {
            return Err("`.` and `..` are not allowed in its path");
        }
        Ok(Url { is_https, host: Host::parse(host)?, port, uri })
    }

    /// Without path and query, which may be a secret between two others.
    pub fn origin(&self) -> String {
        let authority = self.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        format!("{}://{authority}", if self.is_https { "https" } else { "http" })
    }
}

/// Splits what stands between `//` and the path.
///
/// # Errors
/// If there is user information, or no host.
pub fn host_and_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if authority.contains('@') {
        return Err("user information is not allowed in a URL");
    }
    let end =
        if authority.starts_with('[') { authority.find(']').map(|end| end + 1) } else { authority.find(':') };
    let (host, rest) = authority.split_at(end.unwrap_or(authority.len()));
    match rest.strip_prefix(':') {
        _ if host.is_empty() => Err("no host"),
        None if !rest.is_empty() => Err("invalid host"),
        port => Ok((host, port)),
    }
}

impl Host {
    /// A host as it stands in a URL. What ends in a number is an IPv4 address in four decimal numbers or is
    /// refused: resolvers read `127.1`, `0x7f.0.0.1` and `2130706433`, too.
    pub fn parse(text: &str) -> Result<Host, &'static str> {
        if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            let address: Ipv6Addr = address.parse().map_err(|_| "invalid IPv6 address")?;
            return Ok(Host::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()) {
            let address: Ipv4Addr =
                name.parse().map_err(|_| "invalid IPv4 address (expected e.g. 192.0.2.1)")?;
            return Ok(Host::Address(address.into()));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_plain);
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err("invalid host");
        }
        Ok(Host::Name(name))
    }

    /// Whether it is on this machine, or in a network of its own: an address that is not public, or a name
    /// that has no public meaning. What a public name leads to is known to the host alone.
    pub fn is_local(&self) -> bool {
        match self {
            Host::Name(name) => {
                let is_below = |suffix: &&str| {
                    name.strip_suffix(*suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                };
                !name.contains('.') || LOCAL.iter().any(is_below)
            }
            Host::Address(IpAddr::V4(address)) => !is_public_v4(*address),
            Host::Address(IpAddr::V6(address)) => !is_public_v6(*address),
        }
    }
}

/// By IANA's registry of special addresses ([RFC 6890](https://www.rfc-editor.org/rfc/rfc6890)).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)              // this network, private, loopback
        | (100, 64..=127, _)            // carriers' NAT
        | (169, 254, _)                 // link-local, clouds' metadata
        | (172, 16..=31, _)             // private
        | (192, 0, 0 | 2)               // protocols, documentation
        | (192, 88, 99)                 // 6to4 relays
        | (192, 168, _)                 // private
        | (198, 18..=19, _)             // benchmarks
        | (198, 51, 100)                // documentation
        | (203, 0, 113)                 // documentation
        | (224.., ..) // multicast, reserved, broadcast
    )
}

/// Only what is handed out as global unicast, and nothing of it in which an IPv4 address or a tunnel hides.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let is_unicast = (0x2000..0x4000).contains(&a);
    let is_special = matches!(
        (a, b),
        (0x2001, 0..0x0200)             // protocols, Teredo, ORCHID
        | (0x2001, 0x0db8)              // documentation
        | (0x2002, _)                   // 6to4
        | (0x3fff, 0..0x1000) // documentation
    );
    is_unicast && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_strictly() {
        for (text, host, port) in [
            ("https://example.org", "example.org", 443),
            ("https://Example.ORG./a?b=c", "example.org", 443),
            ("http://a-b_c.example.org:8080/x/..y/%2e%2ex", "a-b_c.example.org", 8080),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host, url.port), (Host::Name(host.into()), port), "{text}");
        }
        let url = Url::parse("https://[2001:DB8::1]:8443/").unwrap();
        assert_eq!((url.host.clone(), url.port), (Host::Address("2001:db8::1".parse().unwrap()), 8443));
        assert_eq!(
            Url::parse("https://example.org:444/secret?x").unwrap().origin(),
            "https://example.org:444"
        );
        for text in [
            "https://",
            "https:///path",
            "https:example.org",
            "https://user@example.org/",
            "https://user:pass@example.org/",
            "https://example.org#fragment",
            "https://example.org\\@evil.org",
            "https://example.org:99999",
            "https://example.org:",
            "https://exa mple.org",
            "https://bücher.example",
            "https://a..b",
            "https://-_.%41",
            "https://127.1",
            "https://0x7f.0.0.1",
            "https://0x7f000001",
            "https://2130706433",
            "https://0177.0.0.1",
            "https://127.0.0.1.:80x",
            "https://1.2.3.4.5",
            "https://[::1",
            "https://[fe80::1%25eth0]/",
            "https://[::ffff:127.0.0.1]x/",
            "https://example.org/a/../b",
            "https://example.org/a/%2e%2e/b",
            "https://example.org/a/..%2fb",
            "https://example.org/%zz",
            "ftp://example.org",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        assert!(Url::parse(&format!("https://example.org/{}", "x".repeat(2048))).is_err());
    }

    #[test]
    fn what_is_not_public_is_local() {
        for local in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "printer",
            "printer.local",
            "a.b.home.arpa",
            "metadata.google.internal",
            "0.0.0.0",
            "0.1.2.3",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "127.0.0.1.",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:8.8.8.8]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[100::1]",
            "[2001::1]",
            "[2001:db8::1]",
            "[2002:7f00:1::]",
            "[3fff::1]",
            "[fc00::1]",
            "[fdff::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[5f00::1]",
        ] {
            assert!(Host::parse(local).unwrap().is_local(), "{local}");
        }
        for public in [
            "example.org",
            "localhost.example.org",
            "internal.example.org",
            "mylocal.org",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "[2001:4860:4860::8888]",
            "[2001:200::1]",
            "[2a00::1]",
        ] {
            assert!(!Host::parse(public).unwrap().is_local(), "{public}");
        }
    }
}
