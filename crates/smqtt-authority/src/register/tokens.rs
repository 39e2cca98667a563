//! Enrolment tokens, by their SHA-256.

use smqtt_pki::{DeviceId, UnixTime};
use smqtt_policy::Epoch;
use sqlx::Any;

use super::{Write, signed, unsigned};
use crate::Error;

/// What is known of a token.
pub(crate) struct TokenRecord {
    pub(crate) device: DeviceId,
    /// The device's attributes, canonical text.
    pub(crate) attributes: String,
    pub(crate) expires: UnixTime,
    pub(crate) used: bool,
    /// Whether the device is suspended.
    pub(crate) suspended: bool,
    /// The current epoch.
    pub(crate) epoch: Epoch,
}

type Row = (String, String, i64, Option<i64>, Option<i64>, i64);

/// Finds a token by its digest. The database compares digests only: what its time tells of the token is nothing.
pub(crate) async fn find_token<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    digest: &[u8; 32],
) -> Result<Option<TokenRecord>, Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT device.name, device.attributes, token.expires, token.used, device.suspended, (SELECT epoch FROM state)
         FROM token JOIN device ON device.name = token.device
         WHERE token.digest = $1 AND device.removed IS NULL",
    )
    .bind(&digest[..])
    .fetch_optional(executor)
    .await?;
    row.map(|(device, attributes, expires, used, suspended, epoch)| {
        Ok(TokenRecord {
            device: device.parse()?,
            attributes,
            expires: UnixTime::since_unix_epoch(std::time::Duration::from_secs(unsigned(expires))),
            used: used.is_some(),
            suspended: suspended.is_some(),
            epoch: Epoch::new(unsigned(epoch)),
        })
    })
    .transpose()
}

/// Records a new token. The device must have no other that could still be used.
pub(crate) async fn insert_token(
    transaction: &mut Write,
    digest: &[u8; 32],
    device: &DeviceId,
    uses: u32,
    now: UnixTime,
    expires: UnixTime,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO token (digest, device, created, expires, uses_left) VALUES ($1, $2, $3, $4, $5)",
    )
        .bind(&digest[..])
        .bind(device.as_str())
        .bind(signed(now.as_secs()))
        .bind(signed(expires.as_secs()))
        .bind(i64::from(uses))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Forgets the device's tokens that were not used.
pub(crate) async fn withdraw_tokens(
    transaction: &mut Write,
    device: &DeviceId,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM token WHERE device = $1 AND used IS NULL")
        .bind(device.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Uses a token once, if it still can be: `false` if another enrolment was faster, or its time is over.
pub(crate) async fn consume_token(
    transaction: &mut Write,
    digest: &[u8; 32],
    device: &DeviceId,
    now: UnixTime,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE token SET uses_left = uses_left - 1, used = CASE uses_left WHEN 1 THEN $3 END
         WHERE digest = $1 AND device = $2 AND used IS NULL AND uses_left > 0 AND expires >= $3",
    )
    .bind(&digest[..])
    .bind(device.as_str())
    .bind(signed(now.as_secs()))
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}
