//! Enrolment tokens, by their SHA-256.

use smqtt_pki::{DeviceId, UnixTime};
use smqtt_policy::Epoch;
use sqlx::Any;

use super::devices::CertificateRow;
use super::{Changes, DeviceCertificate, Write, signed, unsigned};
use crate::Error;

/// What is known of a token.
pub(crate) struct TokenRecord {
    pub(crate) device: DeviceId,
    /// The device's attributes, canonical text.
    pub(crate) attributes: String,
    /// The device's key policy, canonical text.
    pub(crate) key_policy: Option<String>,
    pub(crate) expires: UnixTime,
    pub(crate) used: bool,
    /// Whether the device is suspended.
    pub(crate) suspended: bool,
    /// The current epoch.
    pub(crate) epoch: Epoch,
    /// The certificates that were issued for it, are valid and were not taken back, the newest first.
    pub(crate) certificates: Vec<DeviceCertificate>,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    attributes: String,
    key_policy: Option<String>,
    expires: i64,
    used: Option<i64>,
    suspended: Option<i64>,
    epoch: i64,
    #[sqlx(flatten)]
    certificate: CertificateRow,
}

/// Finds a token by its digest. The database compares digests only: what its time tells of the token is nothing.
pub(crate) async fn find_token<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    digest: &[u8; 32],
    now: UnixTime,
) -> Result<Option<TokenRecord>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT device.name, device.attributes, device.key_policy, token.expires, token.used, device.suspended,
                (SELECT epoch FROM state) AS epoch,
                given.serial, given.not_after, given.der, given.key_digest, given.shown
         FROM token JOIN device ON device.name = token.device
         LEFT JOIN certificate AS given ON given.token = token.digest AND given.not_after >= $2
              AND NOT EXISTS (SELECT 1 FROM revocation AS taken WHERE taken.serial = given.serial)
         WHERE token.digest = $1 AND device.removed IS NULL
         ORDER BY given.id DESC LIMIT 100",
    )
    .bind(&digest[..])
    .bind(signed(now.as_secs()))
    .fetch_all(executor)
    .await?;
    let mut found: Option<TokenRecord> = None;
    for row in rows {
        let certificate = DeviceCertificate::from_row(row.certificate);
        if let Some(found) = &mut found {
            found.certificates.extend(certificate);
            continue;
        }
        let expires = std::time::Duration::from_secs(unsigned(row.expires));
        found = Some(TokenRecord {
            device: row.name.parse()?,
            attributes: row.attributes,
            key_policy: row.key_policy,
            expires: UnixTime::since_unix_epoch(expires),
            used: row.used.is_some(),
            suspended: row.suspended.is_some(),
            epoch: Epoch::new(unsigned(row.epoch)),
            certificates: certificate.into_iter().collect(),
        });
    }
    Ok(found)
}

/// How a token stands, for who knows the rest of it already.
pub(crate) struct TokenStanding {
    /// The device's attributes, canonical text.
    pub(crate) attributes: String,
    /// The device's key policy, canonical text.
    pub(crate) key_policy: Option<String>,
    /// Whether the device is suspended.
    pub(crate) suspended: bool,
    /// The current epoch.
    pub(crate) epoch: Epoch,
    /// Whether it can be used once more.
    pub(crate) usable: bool,
}

type StandingRow = (
    String,
    Option<String>,
    Option<i64>,
    i64,
    i64,
    i64,
    Option<i64>,
);

/// How a token stands; `None` if there is none.
pub(crate) async fn token_standing(
    transaction: &mut Write,
    digest: &[u8; 32],
    now: UnixTime,
) -> Result<Option<TokenStanding>, Error> {
    let row: Option<StandingRow> = sqlx::query_as(
        "SELECT device.attributes, device.key_policy, device.suspended, (SELECT epoch FROM state), token.expires,
                token.uses_left, token.used
         FROM token JOIN device ON device.name = token.device
         WHERE token.digest = $1 AND device.removed IS NULL",
    )
    .bind(&digest[..])
    .fetch_optional(&mut **transaction)
    .await?;
    let standing =
        |(attributes, key_policy, suspended, epoch, expires, uses_left, used): StandingRow| {
            TokenStanding {
                attributes,
                key_policy,
                suspended: suspended.is_some(),
                epoch: Epoch::new(unsigned(epoch)),
                usable: used.is_none() && uses_left > 0 && unsigned(expires) >= now.as_secs(),
            }
        };
    Ok(row.map(standing))
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

/// Uses a token once, which is known to be [usable](TokenStanding::usable) in this transaction.
pub(crate) fn consume_token(changes: &mut Changes, digest: &[u8; 32], now: UnixTime) {
    changes
        .statement(
            "UPDATE token SET uses_left = uses_left - 1, used = CASE uses_left WHEN 1 THEN $2 END WHERE digest = $1",
        )
        .bind(&digest[..])
        .bind(signed(now.as_secs()));
}
