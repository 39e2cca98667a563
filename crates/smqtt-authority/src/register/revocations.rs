//! Certificates that were taken back, and the lists that say so.

use std::time::Duration;

use smqtt_pki::{DeviceId, Revocation, RevocationList, RevocationReason, Serial, UnixTime};
use sqlx::Any;

use super::{Write, signed, unsigned};
use crate::Error;

/// Takes back all certificates of a device that are still valid, or can still be renewed, and were not taken back for good
/// already; returns their serial numbers.
pub(crate) async fn revoke_certificates(
    transaction: &mut Write,
    device: &DeviceId,
    reason: RevocationReason,
    now: UnixTime,
) -> Result<Vec<Serial>, Error> {
    let grace = super::settings(&mut **transaction)
        .await?
        .renewal_grace
        .as_secs();
    let serials: Vec<String> = sqlx::query_scalar(
        "INSERT INTO revocation (serial, revoked, reason)
         SELECT serial, $2, $3 FROM certificate
         WHERE device = $1 AND not_after >= $4
           AND NOT EXISTS (SELECT 1 FROM revocation AS before
                           WHERE before.serial = certificate.serial AND before.reason <> 'certificate-hold')
         ORDER BY id
         ON CONFLICT (serial) DO UPDATE SET revoked = $2, reason = $3
         RETURNING serial",
    )
    .bind(device.as_str())
    .bind(signed(now.as_secs()))
    .bind(reason.as_str())
    // Who may still renew a certificate must not do so after this either.
    .bind(signed(now.as_secs().saturating_sub(grace)))
    .fetch_all(&mut **transaction)
    .await?;
    serials
        .iter()
        .map(|serial| serial.parse().map_err(Error::from))
        .collect()
}

/// What belongs on a list that is issued now. A certificate that has expired needs none any more (RFC 5280 §3.3).
pub(crate) async fn revocations(
    transaction: &mut Write,
    now: UnixTime,
) -> Result<Vec<Revocation>, Error> {
    let rows: Vec<(String, i64, String)> = sqlx::query_as(
        "SELECT revocation.serial, revocation.revoked, revocation.reason
         FROM revocation JOIN certificate ON certificate.serial = revocation.serial
         WHERE certificate.not_after >= $1
         ORDER BY certificate.id",
    )
    .bind(signed(now.as_secs()))
    .fetch_all(&mut **transaction)
    .await?;
    rows.into_iter()
        .map(|(serial, revoked, reason)| {
            Ok(Revocation {
                serial: serial.parse()?,
                at: UnixTime::since_unix_epoch(Duration::from_secs(unsigned(revoked))),
                reason: RevocationReason::ALL
                    .into_iter()
                    .find(|known| known.as_str() == reason)
                    .unwrap_or_default(),
            })
        })
        .collect()
}

/// The number of the list that is issued next: one more than the last one's.
pub(crate) async fn next_list_number(transaction: &mut Write) -> Result<u64, Error> {
    Ok(super::crl_number(&mut **transaction).await? + 1)
}

/// Keeps a list that was just issued.
pub(crate) async fn keep_list(
    transaction: &mut Write,
    number: u64,
    list: &RevocationList,
    now: UnixTime,
) -> Result<(), Error> {
    // Only the newest is ever written anywhere.
    sqlx::query("UPDATE revocation_list SET der = NULL WHERE der IS NOT NULL")
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "INSERT INTO revocation_list (number, issued, next_update, der) VALUES ($1, $2, $3, $4)",
    )
    .bind(signed(number))
    .bind(signed(now.as_secs()))
    .bind(signed(list.validity().not_after().as_secs()))
    .bind(list.der().as_ref())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The newest list.
pub(crate) struct ListRecord {
    pub(crate) number: u64,
    pub(crate) issued: u64,
    pub(crate) next_update: u64,
    /// `None` for one that an older program has issued.
    pub(crate) der: Option<Vec<u8>>,
    /// The number of the list that was last written to the remembered file.
    pub(crate) written: u64,
}

type ListRow = (i64, i64, i64, Option<Vec<u8>>, i64);

/// The newest list, if there is one.
pub(crate) async fn newest_list<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Option<ListRecord>, Error> {
    let row: Option<ListRow> = sqlx::query_as(
        "SELECT number, issued, next_update, der, (SELECT crl_written FROM setting WHERE one = 1)
         FROM revocation_list ORDER BY number DESC LIMIT 1",
    )
    .fetch_optional(executor)
    .await?;
    Ok(
        row.map(|(number, issued, next_update, der, written)| ListRecord {
            number: unsigned(number),
            issued: unsigned(issued),
            next_update: unsigned(next_update),
            der,
            written: unsigned(written),
        }),
    )
}

/// Notes which list stands in the remembered file.
pub(crate) async fn note_list_written<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    number: u64,
) -> Result<(), Error> {
    sqlx::query("UPDATE setting SET crl_written = $1 WHERE one = 1")
        .bind(signed(number))
        .execute(executor)
        .await?;
    Ok(())
}
