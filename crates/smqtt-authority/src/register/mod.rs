//! The register: every query of the authority stands in this module, in the SQL that SQLite and PostgreSQL both know.

mod admins;
pub(crate) mod audit;
mod changes;
mod copy;
pub(crate) mod database;
mod devices;
mod epochs;
mod fleet;
mod issuers;
mod measures;
mod revocations;
pub(crate) mod safety;
mod tokens;
mod turn;

use std::time::Duration;

use smqtt_policy::Epoch;
use sqlx::{Any, AnyPool};

use crate::Error;

pub(crate) use admins::{put_admin, revoke_serial, take_admin};
pub(crate) use changes::Changes;
pub(crate) use devices::{
    DeviceCertificate, HOLD, Particulars, Standing, certificate_of_server, confirm_key, device,
    devices, insert_device_certificate, presented, record_key, standing,
};
pub use devices::{DeviceRecord, DeviceState};
pub use epochs::{BrokerRecord, EpochRecord, Settings};
pub(crate) use epochs::{
    Terms, begin_epoch, brokers, crl_number, devices_by_epoch, epochs, insert_state, newest_state,
    note_published, sealing, set_brokers, set_settings, settings, start_schedule, terms,
};
pub use fleet::ProfileRecord;
pub(crate) use fleet::{
    delete_profile, devices_of_profile, insert_device, insert_schema, profile, profiles,
    put_profile, release_certificates, remove_device, schema, schema_text, set_suspended,
    update_device,
};
pub(crate) use issuers::{fingerprint_of, installed_since, issued_until};
pub(crate) use revocations::{
    ListRecord, keep_list, newest_list, next_list_number, note_list_written, revocations,
    revoke_certificates,
};
pub(crate) use tokens::{
    TokenRecord, consume_token, find_token, insert_token, token_standing, withdraw_tokens,
};
pub(crate) use turn::{Done, SharedAct, Write};

/// A connection pool to the register.
#[derive(Clone)]
pub(crate) struct Register {
    pool: AnyPool,
    kind: database::Kind,
    turns: turn::Turns,
}

impl Register {
    /// The pool, for reading.
    pub(crate) fn reader(&self) -> &AnyPool {
        &self.pool
    }

    /// Closes all connections; the write-ahead log goes into the register where no other process has it open.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Fails if the register does not answer soon.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let asked = sqlx::query("SELECT 1").execute(&self.pool);
        tokio::time::timeout(Duration::from_secs(5), asked)
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(())
    }

    /// The current epoch.
    pub(crate) async fn epoch(&self) -> Result<Epoch, Error> {
        epoch(&self.pool).await
    }

    /// Where devices reach the authority and the broker, as the service was last told.
    pub(crate) async fn addresses(&self) -> Result<Addresses, Error> {
        let (url, broker) = sqlx::query_as("SELECT url, broker FROM state WHERE one = 1")
            .fetch_one(&self.pool)
            .await?;
        Ok(Addresses { url, broker })
    }

    /// Notes where devices reach the authority and the broker.
    pub(crate) async fn set_addresses(&self, addresses: &Addresses) -> Result<(), Error> {
        sqlx::query("UPDATE state SET url = $1, broker = $2 WHERE one = 1")
            .bind(&addresses.url)
            .bind(&addresses.broker)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// The authority's and the broker's URL.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) url: Option<String>,
    pub(crate) broker: Option<String>,
}

/// The current epoch, in or outside of a transaction.
pub(crate) async fn epoch<'e>(
    executor: impl sqlx::Executor<'e, Database = Any>,
) -> Result<Epoch, Error> {
    let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM state WHERE one = 1")
        .fetch_one(executor)
        .await?;
    Ok(Epoch::new(unsigned(epoch)))
}

/// A number that the schema keeps from being negative.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A number in the form that SQL has; times and counters are far below 2^63.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
