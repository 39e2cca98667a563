//! Epochs, the states that tell of them, and the settings by which they are made.

use std::sync::Arc;
use std::time::Duration;

use smqtt_format::{AuthorityState, Sealing};
use smqtt_pki::UnixTime;
use smqtt_policy::Epoch;
use sqlx::Any;

use super::{Write, schema_text, signed, unsigned};
use crate::Error;

/// An epoch of the attribute keys. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct EpochRecord {
    /// Its number.
    pub epoch: u64,
    /// When keys for it were first issued; 0 for the first epoch of all.
    pub started: u64,
    /// From when publishers seal for it.
    pub seal_from: u64,
    /// Why it was begun.
    pub cause: String,
}

/// How the fleet is run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// After how long a new epoch begins; `None`: on demand only.
    pub epoch_every: Option<Duration>,
    /// How long readers have to renew before publishers seal for a new epoch.
    pub overlap: Duration,
    /// The same for an epoch that a revocation has made necessary.
    pub revocation_overlap: Duration,
    /// How long after its expiry a certificate can still be renewed.
    pub renewal_grace: Duration,
    /// Where revocation lists are written.
    pub crl_out: Option<std::path::PathBuf>,
    /// How long a revocation list holds.
    pub crl_valid: Duration,
}

type SettingRow = (Option<i64>, i64, i64, i64, Option<String>, i64);

/// The settings.
pub(crate) async fn settings<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Settings, Error> {
    let (every, overlap, revocation, grace, crl_out, crl_valid): SettingRow = sqlx::query_as(
        "SELECT epoch_every, overlap, revocation_overlap, renewal_grace, crl_out, crl_valid
         FROM setting WHERE one = 1",
    )
    .fetch_one(executor)
    .await?;
    let span = |seconds| Duration::from_secs(unsigned(seconds));
    Ok(Settings {
        epoch_every: every.map(span),
        overlap: span(overlap),
        revocation_overlap: span(revocation),
        renewal_grace: span(grace),
        crl_out: crl_out.map(Into::into),
        crl_valid: span(crl_valid),
    })
}

/// Keeps the settings.
pub(crate) async fn set_settings(
    transaction: &mut Write,
    settings: &Settings,
) -> Result<(), Error> {
    let seconds = |span: Duration| signed(span.as_secs());
    sqlx::query(
        "UPDATE setting SET epoch_every = $1, overlap = $2, revocation_overlap = $3, renewal_grace = $4,
                crl_out = $5, crl_valid = $6
         WHERE one = 1",
    )
    .bind(settings.epoch_every.map(seconds))
    .bind(seconds(settings.overlap))
    .bind(seconds(settings.revocation_overlap))
    .bind(seconds(settings.renewal_grace))
    .bind(settings.crl_out.as_ref().map(|path| path.to_string_lossy().into_owned()))
    .bind(seconds(settings.crl_valid))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The newest epochs, ascending, at most `limit`.
pub(crate) async fn epochs<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    limit: u32,
) -> Result<Vec<EpochRecord>, Error> {
    let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(
        "SELECT epoch, started, seal_from, cause FROM epoch ORDER BY epoch DESC LIMIT $1",
    )
    .bind(i64::from(limit))
    .fetch_all(executor)
    .await?;
    let record = |(epoch, started, seal_from, cause)| EpochRecord {
        epoch: unsigned(epoch),
        started: unsigned(started),
        seal_from: unsigned(seal_from),
        cause,
    };
    Ok(rows.into_iter().rev().map(record).collect())
}

/// Begins the next epoch.
pub(crate) async fn begin_epoch(
    transaction: &mut Write,
    seal_from: u64,
    cause: &str,
    now: UnixTime,
) -> Result<Epoch, Error> {
    let next: i64 =
        sqlx::query_scalar("UPDATE state SET epoch = epoch + 1 WHERE one = 1 RETURNING epoch")
            .fetch_one(&mut **transaction)
            .await?;
    sqlx::query("INSERT INTO epoch (epoch, started, seal_from, cause) VALUES ($1, $2, $3, $4)")
        .bind(next)
        .bind(signed(now.as_secs()))
        .bind(signed(seal_from))
        .bind(cause)
        .execute(&mut **transaction)
        .await?;
    Ok(Epoch::new(unsigned(next)))
}

/// Lets the schedule begin now: the first epoch of all does not say when it began.
pub(crate) async fn start_schedule(transaction: &mut Write, now: UnixTime) -> Result<(), Error> {
    sqlx::query("UPDATE epoch SET started = $1 WHERE started = 0")
        .bind(signed(now.as_secs()))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// From when publishers seal for which epoch, as far as it still matters at `now`: what they seal for now, and what comes.
pub(crate) async fn sealing<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    now: UnixTime,
) -> Result<Vec<Sealing>, Error> {
    let newest = epochs(executor, AuthorityState::MAX_SEALING as u32).await?;
    let table: Vec<Sealing> = newest
        .iter()
        .map(|record| Sealing {
            epoch: record.epoch,
            from: record.seal_from,
        })
        .collect();
    Ok(still_matters(table, now))
}

fn still_matters(mut table: Vec<Sealing>, now: UnixTime) -> Vec<Sealing> {
    let current = smqtt_format::sealing_epoch(&table, now.as_secs()).unwrap_or(0);
    table.retain(|sealing| sealing.epoch >= current);
    table
}

/// What every device is told beside its own keys.
pub(crate) struct Terms {
    /// The broker.
    pub(crate) broker: Option<String>,
    /// From when publishers seal for which epoch.
    pub(crate) sealing: Vec<Sealing>,
    /// The schema's text.
    pub(crate) schema: Option<String>,
}

/// What every device is told.
pub(crate) async fn terms(transaction: &mut Write, now: UnixTime) -> Result<Arc<Terms>, Error> {
    if let Some(terms) = &transaction.known.terms {
        return Ok(terms.clone());
    }
    let rows: Vec<(i64, i64, Option<String>)> = sqlx::query_as(
        "SELECT epoch.epoch, epoch.seal_from, state.broker FROM epoch, state
         ORDER BY epoch.epoch DESC LIMIT $1",
    )
    .bind(AuthorityState::MAX_SEALING as i64)
    .fetch_all(&mut **transaction)
    .await?;
    let table = rows.iter().rev().map(|(epoch, from, _)| Sealing {
        epoch: unsigned(*epoch),
        from: unsigned(*from),
    });
    let terms = Arc::new(Terms {
        broker: rows.first().and_then(|(_, _, broker)| broker.clone()),
        sealing: still_matters(table.collect(), now),
        schema: schema_text(&mut **transaction).await?.map(|(_, text)| text),
    });
    transaction.known.terms = Some(terms.clone());
    Ok(terms)
}

/// The number of the newest revocation list, 0 if there is none.
pub(crate) async fn crl_number<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<u64, Error> {
    let number: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(number), 0) FROM revocation_list")
        .fetch_one(executor)
        .await?;
    Ok(unsigned(number))
}

/// The newest state.
pub(crate) struct StateRecord {
    pub(crate) sequence: u64,
    pub(crate) issued: u64,
    pub(crate) next_update: u64,
    pub(crate) signed: Vec<u8>,
}

/// The newest state, if one was made yet.
pub(crate) async fn newest_state<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Option<StateRecord>, Error> {
    let row: Option<(i64, i64, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT sequence, issued, next_update, signed FROM authority_state ORDER BY sequence DESC LIMIT 1",
    )
    .fetch_optional(executor)
    .await?;
    Ok(
        row.map(|(sequence, issued, next_update, signed)| StateRecord {
            sequence: unsigned(sequence),
            issued: unsigned(issued),
            next_update: unsigned(next_update),
            signed,
        }),
    )
}

/// Keeps a state that was just signed.
pub(crate) async fn insert_state(
    transaction: &mut Write,
    state: &AuthorityState,
    bytes: &[u8],
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO authority_state (sequence, issued, next_update, signed) VALUES ($1, $2, $3, $4)",
    )
    .bind(signed(state.sequence))
    .bind(signed(state.issued))
    .bind(signed(state.next_update))
    .bind(bytes)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// A broker that gets the state, and the sequence number of the last that it has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct BrokerRecord {
    /// Its URL.
    pub url: String,
    /// The sequence number of the newest state that it has acknowledged; 0 for none.
    pub published: u64,
}

/// The brokers that get the state.
pub(crate) async fn brokers<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Vec<BrokerRecord>, Error> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT url, published FROM broker ORDER BY position")
            .fetch_all(executor)
            .await?;
    let record = |(url, published)| BrokerRecord {
        url,
        published: unsigned(published),
    };
    Ok(rows.into_iter().map(record).collect())
}

/// Replaces the list of brokers; those that stay keep what they have acknowledged.
pub(crate) async fn set_brokers(transaction: &mut Write, urls: &[String]) -> Result<(), Error> {
    let before = brokers(&mut **transaction).await?;
    sqlx::query("DELETE FROM broker")
        .execute(&mut **transaction)
        .await?;
    for (position, url) in urls.iter().enumerate() {
        let published = before
            .iter()
            .find(|broker| broker.url == *url)
            .map_or(0, |broker| broker.published);
        sqlx::query(
            "INSERT INTO broker (url, position, published) VALUES ($1, $2, $3) ON CONFLICT (url) DO NOTHING",
        )
        .bind(url)
        .bind(signed(position as u64))
        .bind(signed(published))
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

/// Notes that a broker has acknowledged a state.
pub(crate) async fn note_published<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    url: &str,
    sequence: u64,
) -> Result<(), Error> {
    sqlx::query("UPDATE broker SET published = $2 WHERE url = $1 AND published < $2")
        .bind(url)
        .bind(signed(sequence))
        .execute(executor)
        .await?;
    Ok(())
}

/// How many enrolled devices, neither revoked nor suspended nor expired, hold a key of which epoch as their newest.
pub(crate) async fn devices_by_epoch<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    now: UnixTime,
) -> Result<Vec<(u64, u64)>, Error> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT key_epoch, COUNT(*) FROM device_overview
         WHERE serial IS NOT NULL AND revoked IS NULL AND suspended IS NULL AND not_after >= $1
           AND key_epoch IS NOT NULL
         GROUP BY key_epoch ORDER BY key_epoch",
    )
    .bind(signed(now.as_secs()))
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(epoch, count)| (unsigned(epoch), unsigned(count)))
        .collect())
}
