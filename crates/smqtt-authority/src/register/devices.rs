//! Devices, and the certificates and attribute keys that were issued to them.

use serde::Serialize;
use smqtt_pki::{DeviceId, IssuedCertificate, UnixTime};
use smqtt_policy::Epoch;
use sqlx::Sqlite;

use super::{Write, signed, unsigned};
use crate::Error;

/// How far a device has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Known, but it has no certificate yet.
    Registered,
    /// It has a certificate and an attribute key.
    Enrolled,
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
    /// Until when its unused token can be used; past if it has expired.
    pub token_expires: Option<u64>,
}

type Row = (
    String,
    String,
    i64,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

/// All devices, by name.
pub(crate) async fn devices<'e>(
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
) -> Result<Vec<DeviceRecord>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT name, attributes, created, serial, fingerprint, not_after, key_epoch, token_expires, revoked
         FROM device_overview ORDER BY name",
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(DeviceRecord::from_row).collect()
}

/// One device.
pub(crate) async fn device<'e>(
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    name: &DeviceId,
) -> Result<DeviceRecord, Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT name, attributes, created, serial, fingerprint, not_after, key_epoch, token_expires, revoked
         FROM device_overview WHERE name = ?1",
    )
    .bind(name.as_str())
    .fetch_optional(executor)
    .await?;
    DeviceRecord::from_row(row.ok_or_else(|| Error::NoSuchDevice(name.clone()))?)
}

impl DeviceRecord {
    fn from_row(row: Row) -> Result<Self, Error> {
        let (
            name,
            attributes,
            created,
            serial,
            fingerprint,
            not_after,
            key_epoch,
            token_expires,
            revoked,
        ) = row;
        Ok(Self {
            name: name.parse()?,
            state: match (&serial, revoked) {
                (_, Some(_)) => DeviceState::Revoked,
                (Some(_), None) => DeviceState::Enrolled,
                (None, None) => DeviceState::Registered,
            },
            revoked: revoked.map(unsigned),
            attributes,
            created: unsigned(created),
            serial,
            fingerprint,
            certificate_expires: not_after.map(unsigned),
            key_epoch: key_epoch.map(unsigned),
            token_expires: token_expires.map(unsigned),
        })
    }
}

/// Registers a device; `false` if the name is taken.
pub(crate) async fn insert_device(
    transaction: &mut Write,
    name: &DeviceId,
    attributes: &str,
    now: UnixTime,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "INSERT INTO device (name, attributes, created) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING",
    )
    .bind(name.as_str())
    .bind(attributes)
    .bind(signed(now.as_secs()))
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Records the certificate and the attribute key that a device gets.
pub(crate) async fn record_enrolment(
    transaction: &mut Write,
    device: &DeviceId,
    certificate: &IssuedCertificate,
    attributes: &str,
    epoch: Epoch,
    now: UnixTime,
) -> Result<(), Error> {
    insert_certificate(transaction, Some(device), device.as_str(), certificate, now).await?;
    sqlx::query(
        "INSERT INTO attribute_key (device, epoch, attributes, serial, issued) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(device.as_str())
    .bind(signed(epoch.get()))
    .bind(attributes)
    .bind(certificate.serial.to_string())
    .bind(signed(now.as_secs()))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Records a server's certificate.
pub(crate) async fn certificate_of_server(
    transaction: &mut Write,
    subject: &str,
    certificate: &IssuedCertificate,
    now: UnixTime,
) -> Result<(), Error> {
    insert_certificate(transaction, None, subject, certificate, now).await
}

async fn insert_certificate(
    transaction: &mut Write,
    device: Option<&DeviceId>,
    subject: &str,
    certificate: &IssuedCertificate,
    now: UnixTime,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO certificate (serial, device, subject, fingerprint, not_before, not_after, issued, der)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(certificate.serial.to_string())
    .bind(device.map(DeviceId::as_str))
    .bind(subject)
    .bind(certificate.fingerprint().to_string())
    .bind(signed(certificate.validity.not_before().as_secs()))
    .bind(signed(certificate.validity.not_after().as_secs()))
    .bind(signed(now.as_secs()))
    .bind(certificate.chain.first().map(|der| der.to_vec()).unwrap_or_default())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
