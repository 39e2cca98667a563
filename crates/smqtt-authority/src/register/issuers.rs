//! Who has issued which certificates.

use smqtt_pki::{Serial, UnixTime};
use sqlx::Any;

use super::{Write, signed, unsigned};
use crate::Error;

/// How many certificates of devices were issued until this second and have not expired.
pub(crate) async fn issued_until(
    transaction: &mut Write,
    until: u64,
    now: UnixTime,
) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM certificate WHERE device IS NOT NULL AND issued <= $1 AND not_after >= $2",
    )
    .bind(signed(until))
    .bind(signed(now.as_secs()))
    .fetch_one(&mut **transaction)
    .await?;
    Ok(unsigned(count))
}

/// The fingerprint of the certificate with this serial number.
pub(crate) async fn fingerprint_of<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    serial: Serial,
) -> Result<Option<String>, Error> {
    let found = sqlx::query_scalar("SELECT fingerprint FROM certificate WHERE serial = $1")
        .bind(serial.to_string())
        .fetch_optional(executor)
        .await?;
    Ok(found)
}

/// The name of the intermediate that was put in place last, from the audit log, if that was after one was requested for this
/// key, the SHA-256 of which is given in hexadecimal digits.
pub(crate) async fn installed_since<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    key: &str,
) -> Result<Option<String>, Error> {
    let detail: Option<String> = sqlx::query_scalar(
        "SELECT detail FROM audit WHERE action = 'intermediate-install'
           AND sequence > (SELECT COALESCE(MAX(sequence), 0) FROM audit
                           WHERE action = 'intermediate-request' AND detail = $1)
         ORDER BY sequence DESC LIMIT 1",
    )
    .bind(key)
    .fetch_optional(executor)
    .await?;
    let name = |detail: String| {
        detail
            .split_once(" serial ")
            .map(|(name, _)| name.to_owned())
    };
    Ok(detail.and_then(name))
}
