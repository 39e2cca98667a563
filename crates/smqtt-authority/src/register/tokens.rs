//! Enrolment tokens, by their SHA-256.

use smqtt_pki::{DeviceId, UnixTime};
use sqlx::Sqlite;

use super::{Write, signed, unsigned};
use crate::Error;

/// What is known of a token.
pub(crate) struct TokenRecord {
    pub(crate) device: DeviceId,
    /// The device's attributes, canonical text.
    pub(crate) attributes: String,
    pub(crate) expires: UnixTime,
    pub(crate) used: bool,
}

/// Finds a token by its digest. The database compares digests only: what its time tells of the token is nothing.
pub(crate) async fn find_token<'e>(
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    digest: &[u8; 32],
) -> Result<Option<TokenRecord>, Error> {
    let row: Option<(String, String, i64, Option<i64>)> = sqlx::query_as(
        "SELECT device.name, device.attributes, token.expires, token.used
         FROM token JOIN device ON device.name = token.device
         WHERE token.digest = ?1",
    )
    .bind(&digest[..])
    .fetch_optional(executor)
    .await?;
    row.map(|(device, attributes, expires, used)| {
        Ok(TokenRecord {
            device: device.parse()?,
            attributes,
            expires: UnixTime::since_unix_epoch(std::time::Duration::from_secs(unsigned(expires))),
            used: used.is_some(),
        })
    })
    .transpose()
}

/// Records a new token. The device must have no other that could still be used.
pub(crate) async fn insert_token(
    transaction: &mut Write,
    digest: &[u8; 32],
    device: &DeviceId,
    now: UnixTime,
    expires: UnixTime,
) -> Result<(), Error> {
    sqlx::query("INSERT INTO token (digest, device, created, expires) VALUES (?1, ?2, ?3, ?4)")
        .bind(&digest[..])
        .bind(device.as_str())
        .bind(signed(now.as_secs()))
        .bind(signed(expires.as_secs()))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Forgets the device's tokens that were not used.
pub(crate) async fn withdraw_tokens(
    transaction: &mut Write,
    device: &DeviceId,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM token WHERE device = ?1 AND used IS NULL")
        .bind(device.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Marks a token as used, if it still can be: `false` if another enrolment was faster, or its time is over.
pub(crate) async fn consume_token(
    transaction: &mut Write,
    digest: &[u8; 32],
    device: &DeviceId,
    now: UnixTime,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE token SET used = ?3 WHERE digest = ?1 AND device = ?2 AND used IS NULL AND expires >= ?3",
    )
    .bind(&digest[..])
    .bind(device.as_str())
    .bind(signed(now.as_secs()))
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}
