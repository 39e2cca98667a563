//! Changes that go to the database in one statement: on SQLite each one costs two changes of threads, on PostgreSQL a way there
//! and back.

use sqlx::any::AnyArguments;
use sqlx::error::BoxDynError;
use sqlx::{Any, Arguments, AssertSqlSafe, Encode, Type};

use super::Write;
use super::database::Kind;
use crate::Error;

/// Changes that none of the others reads, in their order.
#[derive(Default)]
pub(crate) struct Changes {
    statements: Vec<String>,
    arguments: AnyArguments,
    unbound: Option<BoxDynError>,
}

impl Changes {
    /// Adds a statement that changes rows. What is bound to it follows.
    pub(super) fn statement(&mut self, sql: &'static str) -> &mut Self {
        self.statements.push(shifted(sql, self.arguments.len()));
        self
    }

    /// Binds the next argument of the last statement.
    pub(super) fn bind<'q, T: Encode<'q, Any> + Type<Any>>(&mut self, value: T) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.unbound = Some(error);
        }
        self
    }

    /// Makes them.
    pub(super) async fn execute(self, transaction: &mut Write) -> Result<(), Error> {
        if let Some(error) = self.unbound {
            return Err(sqlx::Error::Encode(error).into());
        }
        let sql = match transaction.kind() {
            Kind::Sqlite => self.statements.join("; "),
            Kind::Postgres => together(self.statements),
        };
        // Put together of this program's own texts; what comes from elsewhere is bound.
        sqlx::query_with(AssertSqlSafe(sql), self.arguments)
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }
}

/// A statement whose first argument comes behind so many others.
fn shifted(sql: &str, before: usize) -> String {
    let mut parts = sql.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit());
        let (number, rest) = part.split_at(end.unwrap_or(part.len()));
        let number: usize = number.parse().unwrap_or_default();
        out.push_str(&format!("${}{rest}", number + before));
    }
    out
}

/// All of them in one statement, as PostgreSQL has it: each runs to its end, and constraints are looked at behind the last.
fn together(mut statements: Vec<String>) -> String {
    let last = statements.pop().unwrap_or_default();
    if statements.is_empty() {
        return last;
    }
    let named = statements.iter().enumerate();
    let named: Vec<_> = named
        .map(|(n, sql)| format!("change{n} AS ({sql})"))
        .collect();
    format!("WITH {} {last}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbered_through() {
        let mut changes = Changes::default();
        changes
            .statement("UPDATE a SET b = CASE c WHEN 1 THEN $2 END WHERE d = $1")
            .bind(1_i64)
            .bind("two");
        changes.statement("INSERT INTO e VALUES ($1)").bind(3_i64);
        changes.statement("DELETE FROM f");
        assert_eq!(
            changes.statements.join("; "),
            "UPDATE a SET b = CASE c WHEN 1 THEN $2 END WHERE d = $1; INSERT INTO e VALUES ($3); DELETE FROM f"
        );
        assert_eq!(
            together(changes.statements),
            "WITH change0 AS (UPDATE a SET b = CASE c WHEN 1 THEN $2 END WHERE d = $1), \
             change1 AS (INSERT INTO e VALUES ($3)) DELETE FROM f"
        );
        assert_eq!(together(vec!["one".into()]), "one");
    }
}
