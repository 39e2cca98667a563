//! Profiles, the schema of attributes, and what changes a device.

use smqtt_pki::{DeviceId, Serial, UnixTime};
use smqtt_policy::Schema;
use sqlx::Any;

use super::{HOLD, Write, signed, unsigned};
use crate::Error;
use crate::devices::Resolved;

/// Registers a device; `false` if the name is taken. One that was removed gives its name away.
pub(crate) async fn insert_device(
    transaction: &mut Write,
    name: &DeviceId,
    resolved: &Resolved,
    profile: Option<&str>,
    now: UnixTime,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "INSERT INTO device (name, attributes, created, own, profile, key_policy, own_key_policy)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (name) DO UPDATE
         SET attributes = $2, created = $3, own = $4, profile = $5, key_policy = $6, own_key_policy = $7,
             removed = NULL, suspended = NULL
         WHERE device.removed IS NOT NULL",
    )
    .bind(name.as_str())
    .bind(&resolved.attributes)
    .bind(signed(now.as_secs()))
    .bind(&resolved.own)
    .bind(profile)
    .bind(&resolved.key_policy)
    .bind(&resolved.own_key_policy)
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Changes a device's attributes and key policy.
pub(crate) async fn update_device(
    transaction: &mut Write,
    name: &DeviceId,
    resolved: &Resolved,
    profile: Option<&str>,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE device SET attributes = $2, own = $3, profile = $4, key_policy = $5, own_key_policy = $6
         WHERE name = $1",
    )
    .bind(name.as_str())
    .bind(&resolved.attributes)
    .bind(&resolved.own)
    .bind(profile)
    .bind(&resolved.key_policy)
    .bind(&resolved.own_key_policy)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Suspends a device, or ends that.
pub(crate) async fn set_suspended(
    transaction: &mut Write,
    name: &DeviceId,
    since: Option<UnixTime>,
) -> Result<(), Error> {
    sqlx::query("UPDATE device SET suspended = $2 WHERE name = $1")
        .bind(name.as_str())
        .bind(since.map(|since| signed(since.as_secs())))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Takes a device off the lists.
pub(crate) async fn remove_device(
    transaction: &mut Write,
    name: &DeviceId,
    now: UnixTime,
) -> Result<(), Error> {
    sqlx::query("UPDATE device SET removed = $2, suspended = NULL, profile = NULL WHERE name = $1")
        .bind(name.as_str())
        .bind(signed(now.as_secs()))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Gives a device its certificates back that were taken for the time being; returns their serial numbers.
pub(crate) async fn release_certificates(
    transaction: &mut Write,
    name: &DeviceId,
) -> Result<Vec<Serial>, Error> {
    let serials: Vec<String> = sqlx::query_scalar(
        "DELETE FROM revocation WHERE reason = $2
         AND serial IN (SELECT serial FROM certificate WHERE device = $1)
         RETURNING serial",
    )
    .bind(name.as_str())
    .bind(HOLD)
    .fetch_all(&mut **transaction)
    .await?;
    serials
        .iter()
        .map(|serial| serial.parse().map_err(Error::from))
        .collect()
}

/// A profile: what the devices that have it are, and may read.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ProfileRecord {
    /// Its name.
    pub name: String,
    /// Its attributes, canonical text.
    pub attributes: String,
    /// Its key policy, canonical text, if it has one.
    pub key_policy: Option<String>,
}

/// A profile.
pub(crate) async fn profile<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    name: &str,
) -> Result<Option<ProfileRecord>, Error> {
    Ok(
        sqlx::query_as("SELECT name, attributes, key_policy FROM profile WHERE name = $1")
            .bind(name)
            .fetch_optional(executor)
            .await?,
    )
}

/// All profiles, by name.
pub(crate) async fn profiles<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Vec<ProfileRecord>, Error> {
    Ok(
        sqlx::query_as("SELECT name, attributes, key_policy FROM profile ORDER BY name")
            .fetch_all(executor)
            .await?,
    )
}

/// Adds a profile, or changes it.
pub(crate) async fn put_profile(
    transaction: &mut Write,
    name: &str,
    attributes: &str,
    key_policy: Option<&str>,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO profile (name, attributes, key_policy) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET attributes = $2, key_policy = $3",
    )
    .bind(name)
    .bind(attributes)
    .bind(key_policy)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Removes a profile; whether there was one.
pub(crate) async fn delete_profile(transaction: &mut Write, name: &str) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM profile WHERE name = $1")
        .bind(name)
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The devices with a profile, and their own attributes and key policies.
pub(crate) async fn devices_of_profile(
    transaction: &mut Write,
    profile: &str,
) -> Result<Vec<(DeviceId, String, Option<String>)>, Error> {
    let rows: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "SELECT name, own, own_key_policy FROM device WHERE profile = $1 AND removed IS NULL ORDER BY name",
    )
    .bind(profile)
    .fetch_all(&mut **transaction)
    .await?;
    rows.into_iter()
        .map(|(name, own, key_policy)| Ok((name.parse()?, own, key_policy)))
        .collect()
}

/// The schema's version and text, if there is one.
pub(crate) async fn schema_text<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Option<(u64, String)>, Error> {
    let row: Option<(i64, String)> =
        sqlx::query_as("SELECT version, text FROM attribute_schema ORDER BY version DESC LIMIT 1")
            .fetch_optional(executor)
            .await?;
    Ok(row.map(|(version, text)| (unsigned(version), text)))
}

/// The schema, if there is one.
pub(crate) async fn schema<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Option<Schema>, Error> {
    schema_text(executor)
        .await?
        .map(|(_, text)| Schema::from_toml(&text).map_err(|e| Error::Schema(e.to_string())))
        .transpose()
}

/// Lets a schema hold; returns its version.
pub(crate) async fn insert_schema(
    transaction: &mut Write,
    text: &str,
    now: UnixTime,
) -> Result<u64, Error> {
    let version: i64 = sqlx::query_scalar(
        "INSERT INTO attribute_schema (version, changed, text)
         SELECT COALESCE(MAX(version), 0) + 1, $1, $2 FROM attribute_schema RETURNING version",
    )
    .bind(signed(now.as_secs()))
    .bind(text)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(unsigned(version))
}
