//! The database below the register: a file of SQLite's, or PostgreSQL for several instances.
//!
//! Both are spoken to through one set of queries, in the SQL that both know; what differs stands here and in the migrations.
//! Both have one writer at a time: SQLite because it has one lock, PostgreSQL because each transaction that may write takes
//! the lock on the one row of `state` first. So an act sees, until it commits, what no other instance changes: the audit
//! chain has one next link, numbers of epochs, lists and states have no gap, a token's last use is used once.

use std::path::Path;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::{Any, AnyConnection, Connection, Transaction};
use url::Url;

use super::Register;
use crate::Error;

/// How long one writer waits for another's transaction. Transactions are short: no key is computed inside one.
const BUSY: Duration = Duration::from_secs(15);

static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// Of each connection to SQLite. What was answered must survive a power failure; a checkpoint of the write-ahead log is due
/// after 16 MiB rather than 4.
const SQLITE_SESSION: &str =
    "PRAGMA busy_timeout = 15000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
     PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 4096;";

/// Of each connection to PostgreSQL, whatever the server's defaults are. An instance that hangs, or whose machine is gone,
/// does not hold the lock for longer than half a minute.
const POSTGRES_SESSION: &str = "SET synchronous_commit = on; SET lock_timeout = '15s';
     SET idle_in_transaction_session_timeout = '30s'; SET client_min_messages = warning;
     SET default_transaction_isolation = 'read committed'";

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
}

impl Register {
    /// Opens the register in an existing file and brings its tables up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let path = std::fs::canonicalize(path).map_err(|source| smqtt_pki::Error::Io {
            action: "open",
            path: path.into(),
            source,
        })?;
        let file = Url::from_file_path(&path).map_err(|()| Error::Database {
            reason: format!("{} is no path of a file", path.display()),
        })?;
        // The path is percent-encoded; only the scheme is another.
        let url = file.as_str().replacen("file:", "sqlite:", 1);
        Self::at(Kind::Sqlite, &url, 4, SQLITE_SESSION).await
    }

    /// Connects to the register in a database of PostgreSQL's, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::Database`] for what is no such URL.
    pub(crate) async fn connect(url: &str) -> Result<Self, Error> {
        check_url(url)?;
        Self::at(Kind::Postgres, url, 16, POSTGRES_SESSION).await
    }

    async fn at(
        kind: Kind,
        url: &str,
        connections: u32,
        session: &'static str,
    ) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions = url.parse()?;
        let migrations = match kind {
            Kind::Sqlite => &SQLITE,
            Kind::Postgres => &POSTGRES,
        };
        // The pool would try again and again where this tells at once what is wrong.
        let mut first = AnyConnection::connect_with(&options).await?;
        sqlx::raw_sql(session).execute(&mut first).await?;
        migrations.run(&mut first).await?;
        first.close().await?;
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(2 * BUSY)
            // A file does not go away; a server may have been restarted.
            .test_before_acquire(kind == Kind::Postgres)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(session).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            kind,
            turns: Default::default(),
        })
    }

    /// Begins a transaction with the write lock.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(match self.kind {
            Kind::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Kind::Postgres => {
                let mut transaction = self.pool.begin().await?;
                sqlx::query("SELECT one FROM state WHERE one = 1 FOR UPDATE")
                    .execute(&mut *transaction)
                    .await?;
                transaction
            }
        })
    }

    /// Begins a transaction that sees the register as it is at one moment, and writes nothing.
    pub(super) async fn moment(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(match self.kind {
            Kind::Sqlite => self.pool.begin().await?,
            Kind::Postgres => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                self.pool.begin_with(begin).await?
            }
        })
    }

    /// What is wrong with the database, as far as it can tell itself; `None` if nothing.
    pub(crate) async fn integrity(&self) -> Result<Option<String>, Error> {
        match self.kind {
            Kind::Sqlite => {
                let found: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
                    .fetch_one(&self.pool)
                    .await?;
                if found != "ok" {
                    return Ok(Some(found));
                }
                let dangling: Option<String> =
                    sqlx::query_scalar("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1")
                        .fetch_optional(&self.pool)
                        .await?;
                Ok(dangling.map(|table| format!("a row of {table} refers to one that is gone")))
            }
            Kind::Postgres => {
                for setting in ["fsync", "full_page_writes"] {
                    let value: String = sqlx::query_scalar("SELECT current_setting($1)")
                        .bind(setting)
                        .fetch_one(&self.pool)
                        .await?;
                    if value != "on" {
                        tracing::warn!(
                            "PostgreSQL runs with {setting} = {value}: what was acknowledged may be lost with its machine"
                        );
                    }
                }
                Ok(None)
            }
        }
    }

    /// The fingerprint of the authority whose register it is, from the first row of its audit log; `None` before that.
    pub(crate) async fn origin(&self) -> Result<Option<String>, Error> {
        let first =
            sqlx::query_scalar("SELECT detail FROM audit WHERE sequence = 1 AND action = 'init'");
        Ok(first.fetch_optional(&self.pool).await?)
    }
}

/// The numbers of new rows go on behind those that were copied.
pub(super) async fn continue_numbers(connection: &mut AnyConnection) -> Result<(), Error> {
    for table in ["certificate", "attribute_key"] {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'id'), COALESCE(MAX(id), 0) + 1, false) FROM {table}"
        )))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Whether a text is the URL of a PostgreSQL database.
pub(crate) fn check_url(text: &str) -> Result<(), Error> {
    let url = Url::parse(text).map_err(|error| Error::Database {
        reason: error.to_string(),
    })?;
    match url.scheme() {
        "postgres" | "postgresql" => Ok(()),
        other => Err(Error::Database {
            reason: format!("its scheme is {other}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AnyPool, Row};

    use super::*;

    async fn settings(pool: &AnyPool) -> Vec<String> {
        let mut found = Vec::new();
        for pragma in [
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "busy_timeout",
        ] {
            let mut connection = pool.acquire().await.unwrap();
            let sql = format!("PRAGMA {pragma}");
            let row = sqlx::query(sqlx::AssertSqlSafe(sql))
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            found.push(
                row.try_get::<String, _>(0)
                    .or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string()))
                    .unwrap(),
            );
        }
        found
    }

    #[tokio::test]
    async fn each_connection_to_sqlite_is_as_durable_as_it_gets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("with space?#%41.sqlite");
        std::fs::write(&path, b"").unwrap();
        let register = Register::open(&path).await.unwrap();
        // A second and a third connection, while the first is in use.
        let _first = register.write().await.unwrap();
        let _second = register.pool.acquire().await.unwrap();
        assert_eq!(settings(&register.pool).await, ["wal", "2", "1", "15000"]);
        assert_eq!(register.integrity().await.unwrap(), None);
        let names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            names
                .iter()
                .all(|name| name.starts_with("with space?#%41.sqlite")),
            "{names:?}"
        );
    }

    #[test]
    fn only_postgresql_has_a_url() {
        assert!(check_url("postgres://smqtt@db.example.org/authority").is_ok());
        assert!(check_url("postgresql:///authority?host=/run/postgresql").is_ok());
        for other in ["sqlite://x", "mysql://x/y", "authority", ""] {
            assert!(check_url(other).is_err(), "{other:?}");
        }
    }
}
