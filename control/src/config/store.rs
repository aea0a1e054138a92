//! `control.store`: a file of SQLite, or the URL of a PostgreSQL that several control planes may share. The URL may hold a
//! password, so it has no Debug and is in no error; `url_file` keeps it out of the settings and the environment as well.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};
use sqlx::postgres::PgConnectOptions;

use super::{ConfigError, refuse};

/// Everything under `control.store`, unchecked.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RawStore {
    /// `sqlite`, the default: a file in the data directory; or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: Option<SecretText>,
    /// A file that holds the URL and nothing else.
    pub url_file: Option<PathBuf>,
    /// The keys that verifiers are sealed by, one a line; made where it is missing and nothing was sealed yet.
    pub key_file: Option<PathBuf>,
}

/// A setting that is nobody's business.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// By hand only to refuse `store = "postgres://..."` without repeating it in the error.
impl<'de> Deserialize<'de> for RawStore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Table {
            url: Option<SecretText>,
            url_file: Option<PathBuf>,
            key_file: Option<PathBuf>,
        }

        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawStore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `url`, `url_file` or `key_file`")
            }

            fn visit_str<E: de::Error>(self, _hidden: &str) -> Result<RawStore, E> {
                Err(E::custom("must be a table: put the text under `control.store.url`"))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawStore, A::Error> {
                let Table {
                    url,
                    url_file,
                    key_file,
                } = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RawStore {
                    url,
                    url_file,
                    key_file,
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Where the state is kept.
#[derive(Debug, Clone)]
pub(crate) enum StoreConfig {
    /// A file below the data directory.
    Sqlite,
    Postgres(PostgresUrl),
}

/// How to get to a PostgreSQL; shown without the password.
#[derive(Clone)]
pub(crate) struct PostgresUrl(Box<PgConnectOptions>);

impl PostgresUrl {
    pub(crate) fn options(&self) -> PgConnectOptions {
        (*self.0).clone()
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &*self.0;
        write!(f, "postgres://{}@", options.get_username())?;
        match options.get_socket() {
            Some(dir) => write!(f, "{}", dir.display())?,
            None => write!(f, "{}:{}", options.get_host(), options.get_port())?,
        }
        write!(f, "/{}", options.get_database().unwrap_or(options.get_username()))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

const URL: &str = "control.store.url";
const URL_FILE: &str = "control.store.url_file";

impl StoreConfig {
    pub(super) fn check(raw: RawStore) -> Result<Self, ConfigError> {
        let RawStore {
            url,
            url_file,
            key_file: _, // Taken as it is; the store looks at it when it is opened.
        } = raw;
        match (url, url_file) {
            (None, None) => Ok(Self::Sqlite),
            (Some(url), None) => Self::parse(url.0.trim()).map_err(|problem| refuse(URL, "(hidden)", problem)),
            (None, Some(file)) => {
                let bad = |problem: String| refuse(URL_FILE, file.display(), problem);
                let text = std::fs::read_to_string(&file).map_err(|error| bad(format!("cannot be read: {error}")))?;
                Self::parse(text.trim()).map_err(|problem| bad(format!("what stands in it {problem}")))
            }
            (Some(_), Some(file)) => Err(refuse(URL_FILE, file.display(), "control.store.url is set as well")),
        }
    }

    fn parse(url: &str) -> Result<Self, String> {
        if url == "sqlite" {
            return Ok(Self::Sqlite);
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("must be \"sqlite\" or postgres://USER:PASSWORD@HOST:PORT/DATABASE".into());
        }
        // What sqlx says of it may repeat parts of it.
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| "is no URL: special characters in user and password are written %XX")?;
        Ok(Self::Postgres(PostgresUrl(Box::new(options))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(url: &str) -> RawStore {
        serde_json::from_value(serde_json::json!({ "url": url })).unwrap()
    }

    #[test]
    fn is_sqlite_unless_it_says_postgres() {
        assert!(matches!(
            StoreConfig::check(RawStore::default()),
            Ok(StoreConfig::Sqlite)
        ));
        assert!(matches!(StoreConfig::check(raw("sqlite")), Ok(StoreConfig::Sqlite)));
        let postgres = StoreConfig::check(raw("postgres://selkie:sesame@db.internal:5433/state")).unwrap();
        assert_eq!(
            format!("{postgres:?}"),
            "Postgres(postgres://selkie@db.internal:5433/state)"
        );
    }

    #[test]
    fn url_may_stand_in_a_file_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "postgres://selkie:sesame@db/state\n").unwrap();
        let from_file = RawStore {
            url_file: Some(file.path().into()),
            ..RawStore::default()
        };
        assert!(matches!(StoreConfig::check(from_file), Ok(StoreConfig::Postgres(_))));
        let missing = RawStore {
            url_file: Some("/nowhere/url".into()),
            ..RawStore::default()
        };
        let refused = StoreConfig::check(missing).unwrap_err().to_string();
        assert!(
            refused.contains("control.store.url_file") && refused.contains("cannot be read"),
            "{refused}"
        );
        let both = RawStore {
            url_file: Some("/x".into()),
            ..raw("sqlite")
        };
        assert!(
            StoreConfig::check(both)
                .unwrap_err()
                .to_string()
                .contains("set as well")
        );
    }

    #[test]
    fn file_of_the_keys_is_a_setting_of_its_own() {
        let raw = |text: &str| serde_json::from_str::<crate::RawConfig>(text).unwrap();
        let config =
            crate::Config::check("/data".into(), raw(r#"{"store": {"key_file": "/elsewhere/keys"}}"#)).unwrap();
        assert_eq!(config.store_keys.as_deref(), Some("/elsewhere/keys".as_ref()));
        assert!(matches!(config.store, StoreConfig::Sqlite));
        let config = crate::Config::check("/data".into(), raw("{}")).unwrap();
        assert_eq!(config.store_keys, None);
    }

    #[test]
    fn no_refusal_and_no_debug_repeats_the_password() {
        for bad in [
            "mysql://u:sesame@h/d",
            "postgres://u:sesame@h:port/d",
            "postgres://u:sesame@h/d?sslmode=sesame",
        ] {
            let refused = StoreConfig::check(raw(bad)).unwrap_err().to_string();
            assert!(refused.contains(URL) && !refused.contains("sesame"), "{refused}");
        }
        let as_text = serde_json::from_str::<crate::RawConfig>(r#"{"store": "postgres://u:sesame@h/d"}"#);
        let refused = as_text.unwrap_err().to_string();
        assert!(
            refused.contains("must be a table") && !refused.contains("sesame"),
            "{refused}"
        );
        assert!(!format!("{:?}", raw("postgres://u:sesame@h/d")).contains("sesame"));
    }
}
