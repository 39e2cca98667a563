//! Copies of a whole register, from one database to another: backups hold SQLite's file, whatever they are made of.

use std::path::Path;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::database::{Kind, continue_numbers};
use super::{Register, Write};
use crate::Error;

/// What a column holds. A NULL, too, has to be told of which type it is.
#[derive(Clone, Copy)]
enum Holds {
    Number,
    Text,
    Bytes,
}
use Holds::{Bytes, Number, Text};

type Table = (&'static str, &'static [(&'static str, Holds)]);

/// All tables, each behind those that it refers to.
const TABLES: &[Table] = &[
    (
        "state",
        &[
            ("one", Number),
            ("epoch", Number),
            ("url", Text),
            ("broker", Text),
        ],
    ),
    (
        "profile",
        &[("name", Text), ("attributes", Text), ("key_policy", Text)],
    ),
    (
        "device",
        &[
            ("name", Text),
            ("attributes", Text),
            ("created", Number),
            ("profile", Text),
            ("own", Text),
            ("suspended", Number),
            ("removed", Number),
            ("own_key_policy", Text),
            ("key_policy", Text),
        ],
    ),
    (
        "token",
        &[
            ("digest", Bytes),
            ("device", Text),
            ("created", Number),
            ("expires", Number),
            ("used", Number),
            ("uses_left", Number),
        ],
    ),
    (
        "certificate",
        &[
            ("id", Number),
            ("serial", Text),
            ("device", Text),
            ("subject", Text),
            ("fingerprint", Text),
            ("not_before", Number),
            ("not_after", Number),
            ("issued", Number),
            ("der", Bytes),
            ("key_digest", Bytes),
            ("token", Bytes),
            ("shown", Text),
        ],
    ),
    (
        "attribute_key",
        &[
            ("id", Number),
            ("device", Text),
            ("epoch", Number),
            ("attributes", Text),
            ("serial", Text),
            ("issued", Number),
            ("confirmed", Number),
            ("key_policy", Text),
        ],
    ),
    (
        "audit",
        &[
            ("sequence", Number),
            ("time", Number),
            ("actor", Text),
            ("action", Text),
            ("subject", Text),
            ("outcome", Text),
            ("detail", Text),
            ("chain", Bytes),
        ],
    ),
    (
        "revocation",
        &[("serial", Text), ("revoked", Number), ("reason", Text)],
    ),
    (
        "revocation_list",
        &[
            ("number", Number),
            ("issued", Number),
            ("next_update", Number),
            ("der", Bytes),
        ],
    ),
    (
        "epoch",
        &[
            ("epoch", Number),
            ("started", Number),
            ("seal_from", Number),
            ("cause", Text),
        ],
    ),
    (
        "setting",
        &[
            ("one", Number),
            ("epoch_every", Number),
            ("overlap", Number),
            ("revocation_overlap", Number),
            ("renewal_grace", Number),
            ("crl_out", Text),
            ("crl_valid", Number),
            ("crl_written", Number),
        ],
    ),
    (
        "authority_state",
        &[
            ("sequence", Number),
            ("issued", Number),
            ("next_update", Number),
            ("signed", Bytes),
        ],
    ),
    (
        "broker",
        &[("url", Text), ("position", Number), ("published", Number)],
    ),
    (
        "attribute_schema",
        &[("version", Number), ("changed", Number), ("text", Text)],
    ),
    (
        "backup_shares",
        &[
            ("share_set", Text),
            ("key_id", Text),
            ("threshold", Number),
            ("shares", Number),
            ("made", Number),
        ],
    ),
    (
        "admin",
        &[
            ("name", Text),
            ("role", Text),
            ("serial", Text),
            ("created", Number),
            ("removed", Number),
        ],
    ),
    (
        "audit_checkpoint",
        &[
            ("sequence", Number),
            ("time", Number),
            ("chain", Bytes),
            ("issuer", Bytes),
            ("signature", Bytes),
        ],
    ),
];

/// The tables in which a new register has rows.
const BEGUN: [&str; 3] = ["epoch", "setting", "state"];

/// How many rows are read and written at once.
const ROWS: usize = 100;

impl Register {
    /// Copies the register into an empty file, as it is at one moment, while others write.
    pub(crate) async fn snapshot(&self, path: &Path) -> Result<(), Error> {
        match self.kind {
            Kind::Sqlite => {
                let path = path.to_str().ok_or_else(|| Error::Backup {
                    path: path.into(),
                    reason: "the path is not UTF-8 text".into(),
                })?;
                sqlx::query("VACUUM INTO $1")
                    .bind(path)
                    .execute(&self.pool)
                    .await?;
            }
            Kind::Postgres => {
                let copy = Self::open(path).await?;
                copy.fill_from(self).await?;
                // Brings everything into the file itself, which is all that goes into the backup.
                copy.close().await;
            }
        }
        Ok(())
    }

    /// Takes over everything from another register, in one transaction. This one must be unused.
    ///
    /// # Errors
    /// [`Error::Database`] if it is not.
    pub(crate) async fn fill_from(&self, other: &Register) -> Result<(), Error> {
        let mut from = other.moment().await?;
        let mut to = self.write().await?;
        let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM audit")
            .fetch_one(&mut *to)
            .await?;
        if rows > 0 {
            return Err(Error::Database {
                reason: "it holds an authority's register already".into(),
            });
        }
        for table in BEGUN {
            sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}")))
                .execute(&mut *to)
                .await?;
        }
        for table in TABLES {
            copy(&mut from, &mut to, table).await?;
        }
        if self.kind == Kind::Postgres {
            continue_numbers(&mut to).await?;
        }
        to.commit().await?;
        Ok(())
    }
}

/// Copies the rows of one table, in the order of its key, which is its first column.
async fn copy(from: &mut AnyConnection, to: &mut Write, table: &Table) -> Result<(), Error> {
    let (name, columns) = table;
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let (names, key) = (names.join(", "), names[0]);
    let mut last: Option<AnyRow> = None;
    loop {
        let rest = if last.is_some() {
            format!("WHERE {key} > $1")
        } else {
            String::new()
        };
        let page = format!("SELECT {names} FROM {name} {rest} ORDER BY {key} LIMIT {ROWS}");
        let mut query = sqlx::query(AssertSqlSafe(page));
        if let Some(last) = &last {
            query = bind(query, last, 0, columns[0].1)?;
        }
        let rows = query.fetch_all(&mut *from).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let places: Vec<_> = (0..rows.len())
            .map(|row| {
                let place = |column| format!("${}", row * columns.len() + column + 1);
                let row: Vec<_> = (0..columns.len()).map(place).collect();
                format!("({})", row.join(", "))
            })
            .collect();
        let insert = format!("INSERT INTO {name} ({names}) VALUES {}", places.join(", "));
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for row in &rows {
            for (column, (_, holds)) in columns.iter().enumerate() {
                query = bind(query, row, column, *holds)?;
            }
        }
        query.execute(&mut **to).await?;
        last = rows.into_iter().last();
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

fn bind<'q>(
    query: Query<'q>,
    row: &AnyRow,
    column: usize,
    holds: Holds,
) -> Result<Query<'q>, Error> {
    Ok(match holds {
        Number => query.bind(row.try_get::<Option<i64>, _>(column)?),
        Text => query.bind(row.try_get::<Option<String>, _>(column)?),
        Bytes => query.bind(row.try_get::<Option<Vec<u8>>, _>(column)?),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn no_table_and_no_column_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("register");
        std::fs::write(&path, b"").unwrap();
        let register = Register::open(&path).await.unwrap();
        let found: Vec<(String, String)> = sqlx::query_as(
            "SELECT tables.name, columns.name FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
             WHERE tables.type = 'table' AND tables.name NOT IN ('_sqlx_migrations', 'sqlite_sequence', 'sqlite_stat1')",
        )
        .fetch_all(register.reader())
        .await
        .unwrap();
        let copied = TABLES.iter().flat_map(|(table, columns)| {
            columns
                .iter()
                .map(move |(column, _)| ((*table).to_owned(), (*column).to_owned()))
        });
        assert_eq!(
            found.into_iter().collect::<BTreeSet<_>>(),
            copied.collect::<BTreeSet<_>>()
        );
    }
}
