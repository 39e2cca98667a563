//! Devices, and the certificates and attribute keys that were issued to them.

use serde::Serialize;
use smqtt_pki::{DeviceId, Fingerprint, IssuedCertificate, Serial, UnixTime};
use smqtt_policy::Epoch;
use sqlx::Any;

use super::{Changes, Write, signed, unsigned};
use crate::Error;

/// How far a device has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Known, but it has no certificate yet.
    Registered,
    /// It has a certificate and an attribute key.
    Enrolled,
    /// Its certificates were taken back until it is reinstated.
    Suspended,
    /// Its newest certificate was taken back.
    Revoked,
}

impl DeviceState {
    /// The state in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Enrolled => "enrolled",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }
}

/// A device as the register knows it. Times are seconds since 1970.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceRecord {
    /// Its name.
    pub name: DeviceId,
    /// How far it has come.
    pub state: DeviceState,
    /// Its attributes, canonical text.
    pub attributes: String,
    /// Those of them that are its own, not its profile's.
    pub own: String,
    /// Its profile.
    pub profile: Option<String>,
    /// What it may read by its policy key, canonical text; `None` if it has no key policy.
    pub key_policy: Option<String>,
    /// That, where it is its own, not its profile's.
    pub own_key_policy: Option<String>,
    /// When it was registered.
    pub created: u64,
    /// The serial number of its newest certificate.
    pub serial: Option<String>,
    /// The fingerprint of its newest certificate.
    pub fingerprint: Option<String>,
    /// Until when its newest certificate is valid.
    pub certificate_expires: Option<u64>,
    /// The epoch of its newest attribute key.
    pub key_epoch: Option<u64>,
    /// When its newest certificate was taken back.
    pub revoked: Option<u64>,
    /// Since when it is suspended.
    pub suspended: Option<u64>,
    /// Until when its unused token can be used; past if it has expired.
    pub token_expires: Option<u64>,
    /// How often its token can still be used.
    pub token_uses: Option<u64>,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    attributes: String,
    own: String,
    profile: Option<String>,
    key_policy: Option<String>,
    own_key_policy: Option<String>,
    created: i64,
    serial: Option<String>,
    fingerprint: Option<String>,
    not_after: Option<i64>,
    key_epoch: Option<i64>,
    token_expires: Option<i64>,
    token_uses: Option<i64>,
    suspended: Option<i64>,
    revoked: Option<i64>,
}

/// All devices, by name.
pub(crate) async fn devices<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Vec<DeviceRecord>, Error> {
    let rows: Vec<Row> = sqlx::query_as("SELECT * FROM device_overview ORDER BY name")
        .fetch_all(executor)
        .await?;
    rows.into_iter().map(DeviceRecord::from_row).collect()
}

/// One device.
pub(crate) async fn device<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    name: &DeviceId,
) -> Result<DeviceRecord, Error> {
    let row: Option<Row> = sqlx::query_as("SELECT * FROM device_overview WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(executor)
        .await?;
    DeviceRecord::from_row(row.ok_or_else(|| Error::NoSuchDevice(name.clone()))?)
}

impl super::Register {
    /// The devices whose names come after this one, by name, at most `limit`.
    pub(crate) async fn devices_after(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<DeviceRecord>, Error> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM device_overview WHERE name > $1 ORDER BY name LIMIT $2")
                .bind(after)
                .bind(signed(limit as u64))
                .fetch_all(self.reader())
                .await?;
        rows.into_iter().map(DeviceRecord::from_row).collect()
    }
}

impl DeviceRecord {
    fn from_row(row: Row) -> Result<Self, Error> {
        Ok(Self {
            name: row.name.parse()?,
            state: match (&row.serial, row.revoked, row.suspended) {
                (_, Some(_), _) => DeviceState::Revoked,
                (_, None, Some(_)) => DeviceState::Suspended,
                (Some(_), None, None) => DeviceState::Enrolled,
                (None, None, None) => DeviceState::Registered,
            },
            attributes: row.attributes,
            own: row.own,
            profile: row.profile,
            key_policy: row.key_policy,
            own_key_policy: row.own_key_policy,
            created: unsigned(row.created),
            serial: row.serial,
            fingerprint: row.fingerprint,
            certificate_expires: row.not_after.map(unsigned),
            key_epoch: row.key_epoch.map(unsigned),
            revoked: row.revoked.map(unsigned),
            suspended: row.suspended.map(unsigned),
            token_expires: row.token_expires.map(unsigned),
            token_uses: row.token_uses.map(unsigned),
        })
    }
}

/// What is noted of a device's certificate beside what stands in it.
pub(crate) struct Particulars<'a> {
    /// SHA-256 of its public key.
    pub(crate) key_digest: &'a [u8; 32],
    /// The digest of the token that it was issued for.
    pub(crate) token: Option<&'a [u8; 32]>,
    /// The attributes that it shows.
    pub(crate) shown: &'a str,
}

/// Records a device's certificate.
pub(crate) fn insert_device_certificate(
    changes: &mut Changes,
    device: &DeviceId,
    certificate: &IssuedCertificate,
    particulars: &Particulars<'_>,
    now: UnixTime,
) {
    let whose = Some((device, particulars));
    insert_certificate(changes, whose, device.as_str(), certificate, now);
}

/// Records the issue of an attribute key, and of a policy key if there is a key policy. `confirmed`: the device uses it without saying so.
pub(crate) fn record_key(
    changes: &mut Changes,
    device: &DeviceId,
    serial: &str,
    (attributes, key_policy): (&str, Option<&str>),
    epoch: Epoch,
    confirmed: bool,
    now: UnixTime,
) {
    changes
        .statement(
            "INSERT INTO attribute_key (device, epoch, attributes, serial, issued, confirmed, key_policy)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(device.as_str())
        .bind(signed(epoch.get()))
        .bind(attributes)
        .bind(serial)
        .bind(signed(now.as_secs()))
        .bind(confirmed.then(|| signed(now.as_secs())))
        .bind(key_policy);
}

/// Notes that a device uses the keys of an epoch that were issued with a certificate; whether that was not known before.
pub(crate) async fn confirm_key(
    transaction: &mut Write,
    device: &DeviceId,
    serial: Serial,
    epoch: u64,
    now: UnixTime,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE attribute_key SET confirmed = $4
         WHERE device = $1 AND serial = $2 AND epoch = $3 AND confirmed IS NULL",
    )
    .bind(device.as_str())
    .bind(serial.to_string())
    .bind(signed(epoch))
    .bind(signed(now.as_secs()))
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Whether a certificate of a device still counts.
pub(crate) enum Standing {
    /// It does.
    Good {
        /// The device's attributes, canonical text.
        attributes: String,
        /// Its key policy, canonical text.
        key_policy: Option<String>,
        /// The current epoch.
        epoch: Epoch,
    },
    Suspended,
    Revoked,
    /// The authority has never issued it to that device, or the device was removed.
    Unknown,
    /// The authority has issued another with its serial number.
    Other,
}

impl Standing {
    fn new(
        (attributes, key_policy): (String, Option<String>),
        suspended: Option<i64>,
        reason: Option<String>,
        epoch: i64,
    ) -> Self {
        match (suspended, reason) {
            (_, Some(reason)) if reason != HOLD => Self::Revoked,
            (Some(_), _) | (_, Some(_)) => Self::Suspended,
            (None, None) => Self::Good {
                attributes,
                key_policy,
                epoch: Epoch::new(unsigned(epoch)),
            },
        }
    }
}

/// Whether a certificate of a device still counts, expiry aside.
pub(crate) async fn standing<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    device: &DeviceId,
    serial: Serial,
) -> Result<Standing, Error> {
    type Row = (String, Option<String>, Option<i64>, Option<String>, i64);
    let row: Option<Row> = sqlx::query_as(
        "SELECT device.attributes, device.key_policy, device.suspended, revocation.reason, (SELECT epoch FROM state)
         FROM certificate JOIN device ON device.name = certificate.device
         LEFT JOIN revocation ON revocation.serial = certificate.serial
         WHERE certificate.serial = $2 AND certificate.device = $1 AND device.removed IS NULL",
    )
    .bind(device.as_str())
    .bind(serial.to_string())
    .fetch_optional(executor)
    .await?;
    Ok(row.map_or(
        Standing::Unknown,
        |(attributes, key_policy, suspended, reason, epoch)| {
            Standing::new((attributes, key_policy), suspended, reason, epoch)
        },
    ))
}

/// The reason of a certificate that was taken back for the time being.
pub(crate) const HOLD: &str = "certificate-hold";

/// A certificate that was issued to a device.
pub(crate) struct DeviceCertificate {
    pub(crate) serial: String,
    pub(crate) not_after: u64,
    pub(crate) der: Vec<u8>,
    pub(crate) key_digest: Option<Vec<u8>>,
    pub(crate) shown: Option<String>,
}

/// A certificate that a device presents.
pub(crate) struct Presented {
    pub(crate) standing: Standing,
    /// The device's certificates that are valid and were not taken back, the newest first.
    pub(crate) certificates: Vec<DeviceCertificate>,
}

/// The columns of a certificate that a query may have found none of.
#[derive(sqlx::FromRow)]
pub(super) struct CertificateRow {
    serial: Option<String>,
    not_after: Option<i64>,
    der: Option<Vec<u8>>,
    key_digest: Option<Vec<u8>>,
    shown: Option<String>,
}

impl DeviceCertificate {
    pub(super) fn from_row(row: CertificateRow) -> Option<Self> {
        Some(Self {
            serial: row.serial?,
            not_after: unsigned(row.not_after?),
            der: row.der?,
            key_digest: row.key_digest,
            shown: row.shown,
        })
    }
}

#[derive(sqlx::FromRow)]
struct PresentedRow {
    attributes: String,
    key_policy: Option<String>,
    suspended: Option<i64>,
    reason: Option<String>,
    epoch: i64,
    fingerprint: String,
    #[sqlx(flatten)]
    certificate: CertificateRow,
}

/// How the certificate with this serial number and fingerprint stands, expiry aside, and what else its device has.
pub(crate) async fn presented<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    device: &DeviceId,
    serial: Serial,
    fingerprint: Fingerprint,
    now: UnixTime,
) -> Result<Presented, Error> {
    let rows: Vec<PresentedRow> = sqlx::query_as(
        "SELECT device.attributes, device.key_policy, device.suspended, revocation.reason,
                (SELECT epoch FROM state) AS epoch, own.fingerprint,
                held.serial, held.not_after, held.der, held.key_digest, held.shown
         FROM certificate AS own JOIN device ON device.name = own.device
         LEFT JOIN revocation ON revocation.serial = own.serial
         LEFT JOIN certificate AS held ON held.device = device.name AND held.not_after >= $3
              AND NOT EXISTS (SELECT 1 FROM revocation AS taken WHERE taken.serial = held.serial)
         WHERE own.serial = $2 AND own.device = $1 AND device.removed IS NULL
         ORDER BY held.id DESC LIMIT 16",
    )
    .bind(device.as_str())
    .bind(serial.to_string())
    .bind(signed(now.as_secs()))
    .fetch_all(executor)
    .await?;
    let mut standing = Standing::Unknown;
    let mut certificates = Vec::new();
    for row in rows {
        standing = match row.fingerprint == fingerprint.to_string() {
            true => {
                let keys_for = (row.attributes, row.key_policy);
                Standing::new(keys_for, row.suspended, row.reason, row.epoch)
            }
            false => Standing::Other,
        };
        certificates.extend(DeviceCertificate::from_row(row.certificate));
    }
    Ok(Presented {
        standing,
        certificates,
    })
}

/// Records a server's certificate.
pub(crate) async fn certificate_of_server(
    transaction: &mut Write,
    subject: &str,
    certificate: &IssuedCertificate,
    now: UnixTime,
) -> Result<(), Error> {
    let mut changes = Changes::default();
    insert_certificate(&mut changes, None, subject, certificate, now);
    changes.execute(transaction).await
}

fn insert_certificate(
    changes: &mut Changes,
    whose: Option<(&DeviceId, &Particulars<'_>)>,
    subject: &str,
    certificate: &IssuedCertificate,
    now: UnixTime,
) {
    let (device, particulars) = whose.unzip();
    changes
        .statement(
            "INSERT INTO certificate (serial, device, subject, fingerprint, not_before, not_after, issued, der,
                                      key_digest, token, shown)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(certificate.serial.to_string())
        .bind(device.map(DeviceId::as_str))
        .bind(subject)
        .bind(certificate.fingerprint().to_string())
        .bind(signed(certificate.validity.not_before().as_secs()))
        .bind(signed(certificate.validity.not_after().as_secs()))
        .bind(signed(now.as_secs()))
        .bind(certificate.chain.first().map(|der| der.to_vec()).unwrap_or_default())
        .bind(particulars.map(|particulars| &particulars.key_digest[..]))
        .bind(particulars.and_then(|particulars| particulars.token).map(|digest| &digest[..]))
        .bind(particulars.map(|particulars| particulars.shown));
}
