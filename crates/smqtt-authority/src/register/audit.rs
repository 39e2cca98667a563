//! The audit log: append-only, each row chained to all before it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smqtt_pki::UnixTime;
use sqlx::Any;
use sqlx::AnyPool;

use super::{Changes, Write, signed, unsigned};
use crate::Error;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// The person at the command line, by the number of the account.
    #[must_use]
    pub fn operator() -> Self {
        #[cfg(unix)]
        return Self(format!("uid:{}", rustix::process::getuid().as_raw()));
        #[cfg(not(unix))]
        return Self("operator".into());
    }

    /// The service itself.
    #[must_use]
    pub fn service() -> Self {
        Self("service".into())
    }

    /// Another account of this machine, by its number.
    #[must_use]
    pub fn account(uid: u32) -> Self {
        Self(format!("uid:{uid}"))
    }

    /// An administrator, known by a certificate.
    #[must_use]
    pub fn admin(name: &smqtt_pki::AdminName) -> Self {
        Self(format!("admin:{name}"))
    }

    /// Somebody at this address, who is not known otherwise.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self(format!("address:{}", address.to_canonical()))
    }

    /// The actor as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is done.
pub(crate) struct Act<'a> {
    pub(crate) action: &'static str,
    pub(crate) subject: &'a str,
    pub(crate) detail: &'a str,
}

/// A row of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its number, from 1.
    pub sequence: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Who: `uid:…`, `admin:…`, `address:…` or `service`.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To whom or what.
    pub subject: String,
    /// `ok`, or the code of what was wrong.
    pub outcome: String,
    /// Particulars.
    pub detail: String,
}

type Row = (i64, i64, String, String, String, String, String, Vec<u8>);

/// What the first row is chained to.
const GENESIS: [u8; 32] = [0; 32];

/// Appends a row, in the transaction of the act that it tells of.
pub(crate) async fn append(
    transaction: &mut Write,
    actor: &Actor,
    act: &Act<'_>,
    outcome: &str,
    now: UnixTime,
) -> Result<(), Error> {
    append_with(transaction, Changes::default(), actor, act, outcome, now).await
}

/// Makes changes and appends the row that tells of them.
pub(crate) async fn append_with(
    transaction: &mut Write,
    mut changes: Changes,
    actor: &Actor,
    act: &Act<'_>,
    outcome: &str,
    now: UnixTime,
) -> Result<(), Error> {
    // The transaction holds the write lock: nobody else appends in between.
    let last: Option<(i64, Vec<u8>)> = match transaction.known.head.take() {
        Some(head) => Some(head),
        None => {
            sqlx::query_as("SELECT sequence, chain FROM audit ORDER BY sequence DESC LIMIT 1")
                .fetch_optional(&mut **transaction)
                .await?
        }
    };
    let (sequence, previous) = last.map_or((1, GENESIS.to_vec()), |(n, chain)| (n + 1, chain));
    let entry = AuditEntry {
        sequence: unsigned(sequence),
        time: now.as_secs(),
        actor: actor.0.clone(),
        action: act.action.into(),
        subject: act.subject.into(),
        outcome: outcome.into(),
        detail: act.detail.into(),
    };
    let chain = chain(&previous, &entry);
    changes
        .statement(
            "INSERT INTO audit (sequence, time, actor, action, subject, outcome, detail, chain)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(sequence)
        .bind(signed(entry.time))
        .bind(entry.actor)
        .bind(entry.action)
        .bind(entry.subject)
        .bind(entry.outcome)
        .bind(entry.detail)
        .bind(chain.to_vec());
    changes.execute(transaction).await?;
    transaction.known.head = Some((sequence, chain.to_vec()));
    Ok(())
}

/// The rows from `from` on, at most `limit`, with their chain values.
async fn page(
    executor: impl sqlx::Executor<'_, Database = Any>,
    from: u64,
    limit: u32,
) -> Result<Vec<(AuditEntry, Vec<u8>)>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT sequence, time, actor, action, subject, outcome, detail, chain
         FROM audit WHERE sequence >= $1 ORDER BY sequence LIMIT $2",
    )
    .bind(signed(from))
    .bind(i64::from(limit))
    .fetch_all(executor)
    .await?;
    let read = |(sequence, time, actor, action, subject, outcome, detail, chain): Row| {
        let entry = AuditEntry {
            sequence: unsigned(sequence),
            time: unsigned(time),
            actor,
            action,
            subject,
            outcome,
            detail,
        };
        (entry, chain)
    };
    Ok(rows.into_iter().map(read).collect())
}

impl super::Register {
    /// The rows from `from` on, at most `limit`, with their chain values.
    pub(crate) async fn audit_page(
        &self,
        from: u64,
        limit: u32,
    ) -> Result<Vec<(AuditEntry, Vec<u8>)>, Error> {
        page(self.reader(), from, limit).await
    }
}

/// The last row's number and chain value.
pub(crate) async fn last(transaction: &mut Write) -> Result<Option<(u64, [u8; 32])>, Error> {
    let last: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT sequence, chain FROM audit ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(&mut **transaction)
            .await?;
    let Some((sequence, chain)) = last else {
        return Ok(None);
    };
    let chain = chain.try_into().map_err(|_| Error::AuditBroken {
        sequence: unsigned(sequence),
        reason: "its chain value is none",
    })?;
    Ok(Some((unsigned(sequence), chain)))
}

/// Verifies rows one after the other.
#[derive(Default)]
pub(crate) struct Verifier {
    count: u64,
    chain: [u8; 32],
}

impl Verifier {
    /// Takes the next row with its chain value.
    pub(crate) fn push(&mut self, entry: &AuditEntry, stored: &[u8]) -> Result<(), Error> {
        let broken = |reason| Error::AuditBroken {
            sequence: self.count + 1,
            reason,
        };
        if entry.sequence != self.count + 1 {
            return Err(broken("it is missing"));
        }
        let expected = chain(&self.chain, entry);
        if stored != expected {
            return Err(broken("it was changed, or one before it was"));
        }
        (self.count, self.chain) = (entry.sequence, expected);
        Ok(())
    }

    /// How many rows there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of rows and the last chain value, which covers them all.
    pub(crate) fn finish(self) -> (u64, [u8; 32]) {
        (self.count, self.chain)
    }
}

/// Goes through the whole log in order, verifying the chain, and shows each row with its chain value to `visit`. Returns the
/// number of rows and the last chain value, which covers them all.
pub(crate) async fn walk(
    pool: &AnyPool,
    mut visit: impl FnMut(&AuditEntry, &[u8; 32]),
) -> Result<(u64, [u8; 32]), Error> {
    let mut verifier = Verifier::default();
    loop {
        let rows = page(pool, verifier.count + 1, 1000).await?;
        if rows.is_empty() {
            return Ok(verifier.finish());
        }
        for (entry, stored) in rows {
            verifier.push(&entry, &stored)?;
            visit(&entry, &verifier.chain);
        }
    }
}

/// SHA-256 over the previous chain value and the row, every text with its length before it.
fn chain(previous: &[u8], entry: &AuditEntry) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"smqtt audit 1");
    hash.update(previous);
    hash.update(entry.sequence.to_be_bytes());
    hash.update(entry.time.to_be_bytes());
    for text in [
        &entry.actor,
        &entry.action,
        &entry.subject,
        &entry.outcome,
        &entry.detail,
    ] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(subject: &str, detail: &str) -> AuditEntry {
        AuditEntry {
            sequence: 1,
            time: 2,
            actor: "a".into(),
            action: "b".into(),
            subject: subject.into(),
            outcome: "ok".into(),
            detail: detail.into(),
        }
    }

    #[test]
    fn moving_a_letter_between_fields_changes_the_chain() {
        assert_ne!(
            chain(&GENESIS, &entry("ab", "c")),
            chain(&GENESIS, &entry("a", "bc"))
        );
        assert_eq!(
            chain(&GENESIS, &entry("a", "c")),
            chain(&GENESIS, &entry("a", "c"))
        );
        assert_ne!(
            chain(&GENESIS, &entry("a", "c")),
            chain(&[1; 32], &entry("a", "c"))
        );
    }
}
