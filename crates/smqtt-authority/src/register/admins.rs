//! Administrators.

use smqtt_pki::{AdminName, RevocationReason, Serial, UnixTime};

use super::{Register, Write, signed, unsigned};
use crate::Error;
use crate::admins::{AdminRecord, Role};

type Row = (String, String, String, i64, i64);

/// The administrator of a row; `None` for one with a role that this program does not know: it may nothing.
fn read((name, role, serial, created, expires): Row) -> Result<Option<AdminRecord>, Error> {
    let Some(role) = Role::read(&role) else {
        return Ok(None);
    };
    Ok(Some(AdminRecord {
        name: name.parse()?,
        role,
        serial,
        created: unsigned(created),
        expires: unsigned(expires),
    }))
}

impl Register {
    /// All administrators, by name.
    pub(crate) async fn admins(&self) -> Result<Vec<AdminRecord>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT admin.name, admin.role, admin.serial, admin.created, certificate.not_after
             FROM admin JOIN certificate ON certificate.serial = admin.serial
             WHERE admin.removed IS NULL ORDER BY admin.name",
        )
        .fetch_all(self.reader())
        .await?;
        rows.into_iter()
            .filter_map(|row| read(row).transpose())
            .collect()
    }

    /// An administrator, if there is one of this name.
    pub(crate) async fn admin(&self, name: &AdminName) -> Result<Option<AdminRecord>, Error> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT admin.name, admin.role, admin.serial, admin.created, certificate.not_after
             FROM admin JOIN certificate ON certificate.serial = admin.serial
             WHERE admin.removed IS NULL AND admin.name = $1",
        )
        .bind(name.as_str())
        .fetch_optional(self.reader())
        .await?;
        Ok(row.map(read).transpose()?.flatten())
    }
}

/// Removes an administrator; returns the serial number of the certificate, if there was one.
pub(crate) async fn take_admin(
    transaction: &mut Write,
    name: &AdminName,
    now: UnixTime,
) -> Result<Option<String>, Error> {
    let serial: Option<String> = sqlx::query_scalar(
        "UPDATE admin SET removed = $2 WHERE name = $1 AND removed IS NULL RETURNING serial",
    )
    .bind(name.as_str())
    .bind(signed(now.as_secs()))
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(serial)
}

/// Adds an administrator, whose certificate is recorded already.
pub(crate) async fn put_admin(
    transaction: &mut Write,
    name: &AdminName,
    role: Role,
    serial: Serial,
    now: UnixTime,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO admin (name, role, serial, created) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET role = $2, serial = $3, created = $4, removed = NULL",
    )
    .bind(name.as_str())
    .bind(role.as_str())
    .bind(serial.to_string())
    .bind(signed(now.as_secs()))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Takes back one certificate.
pub(crate) async fn revoke_serial(
    transaction: &mut Write,
    serial: &str,
    reason: RevocationReason,
    now: UnixTime,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO revocation (serial, revoked, reason) VALUES ($1, $2, $3)
         ON CONFLICT (serial) DO NOTHING",
    )
    .bind(serial)
    .bind(signed(now.as_secs()))
    .bind(reason.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
