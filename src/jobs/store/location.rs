//! Where a store is, as `AFTERACK_STORE` names it. Each build knows the stores that its hosts have.

use std::fmt;
#[cfg(any(feature = "spin", test))]
use std::net::IpAddr;
use std::str::FromStr;

#[cfg(any(feature = "spin", test))]
use crate::jobs::url::host_and_port;

/// Where jobs are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// `dir:/data`: in this directory.
    #[cfg(not(any(feature = "spin", feature = "wasmcloud")))]
    Dir(String),
    /// `sqlite:default`: in Spin's database of this name.
    #[cfg(feature = "spin")]
    Sqlite(String),
    /// `postgres://…`: in this PostgreSQL database, by Spin. The URL has a password, and is never shown.
    #[cfg(feature = "spin")]
    Postgres(String),
    /// `wasmcloud:postgres`: in the PostgreSQL database that wasmCloud gives, and whose URL it alone knows.
    #[cfg(feature = "wasmcloud")]
    Wasmcloud,
}

/// What this build expects.
#[cfg(feature = "spin")]
const EXPECTED: &str = "sqlite:default or postgres://… in the build for Spin";
#[cfg(feature = "wasmcloud")]
const EXPECTED: &str = "wasmcloud:postgres in the build for wasmCloud, whose host has the database's URL";
#[cfg(not(any(feature = "spin", feature = "wasmcloud")))]
const EXPECTED: &str =
    "dir: and an absolute path, e.g. dir:/data; databases need the build for Spin or for wasmCloud";

impl Default for Location {
    fn default() -> Location {
        #[cfg(feature = "spin")]
        return Location::Sqlite("default".into());
        #[cfg(feature = "wasmcloud")]
        return Location::Wasmcloud;
        #[cfg(not(any(feature = "spin", feature = "wasmcloud")))]
        return Location::Dir("/data".into());
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        match text.split_once(':') {
            #[cfg(not(any(feature = "spin", feature = "wasmcloud")))]
            Some(("dir", path)) if path.starts_with('/') => Ok(Location::Dir(path.into())),
            #[cfg(feature = "spin")]
            Some(("sqlite", name)) if is_name(name) => Ok(Location::Sqlite(name.into())),
            #[cfg(feature = "spin")]
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") && rest.len() > 2 => {
                if is_elsewhere(rest) && !rest.contains("sslmode=") {
                    return Err("PostgreSQL on another machine, and no sslmode in its URL (expected \
                                ?sslmode=require, or ?sslmode=disable if all that travels may be read on the way)"
                        .into());
                }
                Ok(Location::Postgres(text.into()))
            }
            #[cfg(feature = "wasmcloud")]
            Some(("wasmcloud", "postgres")) => Ok(Location::Wasmcloud),
            // It may hold a password.
            Some((scheme @ ("postgres" | "postgresql"), _)) => {
                Err(format!("invalid store `{scheme}:…` (expected {EXPECTED})"))
            }
            _ => Err(format!("invalid store `{text}` (expected {EXPECTED})")),
        }
    }
}

/// Whether a server of PostgreSQL is not on this machine, or may not be, by its URL from `//` on.
#[cfg(any(feature = "spin", test))]
fn is_elsewhere(url: &str) -> bool {
    let rest = url.trim_start_matches('/');
    // As the host reads it: all before the first @ is a name and a password, whatever is in that.
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let hosts = rest.split(['/', '?']).next().unwrap_or_default();
    // Servers in a row, one of which answers; a parameter may name others.
    let is_here = |host: &str| {
        let name = host_and_port(host).map_or("", |(name, _)| name).trim_matches(['[', ']']);
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    !hosts.split(',').all(is_here) || url.contains("host=") || url.contains("hostaddr=")
}

#[cfg(feature = "spin")]
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(not(any(feature = "spin", feature = "wasmcloud")))]
            Location::Dir(path) => write!(f, "dir:{path}"),
            #[cfg(feature = "spin")]
            Location::Sqlite(name) => write!(f, "sqlite:{name}"),
            #[cfg(feature = "spin")]
            Location::Postgres(_) => f.write_str("postgres:…"),
            #[cfg(feature = "wasmcloud")]
            Location::Wasmcloud => f.write_str("wasmcloud:postgres"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_on_this_machine_is_elsewhere() {
        for url in [
            "//a:b@127.0.0.1:5432/jobs",
            "//a:b@localhost/jobs?connect_timeout=2",
            "//[::1]:5432/jobs",
            "//a:b/c@127.0.0.2,localhost:5433/jobs",
        ] {
            assert!(!is_elsewhere(url), "{url}");
        }
        for url in [
            "//a:b@10.0.0.5:5432/jobs",
            "//a:b@db.example.org/jobs",
            "//a:b@localhost.example.org/jobs",
            "//localhost@db/jobs",
            "//localhost:a/b@db/jobs",
            "//a:b@c@127.0.0.1/jobs",
            "//127.0.0.1,10.0.0.5/jobs",
            "//127.0.0.1/jobs?host=10.0.0.5",
            "//127.0.0.1/jobs?hostaddr=10.0.0.5",
            "///jobs",
        ] {
            assert!(is_elsewhere(url), "{url}");
        }
    }
}
