//! Where a store is, as `AFTERACK_STORE` names it. Each build knows the stores that its hosts have.

use std::fmt;
use std::str::FromStr;

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
