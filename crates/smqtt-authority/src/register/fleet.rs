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
        "INSERT INTO device (name, attributes, created, own, profile) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name) DO UPDATE
         SET attributes = $2, created = $3, own = $4, profile = $5, removed = NULL, suspended = NULL
         WHERE device.removed IS NOT NULL",
    )
    .bind(name.as_str())
    .bind(&resolved.attributes)
    .bind(signed(now.as_secs()))
    .bind(&resolved.own)
    .bind(profile)
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Changes a device's attributes.
pub(crate) async fn update_device(
    transaction: &mut Write,
    name: &DeviceId,
    resolved: &Resolved,
    profile: Option<&str>,
) -> Result<(), Error> {
    sqlx::query("UPDATE device SET attributes = $2, own = $3, profile = $4 WHERE name = $1")
        .bind(name.as_str())
        .bind(&resolved.attributes)
        .bind(&resolved.own)
        .bind(profile)
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

/// A profile's attributes.
pub(crate) async fn profile<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
    name: &str,
) -> Result<Option<String>, Error> {
    Ok(
        sqlx::query_scalar("SELECT attributes FROM profile WHERE name = $1")
            .bind(name)
            .fetch_optional(executor)
            .await?,
    )
}

/// All profiles: name and attributes.
pub(crate) async fn profiles<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Vec<(String, String)>, Error> {
    Ok(
        sqlx::query_as("SELECT name, attributes FROM profile ORDER BY name")
            .fetch_all(executor)
            .await?,
    )
}

/// Adds a profile, or changes its attributes.
pub(crate) async fn put_profile(
    transaction: &mut Write,
    name: &str,
    attributes: &str,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO profile (name, attributes) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET attributes = $2",
    )
    .bind(name)
    .bind(attributes)
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

/// The devices with a profile, and their own attributes.
pub(crate) async fn devices_of_profile(
    transaction: &mut Write,
    profile: &str,
) -> Result<Vec<(DeviceId, String)>, Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT name, own FROM device WHERE profile = $1 AND removed IS NULL ORDER BY name",
    )
    .bind(profile)
    .fetch_all(&mut **transaction)
    .await?;
    rows.into_iter()
        .map(|(name, own)| Ok((name.parse()?, own)))
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
