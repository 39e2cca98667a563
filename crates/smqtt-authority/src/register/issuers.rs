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
