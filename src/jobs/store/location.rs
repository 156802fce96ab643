//! Where a store is, as `AFTERACK_STORE` names it.

use std::fmt;
use std::str::FromStr;

/// Where jobs are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// `dir:/data`: in this directory.
    #[cfg(not(feature = "spin"))]
    Dir(String),
    /// `sqlite:default`: in Spin's database of this name.
    #[cfg(feature = "spin")]
    Sqlite(String),
    /// `postgres://…`: in this PostgreSQL database. The URL has a password, and is never shown.
    #[cfg(feature = "spin")]
    Postgres(String),
}

impl Default for Location {
    #[cfg(not(feature = "spin"))]
    fn default() -> Location {
        Location::Dir("/data".into())
    }

    #[cfg(feature = "spin")]
    fn default() -> Location {
        Location::Sqlite("default".into())
    }
}

impl FromStr for Location {
    type Err = String;

    #[cfg(not(feature = "spin"))]
    fn from_str(text: &str) -> Result<Location, String> {
        match text.split_once(':') {
            Some(("dir", path)) if path.starts_with('/') => Ok(Location::Dir(path.into())),
            Some((scheme @ ("sqlite" | "postgres" | "postgresql"), _)) => {
                Err(format!("`{scheme}:` needs the build for Spin (this one has directories: dir:/data)"))
            }
            _ => Err(format!("invalid store `{text}` (expected dir: and an absolute path, e.g. dir:/data)")),
        }
    }

    #[cfg(feature = "spin")]
    fn from_str(text: &str) -> Result<Location, String> {
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        match text.split_once(':') {
            Some(("sqlite", name)) if is_name(name) => Ok(Location::Sqlite(name.into())),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") && rest.len() > 2 => {
                Ok(Location::Postgres(text.into()))
            }
            // It may hold a password.
            Some((scheme @ ("postgres" | "postgresql"), _)) => Err(format!(
                "invalid URL `{scheme}:…` (expected e.g. postgres://user:password@127.0.0.1:5432/database)"
            )),
            Some(("dir", _)) => {
                Err("Spin has no directory to write to (expected sqlite:default or postgres://…)".into())
            }
            _ => Err(format!("invalid store `{text}` (expected sqlite:default or postgres://…)")),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(not(feature = "spin"))]
            Location::Dir(path) => write!(f, "dir:{path}"),
            #[cfg(feature = "spin")]
            Location::Sqlite(name) => write!(f, "sqlite:{name}"),
            #[cfg(feature = "spin")]
            Location::Postgres(_) => f.write_str("postgres:…"),
        }
    }
}
