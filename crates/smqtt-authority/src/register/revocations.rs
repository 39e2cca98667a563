//! Certificates that were taken back, and the lists that say so.

use std::time::Duration;

use smqtt_pki::{DeviceId, Revocation, RevocationReason, Serial, UnixTime};

use super::{Write, signed, unsigned};
use crate::Error;

/// Takes back all certificates of a device that are still valid and not taken back already; returns their serial numbers.
pub(crate) async fn revoke_certificates(
    transaction: &mut Write,
    device: &DeviceId,
    reason: RevocationReason,
    now: UnixTime,
) -> Result<Vec<Serial>, Error> {
    let serials: Vec<String> = sqlx::query_scalar(
        "INSERT INTO revocation (serial, revoked, reason)
         SELECT serial, ?2, ?3 FROM certificate
         WHERE device = ?1 AND not_after >= ?2 AND serial NOT IN (SELECT serial FROM revocation)
         ORDER BY id
         RETURNING serial",
    )
    .bind(device.as_str())
    .bind(signed(now.as_secs()))
    .bind(reason.as_str())
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
         WHERE certificate.not_after >= ?1
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

/// Records a list that is about to be issued; returns its number, which is one more than the last one's.
pub(crate) async fn number_list(
    transaction: &mut Write,
    now: UnixTime,
    next_update: UnixTime,
) -> Result<u64, Error> {
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO revocation_list (number, issued, next_update)
         SELECT COALESCE(MAX(number), 0) + 1, ?1, ?2 FROM revocation_list
         RETURNING number",
    )
    .bind(signed(now.as_secs()))
    .bind(signed(next_update.as_secs()))
    .fetch_one(&mut **transaction)
    .await?;
    Ok(unsigned(number))
}
