//! Where the authority's store is, and how it is opened. A database's password comes from the
//! environment or a file, never from the command line, where every user of the machine can read it.

use std::fmt;

use zeroize::Zeroizing;

use super::failure::Failure;
use super::files::StateDir;
use super::project::STORE_FILE;
use super::sqlite::SqliteStore;
use crate::protocol::store::Store;

/// How a PostgreSQL URL begins.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// A PostgreSQL database: `postgres://USER@HOST:PORT/DATABASE`. Its text and its password are never printed.
#[derive(Clone)]
pub struct PostgresUrl {
    text: Zeroizing<String>,
    password: Option<Zeroizing<String>>,
}

impl PostgresUrl {
    /// A URL; what is wrong behind its first characters is found when it is opened.
    ///
    /// # Errors
    /// It is no PostgreSQL URL.
    pub fn new(text: Zeroizing<String>) -> Result<PostgresUrl, Failure> {
        if !SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
            let why = "a store is named by its URL";
            return Err(Failure::usage("can't read where the store is", why)
                .fix("say postgres://USER@HOST:PORT/DATABASE"));
        }
        Ok(PostgresUrl {
            text,
            password: None,
        })
    }

    /// The same with the password apart.
    #[must_use]
    pub fn with_password(self, password: Zeroizing<String>) -> PostgresUrl {
        PostgresUrl {
            password: Some(password),
            ..self
        }
    }

    /// Whether a password is part of the text.
    pub fn holds_password(&self) -> bool {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        user.contains(':') || query.to_ascii_lowercase().contains("password")
    }

    /// The URL.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The password that was given apart.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref().map(String::as_str)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl(…)")
    }
}

/// Where the store is.
#[derive(Clone, Debug, Default)]
pub enum StorePlace {
    /// A SQLite file in the project's directory.
    #[default]
    File,
    /// A PostgreSQL database, which several authority processes may share.
    Postgres(PostgresUrl),
}

impl StorePlace {
    /// Opens the store of a project whose directory is `state`, or makes an empty one.
    ///
    /// # Errors
    /// It can't be reached, is damaged, of a newer version or somebody else's.
    pub fn open(&self, state: &StateDir) -> Result<Box<dyn Store>, Failure> {
        match self {
            StorePlace::File => {
                // SQLite's side files take the mode of the database itself.
                state.touch(STORE_FILE)?;
                let store = SqliteStore::open(&state.path().join(STORE_FILE))?;
                Ok(Box::new(store))
            }
            StorePlace::Postgres(url) => open_postgres(url),
        }
    }
}

#[cfg(feature = "store-postgres")]
fn open_postgres(url: &PostgresUrl) -> Result<Box<dyn Store>, Failure> {
    let store = super::postgres::PostgresStore::open(url)?;
    Ok(Box::new(store))
}

#[cfg(not(feature = "store-postgres"))]
fn open_postgres(_: &PostgresUrl) -> Result<Box<dyn Store>, Failure> {
    use super::failure::{Exit, codes};
    let what = "can't use a PostgreSQL store";
    let why = "this adit was built without it";
    Err(Failure::new(codes::STORE, Exit::Usage, what, why)
        .fix("cargo build --release --features store-postgres"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_seen_and_never_shown() {
        for (text, holds) in [
            ("postgres://ann@db:1/adit", false),
            ("postgresql:///adit?host=/run/postgresql", false),
            ("postgres://ann:secret@db/adit", true),
            ("postgres://ann:@db/adit", true),
            ("postgres://ann:a/b?c@db/adit", true),
            ("postgres://db/adit?user=ann&password=secret", true),
            ("postgres://db/adit?PASSWORD=secret", true),
        ] {
            let url = PostgresUrl::new(Zeroizing::new(text.to_owned()));
            let url = url.map(|url| url.with_password(Zeroizing::new("other".into())));
            let shown = format!("{url:?}");
            assert_eq!(url.map(|url| url.holds_password()), Ok(holds), "{text}");
            assert!(!shown.contains("secret") && !shown.contains("other"));
        }
        for text in ["", "authority.db", "mysql://db/adit", "host=db"] {
            assert!(PostgresUrl::new(Zeroizing::new(text.to_owned())).is_err());
        }
    }
}
